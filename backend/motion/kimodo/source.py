"""Kimodo as a motion source: a request becomes a folder with prompts and constraints, its files become joints and rotations."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from ....shared.cycles import turn_quaternions
from ....shared.files import read_file
from ....shared.made_motion import MadeMotion
from ....shared.motion import MotionError
from ....shared.motion_request import Kept, MotionRequest, split_sentences
from ....shared.npy import read_plain_npz
from ....shared.settings import Setting
from ..source_info import SourceInfo
from .command import find_command, run_command
from .constraints import FPS, Placement, make_constraints, place
from .skeleton import ROBOT_JOINTS, SKELETONS, SMPLX, SOMA, to_body

#: seconds of one prompt that its models make
MOST_SECONDS = 10.0
#: what Kimodo takes unless it is told
STEPS, GUIDANCE = 100, 2.0
#: bytes of a file; 40 s of 77 joints have 8 MB
MAX_BYTES = 256 << 20
_CHECKPOINT = re.compile(r"[A-Za-z0-9][\w.-]{0,79}")


class KimodoSettings(msgspec.Struct, frozen=True):
    """What can be chosen of Kimodo."""

    checkpoint: Annotated[
        str,
        Setting("Checkpoint", "Kimodo-SOMA-RP-v1, Kimodo-SMPLX-RP-v1 or another of its models of people; empty is its own choice"),
    ] = ""


class KimodoSource:
    """Asks ``kimodo_gen``, which loads its models anew for each request; with ``kimodo_textencoder`` running that is quicker."""

    info = SourceInfo(
        "Kimodo",
        "NVIDIA's model, which runs in an environment of its own",
        keeps=frozenset({"poses", "legs", "path"}),
    )
    settings = KimodoSettings

    def __init__(self, settings: KimodoSettings = KimodoSettings()) -> None:
        """Raises ``MotionError`` for a checkpoint that cannot be one."""
        name = settings.checkpoint
        if name and not _CHECKPOINT.fullmatch(name):
            raise MotionError(f"'{name[:80]}' is no name of a Kimodo checkpoint; write one such as Kimodo-SOMA-RP-v1.")
        if re.search(r"(^|-)g1(-|$)", name, re.IGNORECASE):
            raise MotionError(f"'{name}' moves a robot; choose a checkpoint for people, such as Kimodo-SOMA-RP-v1.")
        self._checkpoint = name
        self._build = SMPLX if "smplx" in name.lower() else SOMA

    def make(self, request: MotionRequest, kept: Kept | None, step_done: Callable[[int, int], None]) -> MadeMotion:
        """See ``MotionSource``."""
        command = find_command()
        frames = round(request.seconds * FPS)
        texts, counts = split_prompts(split_sentences(request), frames)
        placement = place(kept, self._build) if kept is not None else None
        steps = request.steps or STEPS
        with tempfile.TemporaryDirectory(prefix="latentman-kimodo-") as name:
            folder = Path(name)
            meta = {
                "texts": texts,
                # Kimodo cuts what comes out of seconds times rate
                "durations": [(count + 0.5) / FPS for count in counts],
                "num_samples": request.variants,
                "seed": request.seed,
                "diffusion_steps": steps,
            }
            if request.guidance_scale:
                meta["cfg"] = {"enabled": True, "text_weight": request.guidance_scale, "constraint_weight": GUIDANCE}
            (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
            if kept is not None and placement is not None:
                constraints = make_constraints(kept, frames, self._build, placement)
                (folder / "constraints.json").write_text(json.dumps(constraints), encoding="utf-8")
            (folder / "made").mkdir()
            arguments = ["--input_folder", str(folder), "--output", str(folder / "made" / "motion")]
            model = ["--model", self._checkpoint] if self._checkpoint else []
            run_command([*command, *arguments, *model], folder, steps, len(texts), step_done)
            return self._read(folder / "made", request, frames, placement, len(texts))

    def _read(self, folder: Path, request: MotionRequest, frames: int, placement: Placement | None, prompts: int) -> MadeMotion:
        # one motion is a file, several are a folder of files
        files = [folder / "motion.npz"] if request.variants == 1 else sorted((folder / "motion").glob("motion_*.npz"))
        if len(files) != request.variants or not all(file.is_file() for file in files):
            raise MotionError(f"Kimodo wrote {sum(file.is_file() for file in files)} of {request.variants} motions; update it.")
        joints, rotations = zip(*(read_motion(file, frames) for file in files), strict=True)
        positions, turned = np.stack(joints), np.stack(rotations)
        if placement is not None:
            positions = placement.come_back(positions)
            turned[:, :, 0] = turn_quaternions(turned[:, :, 0], np.full(turned.shape[:2], placement.angle))
        warnings: tuple[str, ...] = ()
        if prompts > len(split_sentences(request)):
            warnings = (f"Kimodo makes at most {MOST_SECONDS:g} seconds at a time; this was made in {prompts} passages.",)
        return MadeMotion(None, warnings, positions.astype(np.float32), turned.astype(np.float32), FPS)


def split_prompts(texts: list[str], frames: int) -> tuple[list[str], list[int]]:
    """The prompts and the frames of each: sentences share the time evenly, and a longer one is made in equal parts."""
    ends = np.linspace(0, frames, len(texts) + 1).round().astype(int)
    prompts: list[str] = []
    counts: list[int] = []
    for text, count in zip(texts, np.diff(ends).tolist(), strict=True):
        parts = int(np.ceil(count / (MOST_SECONDS * FPS)))
        cuts = np.linspace(0, count, parts + 1).round().astype(int)
        prompts += [text] * parts
        counts += np.diff(cuts).tolist()
    return prompts, counts


def read_motion(path: Path, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Joints (F, 22, 3) and local rotations (F, 24, 4), float64, of a file that Kimodo wrote. Raises ``MotionError``."""
    try:
        data = read_plain_npz(read_file(path, MAX_BYTES))
    except (OSError, ValueError, MemoryError) as error:
        raise MotionError(f"Kimodo's {path.name} cannot be read ({error}); make the motion again.") from error
    positions, rotations = data.get("posed_joints"), data.get("global_rot_mats")
    if positions is None or rotations is None:
        raise MotionError(f"Kimodo's {path.name} has {', '.join(sorted(data))[:100]}, not its joints and rotations; update Kimodo.")
    count = positions.shape[1] if positions.ndim == 3 else 0
    if count == ROBOT_JOINTS:
        raise MotionError(
            "Kimodo made a robot's motion; choose a checkpoint for people, such as kimodo:checkpoint=Kimodo-SOMA-RP-v1."
        )
    if count not in SKELETONS or positions.shape != (frames, count, 3) or rotations.shape != (frames, count, 3, 3):
        raise MotionError(
            f"Kimodo's {path.name} has joints of the shape {positions.shape} and rotations of {rotations.shape}, expected "
            f"({frames}, 77, 3) and ({frames}, 77, 3, 3); update Kimodo."
        )
    positions, rotations = positions.astype(np.float64), rotations.astype(np.float64)
    if not (np.isfinite(positions).all() and np.isfinite(rotations).all()):
        raise MotionError("Kimodo made a motion with values that are not numbers; try another seed.")
    unit = rotations @ np.swapaxes(rotations, -1, -2)
    if np.abs(unit - np.eye(3)).max() > 0.01 or (np.linalg.det(rotations) < 0).any():
        raise MotionError(f"Kimodo's {path.name} has rotations that are none; update Kimodo.")
    return to_body(positions, rotations)
