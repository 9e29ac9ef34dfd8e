"""Which bone of a source's skeleton is which joint: by the words in its name, else by its shape. No bpy.

A rig has a rest pose that looks like a person. A source may have none, but it moves, so a map is tried on its poses before it
is used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np

from ...shared.motion import MotionError
from ...shared.vectors import normalise
from ..character import mapping as bone_maps
from ..character.joints import SIDES, SPINE_JOINTS
from ..character.mapping import MappingError
from ..character.skeleton import find_shared_ancestor, get_path
from .bone_words import find_side_letters, is_other, split_name
from .sampling import spread_frames
from .skeleton_motion import SkeletonMotion
from .source_shape import find_person_by_shape

#: (joint without its side, words that a bone of that joint has, how sure that is); with a side
_SIDED: tuple[tuple[str, tuple[str, ...], float], ...] = (
    ("collar", ("collar",), 3),
    ("collar", ("clavicle",), 3),
    ("collar", ("clavicula",), 3),
    ("collar", ("clav",), 3),
    ("collar", ("scapula",), 2.5),
    ("collar", ("shoulder",), 2),
    ("shoulder", ("up", "arm"), 3.5),
    ("shoulder", ("shldr",), 3),
    ("shoulder", ("humerus",), 3),
    ("shoulder", ("arm",), 2),
    ("shoulder", ("shoulder",), 1.5),
    ("elbow", ("fore", "arm"), 3.5),
    ("elbow", ("low", "arm"), 3.5),
    ("elbow", ("elbow",), 3),
    ("elbow", ("radius",), 3),
    ("elbow", ("ulna",), 2.5),
    # arm1 and arm2
    ("elbow", ("arm",), 0.5),
    ("wrist", ("wrist",), 3),
    ("wrist", ("hand",), 2.5),
    ("wrist", ("palm",), 1),
    ("hip", ("up", "leg"), 3.5),
    ("hip", ("thigh",), 3),
    ("hip", ("femur",), 3),
    ("hip", ("hip",), 2),
    ("hip", ("leg",), 1),
    ("knee", ("low", "leg"), 3.5),
    ("knee", ("shin",), 3),
    ("knee", ("calf",), 3),
    ("knee", ("tibia",), 3),
    ("knee", ("crus",), 3),
    ("knee", ("knee",), 3),
    ("knee", ("leg",), 2),
    ("ankle", ("ankle",), 3),
    ("ankle", ("foot",), 2.5),
    ("foot", ("toe",), 3),
    ("foot", ("ball",), 3),
    ("foot", ("foot",), 1),
)
_LIMBS = (("hip", "knee", "ankle", "foot"), ("collar", "shoulder", "elbow", "wrist"))
_PELVIS, _NECK, _HEAD = ("pelvis", "hips", "hip"), ("neck",), ("head", "skull")
#: names of limbs for people
LIMB_NAMES = {
    "hip": "thigh",
    "knee": "shin",
    "ankle": "foot",
    "shoulder": "upper arm",
    "elbow": "forearm",
    "wrist": "hand",
}
#: frames that are looked at for shape and checks
LOOKED_AT = 24
#: the part of a motion's frames in which an animal stands on its four feet: it also jumps and lies down
ON_FOUR_FEET = 0.9


class UnknownBonesError(MotionError):
    """No person is found in a source's bones, or a doubtful one; the message says what helps with a file."""

    def __init__(self, reason: str, way: str) -> None:
        super().__init__(f"{reason}; {way}.")
        self.reason = reason

    def describe_for_source(self) -> str:
        """The sentence where the bones are those of an armature of the scene, whose list is open."""
        return f"{self.reason}; choose its bones in the list under Source's Bones and press Use beside Source."


@dataclass(frozen=True)
class SourceMap:
    """``bones``: joint -> index of its bone; ``spine``: the bones between pelvis and neck, from below; ``how`` it was found."""

    bones: dict[str, int]
    spine: tuple[int, ...]
    how: str


