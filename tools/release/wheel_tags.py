"""Which wheels a Blender takes: by its platform and its Python, from a wheel's name (PEP 425, as far as Blender reads it)."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WHEEL = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(?:-\d[^-]*)?-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)\.whl")
_SYSTEMS = {"linux": r"(?:manylinux|musllinux|linux)", "windows": "win", "macos": "macosx"}
_MACHINES = {"x64": ("x86_64", "amd64"), "arm64": ("arm64", "aarch64")}


def _fits_platform(tag: str, platform: str) -> bool:
    if tag == "any":
        return True
    system, _, machine = platform.partition("-")
    if not re.match(_SYSTEMS[system], tag):
        return False
    return tag.endswith(_MACHINES[machine]) or (system == "macos" and tag.endswith("_universal2"))


def _fits_python(tag: str, abi: str, python: tuple[int, int]) -> bool:
    found = re.fullmatch(r"(py|cp)(\d)(\d*)", tag)
    if found is None or int(found[2]) != python[0]:
        return False
    if not found[3]:
        return True
    minor = int(found[3])
    # the stable interface of an older Python is there in every newer one
    return minor == python[1] or (minor < python[1] and abi == f"abi{python[0]}")


def select_wheels(names: Iterable[str], platform: str, python: tuple[int, int]) -> list[str]:
    """The wheels among file names that Blender takes on a platform (``linux-x64``) with a Python (3, 11).

    Blender reads only the last of several platforms in a name. Raises ``ValueError`` for a name that is no wheel's.
    """
    taken = []
    for name in names:
        found = _WHEEL.fullmatch(name)
        if found is None:
            raise ValueError(f"{name} is not named as wheels are.")
        tags = found["python"].split(".")
        if _fits_platform(found["platform"].rpartition(".")[2], platform) and any(
            _fits_python(tag, found["abi"], python) for tag in tags
        ):
            taken.append(name)
    return taken


def check_wheels(names: Iterable[str], platform: str, pythons: Iterable[str], packages: Iterable[str]) -> list[str]:
    """What is wrong with the wheels of a platform's zip, in sentences: every Python (``3.11``) must find one wheel of each
    package, and every wheel must be for one of them."""
    names, wanted, problems, used = list(names), sorted(packages), [], set()
    for python in pythons:
        major, minor = map(int, python.split("."))
        taken = select_wheels(names, platform, (major, minor))
        used.update(taken)
        found = sorted(name.partition("-")[0] for name in taken)
        if found != wanted:
            problems.append(f"Python {python} on {platform} takes {', '.join(taken) or 'nothing'}, and should {', '.join(wanted)}.")
    problems += [f"No Python on {platform} takes {name}." for name in names if name not in used]
    return problems
