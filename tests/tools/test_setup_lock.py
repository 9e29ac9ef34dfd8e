"""``locks/setup.json`` names, for every platform, device and Python, exactly the files that ``locks/backend.txt`` and
``locks/setup_sources.toml`` stand for: it fails when one of them was changed and ``make lock`` was not run for the other."""

from __future__ import annotations

import json
import tomllib

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from latentman.backend.installation.devices import BUILDS, find_torch_folder
from latentman.backend.installation.pythons import VERSIONS
from tools import locks, setup_lock
from tools.locks import LOCKS, read_lock
from tools.setup_lock import IndexFile, LockedPackage, choose_wheel, find_torch, list_tags, needs

LOCK = json.loads((LOCKS / "setup.json").read_text(encoding="utf-8"))
SOURCES = tomllib.loads((LOCKS / "setup_sources.toml").read_text(encoding="utf-8"))
PACKAGES = read_lock(LOCKS / "backend.txt")
_SEEN = {
    "linux-x64": {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"},
    "windows-x64": {"sys_platform": "win32", "platform_system": "Windows", "platform_machine": "AMD64", "os_name": "nt"},
    "macos-arm64": {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64", "os_name": "posix"},
}
_CASES = [
    (system, build, python)
    for system, builds in LOCK["environments"].items()
    for build, pythons in builds.items()
    for python in pythons
]


def _list_needed(system, python):
    environment = default_environment() | _SEEN[system] | {"python_version": python, "python_full_version": f"{python}.0"}
    found = {}
    for package in PACKAGES:
        marker = Requirement(package.text.split("\\")[0].strip()).marker
        if marker is None or marker.evaluate(environment):
            found[package.name] = package
    return found


@pytest.mark.parametrize(("system", "build", "python"), _CASES)
def test_an_environment_is_what_the_lock_of_the_backend_says(system, build, python):
    needed = _list_needed(system, python)
    folder = find_torch_folder(system, build)
    if folder:
        # a build of torch's own index brings its libraries along
        needed = {name: package for name, package in needed.items() if not name.startswith(("nvidia-", "cuda-", "triton"))}
    names = LOCK["environments"][system][build][python]
    found = {}
    for name in names:
        package, version, _, tags = parse_wheel_filename(name)
        found[str(package)] = str(version)
        assert tags & set(list_tags(system, python)), name
        file, locked = LOCK["files"][name], needed[str(package)]
        if package == "torch" and folder:
            (source,) = [one for one in SOURCES["torch"] if one["name"] == name]
            assert (file["sha256"], file["folder"]) == (source["sha256"], source["folder"]) and file["folder"] == folder
            assert str(version) == f"{locked.version}+{folder}"
        else:
            assert file["sha256"] in locked.hashes and str(version) == locked.version and not file.get("folder"), name
            assert file["size"] > 0 and file["unpacked"] > 0
    assert found.keys() == needed.keys() and len(names) == len(found)


def test_every_platform_has_its_devices_and_pythons():
    assert LOCK["environments"].keys() == _SEEN.keys() == BUILDS.keys() == LOCK["python"]["builds"].keys() == LOCK["uv"].keys()
    for system, builds in LOCK["environments"].items():
        assert set(builds) <= set(BUILDS[system])
        # what is fetched by itself has a list for the usual devices
        usual = {"linux-x64": {"cuda", "cpu"}, "windows-x64": {"cuda", "cpu"}, "macos-arm64": {"metal"}}[system]
        assert all(VERSIONS[0] in builds[build] for build in usual)
    assert set(VERSIONS) >= {python for _, _, python in _CASES}
    assert {
        name for _, builds in LOCK["environments"].items() for one in builds.values() for names in one.values() for name in names
    } == set(LOCK["files"])


def test_the_python_and_the_other_builds_are_those_of_the_sources():
    python = SOURCES["python"]
    assert (LOCK["python"]["version"], LOCK["python"]["release"]) == (python["version"], python["release"])
    for system, build in python["builds"].items():
        assert build.items() <= LOCK["python"]["builds"][system].items()
        assert build["name"].startswith(f"cpython-{python['version']}+{python['release']}-")
    assert python["version"].startswith(f"{VERSIONS[0]}.")
    assert LOCK["known"] == {source["name"]: source["sha256"] for source in SOURCES["torch"]}
    (torch,) = {package.version for package in PACKAGES if package.name == "torch"}
    for source in SOURCES["torch"]:
        assert str(parse_wheel_filename(source["name"])[1]) == f"{torch}+{source['folder']}", (
            "locks/setup_sources.toml is of an older torch"
        )


def test_uv_is_the_one_that_locks():
    (uv,) = [package for package in read_lock(LOCKS / "locking.txt") if package.name == "uv"]
    for system, file in LOCK["uv"].items():
        name, version, _, tags = parse_wheel_filename(file["name"])
        assert canonicalize_name(name) == "uv" and str(version) == uv.version and file["sha256"] in uv.hashes
        assert tags & set(list_tags(system, VERSIONS[0]))


@pytest.mark.parametrize("upgrade", [True, False])
def test_make_lock_writes_it_after_the_others(tmp_path, monkeypatch, upgrade):
    ran = []
    monkeypatch.setattr(locks, "prepare_programs", lambda: tmp_path)
    monkeypatch.setattr(locks, "_run", lambda *command, **_: ran.append(command) or 0)
    assert locks.lock(upgrade) == 0
    assert [command[0].name for command in ran] == ["uv"] * len(locks.CONTENTS) + ["python"]
    assert ran[-1][1:] == ("tools/setup_lock.py",)
    monkeypatch.setattr(locks, "_run", lambda *command, **_: int(command[0].name == "python"))
    assert locks.lock(upgrade) == 1


def test_the_best_wheel_of_an_index_is_locked(monkeypatch):
    files = [
        IndexFile("a-1-py3-none-any.whl", "u", "0" * 64, 1),
        IndexFile("a-1-cp312-cp312-win_amd64.whl", "u", "1" * 64, 1),
        IndexFile("a-1-cp312-cp312-manylinux_2_28_x86_64.whl", "u", "2" * 64, 1),
        IndexFile("a-1-cp312-cp312-manylinux_2_39_x86_64.whl", "u", "3" * 64, 1),
        IndexFile("a-1-cp310-abi3-macosx_11_0_arm64.whl", "u", "4" * 64, 1),
        # not locked, and with a name that nobody can read
        IndexFile("a-no-version.whl", "u", "5" * 64, 1),
    ]
    monkeypatch.setattr(setup_lock, "list_index", lambda name: files)
    package = LockedPackage("a", "1", frozenset(str(n) * 64 for n in range(5)), "a==1")
    chosen = {system: choose_wheel(package, system, "3.12").sha256[0] for system in _SEEN}
    assert chosen == {"linux-x64": "2", "windows-x64": "1", "macos-arm64": "4"}
    assert choose_wheel(LockedPackage("a", "1", frozenset(("3" * 64,)), "a==1"), "linux-x64", "3.12") is None


def test_markers_and_torch_s_own_index():
    package = LockedPackage("a", "1", frozenset(), "a==1 ; sys_platform == 'win32' and python_version >= '3.12' \\")
    assert (
        needs(package, "windows-x64", "3.12")
        and not needs(package, "windows-x64", "3.11")
        and not needs(package, "linux-x64", "3.12")
    )
    sources = [{"folder": "cpu", "name": "torch-2+cpu-cp312-cp312-manylinux_2_28_x86_64.whl"}]
    assert find_torch(sources, "cpu", "linux-x64", "3.12") == sources[0]
    assert find_torch(sources, "cpu", "linux-x64", "3.11") is None is find_torch(sources, "cu126", "linux-x64", "3.12")


def test_sizes_are_read_from_the_end_of_a_wheel(tmp_path, monkeypatch):
    import zipfile

    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for n in range(2000):
            archive.writestr(f"folder/{n}.py", "x" * n)
        archive.comment = b"a comment"
    data = path.read_bytes()
    asked = []

    def open_part(url, **headers):
        first, _, last = headers["Range"].removeprefix("bytes=").partition("-")
        asked.append((first, last))
        return data[int(first) : int(last) + 1 if last else None]

    monkeypatch.setattr(setup_lock, "_open", open_part)
    setup_lock.measure_unpacked.cache_clear()
    assert setup_lock.measure_unpacked("https://index/a.whl", len(data)) == sum(range(2000)) and len(asked) == 2
