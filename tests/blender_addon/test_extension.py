"""The built zip: valid, installable, self-sufficient, and gone without a trace when disabled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTALL = """
import json, sys, bpy, addon_utils
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
print("FOUND " + json.dumps(found))
"""
BUNDLED = ("zmq", "msgspec", "pyzmq", "platformdirs")


@pytest.fixture(scope="module")
def package():
    """The zip for this platform, freshly built."""
    pytest.importorskip("bpy")
    subprocess.run(
        [sys.executable, "-m", "tools.package_extension", "--platforms", "linux-x64"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=600,
    )
    return next((ROOT / "build" / "extension").glob("*.zip"))


@pytest.mark.skipif(sys.platform != "linux", reason="builds the Linux zip")
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
