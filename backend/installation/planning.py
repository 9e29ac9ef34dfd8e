"""What *Set Up* is going to do: known and shown before it does anything."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from ...shared.addresses import hide_credentials
from ...shared.backend_environment import DOWNLOADS, find_current, list_environments
from ...shared.sizes import write_size
from .changing import find_strangers
from .devices import BUILDS, LABELS, Devices
from .failures import InstallationError, Remedy, explain_os_error
from .lock_file import LockedFile, PythonBuild, SetupLock, find_system, make_key
from .network import Network
from .processes import Children
from .pythons import FoundPython, examine_python, find_python
from .transfer import PART

#: bytes that stay free on the disk, and of a Python that has been unpacked
SPARE, PYTHON_SIZE = 1 << 29, 120_000_000
#: characters of the longest path that Windows' programs take, and of what lies below the root: an environment, torch's longest
WINDOWS_PATH, INNER_PATH = 259, 58 + 113
#: what builds of torch that are not locked take: to fetch, unpacked
_UNLOCKED = {
    "cuda-older": (3_200_000_000, 5_600_000_000),
    "rocm": (4_800_000_000, 16_000_000_000),
    "xpu": (1_800_000_000, 6_000_000_000),
}
_UNLOCKED_CPU = (320_000_000, 1_100_000_000)
#: an environment of another Python than this one's is made with it only where it is asked for
FETCHED, FOUND = "fetched", "found"


@dataclass(frozen=True)
class Request:
    """What the user wants: where, for which build of torch (empty for the best), with which Python (``fetched``, ``found``, a path,
    or empty for whichever can be had), and from which folder of files instead of the network."""

    root: Path
    build: str = ""
    python: str = ""
    files: Path | None = None
    #: the folder of a program whose own Python is not to be used
    host: Path | None = None


@dataclass(frozen=True)
class Plan:
    """What is going to happen. Sizes are in bytes; ``is_exact`` says whether they are known to the byte.

    ``packages`` is None where what is needed is found out on the way. ``exists`` says that such an environment is there already and
    only has to be tried. ``problem`` is a sentence that stops it, and ``code`` names its kind.
    """

    request: Request
    system: str
    build: str
    devices: Devices
    network: Network
    fetched_python: PythonBuild | None
    found_python: FoundPython | None
    uv: LockedFile | None
    packages: tuple[LockedFile, ...] | None
    download: int = 0
    present: int = 0
    unpacked: int = 0
    free: int = 0
    is_exact: bool = True
    current: str = ""
    notes: tuple[str, ...] = ()
    exists: bool = False
    problem: str = ""
    code: str = ""
    remedy: Remedy = Remedy.RETRY
    builds: tuple[tuple[str, str], ...] = ()

    @property
    def needed(self) -> int:
        """The bytes that the disk must have free at the most."""
        if self.exists:
            return 0
        return self.download - self.present + self.unpacked + SPARE

    @property
    def python_version(self) -> str:
        """``3.12``: the version that wheels are chosen for."""
        if self.fetched_python is not None:
            return self.fetched_python.version.rpartition(".")[0]
        return self.found_python.version if self.found_python else ""

    @property
    def key(self) -> str:
        """What an environment made by this plan is called by; empty where that is found out on the way."""
        return make_key(self.packages, self.python_name) if self.packages is not None else ""

    @property
    def python_name(self) -> str:
        """The Python by its archive or its path."""
        if self.fetched_python is not None:
            return self.fetched_python.file.name
        return str(self.found_python.path) if self.found_python else ""


def find_present(folder: Path, files: tuple[LockedFile, ...]) -> int:
    """The bytes of files that have come already."""
    total = 0
    for file in files:
        for path in (folder / file.name, folder / (file.name + PART)):
            if path.is_file():
                total += min(path.stat().st_size, file.size)
                break
    return total


def measure_free(root: Path) -> int:
    """The bytes that are free where ``root`` is, or will be. Raises ``OSError``."""
    return shutil.disk_usage(find_existing(root)).free


def explain_space(needed: int, folder: Path, free: int) -> InstallationError:
    """A disk that is too small."""
    return InstallationError(
        "space",
        f"{write_size(needed)} are needed for a while in {folder}, and {write_size(free)} are free there; free some space, or "
        "choose another folder.",
        Remedy.SPACE,
    )


def check_root(root: Path, system: str, *, has_long_paths: bool = True) -> None:
    """Whether environments can be kept in a folder; ``has_long_paths`` says whether Windows takes long ones. Raises
    ``InstallationError`` and ``OSError``."""
    strangers = find_strangers(root)
    if strangers:
        more = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
        raise InstallationError(
            "occupied",
            f"{root} holds other files ({strangers[0]}{more}); choose an empty folder, or a new one inside it.",
            Remedy.SPACE,
        )
    folder = find_existing(root)
    if not folder.is_dir():
        raise InstallationError("path", f"{folder} is not a folder; choose another one for the backend.", Remedy.SPACE)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InstallationError("permission", f"{folder} cannot be written; choose a folder in which you may write.", Remedy.SPACE)
    if system.startswith("windows") and not has_long_paths and len(str(root)) + INNER_PATH > WINDOWS_PATH:
        raise InstallationError(
            "path",
            f"The path of {root} is too long for Windows by {len(str(root)) + INNER_PATH - WINDOWS_PATH} characters; choose a "
            "folder with a shorter one, such as C:\\LatentMan.",
            Remedy.SPACE,
        )


def read_long_paths() -> bool:
    """Whether this system takes paths of more than 260 characters: Windows does where its registry says so."""
    if sys.platform != "win32":
        return True
    import winreg

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem") as key:
            return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])
    except OSError:
        return False


def find_existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    folder = path.absolute()
    while not os.path.exists(folder) and folder.parent != folder:
        folder = folder.parent
    return folder


def choose_python(
    request: Request, lock: SetupLock, system: str, children: Children
) -> tuple[PythonBuild | None, FoundPython | None, str]:
    """(the Python to fetch, the one of this machine, a note). Of the two the first is used where it is there, and the second where
    it cannot be fetched."""
    build = lock.pythons.get(system)
    if request.python not in ("", FETCHED, FOUND):
        named = examine_python(Path(os.path.expanduser(request.python)), children)
        if named is None:
            raise InstallationError(
                "python",
                f"{request.python} is not a Python 3.11 to 3.14 of 64 bits that runs here; choose another one, or none to have one "
                "fetched.",
                Remedy.FILES,
            )
        return None, named, ""
    found = find_python(children, request.host) if request.python != FETCHED else None
    if request.files is not None and build is not None and find_file(request.files, build.file.name) is None:
        build = None if request.python != FETCHED else build
    if request.python == FOUND:
        build = None
    if build is None and found is None:
        raise InstallationError(
            "python",
            "There is no Python 3.11 to 3.14 on this computer, and none can be fetched; install Python 3.12 from python.org"
            + (f", or put {lock.pythons[system].file.name} into the folder." if system in lock.pythons else "."),
            Remedy.FILES,
        )
    note = "" if build is not None or found is None else f"The Python of this computer is used: {found.path}."
    return build, found, note


def find_file(folder: Path, name: str) -> Path | None:
    """A file in a folder or one below it; None where it is not there."""
    for pattern in (name, f"*/{name}"):
        # brackets do not occur in names of wheels
        found = next((path for path in folder.glob(pattern) if os.path.isfile(path)), None)
        if found is not None:
            return found
    return None


def make_plan(
    request: Request, lock: SetupLock, devices: Devices, network: Network, children: Children, system: str | None = None
) -> Plan:
    """What is going to happen. What keeps it from happening stands in the plan's ``problem``."""
    system = system or find_system()
    builds = tuple((build, LABELS[build]) for build in BUILDS.get(system, ()))
    build = request.build or devices.choose(system)
    plan = Plan(request, system, build, devices, network, None, None, lock.uv.get(system), None, builds=builds)
    try:
        return _complete(plan, lock, children)
    except OSError as error:
        return add_problem(plan, explain_os_error(error, "looking into the folder", request.root))
    except InstallationError as error:
        return add_problem(plan, error)