def _get_depths(parents: tuple[int, ...]) -> list[int]:
    out: list[int] = []
    for parent in parents:
        out.append(out[parent] + 1 if parent >= 0 else 0)
    return out


def map_by_words(
    names: tuple[str, ...], parents: tuple[int, ...], distances: np.ndarray, positions: np.ndarray
) -> dict[str, int] | None:
    """Joint -> bone by the words in the bones' names and by what hangs on what; None when a limb has no bones.

    ``distances`` (B,): how far each bone's head lies from its parent's; ``positions`` (F, B, 3): its places in some frames.
    """
    depths = _get_depths(parents)
    letters = find_side_letters(names)
    candidates: dict[str, list[tuple[int, float]]] = {}
    central: list[tuple[int, tuple[str, ...]]] = []
    for bone, name in enumerate(names):
        side, words = split_name(name, letters)
        others = {word for word in words if is_other(word)}
        if side is None:
            # Reallusion's neck has a twist in its name
            if others <= {"twist"}:
                central.append((bone, words))
            continue
        if others or {"hip", "joint"} <= set(words):
            continue
        best: dict[str, float] = {}
        for joint, wanted, sure in _SIDED:
            if set(wanted) <= set(words):
                extra = sum(1 for word in words if word not in wanted and not word.isdigit())
                best[joint] = max(best.get(joint, 0.0), sure - 0.1 * extra)
        for joint, sure in best.items():
            candidates.setdefault(f"{side}_{joint}", []).append((bone, sure))
    out: dict[str, int] = {}
    for side, limb in product(SIDES, _LIMBS):
        optional = 3 if limb[0] == "hip" else 0
        found = _find_chain(
            parents, depths, distances, [candidates.get(f"{side}_{joint}", []) for joint in limb], optional, positions
        )
        if found is None:
            return None
        out |= {f"{side}_{joint}": bone for joint, bone in zip(limb, found, strict=True) if bone >= 0}
    pelvis = find_shared_ancestor(parents, (out["left_hip"], out["right_hip"]))
    if pelvis is None or pelvis in (out["left_hip"], out["right_hip"]):
        return None
    above = get_path(parents, pelvis)
    named = [bone for bone, words in central if bone in above and set(words) & set(_PELVIS)]
    # the thighs of some skeletons hang on the first bone of the spine
    spinal = set(split_name(names[pelvis], letters)[1]) & {"spine", "back", "abdomen", "waist"}
    out["pelvis"] = max(named, key=lambda bone: depths[bone]) if named and spinal else pelvis
    # what every name of a skeleton has says nothing of a bone
    common = set(split_name(names[out["pelvis"]])[1])
    for joint, spelled in (("head", _HEAD), ("neck", _NECK)):
        fits = {bone: set(words) - common for bone, words in central if set(words) & set(spelled) and bone not in out.values()}
        if fits:
            lowest = min(fits, key=lambda bone: (depths[bone], bone))
            # a neck that hangs on a dummy of a neck
            plainer = [bone for bone in fits if fits[bone] < fits[lowest] and lowest in get_path(parents, bone)]
            out[joint] = min(plainer, default=lowest, key=lambda bone: (len(fits[bone]), depths[bone], bone))
    if "neck" in out and "head" in out and out["neck"] not in get_path(parents, out["head"]):
        del out["neck"]
    return out


