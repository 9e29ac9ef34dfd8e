"""A release: which wheel which Blender takes, zips that are the same twice, what is refused, and an update that arrives."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import tomllib
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("bpy")

import bpy

from tests.checkout import ROOT, copy_checkout
from tools.locks import read_lock
from tools.package_extension import LOCK, PLATFORM_PYTHONS, PLATFORMS, PYTHONS
from tools.release import archives, checks, wheel_tags

#: what Python says of the system that a Blender of a platform runs on
SYSTEMS = {
    "linux-x64": "linux-x86_64",
    "windows-x64": "win-amd64",
    "macos-arm64": "macosx-11.00-arm64",
    "macos-x64": "macosx-11.00-x86_64",
}


# -- wheels -----------------------------------------------------------------------------------------------------------

#: names as package indexes have them
SHOWN = (
    "msgspec-0.22.0-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl",
    "msgspec-0.22.0-cp313-cp313-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl",
    "msgspec-0.22.0-cp314-cp314-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl",
    "msgspec-0.22.0-cp314-cp314t-manylinux2014_aarch64.manylinux_2_17_aarch64.whl",
    "msgspec-0.22.0-cp311-cp311-win_amd64.whl",
    "msgspec-0.22.0-cp313-cp313-win_amd64.whl",
    "msgspec-0.22.0-cp314-cp314-win_arm64.whl",
    "msgspec-0.22.0-cp311-cp311-macosx_11_0_arm64.whl",
    "msgspec-0.22.0-cp311-cp311-macosx_10_9_x86_64.whl",
    "msgspec-0.22.0-cp314-cp314-macosx_11_0_arm64.whl",
    "pyzmq-27.3.0-cp311-cp311-manylinux_2_26_x86_64.manylinux_2_28_x86_64.whl",
    "pyzmq-27.3.0-cp312-abi3-manylinux_2_26_x86_64.manylinux_2_28_x86_64.whl",
    "pyzmq-27.3.0-cp312-abi3-win_amd64.whl",
    "pyzmq-27.3.0-cp311-cp311-macosx_10_15_universal2.whl",
    "pyzmq-27.3.0-cp312-abi3-macosx_10_15_universal2.whl",
    "pyzmq-27.3.0-cp39-abi3-win_amd64.whl",
    "platformdirs-4.3.8-py3-none-any.whl",
    "six-1.17.0-py2.py3-none-any.whl",
    "old-1.0-py2-none-any.whl",
    "built-1.0-1-cp313-cp313-win_amd64.whl",
)


WEBSITE = "https://example.org/latentman"


@pytest.fixture(scope="module")
def blender_filter():
    """Blender's own choice of wheels, as a function of (names, platform, Python)."""
    folder = Path(bpy.utils.system_resource("SCRIPTS")) / "addons_core"
    sys.path.append(str(folder))
    try:
        from bl_pkg import bl_extension_ops
    finally:
        sys.path.remove(str(folder))

    def choose(names, platform, python):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sysconfig, "get_platform", lambda: SYSTEMS[platform])
            patch.setattr(sys, "version_info", (*python, 0, "final", 0))
            return bl_extension_ops._extensions_wheel_filter_for_this_system(names)

    return choose


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", [(3, 10), (3, 11), (3, 12), (3, 13), (3, 14)])
def test_wheels_are_chosen_as_blender_chooses_them(blender_filter, platform, python):
    assert wheel_tags.select_wheels(SHOWN, platform, python) == blender_filter(list(SHOWN), platform, python)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_python_of_a_platform_finds_what_it_needs(blender_filter, platform):
    """With the wheels that are packed, where they have been downloaded."""
    names = [path.name for path in (ROOT / "build" / "wheels" / platform).glob("*.whl")]
    if not names:
        pytest.skip("make extension has not downloaded them")
    pythons, packages = PLATFORM_PYTHONS.get(platform, PYTHONS), [one.name for one in read_lock(LOCK)]
    assert wheel_tags.check_wheels(names, platform, pythons, packages) == []
    for python in pythons:
        found = blender_filter(names, platform, tuple(map(int, python.split("."))))
        assert sorted(name.split("-")[0] for name in found) == sorted(packages), python


def test_wheels_that_lack_or_are_for_nobody_are_told():
    names = ["a-1.0-cp311-cp311-win_amd64.whl", "b-1.0-py3-none-any.whl", "a-1.0-cp313-cp313-macosx_11_0_arm64.whl"]
    assert wheel_tags.check_wheels(names[:2], "windows-x64", ["3.11"], ["a", "b"]) == []
    missing, unused = wheel_tags.check_wheels(names, "windows-x64", ["3.11", "3.13"], ["a", "b"])
    assert missing.startswith("Python 3.13 on windows-x64 takes b-1.0-py3-none-any.whl, and should a, b")
    assert unused == f"No Python on windows-x64 takes {names[2]}."
    with pytest.raises(ValueError, match="not named as wheels are"):
        wheel_tags.select_wheels(["a.whl"], "linux-x64", (3, 11))


