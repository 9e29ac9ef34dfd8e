"""What an environment needs where no list of it is locked: asked of the indexes, with everything else as it is locked.

Builds of torch for other devices lie on torch's own index only, with libraries of their own. uv resolves them; the versions of all
other packages are those of ``locks/backend.txt``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from .devices import find_torch_folder
from .failures import InstallationError, Remedy
from .index import Indexes, Offer, explain_wrong_file
from .lock_file import LockedFile, SetupLock, guess_size, guess_unpacked, normalise
from .network import Network
from .planning import Plan
from .uv import Uv

BACKEND_LOCK = Path(__file__).resolve().parents[2] / "locks" / "backend.txt"
#: torch and what only other builds of it need: by the name, and by its beginning
_OF_TORCH = re.compile(r"torch|triton(-.*)?|pytorch-triton(-.*)?|nvidia-.*|cuda-.*|intel-.*")
_PLATFORMS = {"linux-x64": "x86_64-manylinux_2_28", "windows-x64": "x86_64-pc-windows-msvc", "macos-arm64": "aarch64-apple-darwin"}
_GLIBC = 28


def read_pins(text: str) -> list[str]:
    """The lines ``NAME==VERSION ; MARKER`` of a lock, without hashes and without what belongs to builds of torch."""
    lines = [line.rstrip(" \\") for line in text.splitlines() if re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*==", line)]
    return [line for line in lines if not _OF_TORCH.fullmatch(normalise(line.partition("==")[0]))]


def read_resolution(text: str) -> dict[str, tuple[str, frozenset[str]]]:
    """What ``uv pip compile --generate-hashes`` has written: package -> (version, hashes)."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for block in re.split(r"\n(?=[A-Za-z0-9])", text):
        pin = re.match(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", block.strip())
        if pin:
            found[normalise(pin[1])] = pin[2], frozenset(re.findall(r"sha256:([0-9a-f]{64})", block))
    return found


def fits(name: str, system: str, python: str) -> int:
    """How well a wheel fits a platform and Python ``3.12``, by the tags in its name; 0 where it does not."""
    parts = name.removesuffix(".whl").split("-")
    if len(parts) < 5 or not name.endswith(".whl"):
        return 0
    pythons, abis, platforms = (part.split(".") for part in parts[-3:])
    minor = int(python.partition(".")[2])
    own = f"cp3{minor}"
    if own in pythons and own in abis:
        rank = 4
    elif "abi3" in abis and any(re.fullmatch(r"cp3\d+", tag) and int(tag[3:]) <= minor for tag in pythons):
        rank = 3
    elif "none" in abis and any(tag in (own, "py3") or (re.fullmatch(r"py3\d+", tag) and int(tag[3:]) <= minor) for tag in pythons):
        rank = 2
    else:
        return 0
    if "any" in platforms:
        return rank
    return rank + 4 if any(_fits_platform(tag, system) for tag in platforms) else 0


def _fits_platform(tag: str, system: str) -> bool:
    if system == "linux-x64":
        new = re.fullmatch(r"manylinux_2_(\d+)_x86_64", tag)
        return bool(new and int(new[1]) <= _GLIBC) or tag in (
            "manylinux2014_x86_64",
            "manylinux2010_x86_64",
            "manylinux1_x86_64",
            "linux_x86_64",
        )
    if system == "windows-x64":
        return tag == "win_amd64"
    mac = re.fullmatch(r"macosx_(\d+)_\d+_(arm64|universal2)", tag)
    return bool(mac and int(mac[1]) <= 14)


def choose_offer(offers: list[Offer], version: str, hashes: frozenset[str], system: str, python: str) -> Offer | None:
    """The best wheel of a version among those that an index offers; None where there is none with one of the hashes."""
    best: tuple[int, Offer] | None = None
    for offer in offers:
        if offer.name.split("-")[1:2] != [version] or offer.sha256 not in hashes:
            continue
        rank = fits(offer.name, system, python)
        if rank and (best is None or rank > best[0]):
            best = rank, offer
    return best[1] if best else None


def find_torch_version(lock: SetupLock) -> str:
    """The version of torch that is locked, whatever the build. Raises ``InstallationError``."""
    found = next((file.version.partition("+")[0] for file in lock.files.values() if file.package == "torch"), None)
    if found is None:
        raise InstallationError(
            "lock", "The extension is damaged: it names no PyTorch; install the extension again.", Remedy.REPORT
        )
    return found


def resolve(plan: Plan, lock: SetupLock, uv: Uv, network: Network, indexes: Indexes, folder: Path) -> tuple[LockedFile, ...]:
    """Find out which files the plan's environment needs. Raises ``InstallationError``."""
    torch_folder = find_torch_folder(plan.system, plan.build)
    torch_version = find_torch_version(lock)
    if torch_folder:
        torch_version += f"+{torch_folder}"
    backend = BACKEND_LOCK.read_text(encoding="utf-8")
    wanted, out = folder / "wanted.txt", folder / "resolved.txt"
    pins = read_pins(backend)
    wanted.write_text("\n".join([*pins, f"torch=={torch_version}"]) + "\n", encoding="utf-8")
    uv.run(
        *("pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate", "--only-binary", ":all:"),
        *("--index-strategy", "unsafe-best-match", "--system-certs"),
        # it wants some Python to run, even to find out what another one needs
        *("--python", sys.executable, "--python-version", plan.python_version, "--python-platform", _PLATFORMS[plan.system]),
        *(str(wanted), "--output-file", str(out)),
        what="asking the indexes what is needed",
        # addresses may hold passwords, which everybody could read in a command line
        variables={
            "UV_DEFAULT_INDEX": network.package_index,
            **({"UV_INDEX": f"{network.torch_index}/{torch_folder}"} if torch_folder else {}),
        },
    )
    found = []
    for name, (version, hashes) in sorted(read_resolution(out.read_text(encoding="utf-8")).items()):
        found.append(_find(name, version, hashes, plan, lock, indexes, torch_folder))
    return tuple(found)


def _find(
    name: str, version: str, hashes: frozenset[str], plan: Plan, lock: SetupLock, indexes: Indexes, torch_folder: str
) -> LockedFile:
    folders = ("", torch_folder) if not _OF_TORCH.fullmatch(name) else (torch_folder, "")
    for folder in dict.fromkeys(folders):
        try:
            offers = indexes.list_offers(name, folder)
        except InstallationError as error:
            if error.code != "absent":
                raise
            continue
        offer = choose_offer(list(offers), version, hashes, plan.system, plan.python_version)
        if offer is None:
            continue
        locked = lock.files.get(offer.name)
        known = lock.known.get(offer.name) or (locked.sha256 if locked else "")
        if known and known != offer.sha256:
            raise explain_wrong_file(LockedFile(offer.name, known, 0), offer.url)
        size = offer.size or guess_size(torch_folder if name == "torch" else "")
        return locked or LockedFile(offer.name, offer.sha256, size, guess_unpacked(size), folder, exact=bool(offer.size))
    raise InstallationError(
        "absent",
        f"{name} {version} cannot be had for {plan.system} and Python {plan.python_version}; choose another device.",
        Remedy.DEVICE,
    )
