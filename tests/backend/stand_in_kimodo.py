"""Stands in for ``kimodo_gen``: takes its arguments, refuses constraints that its own code would refuse, draws its bars, and writes
its files. The skeleton has SOMA's joints and proportions of its own; the motion is a walk that keeps to the constraints.

Prompts choose faults: "oom", "gated", "hang", "robot", "old", "mute".
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

import numpy as np
from scipy.spatial.transform import Rotation

FPS = 30
_FINGERS = [f"{name}{n}" for name in ("Index", "Middle", "Ring", "Pinky") for n in ("1", "2", "3", "4", "End")]


def _list_bones() -> list[tuple[str, str | None, tuple[float, float, float]]]:
    """Joint, the one above it, and the way from there, in SOMA's order."""
    bones: list[tuple[str, str | None, tuple[float, float, float]]] = [
        ("Hips", None, (0, 0, 0)),
        ("Spine1", "Hips", (0, 0.06, 0)),
        ("Spine2", "Spine1", (0, 0.08, -0.002)),
        ("Chest", "Spine2", (0, 0.08, -0.008)),
        ("Neck1", "Chest", (0, 0.25, -0.006)),
        ("Neck2", "Neck1", (0, 0.07, 0.02)),
        ("Head", "Neck2", (0, 0.06, 0.02)),
        ("HeadEnd", "Head", (0, 0.16, -0.02)),
        ("Jaw", "Head", (0, 0.01, 0.02)),
        ("LeftEye", "Head", (0.03, 0.05, 0.08)),
        ("RightEye", "Head", (-0.03, 0.05, 0.08)),
    ]
    for side, x in (("Left", 1), ("Right", -1)):
        bones += [
            (f"{side}Shoulder", "Chest", (0.016 * x, 0.22, 0.05)),
            (f"{side}Arm", f"{side}Shoulder", (0.15 * x, 0, -0.05)),
            (f"{side}ForeArm", f"{side}Arm", (0.28 * x, 0, 0)),
            (f"{side}Hand", f"{side}ForeArm", (0.26 * x, 0, 0)),
        ]
        for n in ("1", "2", "3", "End"):
            above = {"1": "Hand", "2": "HandThumb1", "3": "HandThumb2", "End": "HandThumb3"}[n]
            bones.append((f"{side}HandThumb{n}", side + above, (0.03 * x, 0, 0.02)))
        for at, name in enumerate(_FINGERS):
            above = "Hand" if name.endswith("1") else "Hand" + _FINGERS[at - 1]
            bones.append((f"{side}Hand{name}", side + above, (0.03 * x, 0, 0.01 - at // 5 * 0.01)))
    for side, x in (("Left", 1), ("Right", -1)):
        bones += [
            (f"{side}Leg", "Hips", (0.1 * x, -0.084, 0.02)),
            (f"{side}Shin", f"{side}Leg", (0, -0.43, -0.008)),
            (f"{side}Foot", f"{side}Shin", (0, -0.425, -0.035)),
            (f"{side}ToeBase", f"{side}Foot", (0, -0.05, 0.131)),
            (f"{side}ToeEnd", f"{side}ToeBase", (0, -0.017, 0.065)),
        ]
    return bones


BONES = _list_bones()
NAMES = [bone[0] for bone in BONES]
PARENTS = [NAMES.index(bone[1]) if bone[1] else -1 for bone in BONES]
OFFSETS = np.array([bone[2] for bone in BONES])
#: the joints that the model has inside
SMALL = [name for name in NAMES if "Hand" not in name or name.endswith(("Hand", "ThumbEnd", "MiddleEnd"))]
SMALL = [name for name in SMALL if name not in ("HeadEnd", "LeftToeEnd", "RightToeEnd")]
STANDING = 1.004


def pose(local: np.ndarray, root: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (F, 77, 3) and global rotations (F, 77, 3, 3) of local rotations and root positions."""
    whole = local.copy()
    positions = np.zeros((*local.shape[:2], 3))
    for joint, parent in enumerate(PARENTS):
        if parent < 0:
            positions[:, joint] = root
        else:
            whole[:, joint] = whole[:, parent] @ local[:, joint]
            positions[:, joint] = positions[:, parent] + whole[:, parent] @ OFFSETS[joint]
    return positions, whole


def check(found: object, frames: int) -> list[dict]:
    """What its own loader would trip over is an ``AssertionError``, ``KeyError`` or ``ValueError`` here, too."""
    assert isinstance(found, list)
    kinds = {"root2d", "fullbody", "left-hand", "right-hand", "left-foot", "right-foot", "end-effector"}
    for one in found:
        if one["type"] not in kinds:
            raise KeyError(one["type"])
        at = np.array(one["frame_indices"])
        assert at.ndim == 1 and len(at) and at.dtype.kind == "i" and at.min() >= 0 and at.max() < frames
        assert (np.diff(at) > 0).all(), "frames once and in order"
        if one["type"] == "root2d":
            assert np.shape(one["smooth_root_2d"]) == (len(at), 2)
            if "global_root_heading" in one:
                heading = np.array(one["global_root_heading"])
                assert heading.shape == (len(at), 2) and np.allclose(np.linalg.norm(heading, axis=1), 1, atol=1e-4)
            continue
        rotations = np.array(one["local_joints_rot"])
        assert np.shape(one["root_positions"]) == (len(at), 3) and rotations.shape[0] == len(at) and rotations.shape[2] == 3
        if rotations.shape[1] not in (77, 30):
            raise ValueError(f"Constraint joint count ({rotations.shape[1]}) does not match skeleton joint count (30).")
        assert len(at) < 20, "too many key frames"
    return found


def read_local(one: dict) -> np.ndarray:
    """(F, 77, 3, 3) of a constraint's axis-angle vectors."""
    vectors = np.array(one["local_joints_rot"])
    full = np.zeros((len(vectors), 77, 3))
    full[:, range(77) if vectors.shape[1] == 77 else [NAMES.index(n) for n in SMALL]] = vectors
    return Rotation.from_rotvec(full.reshape(-1, 3)).as_matrix().reshape(len(vectors), 77, 3, 3)


def perform(frames: int, constraints: list[dict], generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Local rotations (F, 77, 3, 3) and root positions (F, 3): a walk along +Z, or where the constraints say."""
    t = np.arange(frames) / FPS
    swing = 0.5 * np.sin(2 * np.pi * t + generator.uniform(0, 6))
    vectors = np.zeros((frames, 77, 3))
    for side, sign in (("Left", 1), ("Right", -1)):
        vectors[:, NAMES.index(f"{side}Leg"), 0] = sign * swing
        vectors[:, NAMES.index(f"{side}Shin"), 0] = 0.3 + 0.3 * sign * swing
        vectors[:, NAMES.index(f"{side}Arm"), 2] = -sign * 1.2
        vectors[:, NAMES.index(f"{side}Arm"), 1] = 0.4 * swing
        vectors[:, NAMES.index(f"{side}ForeArm"), 1] = -sign * 0.4
        # a twist that positions do not show
        vectors[:, NAMES.index(f"{side}Hand"), 0] = 0.7
    vectors[:, NAMES.index("Neck2"), 1] = 0.3 * np.sin(t)
    local = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(frames, 77, 3, 3)
    root = np.stack([0.02 * np.sin(2 * np.pi * t), STANDING - 0.02 * np.abs(np.sin(2 * np.pi * t)), 1.2 * t], 1)
    for one in constraints:
        at = np.array(one["frame_indices"])
        if one["type"] == "root2d":
            path = np.array(one["smooth_root_2d"])
            root[:, 0], root[:, 2] = (np.interp(np.arange(frames), at, axis) for axis in path.T)
            if "global_root_heading" in one:
                c, s = np.array(one["global_root_heading"]).T
                angle = np.interp(np.arange(frames), at, np.unwrap(np.arctan2(s, c)))
                local[:, 0] = Rotation.from_euler("Y", angle[:, None]).as_matrix()
        elif one["type"] == "fullbody":
            local[at], root[at] = read_local(one), np.array(one["root_positions"])
    return local, root


def main() -> int:
    """As the real one."""
    parser = argparse.ArgumentParser(description="Cmd line API for generation motions with kimodo")
    parser.add_argument("prompt", nargs="?", default=None)
    parser.add_argument("--model", default="kimodo-soma-rp")
    parser.add_argument("--duration", default="5.0")
    parser.add_argument("--num_samples", type=int, default=1)
    parser.add_argument("--diffusion_steps", type=int, default=100)
    parser.add_argument("--num_transition_frames", type=int, default=5)
    parser.add_argument("--constraints", default=None)
    parser.add_argument("--output", default="output")
    parser.add_argument("--no-postprocess", action="store_true")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--input_folder", default=None)
    print("Using device: cpu")
    args = parser.parse_args()
    with open(os.path.join(args.input_folder, "meta.json")) as file:
        meta = json.load(file)
    texts, durations = meta["texts"], [float(d) for d in meta["durations"]]
    assert isinstance(texts, list) and len(texts) == len(durations)
    for n in range(3):
        print(f"\rFetching 3 files: {n + 1}/{100} [00:00<00:00]", end="", file=sys.stderr)
    print(f"\nLoaded model: {args.model}")
    said = " ".join(texts)
    if "gated" in said:
        print("huggingface_hub.errors.GatedRepoError: 401 Client Error. (Request ID: x)", file=sys.stderr)
        return 1
    counts = [int(d * FPS) for d in durations]
    assert all(0 < count <= 10 * FPS for count in counts), "at most 10 seconds for each prompt"
    frames = sum(counts)
    print("Will generate motions with the following prompts")
    for text, count in zip(texts, counts, strict=True):
        print(f"    '{text}' with {count} frames")
    path = os.path.join(args.input_folder, "constraints.json")
    constraints = []
    if os.path.exists(path):
        with open(path) as file:
            constraints = check(json.load(file), frames)
    steps = meta.get("diffusion_steps", args.diffusion_steps)
    for _ in texts:
        for step in range(steps + 1):
            print(f"\r{step * 100 // steps:3d}%|# | {step}/{steps} [00:01<00:00, 9.1it/s]", end="", file=sys.stderr, flush=True)
            if step == 1 and "hang" in said:
                time.sleep(60)
            if step == 1 and "mute" in said:
                os.kill(os.getpid(), 9)
            if step == 2 and "oom" in said:
                print("\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", file=sys.stderr)
                return 1
        print(file=sys.stderr)
    samples = meta.get("num_samples", args.num_samples)
    if os.environ.get("KIMODO_STAND_IN_RECORD"):
        with open(os.environ["KIMODO_STAND_IN_RECORD"], "w") as file:
            json.dump({"meta": meta, "constraints": constraints, "model": args.model}, file)
    for n in range(samples):
        local, root = perform(frames, constraints, np.random.default_rng([meta.get("seed") or 0, n]))
        positions, whole = pose(local, root)
        keep = [NAMES.index(name) for name in SMALL] if "old" in said else list(range(77))
        if "robot" in said:
            keep = list(range(34))
        data = {
            "posed_joints": positions[:, keep].astype(np.float32),
            "global_rot_mats": whole[:, keep].astype(np.float32),
            "local_rot_mats": local[:, keep].astype(np.float32),
            "foot_contacts": np.zeros((frames, 4), bool),
            "root_positions": root.astype(np.float32),
            "smooth_root_pos": root.astype(np.float32),
            "global_root_heading": np.zeros((frames, 2), np.float32),
        }
        if samples == 1:
            np.savez(args.output + ".npz", **data)
        else:
            os.makedirs(args.output, exist_ok=True)
            np.savez(os.path.join(args.output, f"{os.path.basename(args.output)}_{n:02d}.npz"), **data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
