"""The task of a motion from text, from the request to the Actions: the same code for the panel, the command line and the demo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import bpy
import msgspec
import numpy as np

from ...shared import cycles, messages, motion_request
from ...shared.made_motion import MadeMotion
from ...shared.motion import Motion, MotionError
from ...shared.task import TaskState
from ..character.rig import Rig
from ..client import BackendClient
from ..motion import inpainting
from ..motion.channels import motion_to_channels
from ..motion.editing import loop_motion
from ..motion.key_options import KeyOptions
from ..motion.layouts import humanml_to_joints
from ..motion.retarget import RigMotion
from ..references import Reference, find_all, refer_to
from ..rigging.action_notes import RATE, SEED, SOURCE, TEXT
from ..rigging.keyframes import apply_motion, create_action, pose_motion
from .answers import check_motions
from .task import Task

#: seconds over which the end of a loop is brought to its beginning exactly; the model has joined them before
CLOSING = 0.25


def _get_row(rows: np.ndarray | None, n: int) -> np.ndarray:
    assert rows is not None
    return np.asarray(rows[n])


@dataclass(frozen=True)
class MotionEdit:
    """An existing motion of which parts are kept: ``motion`` starts at frame ``start`` of the Action ``name``."""

    rig: Rig
    motion: RigMotion
    start: int
    name: str
    keep: inpainting.KeepSelection


class MotionTask(Task):
    """Requests motions and keys each as a new Action on the armature, which then uses the first one.

    The result is ``made``; without an armature nothing is keyed.
    """

    def __init__(
        self,
        armature: bpy.types.Object | None,
        request: motion_request.MotionRequest,
        client: BackendClient,
        start: int,
        scene_fps: float,
        options: KeyOptions,
        edit: MotionEdit | None = None,
        on_message: Callable[[messages.AnyMessage], None] | None = None,
    ) -> None:
        """Send the request. Raises ``MotionError`` for one that is not possible."""
        super().__init__(client, "generating motion", on_message)
        motion_request.frame_count(request)
        self.request = request
        self.warnings: tuple[str, ...] = ()
        self._action_references: list[Reference] = []
        self.made: MadeMotion | None = None
        self._travelling: MadeMotion | None = None
        self._armature, self._start, self._fps = refer_to(armature) if armature else None, start, scene_fps
        self._options, self._edit = options, edit
        self._kept = None
        arrays = None
        if edit:
            self._kept = inpainting.select_kept(edit.motion, edit.rig.joints, scene_fps, edit.keep)
            arrays = {"joints": self._kept.joints, "parts": self._kept.parts.astype(np.uint8)}
            if self._kept.rotations is not None:
                arrays["rotations"] = self._kept.rotations
            motion_request.check_kept(request, arrays)
        self._submitted = True
        # feet are locked to the ground that the body travels over, so that only what was keyed is put in place
        asked = msgspec.structs.replace(request, in_place=False)
        client.send(messages.MakeMotion(ticket=self.ticket, request=asked), arrays)

    def _handle(self, message: messages.AnyMessage, arrays: dict[str, np.ndarray]) -> None:
        if not isinstance(message, messages.MotionMade):
            super()._handle(message, arrays)
            return
        made = check_motions(message, arrays, self.request)
        self.warnings = made.warnings
        self.made = cycles.put_in_place(made) if self.request.in_place and not self._edit else made
        self._travelling = made
        if self._armature:
            self.key_motions()
        self._notify(message)
        self._end(TaskState.FINISHED)

    @property
    def armature(self) -> bpy.types.Object | None:
        """The armature that the motions are for, where it still exists."""
        return self._armature.find() if self._armature else None

    @property
    def actions(self) -> list[bpy.types.Action]:
        """The Actions that were keyed and still exist."""
        return find_all(self._action_references)

    @property
    def has_all_actions(self) -> bool:
        """Whether every Action that was keyed still exists."""
        return len(self.actions) == len(self._action_references)

    def _list_motions(self) -> Iterator[Motion]:
        """The motions as they are keyed, each with a name of its own."""
        made = self._travelling
        assert made is not None
        source = f"text, model {self.request.model}"
        for n in range(made.count):
            name = self.request.text if made.count == 1 else f"{self.request.text} ({n + 1})"
            joints = humanml_to_joints(made.vectors[n]) if made.vectors is not None else _get_row(made.joints, n)
            rotations = None if made.rotations is None else _get_row(made.rotations, n).astype(np.float64)
            yield Motion.from_joints(joints, made.fps, source, name, rotations)

    def key_motions(self) -> None:
        """Key every motion as a new Action; again, where an undo has taken them away."""
        armature = self.armature
        assert self._armature is not None
        if armature is None or not armature.users_scene:
            raise MotionError(
                f"The character '{self._armature.name}' was deleted or its file was closed, so the motion was not keyed; bring "
                "it back and make the motion again."
            )
        actions = []
        options = replace(self._options, root="IN_PLACE") if self.request.in_place else self._options
        # the armature uses the Action that is keyed last
        for motion in reversed(list(self._list_motions())):
            action = (
                self._key_merged(armature, motion)
                if self._edit
                else apply_motion(armature, motion, self._start, self._fps, options, change=self._close_loop)
            )
            action[TEXT], action[SEED], action[SOURCE] = self.request.text, self.request.seed, motion.source
            actions.append(action)
        self._action_references = [refer_to(action) for action in reversed(actions)]

    def _close_loop(self, motion: RigMotion) -> RigMotion:
        """A posed motion whose last pose is its first one, where a loop was asked for: locking feet may have parted them."""
        if not self.request.loop:
            return motion
        return loop_motion(motion, max(2, round(CLOSING * self._fps)))

    def _key_merged(self, armature: bpy.types.Object, motion: Motion) -> bpy.types.Action:
        """Key the edited motion with its kept parts, and the generated motion for the rest."""
        edit = self._edit
        assert edit is not None and self._kept is not None
        count = len(edit.motion.pelvis)
        aligned = inpainting.align_to_kept(motion, self._kept)
        at = np.linspace(0, aligned.frame_count - 1, count)
        rotations = None if aligned.rotations is None else inpainting.sample_rotations(aligned.rotations, at)
        resampled = replace(aligned, joints=inpainting.sample_joints(aligned.joints, at), fps=self._fps, rotations=rotations)
        posed, _ = pose_motion(
            edit.rig, resampled, KeyOptions(foot_lock=self._options.foot_lock, contact_settings=self._options.contact_settings)
        )
        merged = inpainting.restore_kept(edit.motion, posed, self._fps, edit.keep)
        action = create_action(
            armature,
            motion_to_channels(edit.rig, merged, self._options.root),
            edit.start,
            f"{edit.name} remade",
            self._options,
            edit.rig,
        )
        action[RATE] = motion.fps
        return action
