"""``python -m tools.release``: a release in ``build/release``, from a committed tree whose versions agree.

It holds a zip for each platform, ``index.json`` for Blender's *Get Extensions*, ``SHA256SUMS`` and ``NOTES.md``; the same commit
gives the same bytes. Put the folder on a web server as it is: the addresses in it are relative.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from latentman.shared.version import VERSION

from ..locks import LockError
from ..package_extension import PLATFORMS, ROOT, build, run_blender_tool
from .checks import ReleaseError, check_size, check_tree, check_version
from .repository import write_checksums, write_index, write_notes


def release(out: Path, platforms: list[str], website: str = "") -> None:
    """Make the folder ``out``, which is there only when all of it succeeded. Raises ``ReleaseError`` and ``LockError``."""
    commit = check_tree(ROOT)
    version, notes = check_version(ROOT, VERSION)
    work = out.with_name(out.name + ".part")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        for path in build(platforms, work, website):
            check_size(path)
            print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
        write_index(work, run_blender_tool)
        write_notes(work, version, commit, notes)
        write_checksums(work)
        shutil.rmtree(out, ignore_errors=True)
        work.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if not website:
        print("The manifest names no website; make release WEBSITE=https://... puts one into it.")
    print(f"LatentMan {version} is in {out}; tag it with: git tag -a v{version} {commit[:12]}")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "release", help="folder of the release; what is in it is removed"
    )
    parser.add_argument("--platforms", nargs="+", default=list(PLATFORMS), choices=list(PLATFORMS))
    parser.add_argument("--website", default="", help="the project's address, for the manifest; https://...")
    args = parser.parse_args()
    try:
        release(args.out.resolve(), args.platforms, args.website)
    except (ReleaseError, LockError) as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"{' '.join(map(str, error.cmd[1:4]))} failed; nothing is released.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