# -- archives and checks ----------------------------------------------------------------------------------------------


def test_the_same_files_give_the_same_bytes(tmp_path):
    contents = {"z.py": b"print()", "a/b.whl": b"PK" * 50, "a/": b"", "c.txt": b"words " * 500}
    for name, order, date, system in (("one", sorted(contents), 1980, 3), ("two", sorted(contents, reverse=True), 2024, 0)):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for entry in order:
                info = zipfile.ZipInfo(entry, (date, 5, 4, 3, 2, 0))
                info.create_system, info.external_attr = system, 0o600 << 16
                archive.writestr(info, contents[entry])
        archives.rewrite_archive(tmp_path / name, 1_700_000_000)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with zipfile.ZipFile(tmp_path / "one") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == contents and archive.testzip() is None
        assert {info.date_time for info in archive.infolist()} == {(2023, 11, 14, 22, 13, 20)}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("# Changelog\n", "no section"),
        (
            "# Changelog\n\n## Not yet released\n\n- More.\n\n## 1.2.3\n\n- Less.\n",
            "begins with 'Not yet released'.*call that section",
        ),
        ("## 1.2.4\n\n- More.\n\n## 1.2.3\n\n- Less.\n", "begins with '1.2.4'.*raise the version"),
        ("## 1.2.3\n\n## 1.2.2\n\n- Less.\n", "says nothing of 1.2.3"),
    ],
)
def test_a_change_log_of_another_version_is_refused(text, sentence):
    with pytest.raises(checks.ReleaseError, match=sentence):
        checks.read_notes(text, "1.2.3")


def test_notes_are_one_versions_own():
    assert checks.read_notes("# C\n\n## 1.2.3\n\n- More.\n  Of it.\n\n## 1.2.2\n\n- Less.\n", "1.2.3") == "- More.\n  Of it."
    assert checks.read_notes("## 1.2.3\n- All.", "1.2.3") == "- All."


def test_a_large_zip_is_refused(tmp_path):
    with (tmp_path / "a.zip").open("wb") as stream:
        stream.truncate(checks.MOST_BYTES)
    checks.check_size(tmp_path / "a.zip")
    with (tmp_path / "a.zip").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(checks.ReleaseError, match=r"a.zip has 45.0 MB, and may have 45; make it smaller"):
        checks.check_size(tmp_path / "a.zip")


# -- the whole --------------------------------------------------------------------------------------------------------


def _git(folder, *arguments):
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.invalid")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def _set_version(folder, version):
    for name, pattern, text in (
        ("blender_manifest.toml", r'(?m)^version = ".*"$', f'version = "{version}"'),
        ("CHANGELOG.md", r"\A# Changelog\n", f"# Changelog\n\n## {version}\n\n- What {version} brings.\n"),
    ):
        path = folder / name
        path.write_text(re.sub(pattern, text, path.read_text(), count=1))


