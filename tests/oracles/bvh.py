"""Forward kinematics straight from the text of a BVH file, frame by frame and joint by joint, with SciPy's rotations.

It shares nothing with the reader that it is compared with, and reads only files as they are usually written.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation


def parse(text: str) -> tuple[list[dict], np.ndarray]:
    """(joints, with name, parent, offset, channels and tip; (F, C) numbers of the motion)."""
    joints: list[dict] = []
    stack: list[int | None] = []
    lines = [line.strip() for line in text.lstrip("\ufeff").replace("\r", "\n").split("\n") if line.strip()]
    at = 0
    while lines[at].upper() != "MOTION":
        line = lines[at].rstrip("{").strip()
        word = line.split()[0].upper() if line else ""
        if word in ("ROOT", "JOINT"):
            parent = next((n for n in reversed(stack) if n is not None), -1)
            joints.append({"name": line.split(None, 1)[1], "parent": parent, "tip": None, "channels": [], "offset": np.zeros(3)})
        if word in ("ROOT", "JOINT", "END"):
            stack.append(len(joints) - 1 if word != "END" else None)
        elif word == "OFFSET":
            place = np.array([float(x) for x in line.split()[1:4]])
            if stack[-1] is None:
                joints[stack[-2]]["tip"] = place
            else:
                joints[stack[-1]]["offset"] = place
        elif word == "CHANNELS" and stack[-1] is not None:
            joints[stack[-1]]["channels"] = line.split()[2:]
        elif line == "}":
            stack.pop()
        at += 1
    frames = int(lines[at + 1].split()[-1])
    numbers = " ".join(lines[at + 3 :]).split()
    width = sum(len(joint["channels"]) for joint in joints)
    return joints, np.array([float(x) for x in numbers[: frames * width]]).reshape(frames, width)


def pose(text: str) -> dict[str, np.ndarray]:
    """Joint name -> (F, 3) places, and name + " end" -> (F, 3) the End Site, in the file's axes and unit.

    Position channels stand for the offset.
    """
    joints, values = parse(text)
    out: dict[str, list] = {}
    for row in values:
        numbers = iter(row)
        world: list[tuple[np.ndarray, Rotation]] = []
        for joint in joints:
            place, turn = joint["offset"].copy(), Rotation.identity()
            for channel in joint["channels"]:
                axis, number = channel[0].lower(), next(numbers)
                if "position" in channel.lower():
                    place["xyz".index(axis)] = number
                else:
                    turn = turn * Rotation.from_euler(axis, number, degrees=True)
            if joint["parent"] >= 0:
                origin, above = world[joint["parent"]]
                place, turn = origin + above.apply(place), above * turn
            world.append((place, turn))
            out.setdefault(joint["name"], []).append(place)
            if joint["tip"] is not None:
                out.setdefault(joint["name"] + " end", []).append(place + turn.apply(joint["tip"]))
    return {name: np.array(places) for name, places in out.items()}
