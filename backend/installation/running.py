"""Carrying a plan out, step by step; what has come stays, so that another try goes on where this one stopped."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex

from ...shared.backend_environment import (
    CURRENT,
    DOWNLOADS,
    ENVIRONMENTS,
    LOCK,
    STAMP,
    find_current,
    list_environments,
    read_environment,
)
from .changing import hold, is_used
from .devices import Devices
from .environment import (
    Uv,
    Watch,
    find_damage,
    find_site_folders,
    list_installed,
    list_leftovers,
    measure_folder,
    remove_folder,
    renew_stamp,
    switch,
    unpack_python,
    unpack_uv,
    write_requirements,
    write_stamp,
)
from .failures import InstallationError, Remedy, explain_os_error, write_size
from .index import Indexes
from .lock_file import LockedFile, SetupLock, make_key
from .network import Network
from .planning import FOUND, SPARE, Plan, Request, explain_space, find_file, find_present, make_plan, measure_free
from .processes import Children, make_environment
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
        raise InstallationError("plan", plan.problem, plan.remedy)
    root = plan.request.root
    try:
        with hold(root):
            return _Installation(plan, tools).run()
    except OSError as error:
        raise explain_os_error(error, "setting up", root) from error


class _Installation:
    def __init__(self, plan: Plan, tools: Tools) -> None:
        self._plan, self._tools = plan, tools
        self._root = plan.request.root
        self._downloads = self._root / DOWNLOADS
        self._indexes = Indexes(tools.network)

    def run(self) -> Path:
        for leftover in list_leftovers(self._root):
            shutil.rmtree(leftover, ignore_errors=True)
        self._downloads.mkdir(parents=True, exist_ok=True)
        existing = self._find_existing()
        if existing is not None:
            self._try_out(existing)
            renew_stamp(existing)
            self._finish(existing)
            return existing
        work = self._root / ENVIRONMENTS / f"{token_hex(4)}.part"
        uv = self._prepare_uv()
        archive = self._fetch_python()
        plan = self._plan
        files = plan.packages
        if files is None:
            self._tools.progress.begin("resolving")
            files = resolve(plan, self._tools.lock, uv, self._tools.network, self._indexes, self._downloads)
        self._check_space(files)
        self._fetch_all("packages", files)
        work.mkdir(parents=True)
        try:
            python = self._make_python(uv, work, archive)
            self._install(uv, work, python, files)
            key = make_key(files, plan.python_name)
            self._try_out(work, python)
            write_stamp(work, python, plan, key, files)
            folder = self._root / ENVIRONMENTS / f"{plan.build}-{key[:12]}"
            remove_folder(folder)
            os.rename(work, folder)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        self._finish(folder)
        return folder

    def _find_existing(self) -> Path | None:
        """The environment that this plan would make, if it is there already."""
        key = self._plan.key
        return next((found.folder for found in list_environments(self._root) if key and found.key == key), None)

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
        folder = self._plan.request.files
        if folder is not None and (path := find_file(folder, build.file.name)) is not None:
            return path
        try:
            self._tools.progress.begin("python", build.file.size)
            self._tools.progress.set_name(f"Python {build.version}")
            url = f"{self._tools.network.python_mirror}/{build.release}/{build.file.name.replace('+', '%2B')}"
            return fetch(self._tools.network, url, build.file, self._downloads, self._tools.progress.advance)
        except InstallationError as error:
            found = self._plan.found_python
            if found is None or error.code == "hash":
                raise
            other = make_plan(
                replace(self._plan.request, python=FOUND),
                self._tools.lock,
                self._plan.devices,
                self._tools.network,
                self._plan.system,
            )
            if other.problem:
                raise
            self._tools.progress.emit("note", message=f"{error.sentence} The Python of this machine is used instead: {found.path}")
            self._plan = replace(other, build=self._plan.build)
            return None

    def _check_space(self, files: tuple[LockedFile, ...]) -> None:
        """Raises ``InstallationError`` where the disk would become full."""
        needed = sum(file.size + file.unpacked for file in files) - find_present(self._downloads, files) + SPARE
        free = measure_free(self._root)
        if needed > free:
            raise InstallationError("space", explain_space(needed, self._root, free), Remedy.SPACE)

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
                path = self._downloads / file.name
                url = "" if path.exists() else self._indexes.find(file).url
                found.append(fetch(self._tools.network, url or str(path), file, self._downloads, progress.advance))
            progress.complete(file.size)
        return found

    def _copy(self, source: Path, file: LockedFile) -> Path:
        """A file from the user's folder, as far as it is the one that is locked."""
        path = find_file(source, file.name)
        if path is None:
            raise InstallationError("files", f"{file.name} is no longer in {source}.", Remedy.FILES)
        if hash_file(path, self._tools.progress.advance) != file.sha256:
            raise InstallationError(
                "hash", f"{path} is not the file that is locked: its hash is another; fetch it again.", Remedy.FILES
            )
        target = self._downloads / file.name
        if not target.exists():
            try:
                os.link(path, target)
            except OSError:
                shutil.copyfile(path, target.with_name(target.name + ".copy"))
                os.replace(target.with_name(target.name + ".copy"), target)
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

    def _try_out(self, folder: Path, python: Path | None = None) -> None:
        """Make one tiny frame in an environment. Raises ``InstallationError``."""
        if python is None:
            found = read_environment(folder)
            assert found is not None
            python = found.python
        self._tools.progress.begin("trying")
        try_out(python, self._plan.build, self._tools.children)

    def _finish(self, folder: Path) -> None:
        """Use an environment from now on, and clear up."""
        old = find_current(self._root)
        switch(self._root, folder.name)
        if old is not None and old.folder != folder:
            self._tools.progress.emit("note", message=f"The environment before it, {old.name}, is not used any more.")
        clear_up(self._root, folder)
        shutil.rmtree(self._downloads, ignore_errors=True)


