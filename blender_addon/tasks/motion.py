"""The task of a motion from text, from the request to the Actions: the same code for the panel, the command line and the demo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import bpy
import numpy as np

from ...shared import messages, motion_request
from ...shared.motion import Motion, MotionError
from ...shared.skeleton import HUMANML_FPS
from ...shared.task import TaskState
from ..character.rig import Rig
from ..client import BackendClient
from ..motion import inpainting
from ..motion.channels import motion_to_channels
from ..motion.layouts import humanml_to_joints
from ..motion.retarget import RigMotion
from ..references import Reference, find_all, refer_to
from ..rigging.keyframes import RATE, SEED, SOURCE, TEXT, KeyOptions, apply_motion, create_action, pose_motion
from .answers import check_motions
from .task import Task


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

    The result is ``vectors`` (N, F, 263) float32, HumanML3D's vectors of N motions; without an armature nothing is keyed.
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
        self.vectors: np.ndarray | None = None
        self._armature, self._start, self._fps = refer_to(armature) if armature else None, start, scene_fps
        self._options, self._edit = options, edit
        self._kept = None
        arrays = None
        if edit:
            self._kept = inpainting.select_kept(edit.motion, edit.rig.joints, scene_fps, edit.keep)
            arrays = {"joints": self._kept.joints, "parts": self._kept.parts.astype(np.uint8)}
            motion_request.check_kept(request, arrays)
        self._submitted = True
        client.send(messages.MakeMotion(ticket=self.ticket, request=request), arrays)

    def _handle(self, message: messages.AnyMessage, arrays: dict[str, np.ndarray]) -> None:
        if not isinstance(message, messages.MotionMade):
            super()._handle(message, arrays)
            return
        vectors = check_motions(arrays, self.request)
        self.warnings = message.warnings
        self.vectors = vectors
        if self._armature:
            self.key_motions()
        self._notify(message)
        self._end(TaskState.FINISHED)

    @property
    def actions(self) -> list[bpy.types.Action]:
        """The Actions that were keyed and still exist."""
        return find_all(self._action_references)

    @property
    def has_all_actions(self) -> bool:
        """Whether every Action that was keyed still exists."""
        return len(self.actions) == len(self._action_references)

    def key_motions(self) -> None:
        """Key every motion as a new Action; again, where an undo has taken them away."""
        vectors, armature = self.vectors, self._armature.find() if self._armature else None
        assert vectors is not None and self._armature is not None
        if armature is None or not armature.users_scene:
            raise MotionError(
                f"The character '{self._armature.name}' was deleted or its file was closed, so the motion was not keyed; bring "
                "it back and make the motion again."
            )
        actions = []
        # the armature uses the Action that is keyed last
        for n, row in reversed(list(enumerate(vectors, 1))):
            name = self.request.text if len(vectors) == 1 else f"{self.request.text} ({n})"
            motion = Motion(humanml_to_joints(row), HUMANML_FPS, f"text, model {self.request.model}", name)
            action = (
                self._key_merged(armature, motion)
                if self._edit
                else apply_motion(armature, motion, self._start, self._fps, self._options)
            )
            action[TEXT], action[SEED], action[SOURCE] = self.request.text, self.request.seed, motion.source
            actions.append(action)
        self._action_references = [refer_to(action) for action in reversed(actions)]

    def _key_merged(self, armature: bpy.types.Object, motion: Motion) -> bpy.types.Action:
        """Key the edited motion with its kept parts, and the generated motion for the rest."""
        edit = self._edit
        assert edit is not None and self._kept is not None
        count = len(edit.motion.pelvis)
        joints = inpainting.align_to_kept(np.asarray(motion.joints), self._kept)
        resampled = Motion(
            inpainting.sample_joints(joints, np.linspace(0, len(joints) - 1, count)), self._fps, motion.source, motion.text
        )
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
        action[RATE] = HUMANML_FPS
        return action
