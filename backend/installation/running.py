"""Carrying a plan out, step by step; what has come stays, so that another try goes on where this one stopped."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex

from ...shared.backend_environment import (
    DOWNLOADS,
    ENVIRONMENTS,
    UNFINISHED,
    find_current,
    list_leftovers,
    list_made,
    read_environment,
)
from .changing import hold_for, is_used
from .environment import renew_stamp, switch, unpack_python, write_stamp
from .failures import InstallationError, Remedy
from .folders import Watch, delete_tree, remove_folder, rename
from .index import Indexes
from .lock_file import LockedFile, SetupLock, make_key
from .network import Network
from .planning import (
    FOUND,
    SPARE,
    Plan,
    explain_space,
    find_by_key,
    find_file,
    find_made,
    find_present,
    make_plan,
    measure_free,
)
from .processes import Children
from .progress import Progress
from .resolving import resolve
from .transfer import fetch, hash_file
from .trial_run import try_out
from .uv import Uv, unpack_uv, write_requirements
from .wholeness import list_installed

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
    with hold_for(plan.request.root, "setting up"):
        return Installation(plan, tools).run()


class Installation:
    """Makes the environment of a plan, out of what is there already and what has to be fetched."""

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
        uv = self.prepare_uv()
        archive = self.fetch_python()
        plan = self._plan
        files = plan.packages
        if files is None:
            self._tools.progress.begin("resolving")
            files = resolve(plan, self._tools.lock, uv, self._tools.network, self._indexes, self._downloads)
            existing = find_by_key(self._root, make_key(files, plan.python_name))
            if existing is not None and self._use_again(existing):
                return existing
        self.check_space(files)
        self.fetch_all("packages", files)
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

    def prepare_uv(self) -> Uv:
        assert self._plan.uv is not None
        wheel = self.fetch_all("uv", (self._plan.uv,))[0]
        program = unpack_uv(wheel, self._downloads / UV_FOLDER)
        return Uv(program, self._downloads / CACHE_FOLDER, self._tools.children)

    def fetch_python(self) -> Path | None:
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

    def check_space(self, files: tuple[LockedFile, ...]) -> None:
        """Raises ``InstallationError`` where the disk would become full."""
        needed = sum(file.size + file.unpacked for file in files) - find_present(self._downloads, files) + SPARE
        free = measure_free(self._root)
        if needed > free:
            raise explain_space(needed, self._root, free)

    def fetch_all(self, step: str, files: tuple[LockedFile, ...]) -> list[Path]:
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
