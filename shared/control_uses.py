"""How strongly a ControlNet works, and on which of the steps, as it is written behind its path. Free of torch."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from .pasted_paths import read_pasted_path
from .shot import ShotError

#: the largest strength, as that of the setting for all of them
MOST = 1000.0
_NUMBER = r"\s*(\d+\.?\d*|\.\d+)\s*"


@dataclass(frozen=True)
class ControlUse:
    """``strength`` is what a ControlNet's output is multiplied by, between two fractions of the steps."""

    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0

    def scale_at(self, step: int, steps: int) -> float:
        """The strength at a step, counted from 0; a step that only begins before the end is without it, as in diffusers."""
        return 0.0 if step / steps < self.start or (step + 1) / steps > self.end else self.strength


def read_control_use(text: str, is_file: Callable[[str], bool]) -> tuple[str, ControlUse]:
    """``PATH@0.8@0-0.6`` -> the path and its use; both may be left out, and a path that exists with an @ in it is one.

    ``is_file`` says whether a name is that of a file with weights. Raises ``ShotError`` for an end that means nothing.
    """
    whole = read_pasted_path(text)
    path, numbers = whole, ""
    start, end, strength = 0.0, 1.0, 1.0
    head, tail = _split_end(path, is_file)
    span = re.fullmatch(f"{_NUMBER}-{_NUMBER}", tail)
    if span:
        start, end, numbers, path = float(span[1]), float(span[2]), f"@{tail}", read_pasted_path(head)
        if not 0 <= start < end <= 1:
            raise ShotError(
                "model",
                f"'{tail}' is no part of the steps; write fractions from 0 to 1, the smaller first, like depth=PATH@0.8@0-0.6.",
            )
        head, tail = _split_end(path, is_file)
    if tail:
        if not re.fullmatch(_NUMBER, tail) or float(tail) > MOST:
            raise ShotError(
                "model",
                f"'{tail}{numbers}' is not the strength of a ControlNet; write it like depth=PATH@0.8, or depth=PATH@0.8@0-0.6 for "
                "the first 60% of the steps.",
            )
        strength, path = float(tail), read_pasted_path(head)
        more = _split_end(path, is_file)[1]
        if re.fullmatch(_NUMBER, more):
            raise ShotError("model", f"'{more}@{tail}' are two strengths; write one, like depth=PATH@0.8.")
    return path, ControlUse(strength, start, end)


def _split_end(path: str, is_file: Callable[[str], bool]) -> tuple[str, str]:
    """A path and what stands behind its last @, empty where that belongs to the path: a file or a commit of the hub."""
    head, at, tail = path.rpartition("@")
    if not at or os.path.exists(path) or is_file(tail) or re.search(r"[/\\]", tail) or re.fullmatch("[0-9a-f]{40}", tail):
        return path, ""
    return head, tail or "@"
