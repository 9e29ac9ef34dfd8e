"""Carrying a plan out, step by step; what has come stays, so that another try goes on where this one stopped."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex

from ...shared.backend_environment import (
    CURRENT,
    DOWNLOADS,
    ENVIRONMENTS,
    LOCK,
    STAMP,
    UNFINISHED,
    BackendEnvironment,
    find_current,
    has_traces,
    list_environments,
    list_leftovers,
    list_made,
    read_environment,
    read_json,
)
from .changing import drop_lock, hold, is_used
from .devices import Devices
from .environment import (
    PYTHON_FOLDER,
    PYTHON_ITSELF,
    PYTHON_LIST,
    Uv,
    Watch,
    change_stamp,
    delete_tree,
    find_damage,
    find_site_folders,
    hash_records,
    list_installed,
    measure_folder,
    read_files,
    read_python_list,
    remove_folder,
    rename,
    renew_stamp,
    switch,
    unpack_python,
    unpack_uv,
    write_requirements,
    write_stamp,
)
from .failures import InstallationError, Remedy, explain_os_error
from .index import Indexes
from .lock_file import LockedFile, SetupLock, make_key, normalise
from .network import Network
from .planning import (
    FOUND,
    SPARE,
    Plan,
    Request,
    explain_space,
    find_by_key,
    find_file,
    find_made,
    find_present,
    make_plan,
    measure_free,
)
from .processes import Children, make_environment, read_last
from .progress import Progress
from .resolving import resolve
from .transfer import fetch, hash_file

LAUNCHER = Path(__file__).resolve().parents[1] / "launch.py"
UV_FOLDER, CACHE_FOLDER = "uv", "unpacked"


@dataclass(frozen=True)
class Tools:
    """What every step uses."""

    lock: SetupLock
    network: Network
    children: Children
    progress: Progress


def install(plan: Plan, tools: Tools) -> Path:
    """Make the environment of a plan and use it from now on; returns its folder. Raises ``InstallationError``."""
    if plan.problem:
        raise InstallationError(plan.code, plan.problem, plan.remedy)
    with _changing(plan.request.root, "setting up"):
        return _Installation(plan, tools).run()


@contextmanager
def _changing(root: Path, what: str) -> Iterator[None]:
    """Hold a folder while something is changed, and put errors of the file system into words."""
    try:
        with hold(root):
            yield
    except OSError as error:
        raise explain_os_error(error, what, root) from error


class _Installation:
    def __init__(self, plan: Plan, tools: Tools) -> None:
        self._plan, self._tools = plan, tools
        self._root = plan.request.root
        self._downloads = self._root / DOWNLOADS
        self._indexes = Indexes(tools.network)

    def run(self) -> Path:
        for leftover in list_leftovers(self._root):
            with suppress(OSError):
                delete_tree(leftover)
        self._downloads.mkdir(parents=True, exist_ok=True)
        existing = find_made(self._plan)
        if existing is not None and self._use_again(existing):
            return existing
        work = self._root / ENVIRONMENTS / f"{token_hex(4)}{UNFINISHED}"
        uv = self._prepare_uv()
        archive = self._fetch_python()
        plan = self._plan
        files = plan.packages
        if files is None:
            self._tools.progress.begin("resolving")
            files = resolve(plan, self._tools.lock, uv, self._tools.network, self._indexes, self._downloads)
            existing = find_by_key(self._root, make_key(files, plan.python_name))
            if existing is not None and self._use_again(existing):
                return existing
        self._check_space(files)
        self._fetch_all("packages", files)
        work.mkdir(parents=True)
        try:
            python = self._make_python(uv, work, archive)
            self._install(uv, work, python, files)
            plan = self._plan
            key = make_key(files, plan.python_name)
            self._try_out(python)
            write_stamp(work, python, plan, key, files)
            folder = self._make_room(f"{plan.build}-{key[:12]}")
            rename(work, folder)
        except BaseException:
            with suppress(OSError):
                delete_tree(work)
            raise
        self._finish(folder)
        return folder

    def _use_again(self, folder: Path) -> bool:
        """Whether an environment that is there already still works; then it is used from now on."""
        found = read_environment(folder)
        assert found is not None
        try:
            self._try_out(found.python)
        except InstallationError as error:
            self._tools.progress.emit("note", message=f"{error.sentence} What is there is therefore made anew.")
            return False
        renew_stamp(folder)
        self._finish(folder)
        return True

    def _make_room(self, name: str) -> Path:
        """A folder for an environment, which is not there; one that a backend runs in stays as it is."""
        folder = self._root / ENVIRONMENTS / name
        found = read_environment(folder)
        if os.path.lexists(folder) and is_used(folder, found.python if found else None):
            return folder.with_name(f"{name}-{token_hex(2)}")
        remove_folder(folder)
        return folder

    def _prepare_uv(self) -> Uv:
        assert self._plan.uv is not None
        wheel = self._fetch_all("uv", (self._plan.uv,))[0]
        program = unpack_uv(wheel, self._downloads / UV_FOLDER)
        return Uv(program, self._downloads / CACHE_FOLDER, self._tools.children)

    def _fetch_python(self) -> Path | None:
        """The archive of the Python to fetch; None where one of this machine is used, also because this one cannot be had."""
        build = self._plan.fetched_python
        if build is None:
            return None
        folder, progress = self._plan.request.files, self._tools.progress
        progress.begin("python", build.file.size)
        progress.set_name(f"Python {build.version}")
        if folder is not None and find_file(folder, build.file.name) is not None:
            return self._copy(folder, build.file)
        url = f"{self._tools.network.python_mirror}/{build.release}/{build.file.name.replace('+', '%2B')}"
        # where there is another one, nobody is kept waiting for long
        patience = 2 if self._plan.found_python is not None else 0
        network = self._tools.network
        try:
            return fetch(network, lambda: url, build.file, self._downloads, progress.advance, progress.set_name, patience)
        except InstallationError as error:
            found = self._plan.found_python
            if found is None or error.code == "hash":
                raise
            other = make_plan(
                replace(self._plan.request, python=FOUND),
                self._tools.lock,
                self._plan.devices,
                self._tools.network,
                self._tools.children,
                self._plan.system,
            )
            if other.problem:
                raise
            why = error.sentence.partition(";")[0].rstrip(".")
            progress.emit("note", message=f"{why}. The Python of this computer is used instead: {found.path}.")
            self._plan = replace(other, build=self._plan.build)
            return None

    def _check_space(self, files: tuple[LockedFile, ...]) -> None:
        """Raises ``InstallationError`` where the disk would become full."""
        needed = sum(file.size + file.unpacked for file in files) - find_present(self._downloads, files) + SPARE
        free = measure_free(self._root)
        if needed > free:
            raise explain_space(needed, self._root, free)

    def _fetch_all(self, step: str, files: tuple[LockedFile, ...]) -> list[Path]:
        """Have all files in the folder of downloads, the smallest first; returns their paths."""
        progress = self._tools.progress
        progress.begin(step, sum(file.size for file in files))
        found = []
        for file in sorted(files, key=lambda file: file.size):
            progress.set_name(f"{file.package} {file.version}")
            source = self._plan.request.files
            if source is not None:
                found.append(self._copy(source, file))
            else:
                found.append(self._fetch(file))
            progress.complete(file.size)
        return found

    def _fetch(self, file: LockedFile) -> Path:
        progress = self._tools.progress
        return fetch(
            self._tools.network,
            lambda: self._indexes.find(file).url,
            file,
            self._downloads,
            progress.advance,
            lambda sentence: progress.set_name(f"{file.package}: {sentence}"),
        )

    def _copy(self, source: Path, file: LockedFile) -> Path:
        """A file from the user's folder, as far as it is the one that is locked."""
        path = find_file(source, file.name)
        if path is None:
            raise InstallationError("files", f"{file.name} is not in {source}; put it there, and try again.", Remedy.FILES)
        if hash_file(path, self._tools.progress.advance) != file.sha256:
            raise InstallationError("damaged", f"{path} is damaged, or another file of the same name; copy it again.", Remedy.FILES)
        target = self._downloads / file.name
        if target.exists() and hash_file(target) == file.sha256:
            return target
        part = target.with_name(f"{target.name}.copy")
        part.unlink(missing_ok=True)
        try:
            os.link(path.resolve(), part)
        except OSError:
            shutil.copyfile(path, part)
        os.replace(part, target)
        return target

    def _make_python(self, uv: Uv, work: Path, archive: Path | None) -> Path:
        self._tools.progress.begin("unpacking")
        if archive is not None:
            return unpack_python(archive, work)
        assert self._plan.found_python is not None
        return uv.make_venv(work / "venv", self._plan.found_python.path)

    def _install(self, uv: Uv, work: Path, python: Path, files: tuple[LockedFile, ...]) -> None:
        progress = self._tools.progress
        progress.begin("installing", sum(file.unpacked for file in files))
        requirements = self._downloads / "requirements.txt"
        write_requirements(requirements, files)
        uv.install(python, requirements, self._downloads, Watch(work, progress.advance))
        missing = {file.package for file in files} - set(list_installed(work))
        if missing:
            raise InstallationError("uv", f"{', '.join(sorted(missing))} did not get installed; try again.", Remedy.REPORT)

    def _try_out(self, python: Path) -> None:
        """Make one tiny frame in an environment. Raises ``InstallationError``."""
        self._tools.progress.begin("trying")
        try_out(python, self._plan.build, self._tools.children)

    def _finish(self, folder: Path) -> None:
        """Use an environment from now on, and clear up."""
        old = find_current(self._root)
        switch(self._root, folder.name)
        clear_up(self._root, folder)
        if old is not None and old.folder != folder and old.folder.exists():
            self._tools.progress.emit("note", message="What was set up before stays on the disk until no Blender uses it any more.")
        with suppress(OSError):
            delete_tree(self._downloads)


