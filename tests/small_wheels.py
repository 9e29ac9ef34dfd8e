"""Wheels of a few bytes, as a build makes them, and the real uv in one."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.checkout import ROOT


def write_wheel(folder, name, version="1.0", *, files=None, needs=(), tag="py3-none-any", scripts=None):
    """Write a wheel into a folder and return its path: ``files`` maps paths below the folder of packages to texts or bytes,
    ``needs`` holds requirements, ``scripts`` programs."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = {f"{name}/__init__.py": f"VERSION = {version!r}\n"} if files is None else dict(files)
    info, data = f"{name}-{version}.dist-info", f"{name}-{version}.data/scripts"
    whole |= {f"{data}/{script}": text for script, text in (scripts or {}).items()}
    whole[f"{info}/METADATA"] = "".join(
        [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", *(f"Requires-Dist: {need}\n" for need in needs)]
    )
    whole[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n"
    whole = {path: text.encode() if isinstance(text, str) else text for path, text in whole.items()}
    rows = []
    for path, content in whole.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(content)}")
    whole[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for inner, content in whole.items():
            entry = zipfile.ZipInfo(inner, (2026, 1, 1, 0, 0, 0))
            entry.external_attr = 0o755 << 16 if inner.startswith(data) else 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return path


def find_uv(folder):
    """The real uv: that of the locking programs, or of this machine, or else from the package index."""
    beside = Path(sys.prefix).resolve().parent / "venv-locks" / "bin" / "uv"
    found = beside if beside.exists() else shutil.which("uv")
    if found:
        return Path(found)
    version = re.search(r"^uv==(\S+)", (ROOT / "locks" / "locking.txt").read_text(), re.MULTILINE)[1]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), f"uv=={version}"]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("uv-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inner = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
        (folder / "uv").write_bytes(archive.read(inner))
    (folder / "uv").chmod(0o755)
    return folder / "uv"


def write_uv_wheel(folder, program, before=""):
    """A wheel of uv whose program hands over to the real one, after ``before`` (lines of sh); it stays small that way."""
    text = f"#!/bin/sh\n{before}\nexec '{program}' \"$@\"\n"
    return write_wheel(folder, "uv", "0.13.9", files={}, scripts={"uv": text})
