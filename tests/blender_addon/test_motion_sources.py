"""Files of every source, as their programs write them, on the mannequin: each limb points where a forward kinematics of the file's
own numbers puts it."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from latentman.blender_addon.character.body_model import MANNEQUIN, load
from latentman.blender_addon.motion.readers import read
from latentman.blender_addon.rigging.characters import add_character
from latentman.blender_addon.rigging.keyframes import apply_motion

pytest.importorskip("scipy")
pytest.importorskip("torch")
from tests.motion_sources import NAMES, SOURCES


@pytest.fixture(scope="module")
def mannequin():
    """The built-in body in a scene of its own."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    return add_character(bpy.context, load(MANNEQUIN), "Mannequin")


def measure(character, motion, truth, limbs):
    """Degrees (F, limbs) between a limb's direction in the truth and on the posed character, in Blender's world."""
    scene = bpy.context.scene
    scene.render.fps = round(motion.fps)
    apply_motion(character, motion, 1, motion.fps)
    out = np.zeros((len(truth), len(limbs)))
    for frame, joints in enumerate(truth):
        scene.frame_set(frame + 1)
        posed = character.evaluated_get(bpy.context.evaluated_depsgraph_get())
        heads = {name: np.array(posed.matrix_world @ posed.pose.bones[name].head) for name in NAMES if name in posed.pose.bones}
        for n, (start, end) in enumerate(limbs):
            wanted = joints[NAMES.index(end)] - joints[NAMES.index(start)]
            found = heads[end] - heads[start]
            cosine = wanted @ found / np.linalg.norm(wanted) / np.linalg.norm(found)
            out[frame, n] = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return out


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_limbs_point_where_the_file_says(tmp_path, play, mannequin, name):
    source = SOURCES[name](tmp_path, play)
    file = read(source.path)
    described = "\n".join(file.describe())
    for words in source.said:
        assert words in described, described
    motion = file.get_motion(source.clip)
    assert motion.fps == source.fps and motion.frame_count == len(source.truth)
    assert not file.get_clip(source.clip).is_doubtful, described
    angles = measure(mannequin, motion, source.truth, source.limbs)
    worst = source.limbs[int(angles.max(0).argmax())]
    assert angles.mean() < 1.5 and angles.max() < 5, (angles.mean(), angles.max(), worst)
    path = motion.joints[:, 0] @ np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
    if "in place" not in described:
        moved, wanted = path[-1] - path[0], source.truth[-1, 0] - source.truth[0, 0]
        assert np.linalg.norm(moved - wanted) < 0.03 * max(np.linalg.norm(wanted), 1.0) or source.path.stem.startswith(
            "joints_h36m"
        )
    feet = motion.joints[:, [10, 11], 1].min()
    assert -0.05 < feet < 0.15
    # on the mannequin, too: neither in the air nor below the floor
    assert -0.06 < find_lowest_foot(mannequin, len(source.truth)) < 0.12


def find_lowest_foot(character, frames):
    """Metres of the lowest head of a foot bone over the floor."""
    lowest = np.inf
    for frame in range(1, frames + 1):
        bpy.context.scene.frame_set(frame)
        posed = character.evaluated_get(bpy.context.evaluated_depsgraph_get())
        lowest = min(lowest, *((posed.matrix_world @ posed.pose.bones[name].head).z for name in ("left_foot", "right_foot")))
    return lowest
