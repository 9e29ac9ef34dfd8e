"""SMPL parameters of a file -> a motion: what is not known of them is guessed from the numbers, and said. No bpy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...shared.motion import MAX_FRAMES, MotionError, slerp
from ...shared.skeleton import SMPL_PARENTS
from . import representations as forms
from . import up_axis
from .clips import NO_RATE
from .layouts import AVERAGE_REST_JOINTS, PELVIS_IN_SMPL, DecodedMotion, pose_in_blocks
from .representations import FORMS, Guess, guess_form, to_matrices
from .rotations import forward_kinematics, matrix_to_quaternion, quaternion_to_matrix
from .sampling import spread_frames
from .smpl_tracks import FROM_PELVIS, FROM_TURNED_ORIGIN, SmplTrack
from .up_axis import TO_BODY, guess_up_axis

GUESS = "GUESS"
#: joints whose rotations are used: hands of SMPL have no fingers, and those of SMPL-H are fingers
BODY_JOINTS = 22
#: frames from which the axis is guessed
SAMPLE = 120
#: the note of what a camera saw
IN_CAMERA_SPACE = "in the camera's space: a tilt and moves of the camera are in the motion"


@dataclass(frozen=True)
class ReadOptions:
    """What the user says about a file: ``up_axis`` of ``up_axis``, ``layout`` of ``representations`` or "POSITIONS"; "GUESS" finds
    them in the numbers."""

    up_axis: str = GUESS
    layout: str = GUESS


@dataclass(frozen=True)
class Reading:
    """How a track's numbers are read, and what is to be said of it."""

    form: str
    up: str
    notes: tuple[str, ...]
    is_doubtful: bool
    may_be_chosen: frozenset[str]


def find_reading(track: SmplTrack, options: ReadOptions) -> Reading:
    """How to read a track: what the user says, else what its source is known for, else what its numbers look like.

    Raises ``MotionError`` for a choice that its numbers cannot have, and for numbers that are no rotations.
    """
    notes: list[str] = []
    choices: set[str] = set()
    size = track.rotations.shape[-1]
    if options.layout in FORMS[size]:
        form = Guess(options.layout)
    elif options.layout not in (GUESS, "ROTATIONS"):
        titles = " or ".join(forms.TITLES[form] for form in FORMS[size])
        raise MotionError(f"it holds rotations of {size} numbers, which are {titles}; choose another layout.")
    else:
        form = Guess(track.form) if track.form else guess_form(track.rotations, track.usual_form)
    if len(FORMS[size]) > 1:
        choices.add("layout")
        if options.layout == GUESS:
            notes.append(say_guess(forms.TITLES[form.value], form.is_doubtful, "Layout"))
    if options.up_axis != GUESS:
        up = Guess(options.up_axis)
    elif track.up:
        up = Guess(track.up)
    else:
        joints = _pose_sample(track, form.value)
        up = guess_up_axis(joints, track.usual_up, has_path=track.path is not None)
        notes.append(say_guess(up_axis.TITLES[up.value], up.is_doubtful, "Up Axis"))
    if up.value == up_axis.Y_DOWN:
        notes.append(IN_CAMERA_SPACE)
    if track.path is None:
        notes.append("in place: the file has no path")
    if not track.fps:
        notes.append(assume_rate(track.usual_fps))
    missing = count_frames(track) - track.frame_count
    if missing:
        notes.append(f"{missing} missing frame{'s' if missing > 1 else ''} filled in")
    choices.add("up_axis")
    return Reading(form.value, up.value, (*notes, *track.notes), form.is_doubtful or up.is_doubtful, frozenset(choices))


def say_guess(title: str, is_doubtful: bool, choice: str) -> str:
    """The note of what was found in the numbers; ``choice``: the setting where it is chosen."""
    return f"{title}: a doubtful guess, see {choice}" if is_doubtful else f"{title}, as its numbers show"


def assume_rate(fps: float) -> str:
    """The note of a rate that no file named."""
    return f"{fps:g} fps is assumed: {NO_RATE}"


def count_frames(track: SmplTrack) -> int:
    """The number of frames, with those that are filled in."""
    return track.frame_count if track.frames is None or not len(track.frames) else int(track.frames[-1] - track.frames[0]) + 1


