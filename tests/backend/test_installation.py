"""*Set Up* as a whole, with packages of a few bytes, the real uv and an index on loopback: install, update, repair, move, remove,
and what each leaves when something goes wrong."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from latentman.backend.installation import folders, index, moving, planning, resolving, running, transfer, trial_run
from latentman.backend.installation.changing import claim, find_strangers, hold, is_running, is_used
from latentman.backend.installation.failures import InstallationError, Remedy
from latentman.backend.installation.lock_file import LockedFile
from latentman.backend.installation.moving import MARK, move
from latentman.backend.installation.removing import remove
from latentman.backend.installation.repairing import repair
from latentman.backend.installation.running import install
from latentman.backend.installation.uv import Uv
from latentman.backend.installation.wholeness import find_damage, find_site_folders
from latentman.shared.backend_environment import (
    CURRENT,
    DOWNLOADS,
    ENVIRONMENTS,
    LOCK,
    STAMP,
    explain_loss,
    find_current,
    has_traces,
    list_environments,
    list_leftovers,
)
from tests.small_set_up import BUILD, CHECK, PYTHON, SYSTEM, SmallSetUp, find_system_python, make_python_archive
from tests.small_wheels import find_uv, write_wheel

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the small uv is a script of sh")
_LETTERS = "Ærø, 動画 %20 #1"


@pytest.fixture(scope="session")
def uv(tmp_path_factory):
    return find_uv(tmp_path_factory.mktemp("uv"))


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    if not (Path(sys.base_prefix) / "bin" / f"python{PYTHON}").exists():
        pytest.skip("this Python cannot be copied")
    return make_python_archive(tmp_path_factory.mktemp("python"))


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    path = tmp_path_factory.mktemp("check") / "check.py"
    path.write_text(CHECK)
    return path


@pytest.fixture(autouse=True)
def hurry(monkeypatch, check):
    monkeypatch.setattr(transfer, "PAUSES", (0.001,) * 2)
    monkeypatch.setattr(index, "PAUSES", (0.001,) * 2)
    monkeypatch.setattr(trial_run, "LAUNCHER", check)
    monkeypatch.setattr(planning, "find_python", lambda children, without=None: find_system_python())
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def set_up(tmp_path, uv):
    """Nothing is set up yet, in a folder with a name that is hard on programs."""
    folder = tmp_path / _LETTERS
    folder.mkdir()
    found = SmallSetUp(folder, uv)
    yield found
    found.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory, uv, check):
    """A folder in which it has been set up once; tests take copies of it."""
    folder = tmp_path_factory.mktemp("made") / _LETTERS
    folder.mkdir()
    found = SmallSetUp(folder, uv)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial_run, "LAUNCHER", check)
        patch.setattr(planning, "find_python", lambda children, without=None: find_system_python())
        found.install()
    yield found
    found.close()


@pytest.fixture
def ready(made, set_up):
    """It is set up."""
    shutil.copytree(made.root, set_up.root, symlinks=True)
    set_up.lock = made.lock
    for wheel in made.wheels:
        shutil.copy2(wheel, set_up.simple)
    return set_up


def runs(folder):
    """What an environment's own Python says of its packages."""
    python = (
        list_environments(folder.parent.parent)[0].python if not (folder / "venv").exists() else folder / "venv" / "bin" / "python"
    )
    asked = "import alpha, beta, gamma_delta, sys; print(alpha.VERSION, beta.VERSION, gamma_delta.VERSION)"
    done = subprocess.run([python, "-I", "-c", asked], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def fail(call, *arguments, **more):
    with pytest.raises(InstallationError) as caught:
        call(*arguments, **more)
    error = caught.value
    assert error.code and isinstance(error.remedy, Remedy)
    assert error.sentence.endswith(".") and "\n" not in error.sentence and (";" in error.sentence or ":" in error.sentence)
    return error


def nothing_half(set_up):
    """Nothing that is not whole is taken for whole, and nothing is left behind that nobody finds again."""
    assert not list_leftovers(set_up.root)
    for found in list_environments(set_up.root):
        assert not find_damage(found.folder)


# ---------------------------------------------------------------- install


def test_the_first_time(set_up):
    plan = set_up.plan()
    assert not plan.problem and not plan.exists and plan.download == plan.needed - plan.unpacked - planning.SPARE
    folder = install(plan, set_up.tools)
    current = find_current(set_up.root)
    assert current is not None and current.folder == folder and current.device == BUILD and current.packages == 3
    assert runs(folder) == "1.0 1.0 1.0"
    # the Python to fetch is nowhere: that of the machine was taken, and it was said
    assert "is used instead" in set_up.told.list("note")[0]["message"]
    assert [one["step"] for one in set_up.told.list("step")] == ["uv", "python", "packages", "unpacking", "installing", "trying"]
    assert sorted(path.name for path in set_up.root.iterdir()) == [CURRENT, ENVIRONMENTS, LOCK]
    nothing_half(set_up)
    # a second press has nothing to fetch
    set_up.index.requests.clear()
    plan = set_up.plan(python="found")
    assert plan.exists and plan.needed == 0
    assert install(plan, set_up.tools) == folder and not set_up.index.requests
    assert not set_up.children._running


def test_with_a_fetched_python(tmp_path, uv, archive):
    found = SmallSetUp(tmp_path / _LETTERS, uv, archive=archive)
    try:
        found.index.cut_after, found.index.cut_count = archive.stat().st_size // 2, 1
        folder = found.install()
        current = find_current(found.root)
        assert current.python.is_relative_to(folder) and not (folder / "venv").exists()
        asked = "import sys, alpha; print(sys.prefix)"
        said = subprocess.run([current.python, "-I", "-c", asked], capture_output=True, text=True, check=True).stdout
        assert Path(said.strip()).resolve() == (folder / "python").resolve()
        assert not find_damage(folder)
        # a module of Python's own that is gone is put back, and so is one that was changed
        library = folder / "python" / "lib" / f"python{PYTHON}"
        (library / "textwrap.py").unlink()
        (library / "json" / "__init__.py").write_text("broken")
        (library / "site-packages" / "alpha" / "__init__.py").unlink()
        assert find_damage(folder).keys() == {"Python", "alpha"}
        assert repair(found.request(), found.tools) == ["Python", "alpha"]
        assert not find_damage(folder)
    finally:
        found.close()


def test_a_python_whose_archive_is_damaged(tmp_path, uv, archive):
    found = SmallSetUp(tmp_path / "a", uv, archive=archive)
    try:
        found.index.wrong = {archive.name: os.urandom(archive.stat().st_size)}
        error = fail(found.install)
        assert error.code == "hash" and find_current(found.root) is None
    finally:
        found.close()


@pytest.mark.parametrize("status", [403, 404, 500])
def test_without_the_mirror_of_pythons_and_without_one_here(set_up, monkeypatch, status):
    monkeypatch.setattr(planning, "find_python", lambda children, without=None: None)
    set_up.index.before = lambda name: None
    set_up.index.redirects = {"/mirror/": f"{set_up.index.address}/nothing/"}
    assert fail(set_up.install).code == "absent"
    assert find_current(set_up.root) is None


def test_packages_that_cannot_be_had_leave_what_there_was(ready):
    before = find_current(ready.root)
    ready.renew("2.0")
    (ready.simple / "alpha-2.0-py3-none-any.whl").unlink()
    error = fail(ready.install, python="found")
    assert error.code == "absent" and error.remedy is Remedy.NETWORK
    assert find_current(ready.root) == before and runs(before.folder) == "1.0 1.0 1.0"
    nothing_half(ready)
    write_wheel(ready.simple, "alpha", "2.0", needs=["beta"])
    assert runs(ready.install(python="found")) == "2.0 2.0 2.0"


def test_a_wheel_that_is_none(set_up):
    """With the right hash, so that only uv can find out."""
    (set_up.simple / set_up.wheels[0].name).write_bytes(b"PK but no wheel")
    path = set_up.simple / set_up.wheels[0].name
    from tests.small_set_up import read_lock, write_lock

    set_up.lock = read_lock(write_lock(set_up.folder / "setup.json", set_up.uv_wheel, [path, *set_up.wheels[1:]]))
    error = fail(set_up.install)
    assert error.code in ("damaged", "uv") and find_current(set_up.root) is None
    nothing_half(set_up)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lines", "code", "words"),
    [
        ("raise SystemExit('Segmentation fault')", "check", "Segmentation fault"),
        ("import os; os.kill(os.getpid(), 9)", "check", "memory"),
        (
            "import json; print(json.dumps({'frame': '', 'problems': ['The card is too old.']})); raise SystemExit(1)",
            "check",
            "too old",
        ),
        ("print('no object')", "check", "no object"),
        ("import time; time.sleep(600)", "check", "not ready"),
    ],
)
def test_a_failing_check_leaves_the_old_environment_in_use(ready, tmp_path, monkeypatch, lines, code, words):
    before = find_current(ready.root)
    ready.renew("2.0")
    bad = tmp_path / "bad.py"
    bad.write_text(lines)
    monkeypatch.setattr(trial_run, "LAUNCHER", bad)
    monkeypatch.setattr(trial_run, "TRY_SECONDS", 1.0 if "sleep" in lines else 60.0)
    error = fail(ready.install, python="found")
    assert error.code == code and words in error.sentence
    assert find_current(ready.root) == before
    nothing_half(ready)


