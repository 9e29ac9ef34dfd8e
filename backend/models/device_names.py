"""Names of devices as they are typed, without asking PyTorch what there is."""

from __future__ import annotations

import re

from ...shared.shot import ShotError

#: the kinds, the first one that there is being the one that ``auto`` takes
KINDS = ("cuda", "xpu", "mps", "cpu")


def read_device_name(name: str) -> tuple[str, int | None]:
    """(kind, number) of ``cuda``, ``xpu``, ``mps`` or ``cpu``, the first two with a number (``cuda:1``) or None; the kind is
    ``auto`` for that. Raises ``ShotError`` for a name that stands for no device."""
    name = name.strip().lower()
    if name in ("", "auto"):
        return "auto", None
    found = re.fullmatch(rf"({'|'.join(KINDS)})(?::(\d{{1,3}}))?", name, re.ASCII)
    if found is None or (found[2] is not None and found[1] in ("mps", "cpu") and int(found[2])):
        raise ShotError("device", f"The device '{name}' is unknown; use auto, cuda, cuda:1, xpu, mps or cpu.")
    return found[1], None if found[2] is None else int(found[2])