def _used_joints(track: SmplTrack) -> int:
    return 24 if track.rotations.shape[1] == 24 else BODY_JOINTS


def _pose_sample(track: SmplTrack, form: str) -> np.ndarray:
    """(N, 22, 3) joints of an average body in some of the frames, in the file's axes."""
    if not track.frame_count:
        return np.zeros((0, BODY_JOINTS, 3))
    at = spread_frames(track.frame_count, SAMPLE)
    local = np.broadcast_to(np.eye(3), (len(at), 24, 3, 3)).copy()
    local[:, :BODY_JOINTS] = to_matrices(track.rotations[at, :BODY_JOINTS], form)
    pelvis = np.zeros((len(at), 3)) if track.path is None else _find_pelvis(track, at, local[:, 0])
    return forward_kinematics(local, AVERAGE_REST_JOINTS, pelvis, SMPL_PARENTS)[:, :BODY_JOINTS]


def _find_pelvis(track: SmplTrack, at: np.ndarray | slice, root: np.ndarray) -> np.ndarray:
    """(F, 3) metres, in the file's axes; ``root`` (F, 3, 3) are the root's rotations."""
    assert track.path is not None
    path = np.asarray(track.path[at], np.float64) * track.unit
    if track.path_from == FROM_PELVIS:
        return path
    return path + (root @ PELVIS_IN_SMPL if track.path_from == FROM_TURNED_ORIGIN else PELVIS_IN_SMPL)


def decode_track(track: SmplTrack, reading: Reading) -> DecodedMotion:
    """The motion of an average body with a track's rotations, on the ground; gaps are filled by slerp and linearly."""
    if count_frames(track) > MAX_FRAMES:
        raise MotionError(f"it has {count_frames(track)} frames, more than the limit of {MAX_FRAMES}; shorten it.")
    to_body, count = TO_BODY[reading.up], _used_joints(track)

    def find_local(frames: slice) -> np.ndarray:
        local = to_matrices(track.rotations[frames, :count], reading.form)
        local[:, 0] = to_body @ local[:, 0]
        return local

    if track.path is None:
        pelvis = np.zeros((track.frame_count, 3))
    else:
        root = np.eye(3) if track.path_from != FROM_TURNED_ORIGIN else to_matrices(track.rotations[:, 0], reading.form)
        pelvis = _find_pelvis(track, slice(None), root) @ to_body.T
        if reading.up == up_axis.Y_DOWN:
            # a camera stands anywhere: the person begins at the origin
            pelvis = pelvis - pelvis[:1] * [1, 0, 1]
    fps = track.fps or track.usual_fps
    if track.frames is None or count_frames(track) == track.frame_count:
        return pose_in_blocks(find_local, pelvis, fps, to_ground=True)
    quaternions = matrix_to_quaternion(find_local(slice(None)))
    at = np.arange(track.frames[0], track.frames[-1] + 1)
    after = np.clip(np.searchsorted(track.frames, at), 1, len(track.frames) - 1)
    start, end = track.frames[after - 1], track.frames[after]
    t = ((at - start) / (end - start)).clip(0, 1)[:, None]
    filled = slerp(quaternions[after - 1], quaternions[after], t[..., None])
    moved = pelvis[after - 1] * (1 - t) + pelvis[after] * t
    return pose_in_blocks(lambda frames: quaternion_to_matrix(filled[frames]), moved, fps, to_ground=True)


def share_axis(tracks: list[SmplTrack], options: ReadOptions) -> list[tuple[SmplTrack, Reading]]:
    """The readings of the people of one file, who share its axes: those of the one seen longest."""
    if not tracks:
        return []
    main = max(range(len(tracks)), key=lambda n: tracks[n].frame_count)
    first = find_reading(tracks[main], options)
    out = []
    for n, track in enumerate(tracks):
        same = replace(track, up=track.up or first.up)
        reading = first if n == main else find_reading(same, options)
        if n != main and not track.up and options.up_axis == GUESS:
            said = [note for note in first.notes if note.startswith(up_axis.TITLES[first.up])]
            reading = replace(
                reading, notes=(*said, *reading.notes), is_doubtful=reading.is_doubtful or any("doubtful" in note for note in said)
            )
        out.append((track, reading))
    return out