def test_an_update_beside_what_is_in_use(ready, check, monkeypatch):
    old = find_current(ready.root)
    backend = claim(old.folder)
    ready.renew("2.0")
    # the check comes before the switch
    seen = []
    monkeypatch.setattr(running, "try_out", lambda *_: seen.append(find_current(ready.root).name))
    new = ready.install(python="found")
    assert seen == [old.name] and find_current(ready.root).folder == new != old.folder
    assert old.folder.exists() and runs(old.folder) == "1.0 1.0 1.0"
    backend.close()
    ready.renew("3.0")
    newest = ready.install(python="found")
    # now nobody uses the oldest, nor the one in between
    assert [found.folder for found in list_environments(ready.root)] == [newest]
    assert len(list((ready.root / ENVIRONMENTS).iterdir())) == 1


def test_back_to_what_is_still_there(ready, monkeypatch):
    old = find_current(ready.root)
    lock = ready.lock
    monkeypatch.setattr(running, "is_used", lambda *_: True)
    ready.renew("2.0")
    new = ready.install(python="found")
    ready.lock = lock
    ready.index.requests.clear()
    assert ready.install(python="found") == old.folder and not ready.index.requests
    assert find_current(ready.root).folder == old.folder != new


def test_an_environment_that_does_not_work_any_more_is_made_anew(ready):
    old = find_current(ready.root)
    (site,) = find_site_folders(old.folder)
    shutil.rmtree(site / "beta")
    folder = ready.install(python="found")
    assert folder == old.folder and runs(folder) == "1.0 1.0 1.0"
    assert "made anew" in ready.told.list("note")[0]["message"]
    nothing_half(ready)


