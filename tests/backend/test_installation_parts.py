"""The parts of *Set Up* that decide: plans for every platform and device, pages, wheels' names, records, sentences."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import types
from dataclasses import replace
from pathlib import Path, PureWindowsPath

import pytest
from packaging.tags import compatible_tags, cpython_tags, mac_platforms
from packaging.utils import parse_wheel_filename

from latentman.backend.installation import changing, folders, planning, processes, pythons, resolving
from latentman.backend.installation.devices import BUILDS, Device, Devices
from latentman.backend.installation.environment import check_member, unpack_python
from latentman.backend.installation.failures import InstallationError, Remedy, explain_os_error
from latentman.backend.installation.folders import extend
from latentman.backend.installation.index import Indexes, Offer, read_page
from latentman.backend.installation.lock_file import LockedFile, find_system, normalise, read_lock
from latentman.backend.installation.network import Network
from latentman.backend.installation.planning import Request, check_root, make_plan
from latentman.backend.installation.processes import Children
from latentman.backend.installation.pythons import examine_python, find_python, list_candidates, read_launcher
from latentman.backend.installation.resolving import choose_offer, fits, read_pins, read_resolution, resolve
from latentman.backend.installation.uv import Uv, explain_uv_failure, get_venv_python, unpack_uv, write_requirements
from latentman.backend.installation.wholeness import find_damage, read_record
from latentman.shared.backend_environment import PACKAGE_LOCK
from latentman.shared.sizes import write_size
from tests.checkout import old_pythons
from tests.small_set_up import PYTHON, describe, find_system_python
from tests.small_wheels import find_uv, write_wheel
from tools.stand_in_index import StandInIndex

LOCK = read_lock()
_CASES = [(system, build) for system in BUILDS for build in BUILDS[system]]


def _plan(tmp_path, system, build, python="fetched", network=None, **more):
    return make_plan(Request(tmp_path / "root", build, python, **more), LOCK, Devices(()), network or Network(), Children(), system)


# ---------------------------------------------------------------- plans


@pytest.mark.parametrize(("system", "build"), _CASES)
def test_what_each_platform_and_device_would_run(tmp_path, system, build, monkeypatch):
    """Files, hashes, commands and paths, for those that this machine is not as well."""
    monkeypatch.setattr(planning.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 0, 10**12))
    plan = _plan(tmp_path, system, build)
    assert not plan.problem and plan.build == build and plan.python_version == "3.12"
    ends = {
        "linux-x64": "manylinux_2_17_x86_64.manylinux2014_x86_64",
        "windows-x64": "win_amd64",
        "macos-arm64": "macosx_11_0_arm64",
    }
    assert plan.uv.name.startswith("uv-") and plan.uv.name.endswith(f"{ends[system]}.whl")
    triple = {
        "linux-x64": "x86_64-unknown-linux-gnu",
        "windows-x64": "x86_64-pc-windows-msvc",
        "macos-arm64": "aarch64-apple-darwin",
    }
    assert f"-{triple[system]}-install_only" in plan.fetched_python.file.name
    assert dict(plan.builds).keys() == set(BUILDS[system])
    locked = LOCK.environments[system].get(build, {}).get("3.12")
    if locked is None:
        assert plan.packages is None and not plan.is_exact and plan.key == "" and plan.download > 10**9
        assert "download.pytorch.org" in plan.notes[0]
        return
    assert [file.name for file in plan.packages] == list(locked)
    tags = set(_list_tags(system, "3.12"))
    for file in plan.packages:
        assert parse_wheel_filename(file.name)[3] & tags, file.name
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256) and file.size > 0 and file.unpacked > 0
    (torch,) = [file for file in plan.packages if file.package == "torch"]
    local = {"cuda": "cu130" if system == "windows-x64" else "", "cuda-older": "cu126", "metal": ""}
    local["cpu"] = "cpu" if system == "linux-x64" else ""
    assert torch.version.partition("+")[2] == local[build] == torch.folder
    # the nearest disk space, and a key of its own
    assert plan.needed > plan.download and len(plan.key) == 64


def _list_tags(system, python):
    """The tags of a platform, from the standard's own library."""
    version = tuple(map(int, python.split(".")))
    if system == "linux-x64":
        platforms = [*(f"manylinux_2_{n}_x86_64" for n in range(5, 29)), "manylinux2014_x86_64", "manylinux2010_x86_64"]
        platforms += ["manylinux1_x86_64", "linux_x86_64"]
    else:
        platforms = ["win_amd64"] if system == "windows-x64" else list(mac_platforms((14, 0), "arm64"))
    interpreter = f"cp{version[0]}{version[1]}"
    return [*cpython_tags(version, [interpreter], platforms), *compatible_tags(version, interpreter, platforms)]


def test_keys_differ_by_platform_and_device(tmp_path):
    keys = [_plan(tmp_path, *case).key for case in _CASES]
    known = [key for key in keys if key]
    assert len(known) >= 6 and len(set(known)) == len(known)


@pytest.mark.parametrize("system", ["linux-arm64", "macos-x64", "windows-arm64", "freebsd-x64"])
def test_platforms_that_torch_has_nothing_for(tmp_path, system):
    plan = _plan(tmp_path, system, "")
    assert plan.code == "platform" and "another" in plan.problem


