"""The built zip: valid, installable, self-sufficient, and gone without a trace when disabled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from latentman.shared.version import VERSION
from tests.checkout import ROOT, clean_environment

#: the Python that has the backend's packages
BACKEND_PYTHON = os.environ.get("LATENTMAN_PYTHON", sys.executable)
INSTALL = """
import json, os, sys, bpy, addon_utils
result = bpy.ops.extensions.package_install_files(filepath=sys.argv[1], repo="user_default", enable_on_install=True)
import zmq, msgspec
key = "bl_ext.user_default.latentman"
found = {
    "result": list(result), "wheels": [zmq.__file__, msgspec.__file__],
    "enabled": key in bpy.context.preferences.addons, "scene": hasattr(bpy.types.Scene, "latentman"),
    "panel": hasattr(bpy.types, "LATENTMAN_PT_backend"), "mannequin": list(bpy.ops.latentman.add_mannequin()),
    "clip": list(bpy.ops.latentman.use_clip()), "poll": bpy.ops.latentman.generate.poll(),
}
addon_utils.disable(key, default_set=True)
found["left"] = [n for n in dir(bpy.types) if "latentman" in n.lower()] + (
    ["scene"] if hasattr(bpy.types.Scene, "latentman") else [])
print("FOUND " + json.dumps(found), flush=True)
# what Blender itself does at the end may wait for good
os._exit(0)
"""
BUNDLED = ("zmq", "msgspec", "pyzmq", "platformdirs")


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="builds the Linux zip")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The zip for this platform, freshly built; Blender's own tool has found it valid."""
    out = tmp_path_factory.mktemp("extension")
    built = subprocess.run(
        [sys.executable, "-m", "tools.package_extension", "--platforms", "linux-x64", "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (made,) = out.glob("*.zip")
    return made


def test_the_zip_holds_the_product(package):
    with zipfile.ZipFile(package) as archive:
        names = set(archive.namelist())
        manifest = tomllib.loads(archive.read("blender_manifest.toml").decode())
    assert manifest["version"] == VERSION and package.name == f"latentman-{VERSION}-linux_x64.zip"
    assert all(name.removeprefix("./") in names for name in manifest["wheels"])
    # what is done stands there, in the two words that Blender has for it
    network, files = manifest["permissions"]["network"], manifest["permissions"]["files"]
    assert len(manifest["permissions"]) == 2 and max(len(network), len(files)) <= 64
    assert "Start" in network and "remote" in network and "download" in network and "read" in files.lower() and "write" in files
    product = ("backend", "blender_addon", "shared")
    found = [path for folder in product for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    # the other starters are for measuring
    wanted = {path.relative_to(ROOT).as_posix() for path in found if not {"flow_starter", "clip_starter"} & set(path.parts)}
    wanted |= {"__init__.py", "blender_manifest.toml", "pyproject.toml", "setup.py", "LICENSE", "README.md"}
    wanted |= {"locks/backend.txt", "locks/setup.json"}
    assert {name for name in names if not name.startswith("wheels/") and not name.endswith("/")} == wanted


def test_the_zip_installs_and_brings_its_wheels(package, tmp_path):
    # a Python that sees bpy and numpy, but neither pyzmq nor msgspec
    site = Path(next(p for p in sys.path if p.endswith("site-packages")))
    bare = tmp_path / "site"
    bare.mkdir()
    for entry in site.iterdir():
        if not entry.name.startswith(BUNDLED):
            (bare / entry.name).symlink_to(entry)
    environment = {**os.environ, "PYTHONPATH": str(bare), "BLENDER_USER_RESOURCES": str(tmp_path / "user")}
    run = subprocess.run(
        [os.path.realpath(sys.executable), "-S", "-c", INSTALL, str(package)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tmp_path,
    )
    line = next((text for text in run.stdout.splitlines() if text.startswith("FOUND ")), None)
    assert line, run.stdout + run.stderr
    found = json.loads(line.removeprefix("FOUND "))
    assert found["result"] == ["FINISHED"] and found["enabled"] and found["scene"] and found["panel"]
    assert all(str(tmp_path / "user") in path for path in found["wheels"])
    assert found["mannequin"] == ["FINISHED"] and found["clip"] == ["FINISHED"] and found["poll"] is False
    assert found["left"] == []
    _check_backend(tmp_path / "user" / "extensions" / "user_default" / "latentman", tmp_path)


def _check_backend(extension: Path, home: Path) -> None:
    """The installed extension's own backend listens, in the Python that has its packages."""
    process = subprocess.Popen(
        [BACKEND_PYTHON, str(extension / "backend" / "launch.py"), "serve", "--endpoint", "tcp://127.0.0.1:0"],
        cwd=home,
        env=clean_environment(home / "home"),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        event = json.loads(process.stdout.readline())
        assert (event["event"], event["version"]) == ("listening", VERSION)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
        process.stdout.close()