def _find_chain(
    parents: tuple[int, ...],
    depths: list[int],
    distances: np.ndarray,
    candidates: list[list[tuple[int, float]]],
    optional: int,
    positions: np.ndarray,
) -> list[int] | None:
    """The likeliest bones of a limb, each hanging on the one before and apart from it; -1 for an optional one that is not there."""
    options = []
    for n, found in enumerate(candidates):
        kept = sorted(found, key=lambda item: (-item[1], depths[item[0]], item[0]))[:6]
        options.append([*kept, (-1, 0.0)] if n == optional else kept)
    best: tuple[float, list[int]] | None = None
    for choice in product(*options):
        bones = [bone for bone, _ in choice if bone >= 0]
        if len(set(bones)) < len(bones):
            continue
        apart = [pair for pair in pairwise(bones) if pair[0] not in get_path(parents, pair[1])]
        if any(_measure_path(parents, distances, *pair) < 1e-6 for pair in pairwise(bones) if pair not in apart):
            continue
        if not all(_is_carried(positions, *pair) for pair in apart):
            continue
        score = -2.0 * len(apart) + sum(sure for _, sure in choice) - 0.01 * sum(depths[bone] for bone in bones)
        if best is None or score > best[0]:
            best = score, [bone for bone, _ in choice]
    return best[1] if best else None


def _measure_path(parents: tuple[int, ...], distances: np.ndarray, upper: int, lower: int) -> float:
    path = get_path(parents, lower)
    return float(sum(distances[bone] for bone in path[: path.index(upper)]))


def find_source_map(motion: SkeletonMotion, mapping: dict[str, str] | None = None) -> SourceMap:
    """The bones of a source's joints; some frames of its motion are enough.

    ``mapping``: joint -> bone name, taken as it is when given. Raises ``MotionError``, in one sentence, for a map that names
    other bones, and for a skeleton in which no person is found, or a doubtful one.
    """
    if mapping is not None:
        chosen = {joint: bone for joint, bone in mapping.items() if bone}
        try:
            bone_maps.check(chosen, motion.names)
        except MappingError as error:
            raise MotionError(f"{motion.source}: {error}") from error
        bones = {joint: motion.names.index(bone) for joint, bone in chosen.items()}
        if _find_doubts(motion, bones, only_lengths=True):
            raise MotionError(f"{motion.source}: the bones of its map have no length; choose other ones in the bone list.")
        return SourceMap(bones, _find_spine(motion.parents, bones), "as chosen")
    doubts: tuple[str, ...] = ()
    people = _find_people(motion)
    several = f", of the first of {len(people)} people" if len(people) > 1 else ""
    by_family = _map_by_family(motion) if len(people) < 2 else None
    if by_family and people:
        # a family's toes or neck may have another name here
        used = set(by_family.values())
        by_family |= {joint: bone for joint, bone in people[0].items() if joint not in by_family and bone not in used}
    for how, found in (("by published names", by_family), ("by the words in their names", next(iter(people), None))):
        if found:
            reasons = _find_doubts(motion, found)
            if not reasons:
                return _complete_spine(motion.parents, found, how + several)
            doubts = doubts or reasons
    frames = spread_frames(motion.frame_count, LOOKED_AT)
    shaped = find_person_by_shape(replace(motion, positions=motion.positions[frames], rotations=motion.rotations[frames]))
    if shaped:
        bones, rival = shaped
        reasons = (rival,) if rival else _find_doubts(motion, bones)
        if not reasons:
            return _complete_spine(motion.parents, bones, "by the shape of the skeleton")
        doubts = doubts or reasons
    if Path(motion.source).suffix.lower() in (".bvh", ""):
        way = "import it with Blender's own importer, choose its bones in the list and use Motion from Armature"
    else:
        way = "import it with Keep Armature on, choose its bones in the list and use Motion from Armature"
    found_none = f"no person was found in its {len(motion.names)} bones"
    raise UnknownBonesError(f"{motion.source}: {', '.join(doubts[:3]) if doubts else found_none}", way)


def _map_by_family(motion: SkeletonMotion) -> dict[str, int] | None:
    found = bone_maps.map_by_names(motion.names)
    return None if found is None else {joint: motion.names.index(bone) for joint, bone in found[1].items()}