def test_a_build_of_another_platform(tmp_path):
    plan = _plan(tmp_path, "windows-x64", "rocm")
    assert plan.code == "device" and plan.remedy is Remedy.DEVICE and "cuda-older" in plan.problem


def test_doubts_and_silent_drivers_are_said(tmp_path):
    devices = Devices(
        (Device("cuda", "Old Card", 1, "its driver is too old; install another"), Device("cpu", "x")), ("A driver hangs.",)
    )
    plan = make_plan(Request(tmp_path, "", "fetched"), LOCK, devices, Network(), Children(), "linux-x64")
    assert (
        plan.build == "cpu"
        and "Old Card: its driver is too old; install another." in plan.notes
        and "A driver hangs." in plan.notes
    )


def test_addresses_of_a_plan_hide_passwords(tmp_path):
    plan = _plan(tmp_path, "linux-x64", "rocm", network=Network(torch_index="https://u:secret@mirror/whl"))
    assert "secret" not in plan.notes[0] and "https://mirror/whl" in plan.notes[0]


@pytest.mark.parametrize(
    ("root", "has_long_paths", "code"),
    [
        (r"C:\Users\Anna\AppData\Local\latentman\backend", False, ""),
        (r"C:\LatentMan", False, ""),
        ("C:\\" + "x" * 85, False, ""),
        ("C:\\" + "x" * 87, False, "path"),
        ("C:\\" + "x" * 200, True, ""),
    ],
)
def test_long_paths_on_windows(tmp_path, monkeypatch, root, has_long_paths, code):
    monkeypatch.setattr(planning, "find_strangers", lambda path: [])
    monkeypatch.setattr(planning, "find_existing", lambda path: tmp_path)
    try:
        check_root(PureWindowsPath(root), "windows-x64", has_long_paths=has_long_paths)
        found = ""
    except InstallationError as error:
        found = error.code
        assert error.remedy is Remedy.SPACE and "shorter" in error.sentence
    assert found == code


@pytest.mark.parametrize(("value", "found"), [(1, True), (0, False), (None, False)])
def test_what_windows_registry_says_of_long_paths(monkeypatch, value, found):
    class Key:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    def query(key, name):
        assert name == "LongPathsEnabled"
        if value is None:
            raise FileNotFoundError
        return value, 4

    fake = types.SimpleNamespace(HKEY_LOCAL_MACHINE=1, OpenKey=lambda *_: Key(), QueryValueEx=query)
    monkeypatch.setitem(sys.modules, "winreg", fake)
    monkeypatch.setattr(planning.sys, "platform", "win32")
    assert planning.read_long_paths() is found


@pytest.mark.parametrize(
    ("path", "platform", "written"),
    [
        (PureWindowsPath(r"C:\a\b"), "win32", r"\\?\C:\a\b"),
        (PureWindowsPath(r"\\server\share\b"), "win32", r"\\?\UNC\server\share\b"),
        (PureWindowsPath("\\\\?\\C:\\a"), "win32", "\\\\?\\C:\\a"),
        (PureWindowsPath(r"a\b"), "win32", r"a\b"),
        (Path("/a/b"), "linux", "/a/b"),
    ],
)
def test_paths_as_windows_takes_long_ones(path, platform, written):
    assert extend(path, platform) == written


def test_the_lock_of_windows(tmp_path, monkeypatch):
    """``msvcrt`` locks a byte; whoever comes second is refused."""
    held = set()

    def lock(descriptor, mode, count):
        assert mode == 2 and count == 1
        identity = os.fstat(descriptor).st_ino
        if identity in held:
            raise OSError(errno.EACCES, "Permission denied")
        held.add(identity)

    monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(locking=lock, LK_NBLCK=2))
    monkeypatch.setattr(changing.sys, "platform", "win32")
    with changing.hold(tmp_path), pytest.raises(InstallationError, match="Another Blender"), changing.hold(tmp_path):
        pass


def test_no_window_opens_on_windows(monkeypatch):
    started = []
    monkeypatch.setattr(processes.sys, "platform", "win32")
    monkeypatch.setattr(processes.subprocess, "Popen", lambda command, **more: started.append((command, more)))
    Children().start(["uv.exe", "--version"], {})
    ((command, more),) = started
    # there the program is in a job of Blender's, and needs nobody to look after it
    assert command == ["uv.exe", "--version"] and more["creationflags"] == 0x08000000 and "start_new_session" not in more


# ---------------------------------------------------------------- Pythons


@pytest.mark.parametrize("old", old_pythons()[:3] or [None])
def test_a_python_that_is_too_old(old, tmp_path):
    if old is None:
        pytest.skip("there is none here")
    assert examine_python(Path(old), Children()) is None
    plan = _plan(tmp_path, "linux-x64", "cpu", python=old)
    assert plan.code == "python" and plan.remedy is Remedy.FILES and old in plan.problem


