"""Other threads rest while Blender renders, as Blender confuses them with its own."""

from __future__ import annotations

import linecache
import os
import subprocess
import sys
import time

import bpy
import numpy as np
import pytest
import zmq

from latentman.blender_addon.command_line import wait_until
from latentman.blender_addon.render_gate import gate, keep_from_renders, override_context
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


def test_what_was_sent_without_a_copy_is_let_go_of_outside_renders():
    """By a thread of pyzmq's, which knows nothing of renders."""
    keep_from_renders()
    context = zmq.Context()
    into, out = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    out.connect(f"tcp://127.0.0.1:{into.bind_to_random_port('tcp://127.0.0.1')}")
    try:
        with gate:
            sent = zmq.Frame(np.zeros(1 << 20, np.uint8), track=True, copy=False)
            out.send(sent, copy=False)
            tracker = zmq.MessageTracker(sent)
            del sent
            assert into.recv() == bytes(1 << 20)
            time.sleep(0.2)
            assert not tracker.done
        tracker.wait(10)
    finally:
        context.destroy(0)


def test_the_connection_comes_to_the_gate_when_a_render_begins(connection):
    """It would else wake up from waiting, and run a little, at any time during it."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    client = connection.get_client()
    for _ in range(3):
        with override_context(bpy.context, scene=bpy.context.scene):
            time.sleep(0.05)
            frame = sys._current_frames()[client._thread.ident]
            assert "with gate" in linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    # and goes on afterwards
    connection.device = ""
    client.send(messages.Hello(), {"a": np.arange(5, dtype=np.uint8), "b": np.zeros(2 << 20, np.uint8), "c": np.zeros(3, np.uint8)})
    assert wait_until(connection, lambda: client.waiting_bytes == 0, 30)
