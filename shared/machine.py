"""What is known of this machine without further packages: memory, disk, platform, versions of packages."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


class _MemoryStatus(ctypes.Structure):
    """Windows' MEMORYSTATUSEX."""

    _fields_ = [
        ("length", ctypes.c_ulong),
        ("load", ctypes.c_ulong),
        ("total_physical", ctypes.c_ulonglong),
        ("available_physical", ctypes.c_ulonglong),
        ("total_page_file", ctypes.c_ulonglong),
        ("available_page_file", ctypes.c_ulonglong),
        ("total_virtual", ctypes.c_ulonglong),
        ("available_virtual", ctypes.c_ulonglong),
        ("available_extended_virtual", ctypes.c_ulonglong),
    ]


def _linux_memory() -> tuple[int, int]:
    lines = Path("/proc/meminfo").read_text().splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB")}
    return found["MemAvailable"], found["MemTotal"]


def _mac_memory() -> tuple[int, int]:
    pages = subprocess.run(["/usr/bin/vm_stat"], capture_output=True, text=True, timeout=5, check=True).stdout.splitlines()
    size = int("".join(filter(str.isdigit, pages[0])))
    counts = {line.split(":")[0]: int(line.split(":")[1].strip(" .")) for line in pages[1:] if line.rstrip().endswith(".")}
    free = sum(counts.get(name, 0) for name in ("Pages free", "Pages inactive", "Pages speculative", "Pages purgeable"))
    return free * size, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _windows_memory() -> tuple[int, int]:
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):  # type: ignore[attr-defined,unused-ignore]
        raise OSError("the system does not say how much memory it has")
    return status.available_physical, status.total_physical


def measure_memory() -> tuple[int, int] | None:
    """(free, all) bytes of this machine's memory; None where the system does not say."""
    by_platform = {"linux": _linux_memory, "darwin": _mac_memory, "win32": _windows_memory}
    try:
        return by_platform[sys.platform]()
    except (KeyError, OSError, ValueError, IndexError, subprocess.SubprocessError):
        return None


def measure_disk(folder: Path) -> int | None:
    """Free bytes where a folder is or would be made; None when nobody knows."""
    for place in (folder, *folder.absolute().parents):
        try:
            return shutil.disk_usage(place).free
        except OSError:
            continue
    return None


def can_be_written(folder: Path) -> bool:
    """Whether files can be made in a folder, or the folder itself where it is missing."""
    place = next((place for place in (folder, *folder.absolute().parents) if place.exists()), None)
    return place is not None and place.is_dir() and os.access(place, os.W_OK | os.X_OK)


def find_version(package: str) -> str:
    """The installed version of a package; empty when it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def describe_platform() -> str:
    """System, release and processor."""
    return f"{platform.platform()} ({os.cpu_count()} processors)"


def write_size(count: float) -> str:
    """``12.3 GiB`` or ``640 MiB``."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def describe_memory() -> str:
    """Free and all memory in words."""
    found = measure_memory()
    return f"{write_size(found[0])} free of {write_size(found[1])}" if found else "not known"


def describe_disk(folder: Path) -> str:
    """Free space in words."""
    free = measure_disk(folder)
    return f"{write_size(free)} free" if free is not None else "not known"


@cache
def _c_library() -> Any:
    """The C library where it can give free memory back (glibc), or else None."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "malloc_trim") else None


def release_free_memory() -> None:
    """Give the pages that nothing uses back to the system.

    glibc keeps what large tensors leave between small ones that live on: over a long shot that adds up to a fifth of the
    process, though nothing of it is in use. Mapping large tensors apart would prevent it, too, but makes every step of a network
    half as slow again.
    """
    library = _c_library()
    if library is not None:
        library.malloc_trim(0)