def _fake_python(tmp_path, name="python3.12", answer=("cpython", [3, 12], True, False, "", ""), more="", code=0):
    path = tmp_path / name
    answer = list(answer)
    answer[4] = answer[4] or str(path)
    path.write_text(f"#!/bin/sh\n{more}\nprintf '%s\\n' 'site says hello' '{json.dumps(answer)}'\nexit {code}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("answer", "more", "code", "version"),
    [
        (("cpython", [3, 12], True, False, "", ""), "", 0, "3.12"),
        (("cpython", [3, 12], True, False, "", ""), "echo a warning >&2", 0, "3.12"),
        (("cpython", [3, 12], False, False, "", ""), "", 0, None),
        (("cpython", [3, 13], True, True, "", ""), "", 0, None),
        (("cpython", [3, 15], True, False, "", ""), "", 0, None),
        (("cpython", [3, 10], True, False, "", ""), "", 0, None),
        (("cpython", [2, 7], True, False, "", ""), "", 0, None),
        (("pypy", [3, 11], True, False, "", ""), "", 0, None),
        (("cpython", [3, 12], True, False, "/no/such/python", "/neither"), "", 0, None),
        (("cpython", [3, 12], True, False, "", ""), "", 1, None),
        (("cpython", [3, 12], True, False, "", ""), "kill -SEGV $$", 0, None),
        (("cpython", [3, 12], True, False, "", ""), "exec >/dev/null", 0, None),
    ],
    ids=["good", "warns", "32 bit", "free-threaded", "too new", "3.10", "2.7", "pypy", "gone", "fails", "crashes", "silent"],
)
@pytest.mark.skipif(sys.platform == "win32", reason="scripts of sh")
def test_which_pythons_can_be_used(tmp_path, answer, more, code, version):
    found = examine_python(_fake_python(tmp_path, answer=answer, more=more, code=code), Children())
    assert (found.version if found else None) == version


@pytest.mark.skipif(sys.platform == "win32", reason="scripts of sh")
def test_pythons_that_hang_or_are_none(tmp_path, monkeypatch):
    monkeypatch.setattr(pythons, "ANSWER_SECONDS", 0.2)
    assert examine_python(_fake_python(tmp_path, more="sleep 600"), Children()) is None
    (tmp_path / "text").write_text("hello")
    for path in (tmp_path / "none", tmp_path, tmp_path / "text"):
        assert examine_python(path, Children()) is None


def test_the_python_of_a_virtual_environment_is_its_base():
    found = examine_python(Path(sys.executable), Children())
    assert found.version == PYTHON and os.path.samefile(found.path, find_system_python().path)


@pytest.mark.skipif(sys.platform == "win32", reason="scripts of sh")
def test_which_of_several_pythons_is_taken(tmp_path, monkeypatch):
    search, host = tmp_path / "bin", tmp_path / "blender"
    search.mkdir()
    host.mkdir()
    monkeypatch.setenv("PATH", str(search))
    monkeypatch.setattr(pythons, "_USUAL", {})
    assert find_python(Children()) is None
    for minor in (14, 13, 11):
        _fake_python(search, f"python3.{minor}", ("cpython", [3, minor], True, False, "", ""))
    assert find_python(Children()).version == "3.11"
    inner = _fake_python(host, "python3.12", ("cpython", [3, 12], True, False, "", ""))
    (search / "python3.12").symlink_to(inner)
    assert find_python(Children()).version == "3.12"
    # Blender's own is not taken, whatever link leads to it
    assert find_python(Children(), host).version == "3.11"


@pytest.mark.skipif(sys.platform == "win32", reason="paths of POSIX")
def test_where_pythons_are_looked_for(tmp_path, monkeypatch):
    path = _fake_python(tmp_path, "python3")
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    monkeypatch.setattr(pythons, "_USUAL", {"darwin": (str(tmp_path),), "linux": (str(tmp_path),)})
    assert list(list_candidates(Children(), "darwin")) == list(list_candidates(Children(), "linux")) == [path]
    # Apple's stub would open a window
    monkeypatch.setattr(pythons, "_APPLES_STUB", tmp_path)
    assert list(list_candidates(Children(), "darwin")) == [] and list(list_candidates(Children(), "linux")) == [path]
    store = tmp_path / "Microsoft" / "WindowsApps"
    store.mkdir(parents=True)
    _fake_python(store, "python3")
    monkeypatch.setenv("PATH", str(store))
    listed = [r"C:\Program Files\Python312\python.exe", r"C:\Anna\python.exe"]
    said = f" -V:3.12 *        {listed[0]}\n -V:3.11          {listed[1]}\nno python here\n"
    children = types.SimpleNamespace(ask=lambda command, *_, **__: (0, said) if command == ["py", "-0p"] else None)
    assert list(map(str, list_candidates(children, "win32"))) == listed
    assert list(read_launcher("")) == []


# ---------------------------------------------------------------- unpacking


def _tar(path, *entries):
    with tarfile.open(path, "w:gz") as archive:
        for name, kind, more in entries:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            if kind == tarfile.REGTYPE:
                entry.size = len(more)
                entry.mode = 0o755
                archive.addfile(entry, io.BytesIO(more))
            else:
                entry.linkname = more.decode()
                archive.addfile(entry)
    return path


@pytest.mark.parametrize(("platform", "name"), [("linux", "bin/python3"), ("darwin", "bin/python3"), ("win32", "python.exe")])
@pytest.mark.parametrize("has_filter", [True, False])
def test_pythons_are_unpacked(tmp_path, monkeypatch, platform, name, has_filter):
    if not has_filter:
        monkeypatch.delattr(tarfile, "data_filter")
    archive = _tar(
        tmp_path / "a.tar.gz",
        (f"python/{name}", tarfile.REGTYPE, b"program"),
        ("python/lib/x.py", tarfile.REGTYPE, b"text"),
        ("python/lib/link.py", tarfile.SYMTYPE, b"../lib/x.py"),
    )
    python = unpack_python(archive, tmp_path / "out", platform)
    assert python == tmp_path / "out" / "python" / name and python.read_bytes() == b"program"
    assert find_damage(tmp_path / "out") == {}
    (tmp_path / "out" / "python" / "lib" / "x.py").write_text("other")
    assert find_damage(tmp_path / "out") == {"Python": ["lib/x.py"]}
    (tmp_path / "out" / "python.json").write_text("[]")
    assert find_damage(tmp_path / "out") == {"Python": ["python.json"]}


