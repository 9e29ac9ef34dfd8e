"""Finds the shots of a film in plain values: camera markers of the timeline, and scene strips of the sequencer. Nothing here uses
bpy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ...shared.shot import MAX_FRAMES

NOTHING = (
    "There are no marked shots: bind cameras to markers of the timeline (Marker > Bind Camera to Markers), or add scenes to the "
    "sequencer (Add > Scene)."
)
#: names that Windows keeps for devices
_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(10))}


@dataclass(frozen=True)
class Span:
    """A scene's frames: from ``first`` to ``last``, every ``step``-th."""

    first: int
    last: int
    step: int = 1

    @property
    def frames(self) -> range:
        """The scene frames."""
        return range(self.first, self.last + 1, self.step)

    @property
    def count(self) -> int:
        """How many frames it has."""
        return len(self.frames)


def write_span(span: Span) -> str:
    """``1 to 24``, ``1 to 23, every 2nd`` or ``7``."""
    if span.count <= 1:
        return f"{span.first}"
    ending = {1: "st", 2: "nd", 3: "rd"}.get(span.step % 10 if span.step % 100 not in (11, 12, 13) else 0, "th")
    return f"{span.first} to {span.frames[-1]}{f', every {span.step}{ending}' if span.step > 1 else ''}"


@dataclass(frozen=True)
class CameraMarker:
    """A marker that binds a camera; one of a hidden camera does not count, as in a render."""

    name: str
    frame: int
    camera: str
    is_hidden: bool = False


@dataclass(frozen=True)
class SceneStrip:
    """A strip that shows a scene, in frames of the edit: content begins at ``content`` and is seen from ``start`` until before
    ``end``. ``scene`` is None for a strip whose scene is gone; ``span`` are the scene's frames, ``skipped`` those that the strip
    leaves out at their beginning, ``camera`` and ``layer`` those that the strip names in place of the scene's.

    ``parts`` are those of a meta strip, which is None here for all others.
    """

    name: str
    start: int
    end: int
    is_muted: bool = False
    scene: str | None = None
    span: Span = Span(1, 1)
    content: int = 0
    skipped: int = 0
    camera: str = ""
    layer: str = ""
    shows_sequencer: bool = False
    is_retimed: bool = False
    library: str = ""
    parts: tuple[SceneStrip, ...] | None = None


@dataclass(frozen=True)
class FoundShot:
    """A shot that was found: ``camera`` is that of a marker or a strip, ``layer`` that of a strip, "" where the scene decides.
    ``own_camera`` says that this camera sees the frames whatever the scene's are. ``problem`` says why it cannot be queued,
    ``note`` what people should know."""

    name: str
    scene: str
    span: Span
    camera: str = ""
    problem: str = ""
    note: str = ""
    layer: str = ""
    own_camera: bool = False


