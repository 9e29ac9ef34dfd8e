"""Other threads rest while Blender renders, as Blender confuses them with its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from latentman.blender_addon.command_line import wait_until
from latentman.blender_addon.render_gate import gate
from latentman.shared import messages
from tests.checkout import ROOT

SCRIPT = """
import os, sys, threading
import bpy
sys.path += [path for path in sys.argv[2:] if path not in sys.path]
from tests.blender_addon import any_scene
from latentman.blender_addon import properties
from latentman.blender_addon.passes.render import PassRender
from latentman.blender_addon.render_gate import gate

def work():
    while True:
        with gate:
            made = {str(n): [n] * 5 for n in range(200)}
            for name in list(made):
                made.pop(name)

properties.register()
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.context.scene.camera = any_scene.add_camera()
rig, _ = any_scene.add_character()
threading.Thread(target=work, daemon=True).start()
for _ in range(int(sys.argv[1])):
    list(PassRender(bpy.context, rig, (3, 9, 14), 64, 64, scope="SCENE").render_all())
print("survived", flush=True)
os._exit(0)
"""


def test_a_busy_thread_does_not_disturb_renders(tmp_path):
    """Without the gate, Python's debugging allocator ended this within the first render or two."""
    (tmp_path / "work.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "work.py"), "6", str(ROOT), *sys.path],
        cwd=ROOT,
        env={**os.environ, "PYTHONMALLOC": "debug"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0 and "survived" in done.stdout, done.stderr[-2000:]


@pytest.mark.parametrize("held", [True, False])
def test_the_connection_rests_meanwhile(connection, held):
    def ask():
        connection.device = ""
        connection.get_client().send(messages.Hello())

    if held:
        with gate:
            ask()
            time.sleep(0.5)
            connection.process_events()
            assert not connection.device, "an answer was read while Blender might render"
    else:
        ask()
    assert wait_until(connection, lambda: bool(connection.device), 30)