@pytest.mark.parametrize("has_filter", [True, False])
@pytest.mark.parametrize(
    "entry",
    [
        ("../outside", tarfile.REGTYPE, b"x"),
        ("python/../../outside", tarfile.REGTYPE, b"x"),
        ("python/link", tarfile.SYMTYPE, b"../../outside"),
        ("python/link", tarfile.SYMTYPE, b"/etc/passwd"),
        ("python/link", tarfile.LNKTYPE, b"../outside"),
        ("python/device", tarfile.CHRTYPE, b""),
        ("python/pipe", tarfile.FIFOTYPE, b""),
    ],
    ids=lambda entry: entry[0],
)
def test_archives_that_lead_outside_are_refused(tmp_path, monkeypatch, entry, has_filter):
    if not has_filter:
        monkeypatch.delattr(tarfile, "data_filter")
    archive = _tar(tmp_path / "a.tar.gz", ("python/bin/python3", tarfile.REGTYPE, b"x"), entry)
    with pytest.raises(InstallationError) as caught:
        unpack_python(archive, tmp_path / "out", "linux")
    assert caught.value.code == "python" and not (tmp_path / "outside").exists()


def test_members_that_windows_would_understand_differently():
    for name in ("C:/x", "python\\..\\..\\x", "/x"):
        with pytest.raises(tarfile.TarError):
            check_member(tarfile.TarInfo(name))


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08\x00garbage"])
def test_archives_that_are_none(tmp_path, content):
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises((InstallationError, OSError)):
        unpack_python(tmp_path / "a.tar.gz", tmp_path / "out")
    good = _tar(tmp_path / "b.tar.gz", ("python/lib/x", tarfile.REGTYPE, os.urandom(100_000)))
    (tmp_path / "c.tar.gz").write_bytes(good.read_bytes()[:50_000])
    for path in (good, tmp_path / "c.tar.gz"):
        with pytest.raises(InstallationError):
            unpack_python(path, tmp_path / "out")


@pytest.mark.parametrize(
    ("platform", "program", "python"),
    [("linux", "uv", "bin/python"), ("darwin", "uv", "bin/python"), ("win32", "uv.exe", "Scripts/python.exe")],
)
def test_programs_by_platform(tmp_path, platform, program, python):
    wheel = write_wheel(tmp_path, "uv", "1.0", files={}, scripts={"uv": "posix", "uv.exe": "windows", "uvx": "other"})
    path = unpack_uv(wheel, tmp_path / "out", platform)
    assert path.name == program and path.read_text() == ("windows" if platform == "win32" else "posix")
    assert platform == "win32" or os.access(path, os.X_OK)
    assert get_venv_python(Path("v"), platform) == Path("v") / python
    empty = write_wheel(tmp_path / "e", "uv", "1.0", files={})
    with pytest.raises(InstallationError, match="does not hold uv"):
        unpack_uv(empty, tmp_path / "out", platform)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux does not let a program that runs be written")
def test_a_uv_that_still_runs_does_not_stand_in_the_way(tmp_path):
    (tmp_path / "out").mkdir()
    running = tmp_path / "out" / "uv"
    shutil.copy2(shutil.which("sleep"), running)
    process = subprocess.Popen([running, "60"])
    try:
        wheel = write_wheel(tmp_path, "uv", "1.0", files={}, scripts={"uv": "#!/bin/sh\n"})
        assert unpack_uv(wheel, tmp_path / "out").read_text() == "#!/bin/sh\n"
    finally:
        process.kill()
        process.wait()


def test_what_uv_is_called_with(tmp_path, monkeypatch):
    """Nothing of the network, of the user's settings or of another Python reaches it."""
    called = []

    class Recorded(Children):
        def start(self, command, environment, folder=None, *, guard=True):
            called.append((command, environment, folder))
            return super().start([sys.executable, "-c", "pass"], {}, None, guard=False)

    for name in ("PYTHONHOME", "VIRTUAL_ENV", "UV_INDEX_URL", "PIP_INDEX_URL", "CONDA_PREFIX"):
        monkeypatch.setenv(name, "/somewhere")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    downloads = tmp_path / "a,b" / "files"
    downloads.mkdir(parents=True)
    uv = Uv(downloads / "uv" / "uv", downloads / "cache", Recorded())
    uv.install(tmp_path / "python", downloads / "r.txt", downloads, lambda: None, again=("alpha",))
    uv.make_venv(tmp_path / "venv", Path("/usr/bin/python3"))
    (install, variables, folder), (venv, _, _) = called
    assert install[1:5] == ["--no-progress", "pip", "install", "--offline"]
    assert {"--no-index", "--no-deps", "--require-hashes"} <= set(install) and "--reinstall-package" in install
    # a comma would part the folder's name in two
    assert install[install.index("--find-links") + 1] == "." and folder == downloads
    assert venv[2] == "venv" and "--relocatable" in venv and "--offline" in venv
    assert variables["UV_CACHE_DIR"] == str(downloads / "cache") and variables["UV_PYTHON_DOWNLOADS"] == "never"
    assert not {"PYTHONHOME", "VIRTUAL_ENV", "UV_INDEX_URL", "PIP_INDEX_URL", "CONDA_PREFIX"} & set(variables)
    assert variables["HTTPS_PROXY"] == "http://proxy:1"