def test_one_that_does_not_work_and_is_used_stays_for_who_uses_it(ready):
    old = find_current(ready.root)
    (site,) = find_site_folders(old.folder)
    shutil.rmtree(site / "beta")
    with claim(old.folder):
        folder = ready.install(python="found")
        assert folder != old.folder and old.folder.exists() and find_current(ready.root).folder == folder


@pytest.mark.parametrize("name", [STAMP, CURRENT])
@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"environment": "../../etc", "python": "../../bin/sh", "key": "k"}', b"\xff"]
)
def test_damaged_notes_are_not_believed(ready, name, content):
    old = find_current(ready.root)
    path = (old.folder if name == STAMP else ready.root) / name
    path.write_bytes(content)
    assert find_current(ready.root) is None
    assert fail(repair, ready.request(), ready.tools).code == "incomplete"


def test_after_that_it_is_set_up_again(ready):
    old = find_current(ready.root)
    (old.folder / STAMP).write_bytes(b"{")
    assert runs(ready.install(python="found")) == "1.0 1.0 1.0"
    assert len(list((ready.root / ENVIRONMENTS).iterdir())) == 1


@pytest.mark.skipif(SYSTEM != "linux-x64", reason="where torch's own index has the build for the processor")
def test_what_is_not_locked_is_found_out_and_installed(set_up, monkeypatch):
    """A Python or device without a list: uv asks the indexes, and all of it is fetched and compared as usual."""
    tag = f"cp{PYTHON.replace('.', '')}"
    torch = write_wheel(
        set_up.folder / "torch", "torch", "9.0+cpu", needs=["alpha", "beta"], tag=f"{tag}-{tag}-manylinux_2_28_x86_64"
    )
    set_up.index.folders["whl/cpu"] = torch.parent
    backend = set_up.folder / "backend.txt"
    backend.write_text("alpha==1.0\nbeta==1.0\ngamma-delta==1.0\ntorch==9.0\n")
    monkeypatch.setattr(resolving, "BACKEND_LOCK", backend)
    locked = LockedFile(torch.name, "0" * 64, 10, folder="cpu")
    set_up.lock = replace(set_up.lock, environments={SYSTEM: {}}, files={torch.name: locked})
    # its genuine hash is known, and this is another file
    assert fail(set_up.install, python="found").code == "hash"
    set_up.lock = replace(set_up.lock, files={"torch-9.0-py3-none-any.whl": replace(locked, name="torch-9.0-py3-none-any.whl")})
    plan = set_up.plan(python="found")
    assert plan.packages is None and not plan.is_exact and not plan.key
    folder = install(plan, set_up.tools)
    assert runs(folder) == "1.0 1.0 1.0" and find_current(set_up.root).packages == 4
    (site,) = find_site_folders(folder)
    (site / "torch" / "__init__.py").unlink()
    assert repair(set_up.request(python="found"), set_up.tools) == ["torch"]
    # a second press finds out that it is there already
    set_up.told.events.clear()
    assert install(set_up.plan(python="found"), set_up.tools) == folder
    assert [one["step"] for one in set_up.told.list("step")][-2:] == ["resolving", "trying"]


# ---------------------------------------------------------------- folders


