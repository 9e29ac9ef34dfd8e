"""Making an environment whole again: what is damaged or gone is fetched anew and put back in its place."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ...shared.backend_environment import (
    DOWNLOADS,
    STAMP,
    BackendEnvironment,
    explain_loss,
    find_chosen,
    read_json,
)
from .changing import explain_nothing, hold_for, refuse_used
from .devices import Devices
from .environment import change_stamp, read_files, unpack_python
from .failures import InstallationError, Remedy
from .folders import Watch, delete_tree, measure_folder
from .lock_file import LockedFile, normalise
from .planning import Request, make_plan
from .running import Installation, Tools
from .transfer import hash_file
from .trial_run import try_out
from .uv import write_requirements
from .wholeness import (
    PYTHON_FOLDER,
    PYTHON_ITSELF,
    PYTHON_LIST,
    find_damage,
    find_site_folders,
    hash_records,
    list_installed,
    read_python_list,
)


def repair(request: Request, tools: Tools) -> list[str]:
    """Make the environment in use whole again; returns the packages that were fetched anew, ``Python`` among them. Raises
    ``InstallationError``."""
    root = request.root
    current = find_chosen(root)
    if current is None:
        lost = explain_loss(root)
        raise InstallationError("incomplete", lost) if lost else explain_nothing("repair")
    with hold_for(root, "repairing"):
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
        is_python_fetched = (current.folder / PYTHON_FOLDER).exists()
        is_python_broken = PYTHON_ITSELF in damaged or (is_python_fetched and not os.path.isfile(current.python))
        if not is_python_fetched and (lost := explain_loss(root)):
            # that of a virtual environment leads to one of this computer's
            raise InstallationError("incomplete", lost.replace("repair it, or set it up again", "set it up again"))
        if broken or is_python_broken:
            refuse_used(current, "repair")
            Repair(request, tools, current, damage).run(broken, is_python_broken)
        tools.progress.begin("trying")
        try:
            try_out(current.python, current.device, tools.children)
        except InstallationError as error:
            if error.remedy is not Remedy.REPORT:
                raise
            # what belongs to no package, such as the notes of a virtual environment, is not compared
            what = error.sentence.partition(";")[0]
            raise InstallationError(
                "check", f"{what}, though every package is whole; set it up again, and it is made anew."
            ) from error
        return [*([PYTHON_ITSELF] if is_python_broken else []), *sorted(file.package for file in broken)]


def make_way(target: Path, folder: Path) -> None:
    """Let a file have its place below an environment's folder, where something else has come there, or above it."""
    for above in reversed(target.relative_to(folder).parents):
        place = folder / above
        if os.path.lexists(place) and not place.is_dir():
            place.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and not target.is_symlink():
        delete_tree(target)


class Repair:
    """Puts what is damaged in an environment back in its place."""

    def __init__(self, request: Request, tools: Tools, current: BackendEnvironment, damage: Mapping[str, Iterable[str]]) -> None:
        self._tools, self._current, self._damage = tools, current, damage
        plan = make_plan(request, tools.lock, Devices(()), tools.network, tools.children)
        if plan.uv is None:
            raise InstallationError(plan.code, plan.problem, plan.remedy)
        self._plan = replace(plan, problem="")
        self._work = Installation(self._plan, tools)
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
        archive = Installation(plan, self._tools).fetch_python()
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
            if not (os.path.isfile(target) and hash_file(target) == digest):
                make_way(target, folder)
                os.replace(fresh / PYTHON_FOLDER / name, target)
        for link in [path for path in (fresh / PYTHON_FOLDER).rglob("*") if path.is_symlink()]:
            target = folder / PYTHON_FOLDER / link.relative_to(fresh / PYTHON_FOLDER)
            if not (target.is_symlink() and os.readlink(target) == os.readlink(link)):
                make_way(target, folder)
                os.replace(link, target)
        os.replace(fresh / PYTHON_LIST, folder / PYTHON_LIST)

    def _repair_packages(self, broken: tuple[LockedFile, ...]) -> None:
        folder, progress = self._current.folder, self._tools.progress
        uv = self._work.prepare_uv()
        self._work.check_space(broken)
        self._work.fetch_all("packages", broken)
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