@pytest.mark.parametrize(
    ("text", "code", "expected", "words"),
    [
        ("error: Failed to install: x.whl\n  Caused by: No space left on device (os error 28)", 2, "space", "full"),
        ("error: x\n  Caused by: There is not enough space on the disk. (os error 112)", 2, "space", "full"),
        ("error: x\n  Caused by: Disk quota exceeded (os error 122)", 2, "space", "full"),
        ("error: failed to create file\n  Caused by: Permission denied (os error 13)", 2, "permission", "virus"),
        ("error: failed\n  Caused by: Access is denied. (os error 5)", 2, "permission", "virus"),
        ("  × Failed to read `alpha==1.0`\n  ╰─▶ Hash mismatch for `alpha==1.0`\n", 1, "damaged", "alpha"),
        ("error: Failed to fetch: `https://x/`\n  Caused by: dns error", 2, "network", "dns error"),
        (
            "error: Querying Python failed\n  Caused by: a\n  Caused by: deepest reason.",
            2,
            "uv",
            "Querying Python failed: deepest reason",
        ),
        ("  × No solution found:\n  ╰─▶ Because alpha was not found, it cannot be installed.", 1, "uv", "alpha was not found"),
        ("", 1, "uv", "nothing was said"),
        ("Prepared 3 packages", -9, "ended", "memory"),
        ("error: \x1b[31mfoo", 2, "uv", "foo"),
    ],
)
def test_what_uv_s_last_words_mean(text, code, expected, words):
    error = explain_uv_failure(text, "installing the packages", code)
    assert error.code == expected and words in error.sentence
    assert error.sentence.endswith(".") and "\n" not in error.sentence and "╰" not in error.sentence and ";" in error.sentence


# ---------------------------------------------------------------- pages and names


_HTML, _JSON = "text/html", "application/json"


def _write_json(**more):
    return json.dumps({"files": [{"filename": "a.whl", **more}]}).encode()


@pytest.mark.parametrize(
    ("kind", "page", "found"),
    [
        (_HTML, b"<a href='../a.whl#sha256=" + b"A" * 64 + b"'>x</a>", ("a.whl", "https://i/simple/a.whl", "a" * 64, 0)),
        (_HTML, b"<A HREF='https://f/a%2Bb.whl'>x</A><a href='login'>y</a><a>z</a>", ("a+b.whl", "https://f/a%2Bb.whl", "", 0)),
        (_HTML, b"<a href='a-1.tar.gz#md5=00'>x</a>", ("a-1.tar.gz", "https://i/simple/a/a-1.tar.gz", "", 0)),
        (
            _HTML,
            b"<base href='https://f/'><a href='a.whl#egg=a&sha256=" + b"b" * 64 + b"'>",
            ("a.whl", "https://f/a.whl", "b" * 64, 0),
        ),
        (_HTML, b"<a href='a.whl?t=1#sha256=" + b"c" * 64 + b"'>x</a>", ("a.whl", "https://i/simple/a/a.whl?t=1", "c" * 64, 0)),
        ("application/vnd.pypi.simple.v1+html", b"<a href='a.whl'>x</a>", ("a.whl", "https://i/simple/a/a.whl", "", 0)),
        (_JSON, _write_json(url="../../f/a.whl", hashes={}), ("a.whl", "https://i/f/a.whl", "", 0)),
        (_JSON, _write_json(url="https://f/a.whl", size=3, hashes={"sha256": "D"}), ("a.whl", "https://f/a.whl", "d", 3)),
        ("application/vnd.pypi.simple.v1+json", _write_json(url="/a.whl", size=None), ("a.whl", "https://i/a.whl", "", 0)),
        ("application/vnd.pypi.simple.v1+json", b'{"files": []}', None),
    ],
)
def test_pages_of_indexes(kind, page, found):
    offers = read_page(page, kind, "https://i/simple/a/")
    assert [(one.name, one.url, one.sha256, one.size) for one in offers] == ([found] if found else [])


_NAMES = ["a-1-py3-none-any.whl", "a-1-py2.py3-none-any.whl", "a-1-py2-none-any.whl", "a-1-cp312-cp312-manylinux_2_28_x86_64.whl"]
_NAMES += ["a-1-cp312-cp312-manylinux_2_34_x86_64.whl", "a-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"]
_NAMES += ["a-1-cp310-abi3-manylinux_2_17_x86_64.whl", "a-1-cp313-abi3-manylinux_2_17_x86_64.whl", "a-1-cp312-cp312t-win_amd64.whl"]
_NAMES += ["a-1-cp312-cp312-win_amd64.whl", "a-1-cp312-cp312-win_arm64.whl", "a-1-cp312-cp312-macosx_11_0_arm64.whl"]
_NAMES += [
    "a-1-cp312-cp312-macosx_15_0_arm64.whl",
    "a-1-cp312-cp312-macosx_10_13_universal2.whl",
    "a-1-py3-none-manylinux1_x86_64.whl",
]
_NAMES += ["a-1-cp312-cp312-macosx_10_13_x86_64.whl", "a-1-cp312-cp312-musllinux_1_2_x86_64.whl", "a-1-py3-none-win32.whl"]
_NAMES += ["a-1-2-cp312-cp312-linux_x86_64.whl", "a-1-cp312-none-any.whl", "a-1-py312-none-any.whl", "a-1-py313-none-any.whl"]
_NAMES += ["a-1-cp312-abi3-win_amd64.whl", "a-1-cp39-abi3-macosx_11_0_arm64.whl", "a-1-pp311-pypy311_pp73-win_amd64.whl"]