def _find_people(motion: SkeletonMotion) -> list[dict[str, int]]:
    """The map by words of every tree of bones that has a whole person: some files have several roots, or several people."""
    parents = np.array(motion.parents)
    origins = motion.rest_positions[np.maximum(parents, 0)]
    distances = np.where(parents < 0, 0.0, np.linalg.norm(motion.rest_positions - origins, axis=1))
    # a skeleton whose bones have their lengths in the motion only
    origins = motion.positions[0][np.maximum(parents, 0)]
    distances = np.maximum(distances, np.where(parents < 0, 0.0, np.linalg.norm(motion.positions[0] - origins, axis=1)))
    roots = [get_path(motion.parents, bone)[-1] for bone in range(len(parents))]
    out = []
    for root in dict.fromkeys(roots):
        if roots.count(root) >= len(bone_maps.REQUIRED):
            # names of bones of other trees say nothing
            names = tuple(name if roots[bone] == root else "" for bone, name in enumerate(motion.names))
            found = map_by_words(names, motion.parents, distances, motion.positions)
            out += [found] if found else []
    return out


def _complete_spine(parents: tuple[int, ...], bones: dict[str, int], how: str) -> SourceMap:
    """A map whose spine is what lies between pelvis and neck, however many bones that are and whatever they are called."""
    spine = _find_spine(parents, bones)
    kept = {joint: bone for joint, bone in bones.items() if joint not in SPINE_JOINTS}
    if len(spine) >= len(SPINE_JOINTS):
        kept |= dict(zip(SPINE_JOINTS, (spine[0], spine[(len(spine) - 1) // 2], spine[-1]), strict=True))
    elif spine:
        # the one that carries the arms is the chest
        kept |= {"spine3": spine[-1]} | ({"spine1": spine[0]} if len(spine) > 1 else {})
    return SourceMap(kept, spine, how)


def _find_spine(parents: tuple[int, ...], bones: dict[str, int]) -> tuple[int, ...]:
    """The bones between pelvis and neck, from below."""
    top = bones.get("neck", bones.get("head"))
    shoulders = [bones.get(f"{side}_collar", bones[f"{side}_shoulder"]) for side in SIDES]
    chest = find_shared_ancestor(parents, [*shoulders, *([] if top is None else [top])])
    path = get_path(parents, top) if top is not None else ([] if chest is None else [-1, *get_path(parents, chest)])
    below = set(get_path(parents, bones["pelvis"]))
    return tuple(bone for bone in path[1:] if bone not in below)[::-1]


def _find_doubts(motion: SkeletonMotion, bones: dict[str, int], only_lengths: bool = False) -> tuple[str, ...]:
    """What is doubtful in a map when the source moves, in short phrases; empty when it is a person's."""
    at = {joint: motion.positions[:, bone] for joint, bone in bones.items()}

    def measure(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.median(np.linalg.norm(a - b, axis=-1)))

    lengths = {
        f"{side}_{upper}": measure(at[f"{side}_{upper}"], at[f"{side}_{lower}"])
        for side in SIDES
        for upper, lower in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
    }
    size = max(lengths.values())
    if not np.isfinite(size) or size <= 0:
        return ("all of its bones lie in one place",)
    short = [joint for joint, length in lengths.items() if length < 1e-3 * size]
    if short or only_lengths:
        return tuple(f"its {_name_limb(joint)} has no length" for joint in short)
    out = []
    for joint in LIMB_NAMES:
        if joint in ("ankle", "wrist"):
            continue
        left, right = lengths[f"left_{joint}"], lengths[f"right_{joint}"]
        if max(left, right) > 1.4 * min(left, right):
            out.append(f"its {LIMB_NAMES[joint]}s differ in length ({left:.3g} and {right:.3g})")
    for side in SIDES:
        for upper, lower in (("hip", "knee"), ("shoulder", "elbow")):
            ratio = lengths[f"{side}_{upper}"] / lengths[f"{side}_{lower}"]
            if not 0.4 < ratio < 2.5:
                out.append(f"its {_name_limb(f'{side}_{upper}')} is {ratio:.2g} times as long as the {LIMB_NAMES[lower]}")
    leg, arm = (
        sum(lengths[f"{side}_{joint}"] for side in SIDES for joint in pair) for pair in (("hip", "knee"), ("shoulder", "elbow"))
    )
    if not 0.3 < arm / leg < 2:
        out.append(f"its arms are {arm / leg:.2g} times as long as its legs")
    middle = {joint: (at[f"left_{joint}"] + at[f"right_{joint}"]) / 2 for joint in ("hip", "shoulder", "ankle")}
    for joint in ("hip", "shoulder"):
        width = measure(at[f"left_{joint}"], at[f"right_{joint}"])
        # some skeletons' thighs begin at the same point
        if not (0.005 * leg if joint == "shoulder" else 0.0) <= width < 0.6 * leg:
            out.append(f"its {joint}s lie {width / leg:.2g} legs apart")
    if measure(middle["shoulder"], middle["ankle"]) < measure(middle["hip"], middle["ankle"]):
        out.append("its shoulders are nearer to its feet than its hips")
    if _is_on_four_feet(motion, bones):
        out.append("its trunk lies across its legs in nearly every pose, as an animal's on four feet")
    for side, limb in product(SIDES, (("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist"))):
        for upper, lower in pairwise(limb):
            if _is_carried(motion.positions, bones[f"{side}_{upper}"], bones[f"{side}_{lower}"]):
                continue
            if bones[f"{side}_{upper}"] not in get_path(motion.parents, bones[f"{side}_{lower}"]):
                out.append(f"its {_name_limb(f'{side}_{lower}')} does not hang on its {LIMB_NAMES[upper]}")
    return tuple(out)


def _is_on_four_feet(motion: SkeletonMotion, bones: dict[str, int]) -> bool:
    """Whether arms and legs stand across the trunk in nearly every pose, and the zero pose is no upright person.

    People who crawl do so on their knees. A zero pose with the legs on the side of the shoulders is no pose of a body: of many
    files all bones point along one axis.
    """
    poses = np.concatenate([motion.positions, motion.rest_positions[None]])
    at = {joint: poses[:, bone] for joint, bone in bones.items()}
    middle = {joint: (at[f"left_{joint}"] + at[f"right_{joint}"]) / 2 for joint in ("hip", "knee", "ankle", "shoulder", "wrist")}
    trunk = middle["shoulder"] - middle["hip"]
    if (np.linalg.norm(trunk, axis=-1) < 1e-6 * np.ptp(poses)).any():
        return False
    trunk = normalise(trunk)
    leg, arm = normalise(middle["ankle"] - middle["hip"]), normalise(middle["wrist"] - middle["shoulder"])
    across = (np.abs((leg * trunk).sum(-1)) < 0.7) & (np.abs((arm * trunk).sum(-1)) < 0.7) & ((arm * leg).sum(-1) > 0.5)
    bend = (normalise(middle["knee"] - middle["hip"]) * normalise(middle["ankle"] - middle["knee"])).sum(-1)
    rest_is_upright = not across[-1] and (leg[-1] * trunk[-1]).sum() < 0.7
    return bool(not rest_is_upright and across[:-1].mean() >= ON_FOUR_FEET and np.median(bend[:-1]) > 0.4)


def _is_carried(positions: np.ndarray, upper: int, lower: int) -> bool:
    """Whether a joint that hangs elsewhere stays where a limb ends: feet of rigs whose legs follow them hang on the root."""
    distances = np.linalg.norm(positions[:, upper] - positions[:, lower], axis=-1)
    moves = max(float(np.ptp(positions[:, bone] - positions[:, 0], axis=0).max()) for bone in (upper, lower))
    return bool(np.ptp(distances) < 0.03 * distances.max() and moves > 0.1 * distances.max())


def _name_limb(joint: str) -> str:
    side, name = joint.split("_")
    return f"{side} {LIMB_NAMES[name]}"