def align(span: Span, first: int, last: int) -> Span | None:
    """The frames of a span from ``first`` to ``last``, so that a scene that is made in steps shows the same frames in its shots as
    in one piece; None without any."""
    step = max(span.step, 1)
    begin = max(first, span.first)
    begin += -(begin - span.first) % step
    end = min(last, span.last)
    return Span(begin, begin + (end - begin) // step * step, step) if begin <= end else None


def _check_length(shot: FoundShot) -> FoundShot:
    if shot.span.count <= MAX_FRAMES:
        return shot
    problem = f"'{shot.name}' has {shot.span.count} frames, and a shot at most {MAX_FRAMES}; part it by more markers or strips."
    return replace(shot, problem=shot.problem or problem)


def find_marker_shots(scene: str, span: Span, markers: Iterable[CameraMarker]) -> tuple[list[FoundShot], list[str]]:
    """A shot from each marker that binds a camera until before the next, or until the range ends; and sentences about what is in
    none. Of several on one frame the last is the one that Blender sees through. One from before the range begins with it."""
    found, notes = list(markers), []
    hidden = [marker for marker in found if marker.is_hidden]
    notes += [f"'{one.name}' has no shot: its camera '{one.camera}' is hidden for rendering." for one in hidden]
    # the order of those on one frame stays
    bound = sorted((marker for marker in found if not marker.is_hidden), key=lambda marker: marker.frame)
    shots: list[FoundShot] = []
    for n, marker in enumerate(bound):
        following = bound[n + 1] if n + 1 < len(bound) else None
        if following is not None and following.frame == marker.frame:
            notes.append(f"'{marker.name}' has no shot: '{following.name}' is on the same frame, {marker.frame}, and counts.")
            continue
        last = span.last if following is None else following.frame - 1
        if marker.frame > span.last or last < span.first:
            notes.append(f"'{marker.name}' has no shot: it is outside of the scene's range, {span.first} to {span.last}.")
            continue
        part = align(span, marker.frame, last)
        if part is None:
            notes.append(f"'{marker.name}' has no shot: no frame of the scene's step lies in it.")
            continue
        shots.append(_check_length(FoundShot(marker.name, scene, part, marker.camera)))
    if shots and shots[0].span.first > span.first:
        before = align(span, span.first, bound[0].frame - 1)
        if before is not None:
            notes.append(f"Frames {before.first} to {before.last} are in no shot: they are before the first marker.")
    return shots, notes


def find_strip_shots(strips: Iterable[SceneStrip]) -> tuple[list[FoundShot], list[str]]:
    """A shot of each scene strip, those in meta strips, too, with the frames of its scene that it shows, by the order of the edit;
    and sentences about those that are left out. What several strips show alike is one shot."""
    shots: list[FoundShot] = []
    notes: list[str] = []
    _add_strips(strips, None, shots, notes)
    return shots, notes


def _add_strips(strips: Iterable[SceneStrip], window: tuple[int, int] | None, shots: list[FoundShot], notes: list[str]) -> None:
    for strip in sorted(strips, key=lambda one: one.start):
        start, end = (strip.start, strip.end) if window is None else (max(strip.start, window[0]), min(strip.end, window[1]))
        if strip.is_muted:
            if strip.parts is None or _holds_scenes(strip.parts):
                notes.append(f"'{strip.name}' has no shot: it is muted.")
        elif strip.parts is not None:
            _add_strips(strip.parts, (start, end), shots, notes)
        elif strip.scene is None:
            notes.append(f"'{strip.name}' has no shot: its scene is gone.")
        elif end <= start:
            notes.append(f"'{strip.name}' has no shot: its meta strip shows none of it.")
        else:
            _add_strip(strip, start, end, shots, notes)


def _holds_scenes(parts: Sequence[SceneStrip]) -> bool:
    return any(one.parts is None or _holds_scenes(one.parts) for one in parts)


def _add_strip(strip: SceneStrip, start: int, end: int, shots: list[FoundShot], notes: list[str]) -> None:
    assert strip.scene is not None
    span, note, problem = strip.span, "", ""
    if strip.library:
        problem = f"'{strip.name}' shows the scene '{strip.scene}' of {strip.library}; open that file and queue it there."
    elif strip.shows_sequencer:
        problem = f"'{strip.name}' shows the sequencer of '{strip.scene}'; make that scene the window's and queue its strips there."
    if strip.is_retimed:
        part: Span | None = span
        note = f"'{strip.name}' is retimed; every frame of its scene is made."
    else:
        # outside of its content a strip holds the first or the last frame
        offset = span.first + strip.skipped - strip.content
        part = align(Span(span.first, span.last), start + offset, end - 1 + offset)
    if part is None:
        notes.append(f"'{strip.name}' has no shot: it shows none of its scene's frames.")
        return
    same = next(
        (one for one in shots if (one.scene, one.span, one.camera, one.layer) == (strip.scene, part, strip.camera, strip.layer)),
        None,
    )
    if same is not None:
        notes.append(f"'{strip.name}' shows the same frames as '{same.name}', which are made once.")
        return
    shots.append(
        _check_length(FoundShot(strip.name, strip.scene, part, strip.camera, problem, note, strip.layer, bool(strip.camera)))
    )


def join_shots(*groups: Iterable[FoundShot]) -> list[FoundShot]:
    """All shots, with names that differ: a second of a name gets the scene's, or a number."""
    found: list[FoundShot] = []
    taken: set[str] = set()
    for shot in (shot for group in groups for shot in group):
        names = (shot.name, f"{shot.scene} {shot.name}", *(f"{shot.name} {n}" for n in range(2, len(taken) + 3)))
        name = next(name for name in names if name not in taken)
        taken.add(name)
        found.append(replace(shot, name=name))
    return found


def name_folders(names: Sequence[str]) -> list[str]:
    """A folder's name for each shot, in order: what file systems refuse is replaced, and no two are the same anywhere."""
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        plain = "".join(letter if letter.isalnum() or letter in " -_+=.,()" else "_" for letter in name)[:80].strip(" .") or "shot"
        if plain.split(".")[0].upper() in _RESERVED:
            plain = f"{plain}_"
        folder = next(one for one in (plain, *(f"{plain} {n}" for n in range(2, len(taken) + 3))) if one.lower() not in taken)
        taken.add(folder.lower())
        found.append(folder)
    return found