@pytest.mark.parametrize("system", BUILDS)
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_which_wheels_fit(system, python):
    """As the standard's own library says."""
    tags = set(_list_tags(system, python))
    for name in _NAMES:
        assert bool(fits(name, system, python)) is bool(parse_wheel_filename(name)[3] & tags), name


def test_the_best_wheel_is_chosen():
    names = [
        "a-1-py3-none-any.whl",
        "a-1-cp39-abi3-win_amd64.whl",
        "a-1-cp312-cp312-win_amd64.whl",
        "a-2-cp312-cp312-win_amd64.whl",
    ]
    offers = [Offer(name, name, str(n), 0) for n, name in enumerate(names)]
    every = frozenset("0123")
    assert choose_offer(offers, "1", every, "windows-x64", "3.12").name == names[2]
    assert choose_offer(offers, "1", frozenset("01"), "windows-x64", "3.12").name == names[1]
    assert choose_offer(offers, "1", every, "linux-x64", "3.12").name == names[0]
    assert choose_offer(offers, "3", every, "linux-x64", "3.12") is None
    assert [fits(name, "linux-x64", "3.12") for name in ("a.tar.gz", "a.whl", "a-1.whl", "")] == [0, 0, 0, 0]


@pytest.mark.parametrize(("name", "written"), [("A_b.C", "a-b-c"), ("a--b__c..d", "a-b-c-d"), ("torch", "torch")])
def test_names_of_packages(name, written):
    assert normalise(name) == written


def test_pins_and_resolutions():
    text = "# comment\nnumpy==2.1 ; python_version < '3.12' \\\n    --hash=sha256:aa\ntorch==2.13.0 \\\n    --hash=sha256:bb\n"
    text += (
        "torchsde==1.0 \\\n    --hash=sha256:cc\nnvidia-cublas==13 ; sys_platform == 'linux' \\\n    --hash=sha256:dd\ntriton==3\n"
    )
    assert read_pins(text) == ["numpy==2.1 ; python_version < '3.12'", "torchsde==1.0"]
    first, second = "a" * 64, "b" * 64
    found = read_resolution(f"Torch_Xpu==2.13.0+xpu \\\n    --hash=sha256:{first} \\\n    --hash=sha256:{second}\nx==1 ; a\n")
    assert found == {"torch-xpu": ("2.13.0+xpu", frozenset((first, second))), "x": ("1", frozenset())}


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ("", {}),
        ("a/b.py,sha256=AAAA,3\n", {"a/b.py": "000000"}),
        ('"a,b.py",sha256=AAAA,3\n', {"a,b.py": "000000"}),
        ("../../../bin/x,sha256=AAAA,3\n/etc/passwd,sha256=AAAA,1\na/../../x,sha256=AAAA,1\nC:\\x,sha256=AAAA,1\n", {}),
        ("a/bin/tool,sha256=AAAA,3\na/x.pyc,sha256=AAAA,1\na.dist-info/RECORD,,\n", {"a/bin/tool": "000000"}),
        ("a/x.exe,sha256=AAAA,3\n", {"a/x.exe": "000000"}),
        ("a,md5=AAAA,3\n", {}),
        ("a,sha256=AAAA\n", None),
        ('"a,sha256=AAAA,1', None),
        ("a,sha256=A,1\n", None),
    ],
)
def test_records(record, found):
    if found is None:
        with pytest.raises(ValueError):
            read_record(record.encode())
    else:
        assert read_record(record.encode()) == found


def test_a_record_that_is_no_text():
    with pytest.raises(ValueError):
        read_record(b"\xff\xfe\x00")


def test_damage_is_found_in_large_files_and_names_of_every_kind(tmp_path):
    site = tmp_path / "venv" / "lib" / "python3.12" / "site-packages"
    names = {"Ruamel.Yaml-1.0.dist-info": "ruamel-yaml", "a__b-2.dist-info": "a-b"}
    for info in names:
        data = os.urandom(3 << 20)
        (site / info).mkdir(parents=True)
        (site / f"{info}.bin").write_bytes(data)
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        (site / info / "RECORD").write_text(f"{info}.bin,sha256={digest},1\n")
    reported = []
    assert find_damage(tmp_path, reported.append) == {} and reported[-1] == 6 << 20 and reported == sorted(reported)
    for info in names:
        with (site / f"{info}.bin").open("r+b") as stream:
            stream.seek(2 << 20)
            stream.write(b"\0\0\0\0")
    assert find_damage(tmp_path) == {name: [f"{info}.bin"] for info, name in names.items()}