def _release(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "tools.release", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "build" / "package") + os.pathsep + str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    """(checkout, release of 7.0.0, release of 7.0.1) of a copy whose large files are small, for Linux."""
    if sys.platform != "linux":
        pytest.skip("builds the Linux zip")
    work = tmp_path_factory.mktemp("release")
    folder = copy_checkout(work / "latentman")
    for large in folder.rglob("*"):
        if large.is_file() and large.suffix in (".safetensors", ".npz", ".npy"):
            large.write_bytes(b"small")
    (folder / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    (folder / "build" / "package").mkdir(parents=True)
    (folder / "build" / "package" / "latentman").symlink_to(folder)
    wheels = ROOT / "build" / "wheels" / "linux-x64"
    if wheels.exists():
        shutil.copytree(wheels, folder / "build" / "wheels" / "linux-x64")
    _git(folder, "init", "--quiet")
    made = []
    for version in ("7.0.0", "7.0.1"):
        _set_version(folder, version)
        _git(folder, "add", "--all")
        _git(folder, "commit", "--quiet", "--message", version)
        more = ("--website", WEBSITE) if version == "7.0.1" else ()
        done = _release(folder, "--platforms", "linux-x64", "--out", str(work / version), *more)
        assert done.returncode == 0, done.stdout + done.stderr
        made.append(work / version)
    return folder, *made


def test_a_release_is_complete(releases):
    _, oldest, newest = releases
    assert {path.name for path in newest.iterdir()} == {"index.json", "SHA256SUMS", "NOTES.md", "latentman-7.0.1-linux_x64.zip"}
    (entry,) = json.loads((newest / "index.json").read_text())["data"]
    (before,) = json.loads((oldest / "index.json").read_text())["data"]
    assert "website" not in before
    path = newest / "latentman-7.0.1-linux_x64.zip"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert entry["archive_url"] == f"./{path.name}" and entry["archive_hash"] == f"sha256:{digest}"
    assert (entry["version"], entry["platforms"]) == ("7.0.1", ["linux-x64"]) and entry["website"] == WEBSITE
    assert entry["python_versions"] == ["3.11", "3.13", "3.14"]
    lines = (newest / "SHA256SUMS").read_text().splitlines()
    assert f"{digest}  {path.name}" in lines and len(lines) == 3
    for line in lines:
        said, name = line.split("  ")
        assert hashlib.sha256((newest / name).read_bytes()).hexdigest() == said
    notes = (newest / "NOTES.md").read_text()
    assert notes.startswith("# LatentMan 7.0.1\n\n- What 7.0.1 brings.") and "7.0.0" not in notes
    with zipfile.ZipFile(path) as archive:
        manifest = tomllib.loads(archive.read("blender_manifest.toml").decode())
    assert manifest["platforms"] == ["linux-x64"] and len(manifest["wheels"]) == 6


def test_the_same_commit_gives_the_same_release(releases, tmp_path):
    folder, _, newest = releases
    for path in folder.rglob("*.py"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    done = _release(folder, "--platforms", "linux-x64", "--out", str(tmp_path / "again"), "--website", WEBSITE)
    assert done.returncode == 0, done.stderr
    for path in newest.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "README.md").write_text("x"), "README.md is not committed; commit it"),
        (lambda folder: (folder / "new.py").write_text("x"), "new.py is not committed"),
        (lambda folder: _git(folder, "tag", "v7.0.1", "HEAD~1"), "The tag v7.0.1 names another commit; raise the version"),
        (lambda folder: shutil.rmtree(folder / ".git"), "made from a git checkout"),
    ],
)
def test_what_is_not_ready_is_refused(releases, tmp_path, spoil, sentence):
    folder = tmp_path / "latentman"
    shutil.copytree(releases[0], folder, symlinks=True)
    (folder / "build" / "package" / "latentman").unlink()
    (folder / "build" / "package" / "latentman").symlink_to(folder)
    spoil(folder)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").touch()
    done = _release(folder, "--out", str(tmp_path / "out"))
    assert done.returncode == 1 and sentence in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    # what was there before is still there
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["kept"]


def test_a_version_that_disagrees_is_refused(releases, tmp_path):
    root = tmp_path / "latentman"
    shutil.copytree(releases[0], root, symlinks=True)
    with pytest.raises(checks.ReleaseError, match=r"manifest\.toml says 7\.0\.1 and shared/version\.py 9\.9\.9"):
        checks.check_version(root, "9.9.9")
    _set_version(root, "7.0")
    with pytest.raises(checks.ReleaseError, match=r"is not of the form 1\.2\.3"):
        checks.check_version(root, "7.0")


UPDATE = """
import json, os, shutil, sys, tomllib, bpy
from pathlib import Path
served, newest, address = sys.argv[1:]
bpy.context.preferences.system.use_online_access = True
repo = bpy.context.preferences.extensions.repos.new(name="Served", module="served", remote_url=address)
repo.use_sync_on_startup = True
index = list(bpy.context.preferences.extensions.repos).index(repo)
def read_version():
    return tomllib.loads((Path(repo.directory) / "latentman" / "blender_manifest.toml").read_text())["version"]
found = {}
bpy.ops.extensions.repo_sync(repo_index=index)
bpy.ops.extensions.package_install(repo_index=index, pkg_id="latentman", enable_on_install=True)
found["first"] = read_version()
import zmq
found["wheel"] = zmq.__file__
found["panel"] = hasattr(bpy.types, "LATENTMAN_PT_backend")
for path in Path(served).iterdir():
    path.unlink()
for path in Path(newest).iterdir():
    shutil.copy(path, served)
bpy.ops.extensions.repo_sync_all()
bpy.ops.extensions.package_upgrade_all()
found["second"] = read_version()
found["enabled"] = "bl_ext.served.latentman" in bpy.context.preferences.addons
print("FOUND " + json.dumps(found), flush=True)
# what Blender itself does at the end may wait for good
os._exit(0)
"""


@pytest.fixture
def serve():
    """``serve(folder)`` serves a folder on loopback and returns its address."""
    servers = []

    def start(folder):
        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_):
                """Nothing."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_an_update_arrives_in_blender(releases, serve, tmp_path):
    _, first, newest = releases
    served = tmp_path / "served" / "deep"
    shutil.copytree(first, served)
    address = serve(tmp_path / "served") + "/deep/index.json"
    done = subprocess.run(
        [sys.executable, "-c", UPDATE, str(served), str(newest), address],
        env={**os.environ, "BLENDER_USER_RESOURCES": str(tmp_path / "user")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    line = next((text for text in done.stdout.splitlines() if text.startswith("FOUND ")), None)
    assert line, done.stdout + done.stderr
    found = json.loads(line.removeprefix("FOUND "))
    assert (found["first"], found["second"]) == ("7.0.0", "7.0.1") and found["panel"] and found["enabled"]