def test_folders_of_others_are_left_alone(set_up, uv):
    """A folder with other files is refused; what lies in one of *Set Up*'s folders, and is not of it, stays for ever."""
    set_up.root.mkdir()
    (set_up.root / "Urlaub.jpg").write_bytes(b"mine")
    plan = set_up.plan()
    assert plan.code == "occupied" and plan.remedy is Remedy.SPACE and "Urlaub.jpg" in plan.problem
    assert fail(install, plan, set_up.tools).code == "occupied"
    assert os.listdir(set_up.root) == ["Urlaub.jpg"]
    for call in (lambda: remove(set_up.root, set_up.tools), lambda: repair(set_up.request(), set_up.tools)):
        assert fail(call).code == "nothing"
    assert os.listdir(set_up.root) == ["Urlaub.jpg"]
    (set_up.root / "Urlaub.jpg").unlink()
    mine = ["downloads/film.mp4", f"{ENVIRONMENTS}/forest.hdr", f"{ENVIRONMENTS}/old/scene.blend"]
    set_up.install(python="found")
    for name in mine:
        (set_up.root / name).parent.mkdir(parents=True, exist_ok=True)
        (set_up.root / name).write_bytes(b"mine")
    set_up.renew("2.0")
    set_up.install(python="found")
    move(set_up.root, set_up.folder / "new", set_up.told)
    assert all((set_up.root / name).read_bytes() == b"mine" for name in mine)
    assert not (set_up.folder / "new" / "downloads").exists()
    remove(set_up.folder / "new", set_up.tools)
    assert not (set_up.folder / "new").exists()


def test_remove_leaves_what_is_of_others(ready):
    (ready.root / "notes.txt").write_bytes(b"mine")
    (ready.root / ENVIRONMENTS / "studio.hdr").write_bytes(b"mine")
    assert remove(ready.root, ready.tools) > 0
    assert sorted(path.name for path in ready.root.rglob("*") if path.is_file()) == ["notes.txt", "studio.hdr"]


@pytest.mark.parametrize(
    "name", [".DS_Store", "desktop.ini", "Thumbs.db", "lost+found", "System Volume Information", "$RECYCLE.BIN"]
)
def test_what_systems_put_everywhere_does_not_count(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    assert find_strangers(tmp_path) == [] == find_strangers(tmp_path / "none")


def test_a_file_in_place_of_the_folder(set_up):
    set_up.root.write_bytes(b"")
    assert set_up.plan().code == "path"
    set_up.root = set_up.root / "inside"
    plan = set_up.plan()
    assert plan.code == "path" and plan.remedy is Remedy.SPACE


def test_a_folder_that_cannot_be_written(set_up, monkeypatch):
    monkeypatch.setattr(planning.os, "access", lambda path, mode: False)
    plan = set_up.plan()
    assert plan.code == "permission" and plan.remedy is Remedy.SPACE
    monkeypatch.undo()


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC])
@pytest.mark.parametrize("where", ["write_requirements", "unpack_uv", "write_stamp", "switch"])
def test_a_folder_that_fails_on_the_way(ready, monkeypatch, where, number):
    """Whatever the step: a sentence, nothing half, and the next try succeeds."""
    before = find_current(ready.root)
    ready.renew("2.0")

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), str(ready.root / "x"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, where, refuse)
        patch.setattr(running, "try_out", lambda *_: None)
        if where != "unpack_uv" and number != errno.ENOSPC:
            # the same from here on
            patch.setattr(Uv, "install", lambda self, python, *_, **__: _install_by_hand(ready, python))
        error = fail(ready.install, python="found")
    assert error.code in ("permission", "space", "path", "disk") and error.remedy is Remedy.SPACE
    assert find_current(ready.root) == before
    assert not [path for path in (ready.root / ENVIRONMENTS).iterdir() if path.suffix]


def _install_by_hand(set_up, python):
    """What uv does, quicker: the wheels are zip files."""
    (site,) = (python.parent.parent / "lib").glob("python3*/site-packages")
    for wheel in set_up.wheels:
        shutil.unpack_archive(wheel, site, "zip")