def add_problem(plan: Plan, error: InstallationError) -> Plan:
    """The plan with what keeps it from being carried out."""
    return replace(plan, problem=error.sentence, code=error.code, remedy=error.remedy)


def _complete(plan: Plan, lock: SetupLock, children: Children) -> Plan:
    request, system = plan.request, plan.system
    if not plan.builds or plan.uv is None:
        raise InstallationError(
            "platform",
            f"PyTorch cannot be had for this kind of computer ({system}); run the backend on another one, and connect to it.",
            Remedy.REPORT,
        )
    if plan.build not in dict(plan.builds):
        named = ", ".join(name for name, _ in plan.builds)
        raise InstallationError("device", f"'{plan.build}' is not for this computer; choose one of {named}.", Remedy.DEVICE)
    check_root(request.root, system, has_long_paths=read_long_paths())
    fetched, found, note = choose_python(request, lock, system, children)
    notes = [note] if note else []
    chosen = replace(plan, fetched_python=fetched, found_python=found)
    packages = lock.find_files(system, plan.build, chosen.python_version)
    downloads = request.root / DOWNLOADS
    others = (plan.uv, *((fetched.file,) if fetched else ()))
    if packages is not None:
        download = sum(file.size for file in (*others, *packages))
        unpacked = sum(file.unpacked for file in packages)
        is_exact = all(file.exact for file in (*others, *packages))
    else:
        more = _UNLOCKED.get(plan.build, _UNLOCKED_CPU)
        download, unpacked, is_exact = sum(file.size for file in others) + more[0], more[1], False
        notes.append(
            f"For {LABELS[plan.build]} with Python {chosen.python_version} this version comes without a list of its own: what is "
            f"needed is asked of {hide_credentials(plan.network.torch_index)}, and is compared with the checksums given there."
        )
    notes += [f"{device.name}: {device.doubt}." for device in plan.devices.found if device.doubt]
    notes += plan.devices.notes
    current = find_current(request.root)
    free = measure_free(request.root)
    done = replace(
        chosen,
        packages=packages,
        download=download,
        present=find_present(downloads, (*others, *(packages or ()))),
        unpacked=unpacked + (PYTHON_SIZE if fetched else 0),
        is_exact=is_exact,
        free=free,
        notes=tuple(notes),
        current=current.name if current else "",
    )
    if find_made(done) is not None:
        return replace(done, exists=True, present=download)
    try:
        if request.files is not None:
            _check_files(done, request.files)
        if done.needed > free:
            raise explain_space(done.needed, request.root, free)
    except InstallationError as error:
        return add_problem(done, error)
    return done