def clear_up(root: Path, keep: Path) -> None:
    """Remove the environments that nobody uses, but one."""
    for found in list_environments(root):
        if found.folder != keep and not is_used(found.folder):
            with suppress(OSError):
                remove_folder(found.folder)


#: what an environment is tried on, by its build of torch
_DEVICES = {"cuda": "cuda", "cuda-older": "cuda", "rocm": "cuda", "xpu": "xpu", "metal": "mps", "cpu": "cpu"}
TRY_SECONDS = 600.0


def try_out(python: Path, build: str, children: Children) -> None:
    """Let an environment make one tiny frame on its device. Raises ``InstallationError``."""
    command = [str(python), str(LAUNCHER), "doctor", "--json", "--try", _DEVICES[build]]
    process = children.start(command, make_environment(PYTHONNOUSERSITE="1"))
    try:
        said, _ = process.communicate(timeout=TRY_SECONDS)
    except subprocess.TimeoutExpired as error:
        process.kill()
        raise InstallationError(
            "check", f"The check did not make a frame within {TRY_SECONDS / 60:.0f} minutes; choose another device.", Remedy.DEVICE
        ) from error
    finally:
        children.forget(process)
    text = said.decode("utf-8", "replace")
    found = read_last_object(text)
    if process.returncode == 0 and found and found.get("frame"):
        return
    problems = found.get("problems") if found else None
    if problems:
        raise InstallationError("check", f"The check failed: {str(problems[0]).rstrip('.')}.", Remedy.DEVICE)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    signal = f" (it ended with code {process.returncode})"
    last = (lines[-1] if lines else "nothing was said").rstrip(".")
    raise InstallationError(
        "check", f"The check failed: {last}{signal}; choose another device, or look at the diagnostics.", Remedy.DEVICE
    )


def read_last_object(text: str) -> dict | None:
    """The JSON object that a program has written last, whatever it wrote before."""
    start = text.find("\n{") + 1 if not text.startswith("{") else 0
    try:
        found, _ = json.JSONDecoder().raw_decode(text[start:])
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def repair(request: Request, tools: Tools) -> list[str]:
    """Make the environment in use whole again; returns the packages that were fetched anew. Raises ``InstallationError``."""
    root = request.root
    current = find_current(root)
    if current is None:
        raise InstallationError("nothing", "There is no environment to repair; set up the backend first.")
    try:
        with hold(root):
            tools.progress.begin("checking", sum(measure_folder(site) for site in find_site_folders(current.folder)))
            stamp = json.loads((current.folder / STAMP).read_text(encoding="utf-8"))
            files = tuple(
                tools.lock.files.get(file["name"])
                or LockedFile(file["name"], file["sha256"], file["size"], 0, file["folder"], file["size"] > 1)
                for file in stamp["files"]
            )
            damaged = set(find_damage(current.folder, tools.progress.advance))
            installed = list_installed(current.folder)
            damaged |= {file.package for file in files if installed.get(file.package) != file.version}
            broken = tuple(file for file in files if file.package in damaged)
            if broken:
                _replace_packages(request, tools, current.folder, current.python, broken)
            tools.progress.begin("trying")
            try_out(current.python, current.device, tools.children)
            return sorted(file.package for file in broken)
    except OSError as error:
        raise explain_os_error(error, "repairing", root) from error