def test_a_disk_that_is_too_small_is_known_before(set_up, monkeypatch):
    monkeypatch.setattr(planning.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
    plan = set_up.plan()
    assert plan.code == "space" and plan.remedy is Remedy.SPACE and "1 kB" in plan.problem
    assert fail(install, plan, set_up.tools).code == "space" and not has_traces(set_up.root)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk takes root")
@pytest.mark.parametrize("size", [200, 700])
def test_a_disk_that_becomes_full(set_up, monkeypatch, size):
    """Truly: too small for the downloads, and for what is unpacked; what uv says then is understood."""
    set_up.wheels.append(write_wheel(set_up.simple, "huge", files={"huge/data": os.urandom(500_000)}))
    from tests.small_set_up import read_lock, write_lock

    set_up.lock = read_lock(write_lock(set_up.folder / "setup.json", set_up.uv_wheel, set_up.wheels))
    set_up.root.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", set_up.root]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    monkeypatch.setattr(planning, "SPARE", -(10**9))
    monkeypatch.setattr(running, "SPARE", -(10**9))
    try:
        error = fail(set_up.install, python="found")
        assert error.code == "space" and error.remedy is Remedy.SPACE and "full" in error.sentence
        assert find_current(set_up.root) is None and not list_environments(set_up.root)
        subprocess.run(["mount", "-o", "remount,size=64m", set_up.root], check=True)
        assert runs(set_up.install(python="found")) == "1.0 1.0 1.0"
    finally:
        subprocess.run(["umount", set_up.root], check=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting takes root")
def test_a_disk_from_which_nothing_can_be_run(set_up, monkeypatch):
    monkeypatch.setattr(planning, "SPARE", 0)
    monkeypatch.setattr(running, "SPARE", 0)
    set_up.root.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m,noexec", "tmpfs", set_up.root]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        error = fail(set_up.install, python="found")
        assert error.code == "start" and error.remedy is Remedy.SPACE
    finally:
        subprocess.run(["umount", set_up.root], check=True)


def test_a_folder_behind_a_link(set_up, tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    set_up.root.symlink_to(real)
    folder = set_up.install(python="found")
    assert runs(folder) == "1.0 1.0 1.0" and (real / CURRENT).exists()
    # what the link leads to is moved, and not the link
    move(set_up.root, tmp_path / "moved", set_up.told)
    assert not real.exists() and not set_up.root.is_symlink()
    assert runs(find_current(tmp_path / "moved").folder) == "1.0 1.0 1.0"


def test_two_at_once(set_up):
    set_up.root.mkdir()
    with hold(set_up.root):
        error = fail(set_up.install, python="found")
    assert error.code == "busy" and "Another Blender" in error.sentence
    assert set_up.install(python="found").exists()


def test_a_lock_that_somebody_has_deleted_meanwhile_is_none(tmp_path):
    with hold(tmp_path):
        (tmp_path / LOCK).unlink()
        # the one that is deleted is not the one that the next takes
        with hold(tmp_path), pytest.raises(InstallationError, match="Another"), hold(tmp_path):
            pass


def test_a_disk_that_knows_no_locks(set_up, monkeypatch):
    import fcntl

    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    error = fail(set_up.install, python="found")
    assert error.code == "unlockable" and error.remedy is Remedy.SPACE


# ---------------------------------------------------------------- from files


@pytest.fixture
def files(set_up):
    """A folder with all that is needed, some of it in a folder below; the network is away."""
    folder = set_up.folder / "Dateien"
    (folder / "wheels").mkdir(parents=True)
    shutil.copy2(set_up.uv_wheel, folder)
    for wheel in set_up.wheels:
        shutil.copy2(wheel, folder / "wheels")
    set_up.index.close()
    return folder


def test_from_files(set_up, files):
    plan = set_up.plan(files=files)
    assert not plan.problem and plan.fetched_python is None
    assert runs(install(plan, set_up.tools)) == "1.0 1.0 1.0"
    assert sorted(path.name for path in (files / "wheels").iterdir()) == sorted(wheel.name for wheel in set_up.wheels)
    assert not set_up.index.requests


def test_from_files_with_links_among_them(set_up, files):
    elsewhere = set_up.folder / "elsewhere"
    elsewhere.mkdir()
    for wheel in (files / "wheels").iterdir():
        wheel.rename(elsewhere / wheel.name)
        wheel.symlink_to(Path("..", "..", "elsewhere", wheel.name))
    assert runs(set_up.install(files=files)) == "1.0 1.0 1.0"


def test_from_files_with_their_python(tmp_path, uv, archive, monkeypatch):
    monkeypatch.setattr(planning, "find_python", lambda children, without=None: None)
    found = SmallSetUp(tmp_path / "a", uv, archive=archive)
    try:
        found.index.close()
        folder = tmp_path / "files"
        shutil.copytree(found.simple, folder)
        assert "cpython" in found.plan(files=folder).problem
        (folder / archive.name).write_bytes(os.urandom(archive.stat().st_size))
        assert fail(found.install, files=folder).code == "damaged"
        (folder / archive.name).unlink()
        os.link(archive, folder / archive.name)
        assert find_damage(found.install(files=folder)) == {}
        assert archive.exists()
    finally:
        found.close()


@pytest.mark.parametrize("damage", ["missing", "two missing", "short", "changed", "no folder", "a file"])
def test_from_files_that_are_not_complete(set_up, files, damage):
    path = files / "wheels" / set_up.wheels[1].name
    data = path.read_bytes()
    folder = files
    if damage == "missing":
        path.unlink()
    elif damage == "two missing":
        path.unlink()
        (files / set_up.uv_wheel.name).unlink()
    elif damage == "short":
        path.write_bytes(data[:-1])
    elif damage == "changed":
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    else:
        folder = set_up.folder / "none"
        if damage == "a file":
            folder.write_bytes(b"")
    error = fail(set_up.install, files=folder)
    assert error.remedy is Remedy.FILES and error.code == {"short": "damaged", "changed": "damaged"}.get(damage, "files")
    if damage not in ("no folder", "a file"):
        assert path.name in error.sentence or set_up.uv_wheel.name in error.sentence
        path.write_bytes(data)
        (files / set_up.uv_wheel.name).write_bytes(set_up.uv_wheel.read_bytes())
        assert set_up.install(files=files).exists()


def test_from_files_over_what_an_earlier_try_has_left(set_up, files):
    downloads = set_up.root / DOWNLOADS
    downloads.mkdir(parents=True)
    for wheel in set_up.wheels:
        (downloads / wheel.name).write_bytes(b"half")
    (set_up.root / LOCK).write_bytes(b"")
    assert runs(set_up.install(files=files)) == "1.0 1.0 1.0"


def test_what_is_not_locked_cannot_come_from_files(set_up, files):
    lock = replace(set_up.lock, environments={SYSTEM: {}})
    set_up.lock = lock
    assert fail(set_up.install, files=files).remedy is Remedy.DEVICE


# ---------------------------------------------------------------- repair


def _beta(site):
    return site / "beta" / "bin" / "tool"


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        (lambda site: None, []),
        (lambda site: (site / "alpha" / "__init__.py").unlink(), ["alpha"]),
        (lambda site: _beta(site).write_bytes(b"x" * 299_999 + b"y"), ["beta"]),
        (lambda site: shutil.rmtree(site / "gamma_delta"), ["gamma-delta"]),
        (lambda site: [shutil.rmtree(path) for path in site.glob("gamma_delta*")], ["gamma-delta"]),
        (lambda site: shutil.rmtree(site / "alpha-1.0.dist-info"), ["alpha"]),
        (lambda site: (site / "alpha-1.0.dist-info" / "RECORD").unlink(), ["alpha"]),
        (lambda site: (site / "alpha-1.0.dist-info" / "RECORD").write_bytes(b"\xff\0\"x"), ["alpha"]),
        (lambda site: (site / "alpha-1.0.dist-info" / "RECORD").write_text("alpha/__init__.py,,\n"), ["alpha"]),
        (lambda site: (site / "beta-1.0.dist-info" / "METADATA").write_text(""), ["beta"]),
        (lambda site: (site / "beta-1.0.dist-info" / "METADATA").unlink(), ["beta"]),
        (lambda site: (site / "alpha-1.0.dist-info").rename(site / "alpha-0.9.dist-info"), ["alpha"]),
        (lambda site: ((site / "alpha" / "__init__.py").unlink(), (site / "alpha" / "__init__.py").mkdir()), ["alpha"]),
        (lambda site: [path.unlink() for path in site.rglob("*") if path.is_file()], ["alpha", "beta", "gamma-delta"]),
    ],
    ids=["nothing", "file", "byte", "folder", "package", "dist-info", "no record", "garbage record", "short record", "metadata"]
    + ["no metadata", "other version", "a folder for a file", "everything"],
)  # fmt: skip
def test_repair(ready, damage, names):
    current = find_current(ready.root)
    (site,) = find_site_folders(current.folder)
    damage(site)
    ready.index.requests.clear()
    assert repair(ready.request(), ready.tools) == names
    assert bool(ready.index.requests) is bool(names)
    assert find_damage(current.folder) == {} and runs(current.folder) == "1.0 1.0 1.0"
    assert repair(ready.request(), ready.tools) == []


def test_repair_of_what_belongs_to_no_package_says_to_set_up_again(ready):
    current = find_current(ready.root)
    notes = current.folder / "venv" / "pyvenv.cfg"
    notes.unlink()
    found = fail(repair, ready.request(), ready.tools)
    assert found.code == "check" and found.sentence.endswith("though every package is whole; set it up again, and it is made anew.")
    assert runs(ready.install()) == "1.0 1.0 1.0"


def _lose_python(current):
    (current.folder / "venv" / "bin" / "python").unlink()


def _lose_the_system_s(current):
    link = current.folder / "venv" / "bin" / "python"
    link.unlink()
    link.symlink_to("/nowhere/bin/python3.12")


@pytest.mark.parametrize(
    ("lose", "words"),
    [
        (_lose_python, "The Python of what was set up is gone"),
        (_lose_the_system_s, "The Python of what was set up is gone"),
        (lambda current: (current.folder / STAMP).write_bytes(b""), "no longer whole"),
        (lambda current: (current.folder.parent.parent / CURRENT).unlink(), "no longer whole"),
    ],
)
def test_what_is_no_longer_whole_is_said_and_made_anew(ready, lose, words):
    assert explain_loss(ready.root) == ""
    lose(find_current(ready.root))
    found = fail(repair, ready.request(), ready.tools)
    assert found.code == "incomplete" and words in found.sentence and found.sentence.endswith("set it up again.")
    assert words in explain_loss(ready.root)
    assert runs(ready.install()) == "1.0 1.0 1.0" and explain_loss(ready.root) == ""


def _put_a_folder(path):
    path.unlink()
    path.mkdir()
    (path / "inner").write_bytes(b"x")


def _put_a_file_for_the_folder(path):
    shutil.rmtree(path.parent)
    path.parent.write_bytes(b"x")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bin/python3", f"bin/python{PYTHON}", f"lib/python{PYTHON}/json/decoder.py"])
@pytest.mark.parametrize("damage", [Path.unlink, _put_a_folder, _put_a_file_for_the_folder], ids=["gone", "a folder", "no folder"])
def test_repair_of_a_fetched_python(fetched, name, damage):
    current = find_current(fetched.root)
    damage(current.folder / "python" / name)
    assert repair(fetched.request(), fetched.tools) == ["Python"]
    assert find_damage(current.folder) == {} and runs(current.folder) == "1.0 1.0 1.0"
    assert explain_loss(fetched.root) == "" and find_current(fetched.root) == current


@pytest.fixture(scope="module")
def fetched_once(tmp_path_factory, uv, archive, check):
    folder = tmp_path_factory.mktemp("fetched") / _LETTERS
    folder.mkdir()
    found = SmallSetUp(folder, uv, archive=archive)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial_run, "LAUNCHER", check)
        patch.setattr(planning, "find_python", lambda children, without=None: find_system_python())
        found.install()
    yield found
    found.close()