def test_requirements_hold_a_version_and_a_hash_each(tmp_path):
    files = (
        LockedFile("torch-2.13.0+cpu-cp312-cp312-win_amd64.whl", "a" * 64, 1),
        LockedFile("A_b-1-py3-none-any.whl", "b" * 64, 1),
    )
    write_requirements(tmp_path / "r", files)
    assert (tmp_path / "r").read_text().split() == [
        "torch==2.13.0+cpu",
        f"--hash=sha256:{'a' * 64}",
        "a-b==1",
        f"--hash=sha256:{'b' * 64}",
    ]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, "No space"), "space"),
        (OSError(errno.EDQUOT, "Quota"), "space"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "permission"),
        (OSError(errno.EROFS, "Read-only", "/x"), "permission"),
        (OSError(errno.ETXTBSY, "Text file busy", "/x"), "permission"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/x"), "path"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/x"), "path"),
        (FileExistsError(errno.EEXIST, "File exists", "/x"), "path"),
        (OSError(errno.EIO, "Input/output error", "/x"), "disk"),
        (OSError(errno.ESTALE, "Stale file handle", "/x"), "system"),
        (OSError("words alone"), "system"),
    ],
)
def test_errors_of_the_disk_in_words(error, code):
    found = explain_os_error(error, "unpacking torch", Path("/root"))
    assert found.code == code and found.sentence.endswith(".") and ";" in found.sentence


@pytest.mark.parametrize(("number", "code"), [(32, "permission"), (33, "permission"), (206, "path")])
def test_errors_of_windows_in_words(number, code):
    error = PermissionError(errno.EACCES, "in use", "C:\\x")
    error.winerror = number
    found = explain_os_error(error, "moving", Path("C:/root"))
    assert found.code == code and ("another program" in found.sentence or "shorter" in found.sentence)


@pytest.mark.parametrize(("count", "written"), [(0, "0 kB"), (1500, "2 kB"), (2_500_000, "2 MB"), (2_840_000_000, "2.84 GB")])
def test_sizes(count, written):
    assert write_size(count) == written


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"python": 1}', None])
def test_a_damaged_lock(tmp_path, content):
    path = tmp_path / "setup.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InstallationError) as caught:
        read_lock(path)
    assert caught.value.code == "lock" and "install the extension again" in caught.value.sentence


def test_a_lock_that_names_what_it_does_not_hold(tmp_path):
    found = json.loads(PACKAGE_LOCK.read_text())
    found["files"].pop(next(iter(found["files"])))
    (tmp_path / "setup.json").write_text(json.dumps(found))
    with pytest.raises(InstallationError):
        read_lock(tmp_path / "setup.json")


# ---------------------------------------------------------------- resolving


@pytest.fixture(scope="module")
def uv_program(tmp_path_factory):
    return find_uv(tmp_path_factory.mktemp("uv"))


@pytest.fixture
def torch_index(tmp_path, monkeypatch):
    """A package index and an index of torch's with small wheels of every build, and a small list of what the backend needs."""
    index = StandInIndex()
    index.folders = {"simple": tmp_path / "simple"}
    write_wheel(tmp_path / "simple", "numpy", "2.1")
    write_wheel(tmp_path / "simple", "numpy", "2.2")
    write_wheel(tmp_path / "simple", "sympy", "1.0")
    write_wheel(tmp_path / "simple", "torch", "2.13.0", needs=["nvidia-cublas==13"])
    for folder, parts in (
        ("rocm7.2", ("triton-rocm",)),
        ("xpu", ("intel-sycl-rt", "umf")),
        ("cu126", ("nvidia-cublas-cu12",)),
        ("cpu", ()),
    ):
        place = tmp_path / folder
        index.folders[f"whl/{folder}"] = place
        needs = ["numpy", "sympy", *(f"{part}==7.0" for part in parts)]
        for tag in ("cp312-cp312-manylinux_2_28_x86_64", "cp312-cp312-win_amd64", "cp311-cp311-manylinux_2_28_x86_64"):
            write_wheel(place, "torch", f"2.13.0+{folder}", needs=needs, tag=tag, files={"torch/a": tag + folder})
        for part in parts:
            write_wheel(place, part.replace("-", "_"), "7.0", tag="py3-none-manylinux_2_28_x86_64")
            write_wheel(place, part.replace("-", "_"), "7.0", tag="py3-none-win_amd64")
    backend = tmp_path / "backend.txt"
    backend.write_text(f"numpy==2.1 \\\n    --hash=sha256:{'0' * 64}\nsympy==1.0\ntorch==2.13.0\nnvidia-cublas==13\n")
    monkeypatch.setattr(resolving, "BACKEND_LOCK", backend)
    yield index
    index.close()


def _resolve(index, tmp_path, uv_program, system, build, lock=None):
    network = Network(f"{index.address}/simple", f"{index.address}/whl")
    plan = replace(_plan(tmp_path, system, "cpu" if build == "cpu" else build, network=network), build=build)
    work = tmp_path / "work"
    (work / "uv").mkdir(parents=True, exist_ok=True)
    shutil.copy2(uv_program, work / "uv" / "uv")
    uv = Uv(work / "uv" / "uv", work / "cache", Children())
    uv._environment["UV_HTTP_RETRIES"] = "0"
    return resolve(plan, lock or LOCK, uv, network, Indexes(network), work)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="uv by its name on POSIX")
