"""``python -m tools.fuzz``: a backend of its own and a client, each with as many spoiled messages as are asked for."""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from .backend import fuzz_backend
from .client import fuzz_client


def main() -> int:
    """Run both; 0 when both lived."""
    parser = argparse.ArgumentParser(prog="tools.fuzz", description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000, help="to each side")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    parser.add_argument("--model", default="/nowhere", help="what requests that make sense name")
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    # what cannot be read is said for each message
    logging.getLogger("latentman").addHandler(logging.NullHandler())
    with tempfile.TemporaryDirectory() as folder:
        for name in ("CONFIG", "DATA", "LOGS"):
            os.environ[f"LATENTMAN_{name}"] = str(Path(folder) / name.lower())
        command = [sys.executable, "-m", "latentman.backend", "serve", "--end-with-stdin", "--endpoint", "tcp://127.0.0.1:0"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            endpoint = json.loads(process.stdout.readline())["endpoint"]
            before = _memory_mb(process.pid)
            for key, number in sorted(fuzz_backend(endpoint, args.messages, args.seed, args.model).items()):
                print(f"backend: {key}: {number}")
            after, most = _memory_mb(process.pid), _memory_mb(process.pid, "VmHWM")
            print(f"backend: memory before {before} MB, after {after} MB, most {most} MB")
            written = "".join(path.read_text() for path in (Path(folder) / "logs").glob("backend-*"))
            print(f"backend: alive: {process.poll() is None}; tracebacks in its log: {written.count('Traceback')}")
            for trace in written.split("Traceback")[1:]:
                print("Traceback" + trace[:3000])
            for key, number in sorted(fuzz_client(args.messages, args.seed).items()):
                print(f"client: {key}: {number}")
            return 0 if process.poll() is None else 1
        except TimeoutError as error:
            print(f"backend or client: {error}; the backend's return code: {process.poll()}")
            return 1
        finally:
            if process.stdin is not None:
                process.stdin.close()
            process.wait(60)


def _memory_mb(pid: int, field: str = "VmRSS") -> int:
    """Of a process, on Linux; 0 elsewhere."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(field))


if __name__ == "__main__":
    sys.exit(main())