@pytest.fixture
def fetched(fetched_once):
    """It is set up with a fetched Python; each test leaves it whole."""
    return fetched_once


def test_repair_is_refused_while_a_backend_runs_there(ready):
    current = find_current(ready.root)
    (site,) = find_site_folders(current.folder)
    with claim(current.folder):
        # looking harms nobody
        assert repair(ready.request(), ready.tools) == []
        _beta(site).unlink()
        assert fail(repair, ready.request(), ready.tools).code == "used"
    assert repair(ready.request(), ready.tools) == ["beta"]


def test_repair_without_a_network_goes_on_later(ready):
    current = find_current(ready.root)
    (site,) = find_site_folders(current.folder)
    _beta(site).unlink()
    ready.index.status = 500
    assert fail(repair, ready.request(), ready.tools).code == "server"
    ready.index.status = 0
    assert repair(ready.request(), ready.tools) == ["beta"]


def test_repair_of_nothing(set_up):
    assert fail(repair, set_up.request(), set_up.tools).code == "nothing"
    assert not set_up.root.exists()


# ---------------------------------------------------------------- move


@pytest.fixture
def other_disk(monkeypatch):
    """Folders cannot be renamed to another disk."""
    rename = os.rename

    def refuse(source, target):
        if Path(source).parent != Path(target).parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source))
        rename(source, target)

    monkeypatch.setattr(folders.os, "rename", refuse)