@pytest.mark.parametrize(
    ("system", "build", "more"),
    [
        ("linux-x64", "rocm", {"triton-rocm"}),
        ("linux-x64", "xpu", {"intel-sycl-rt", "umf"}),
        ("linux-x64", "cuda-older", {"nvidia-cublas-cu12"}),
        ("windows-x64", "xpu", {"intel-sycl-rt", "umf"}),
    ],
)
@pytest.mark.parametrize("speaks_json", [True, False])
def test_what_is_not_locked_is_asked_of_the_indexes(torch_index, tmp_path, uv_program, system, build, more, speaks_json):
    torch_index.speaks_json = speaks_json
    lock = replace(LOCK, known={})
    files = {file.package: file for file in _resolve(torch_index, tmp_path, uv_program, system, build, lock)}
    assert files.keys() == {"numpy", "sympy", "torch"} | more
    folder = {"rocm": "rocm7.2", "xpu": "xpu", "cuda-older": "cu126"}[build]
    assert files["numpy"].version == "2.1" and files["numpy"].folder == ""
    assert files["torch"].version == f"2.13.0+{folder}" and files["torch"].folder == folder
    for name, file in files.items():
        place = torch_index.folders[f"whl/{file.folder}" if file.folder else "simple"]
        assert file.sha256 == describe(place / file.name)["sha256"]
        assert parse_wheel_filename(file.name)[3] & set(_list_tags(system, "3.12")), name
        # a size that the page does not tell is a guess that fills no bar at once
        assert file.exact is speaks_json and file.size > (0 if speaks_json else 10**7)


@pytest.mark.skipif(sys.platform == "win32", reason="uv by its name on POSIX")
def test_resolving_fails_in_a_sentence(torch_index, tmp_path, uv_program):
    def fail(**more):
        with pytest.raises(InstallationError) as caught:
            _resolve(torch_index, tmp_path, uv_program, "linux-x64", "rocm", **more)
        assert caught.value.sentence.endswith(".") and "\n" not in caught.value.sentence and ";" in caught.value.sentence
        return caught.value

    # a build of another content than the one whose hash is known
    (name,) = [path.name for path in torch_index.folders["whl/rocm7.2"].glob("torch-*cp312*linux*")]
    assert fail(lock=replace(LOCK, known={name: "f" * 64})).code == "hash"
    (torch_index.folders["whl/rocm7.2"] / "triton_rocm-7.0-py3-none-manylinux_2_28_x86_64.whl").unlink()
    assert fail(lock=replace(LOCK, known={})).code in ("uv", "absent")
    torch_index.close()
    error = fail()
    assert error.code == "network" and error.remedy is Remedy.NETWORK


def test_this_platform():
    assert find_system() in ("linux-x64", "linux-arm64", "windows-x64", "windows-arm64", "macos-x64", "macos-arm64")


# ---------------------------------------------------------------- somebody who is not root


def _run_as_nobody(call):
    """Whether a call says True in a process of somebody who may not do everything."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    code = 1
    try:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        code = 0 if call() else 1
    finally:
        os._exit(code)


@pytest.fixture
def open_folder():
    """A folder that everybody may write into, below folders that everybody may look into."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    subprocess.run(["chmod", "-R", "u+rwX", folder], check=False)
    shutil.rmtree(folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="users of POSIX")
@pytest.mark.parametrize("mode", [0o000, 0o111, 0o444, 0o555])
def test_a_tree_that_must_not_be_written_is_deleted(open_folder, mode):
    tree = open_folder / "tree"

    def make_and_delete():
        for name in ("a/b/c", "a/d", "e"):
            (tree / name).mkdir(parents=True)
            (tree / name / "file").write_bytes(b"x")
        (tree / "link").symlink_to("/etc")
        for folder, _, names in os.walk(tree, topdown=False):
            for name in names:
                os.chmod(os.path.join(folder, name), mode)
            os.chmod(folder, mode)
        folders.delete_tree(tree)
        return not tree.exists()

    assert _run_as_nobody(make_and_delete) and os.path.isdir("/etc")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="users of POSIX")
def test_what_cannot_be_deleted_raises_and_does_not_go_on_for_ever(open_folder):
    (open_folder / "theirs" / "inner").mkdir(parents=True)
    (open_folder / "theirs" / "inner" / "file").write_bytes(b"x")
    for folder in (open_folder / "theirs" / "inner", open_folder / "theirs"):
        folder.chmod(0o500 if os.geteuid() == 0 else 0o555)
    if os.geteuid() != 0:
        pytest.skip("needs a folder of somebody else's")

    def delete():
        try:
            folders.delete_tree(open_folder / "theirs")
        except OSError as error:
            return isinstance(error, PermissionError)
        return False

    assert _run_as_nobody(delete)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="users of POSIX")
def test_a_folder_of_somebody_else_s(open_folder):
    closed = open_folder / "closed"
    closed.mkdir()
    closed.chmod(0o755 if os.geteuid() == 0 else 0o555)

    def plan():
        found = _plan(closed / "new", "linux-x64", "cpu")
        return found.code == "permission" and str(closed) in found.problem and found.remedy is Remedy.SPACE

    assert _run_as_nobody(plan)
    closed.chmod(0o000)

    def plan_where_nothing_can_be_seen():
        found = _plan(closed / "new", "linux-x64", "cpu")
        return found.code in ("permission", "path") and found.remedy is Remedy.SPACE

    assert _run_as_nobody(plan_where_nothing_can_be_seen)