def find_made(plan: Plan) -> Path | None:
    """The environment that a plan would make, if it is there already."""
    return find_by_key(plan.request.root, plan.key)


def find_by_key(root: Path, key: str) -> Path | None:
    """The environment with a key; None where there is none."""
    return next((found.folder for found in list_environments(root) if key and found.key == key), None)


def _check_files(plan: Plan, folder: Path) -> None:
    """Raises ``InstallationError`` for what the folder of files lacks."""
    if not folder.is_dir():
        raise InstallationError("files", f"{folder} is not a folder; choose the one with the files.", Remedy.FILES)
    if plan.packages is None:
        raise InstallationError(
            "files",
            f"{LABELS[plan.build]} with Python {plan.python_version} can only be set up from the network; choose another device.",
            Remedy.DEVICE,
        )
    wanted = (*((plan.uv,) if plan.uv else ()), *plan.packages)
    for file in wanted:
        path = find_file(folder, file.name)
        if path is not None and file.exact and path.stat().st_size != file.size:
            raise InstallationError(
                "damaged",
                f"{path} has {path.stat().st_size} bytes in place of {file.size}; copy it again, it is not complete.",
                Remedy.FILES,
            )
    missing = [file.name for file in wanted if find_file(folder, file.name) is None]
    if missing:
        more = f" and {len(missing) - 1} more files" if len(missing) > 1 else ""
        raise InstallationError(
            "files",
            f"{folder} lacks {missing[0]}{more}; put them there, as 'blender --command latentman setup files' lists them.",
            Remedy.FILES,
        )
