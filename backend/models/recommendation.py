"""How a kind of model likes to be run: its size, steps, guidance and scheduler."""

from __future__ import annotations

import msgspec

from .family_layouts import BY_NAME, SEEING, FamilyLayout


class Recommendation(msgspec.Struct, frozen=True):
    """How a model likes to be run; 0 and empty texts leave it to the program. ``size`` in pixels along a side; ``spacing`` of the
    schedule's steps as diffusers names it."""

    size: int = 0
    steps: int = 0
    guidance_scale: float = -1.0
    scheduler: str = ""
    spacing: str = ""


def recommend(family: str, prediction: str, zero: bool, distilled: str, steps: int, size: int) -> Recommendation:
    """How a base model likes to be run. ``steps`` and ``size`` are what the file says, 0 for nothing."""
    layout = BY_NAME.get(family)
    if layout is not None:
        return recommend_transformer(layout, distilled, steps, size)
    usual = {"sd1": 512, "sd2": 768 if prediction == "v_prediction" else 512, "sdxl": 1024, "sdxl_refiner": 1024}
    size = size or usual.get(family, 0)
    spacing = "trailing" if zero or distilled else "leading"
    if not distilled:
        return Recommendation(size, 30, 5.0 if family == "sdxl" else 7.5, "ddim", spacing)
    counts = {"lightning": 4, "hyper": 8, "turbo": 4, "lcm": 6, "tcd": 8, "dmd": 4, "pcm": 4, "schnell": 4}
    schedulers = {"lcm": "lcm", "tcd": "tcd", "hyper": "tcd", "dmd": "lcm"}
    # Turbo's own size is that of 2.1, whatever it is made of
    size = 512 if distilled == "turbo" and family == "sd2" else size
    return Recommendation(size, steps or counts.get(distilled, 8), 1.0, schedulers.get(distilled, "euler"), spacing)


def recommend_transformer(
    layout: FamilyLayout, distilled: str, steps: int, size: int, *, sees_picture: bool = False, is_told: bool = False
) -> Recommendation:
    """How a transformer of a layout likes to be run, which ``sees_picture`` itself, or ``is_told`` the guidance. ``steps`` and
    ``size`` are what is said of them, 0 for nothing."""
    count, guidance = layout.get_usual(distilled)
    if sees_picture and layout.control and not distilled:
        count, guidance = SEEING
    elif is_told:
        # whatever its steps are
        guidance = layout.usual[1]
    # steps of flow matching have no spacing to choose
    return Recommendation(size or layout.side, steps or count, guidance, layout.solver, "")
