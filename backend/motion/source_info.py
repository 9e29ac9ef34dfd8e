"""What a motion source says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from ...shared.motion_request import MAX_SECONDS


@dataclass(frozen=True)
class SourceInfo:
    """``label`` and ``help`` are words for people. ``keeps``: what of an existing motion it can keep, of ``poses``, ``legs`` (with
    the path) and ``path``; nothing else is asked of it. ``loops`` says that with ``MotionRequest.loop`` its end goes over into its
    beginning by itself, the last pose being the first one; otherwise its last second is blended. ``most_seconds`` is the longest
    motion it makes."""

    label: str
    help: str = ""
    keeps: frozenset[str] = frozenset({"poses", "legs", "path"})
    loops: bool = False
    most_seconds: float = MAX_SECONDS