@pytest.mark.parametrize("disk", ["same", "other"])
@pytest.mark.parametrize("exists", [True, False])
def test_move(ready, disk, exists, request):
    if disk == "other":
        request.getfixturevalue("other_disk")
    target = ready.folder / "deep" / "Ziel"
    if exists:
        target.mkdir(parents=True)
    (ready.root / DOWNLOADS).mkdir()
    (ready.root / DOWNLOADS / "half.part").write_bytes(b"1")
    name = find_current(ready.root).name
    move(ready.root, target, ready.told)
    assert not ready.root.exists()
    current = find_current(target)
    assert current.name == name and find_damage(current.folder) == {} and runs(current.folder) == "1.0 1.0 1.0"
    assert sorted(path.name for path in target.iterdir()) == [CURRENT, ENVIRONMENTS, LOCK]
    # and it is gone on with there
    ready.root = target
    assert repair(ready.request(), ready.tools) == []


@pytest.mark.parametrize("kind", ["not empty", "inside", "itself", "a file", "used", "nothing", "another one's"])
def test_moves_that_are_refused(ready, kind):
    target = ready.folder / "target"
    code = "target"
    if kind == "not empty":
        target.mkdir()
        (target / "mine").write_bytes(b"")
    elif kind == "inside":
        target = ready.root / "deep" / "inside"
    elif kind == "itself":
        target = ready.folder / "." / "backend"
    elif kind == "a file":
        target.write_bytes(b"")
    elif kind == "another one's":
        shutil.copytree(ready.root, target, symlinks=True)
    elif kind == "nothing":
        remove(ready.root, ready.tools)
        code = "nothing"
    before = sorted(ready.folder.rglob("*"))
    if kind == "used":
        with claim(find_current(ready.root).folder):
            assert fail(move, ready.root, target, ready.told).code == "used"
    else:
        assert fail(move, ready.root, target, ready.told).code == code
        assert [path for path in sorted(ready.folder.rglob("*")) if path.name != LOCK] == [
            path for path in before if path.name != LOCK
        ]
    assert kind == "nothing" or find_current(ready.root) is not None


@pytest.mark.parametrize("after", [0, 1, 5, 40])
def test_a_move_to_a_disk_that_becomes_full(ready, other_disk, monkeypatch, after):
    target, left = ready.folder / "target", [after]
    copy = shutil.copy2

    def copy_some(source, path, **more):
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        left[0] -= 1
        return copy(source, path, **more)

    with monkeypatch.context() as patch:
        patch.setattr(moving.shutil, "copy2", copy_some)
        if after < len([path for path in (ready.root / ENVIRONMENTS).rglob("*") if path.is_file()]):
            assert fail(move, ready.root, target, ready.told).code == "space"
            assert not target.exists()
            assert runs(find_current(ready.root).folder) == "1.0 1.0 1.0"
    move(ready.root, target, ready.told)
    assert find_current(target) is not None