def _replace_packages(request: Request, tools: Tools, folder: Path, python: Path, broken: tuple[LockedFile, ...]) -> None:
    plan = make_plan(request, tools.lock, Devices(()), tools.network)
    if plan.uv is None:
        raise InstallationError("plan", plan.problem, plan.remedy)
    work = _Installation(replace(plan, problem=""), tools)
    (request.root / DOWNLOADS).mkdir(parents=True, exist_ok=True)
    uv = work._prepare_uv()
    work._fetch_all("packages", broken)
    # what is half there cannot be taken away by its record
    for site in find_site_folders(folder):
        for file in broken:
            for info in site.glob(f"{file.name.split('-')[0]}-*.dist-info"):
                if not (info / "RECORD").exists():
                    shutil.rmtree(info, ignore_errors=True)
    tools.progress.begin("installing", sum(file.unpacked for file in broken))
    requirements = request.root / DOWNLOADS / "requirements.txt"
    write_requirements(requirements, broken)
    uv.install(
        python,
        requirements,
        request.root / DOWNLOADS,
        Watch(folder, tools.progress.advance),
        again=tuple(file.package for file in broken),
    )
    shutil.rmtree(request.root / DOWNLOADS, ignore_errors=True)


def move(root: Path, target: Path, tools: Tools) -> None:
    """Move everything of *Set Up* to another folder. Raises ``InstallationError``; then all is where it was."""
    if target.exists() and any(target.iterdir()):
        raise InstallationError("target", f"{target} is not empty; choose a new folder for it.", Remedy.SPACE)
    if target.absolute().is_relative_to(root.absolute()):
        raise InstallationError("target", f"{target} is inside the folder that is moved; choose another one.", Remedy.SPACE)
    try:
        with hold(root):
            for found in list_environments(root):
                if is_used(found.folder):
                    raise InstallationError("used", "A backend runs in it; stop it, then move it.")
            size = measure_folder(root)
            tools.progress.begin("moving", size)
            target.parent.mkdir(parents=True, exist_ok=True)
            if sys.platform != "win32" and target.parent.stat().st_dev == root.stat().st_dev:
                with suppress(OSError):
                    target.rmdir()
                os.rename(root, target)
                return
            free = measure_free(target)
            if size + SPARE > free:
                raise InstallationError(
                    "space", f"{write_size(size)} are to be moved to {target}, and {write_size(free)} are free there.", Remedy.SPACE
                )
            work = target.with_name(f"{target.name}.part")
            shutil.rmtree(work, ignore_errors=True)
            try:
                _copy_tree(root, work, tools.progress)
                with suppress(OSError):
                    target.rmdir()
                os.rename(work, target)
            except BaseException:
                shutil.rmtree(work, ignore_errors=True)
                raise
        shutil.rmtree(root, ignore_errors=True)
    except OSError as error:
        raise explain_os_error(error, "moving", target) from error


def _copy_tree(root: Path, target: Path, progress: Progress) -> None:
    done = 0

    def copy(source: str, path: str) -> str:
        nonlocal done
        shutil.copy2(source, path, follow_symlinks=False)
        done += os.lstat(source).st_size
        progress.advance(done)
        return path

    shutil.copytree(root, target, symlinks=True, copy_function=copy, ignore=shutil.ignore_patterns(LOCK))


def remove(root: Path, tools: Tools) -> int:
    """Delete everything that *Set Up* has made; returns the bytes. Models are elsewhere and stay. Raises ``InstallationError``."""
    try:
        with hold(root):
            for found in list_environments(root):
                if is_used(found.folder):
                    raise InstallationError("used", "A backend runs in it; stop it, then remove it.")
            size = measure_folder(root / ENVIRONMENTS) + measure_folder(root / DOWNLOADS)
            tools.progress.begin("removing", size)
            (root / CURRENT).unlink(missing_ok=True)
            for found in list_environments(root):
                remove_folder(found.folder)
            for name in (ENVIRONMENTS, DOWNLOADS):
                if (root / name).exists():
                    shutil.rmtree(root / name)
        with suppress(OSError):
            (root / LOCK).unlink()
            root.rmdir()
        return size
    except OSError as error:
        raise explain_os_error(error, "removing", root) from error