def clear_up(root: Path, keep: Path) -> None:
    """Remove the environments that nobody uses, but one."""
    for folder in list_made(root):
        found = read_environment(folder)
        if folder != keep and not is_used(folder, found.python if found else None):
            with suppress(OSError):
                remove_folder(folder)


#: what an environment is tried on, by its build of torch
_DEVICES = {"cuda": "cuda", "cuda-older": "cuda", "rocm": "cuda", "xpu": "xpu", "metal": "mps", "cpu": "cpu"}
TRY_SECONDS = 600.0


def try_out(python: Path, build: str, children: Children) -> None:
    """Let an environment make one tiny frame on its device. Raises ``InstallationError``."""
    command = [str(python), str(LAUNCHER), "doctor", "--json", "--try", _DEVICES[build]]
    try:
        code, text = children.ask(command, make_environment(PYTHONNOUSERSITE="1"), TRY_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise explain_check(f"The test frame was not ready within {TRY_SECONDS / 60:.0f} minutes", build) from error
    found = read_last(text, dict)
    if code == 0 and found and found.get("frame"):
        return
    problems = found.get("problems") if found else None
    if problems:
        # what the backend advises then is for those who have installed it by hand
        raise explain_check(f"No test frame could be made ({str(problems[0]).partition(';')[0].rstrip('.')})", build)
    if code == -9:
        raise InstallationError(
            "check",
            "The system ended the making of a test frame, perhaps for want of memory; close other programs, and try again.",
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = (lines[-1] if lines else "nothing was said").rstrip(".")
    raise explain_check(f"No test frame could be made ({last}; it ended with code {code})", build)


def explain_check(what: str, build: str) -> InstallationError:
    """The sentence for an environment that makes no frame."""
    if build in ("cpu", "metal"):
        advice = "try again, and if that does not help, copy the diagnostics and report it"
        return InstallationError("check", f"{what}; {advice}.", Remedy.REPORT)
    return InstallationError("check", f"{what}; install the newest driver of your card, or choose another device.", Remedy.DEVICE)


def repair(request: Request, tools: Tools) -> list[str]:
    """Make the environment in use whole again; returns the packages that were fetched anew, ``Python`` among them. Raises
    ``InstallationError``."""
    root = request.root
    current = find_current(root)
    if current is None:
        raise _explain_nothing("repair")
    with _changing(root, "repairing"):
        try:
            stamped = read_files(current.folder)
        except ValueError as error:
            raise InstallationError(
                "stamp", "The list of what was set up is damaged; remove the backend, then set it up again."
            ) from error
        size = sum(measure_folder(site) for site in find_site_folders(current.folder))
        tools.progress.begin("checking", size + measure_folder(current.folder / PYTHON_FOLDER))
        # the lock knows more of a file than the stamp: how large it is when it is unpacked
        files = tuple(
            locked if (locked := tools.lock.files.get(file.name)) and locked.sha256 == file.sha256 else file for file in stamped
        )
        damage = find_damage(current.folder, tools.progress.advance)
        damaged = set(damage)
        installed = list_installed(current.folder)
        damaged |= {file.package for file in files if installed.get(file.package) != file.version}
        broken = tuple(file for file in files if file.package in damaged)
        is_python_broken = PYTHON_ITSELF in damaged
        if broken or is_python_broken:
            _refuse_used(current, "repair")
            _Repair(request, tools, current, damage).run(broken, is_python_broken)
        tools.progress.begin("trying")
        try_out(current.python, current.device, tools.children)
        return [*([PYTHON_ITSELF] if is_python_broken else []), *sorted(file.package for file in broken)]


def _explain_nothing(what: str) -> InstallationError:
    return InstallationError("nothing", f"There is nothing to {what}: set up the backend first.")


def _refuse_used(found: BackendEnvironment, what: str) -> None:
    if is_used(found.folder, found.python):
        raise InstallationError("used", f"A backend is running there; stop it in every Blender, then {what} it.")


class _Repair:
    """Puts what is damaged in an environment back in its place."""

    def __init__(self, request: Request, tools: Tools, current: BackendEnvironment, damage: Mapping[str, Iterable[str]]) -> None:
        self._tools, self._current, self._damage = tools, current, damage
        plan = make_plan(request, tools.lock, Devices(()), tools.network, tools.children)
        if plan.uv is None:
            raise InstallationError(plan.code, plan.problem, plan.remedy)
        self._plan = replace(plan, problem="")
        self._work = _Installation(self._plan, tools)
        self._downloads = request.root / DOWNLOADS
        self._downloads.mkdir(parents=True, exist_ok=True)

    def run(self, broken: tuple[LockedFile, ...], is_python_broken: bool) -> None:
        if is_python_broken:
            self._repair_python()
        if broken:
            self._repair_packages(broken)
        with suppress(OSError):
            delete_tree(self._downloads)

    def _repair_python(self) -> None:
        """Write the damaged files of a fetched Python anew, as far as its archive is still the one that is locked."""
        folder = self._current.folder
        build = self._tools.lock.pythons.get(self._plan.system)
        plan = replace(self._plan, fetched_python=build, found_python=None)
        archive = _Installation(plan, self._tools)._fetch_python()
        assert archive is not None and build is not None
        if read_json(folder / STAMP).get("python_source") != build.file.name:
            raise InstallationError(
                "outdated", "The Python that was set up is damaged, and this version comes with another one; set up again."
            )
        self._tools.progress.begin("unpacking")
        fresh = self._downloads / "fresh"
        delete_tree(fresh)
        unpack_python(archive, fresh)
        for name, digest in (read_python_list(fresh) or {}).items():
            target = folder / PYTHON_FOLDER / name
            if not (target.is_file() and hash_file(target) == digest):
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(fresh / PYTHON_FOLDER / name, target)
        os.replace(fresh / PYTHON_LIST, folder / PYTHON_LIST)

    def _repair_packages(self, broken: tuple[LockedFile, ...]) -> None:
        folder, progress = self._current.folder, self._tools.progress
        uv = self._work._prepare_uv()
        self._work._check_space(broken)
        self._work._fetch_all("packages", broken)
        # by its record, what is half there would be taken away by halves, or not at all
        names = {file.package for file in broken}
        for site in find_site_folders(folder):
            for info in site.glob("*.dist-info"):
                if normalise(info.name.partition("-")[0]) in names:
                    delete_tree(info)
            for name in names:
                for path in self._damage.get(name, ()):
                    # uv replaces files, and not a folder that has come in the place of one
                    if (site / path).is_dir():
                        delete_tree(site / path)
        progress.begin("installing", sum(file.unpacked for file in broken))
        requirements = self._downloads / "requirements.txt"
        write_requirements(requirements, broken)
        uv.install(self._current.python, requirements, self._downloads, Watch(folder, progress.advance), again=tuple(sorted(names)))
        change_stamp(folder, records=hash_records(folder))


def remove(root: Path, tools: Tools) -> int:
    """Delete everything that *Set Up* has made; returns the bytes. Models are elsewhere and stay, and so does what others have put
    there. Raises ``InstallationError``."""
    if not has_traces(root):
        raise _explain_nothing("remove")
    with _changing(root, "removing"):
        for found in list_environments(root):
            _refuse_used(found, "remove")
        made = list_made(root)
        size = sum(map(measure_folder, made)) + measure_folder(root / DOWNLOADS)
        tools.progress.begin("removing", size)
        (root / CURRENT).unlink(missing_ok=True)
        for folder in made:
            remove_folder(folder)
        delete_tree(root / DOWNLOADS)
        with suppress(OSError):
            (root / ENVIRONMENTS).rmdir()
        drop_lock(root)
    with suppress(OSError):
        (root / LOCK).unlink(missing_ok=True)
    with suppress(OSError):
        root.rmdir()
    return size