def test_a_move_to_a_disk_that_is_too_small(ready, other_disk, monkeypatch):
    monkeypatch.setattr(planning.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
    error = fail(move, ready.root, ready.folder / "target", ready.told)
    assert error.code == "space" and not (ready.folder / "target").exists() and find_current(ready.root) is not None


@pytest.mark.slow
@pytest.mark.parametrize("disk", ["same", "other"])
def test_a_move_that_is_cut_off_anywhere_is_gone_on_with(made, uv, tmp_path, disk):
    """Killed before every single change of the disk: afterwards one of both folders has all of it, and the same again ends well."""
    for count in range(60):
        folder = tmp_path / str(count)
        root, target = folder / "root", folder / "target"
        small = root / ENVIRONMENTS / f"{BUILD}-0123456789ab"
        (small / "venv").mkdir(parents=True)
        (small / "venv" / "python").write_bytes(b"")
        stamp = {"python": "venv/python", "key": "k", "device": BUILD, "version": "1", "packages": 1}
        (small / STAMP).write_text(json.dumps(stamp))
        shutil.copytree(small, root / ENVIRONMENTS / f"{BUILD}-ba9876543210")
        (root / CURRENT).write_text(json.dumps({"environment": small.name}))
        (root / LOCK).write_bytes(b"")
        code = _move_in_child(root, target, disk, count)
        if code == 0:
            break
        names = {found.name for place in (root, target) for found in list_environments(place)}
        assert len(names) == 2, count
        move(root, target, _Quiet())
        assert find_current(target).name == small.name and len(list_environments(target)) == 2, count
        assert not root.exists() and not (target / MARK).exists()
        shutil.rmtree(folder)
    else:
        raise AssertionError("it never came to its end")
    assert count > 5


class _Quiet:
    def begin(self, *_):
        pass

    def advance(self, *_):
        pass


def _move_in_child(root, target, disk, count):
    """Move in a process that ends by itself before a change of the disk."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    try:
        left = [count]

        def wrap(module, name):
            whole = getattr(module, name)

            def cut(*arguments, **more):
                if not left[0]:
                    os._exit(9)
                left[0] -= 1
                if disk == "other" and name == "rename" and Path(arguments[0]).parent != Path(arguments[1]).parent:
                    raise OSError(errno.EXDEV, "another disk")
                return whole(*arguments, **more)

            setattr(module, name, cut)

        for name in ("rename", "replace", "unlink", "rmdir", "mkdir"):
            wrap(os, name)
        wrap(shutil, "copy2")
        move(root, target, _Quiet())
        os._exit(0)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(3)


# ---------------------------------------------------------------- remove


def test_remove(ready):
    models = ready.folder / "models"
    models.mkdir()
    (models / "model.safetensors").write_bytes(b"1")
    with claim(find_current(ready.root).folder):
        assert fail(remove, ready.root, ready.tools).code == "used"
    (ready.root / DOWNLOADS).mkdir()
    (ready.root / DOWNLOADS / "a.part").write_bytes(b"1" * 1000)
    assert remove(ready.root, ready.tools) > 301_000
    assert not ready.root.exists() and list(models.iterdir())
    assert fail(remove, ready.root, ready.tools).code == "nothing"
    assert ready.install(python="found").exists()


def test_remove_what_was_half_made_or_half_removed(ready):
    folder = find_current(ready.root).folder
    shutil.copytree(folder, folder.with_name("0123abcd.part"), symlinks=True)
    folder.rename(folder.with_name(folder.name + ".gone"))
    assert list_environments(ready.root) == [] and find_current(ready.root) is None
    remove(ready.root, ready.tools)
    assert not ready.root.exists()


def test_remove_what_must_not_be_written(ready):
    folder = find_current(ready.root).folder
    for path in [*folder.rglob("*"), folder]:
        if not path.is_symlink():
            path.chmod(0o555 if path.is_dir() else 0o444)
    remove(ready.root, ready.tools)
    assert not ready.root.exists()


# ---------------------------------------------------------------- who uses it


def test_a_backend_is_seen_while_it_runs(ready):
    folder = find_current(ready.root).folder
    assert not is_used(folder)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from latentman.backend.installation.changing import claim; "
        "from pathlib import Path; held = claim(Path(sys.argv[2])); print(1, flush=True); sys.stdin.read()"
    )
    from tests.checkout import ROOT

    command = [sys.executable, "-c", code, str(ROOT / "build" / "package"), str(folder)]
    backends = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    for backend in backends:
        assert backend.stdout.readline().strip() == b"1"
    assert is_used(folder)
    backends[0].communicate()
    assert is_used(folder)
    backends[1].kill()
    backends[1].communicate()
    assert not is_used(folder)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="as on Windows, a program that runs cannot be written")
def test_how_windows_sees_that_a_program_runs(tmp_path):
    program = tmp_path / "python.exe"
    shutil.copy2(shutil.which("sleep"), program)
    assert not is_running(program) and not is_used(tmp_path, program, "win32")
    process = subprocess.Popen([program, "60"])
    try:
        until = time.monotonic() + 10
        while not is_running(program) and time.monotonic() < until:
            time.sleep(0.01)
        assert is_used(tmp_path, program, "win32")
    finally:
        process.kill()
        process.wait()
    assert not is_running(tmp_path / "none.exe")
