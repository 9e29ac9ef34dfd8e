"""Every way to look consistent without being it must lose clearly on a named figure, and honest clips must not.

The clips are painted from exact passes (``painted_clips``). A clip with a fault is compared with the worst of the honest ones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from latentman.backend.metrics.baselines import bake_texture
from latentman.backend.metrics.clip_measurer import PARTS, ClipMeasurer, measure_clip
from latentman.backend.metrics.figures import BY_NAME, FIGURES
from latentman.shared.passes import FramePasses
from tests.backend import painted_clips as painted
from tests.backend.painted_clips import Look

Maker = Callable[[np.ndarray, FramePasses], np.ndarray]

#: clips without a fault: shading that moves, a lamp that stands still, a shadow on the ground
HONEST: dict[str, Maker] = {
    "lively": lambda clip, passes: clip,
    "still lamp": lambda clip, passes: painted.paint(passes, Look(lamp=0)),
    "shadow": lambda clip, passes: painted.paint(passes, Look(shadow=True)),
}
HALF = painted.FRAMES // 2
FAULTY: dict[str, Maker] = {
    "blurred": lambda clip, passes: painted.blurred(clip),
    "blurred a little": lambda clip, passes: painted.blurred(clip, 1.0),
    "contrast x 0.25": lambda clip, passes: painted.contrast(clip, 0.25),
    "contrast x 0.5": lambda clip, passes: painted.contrast(clip, 0.5),
    "contrast x 2": lambda clip, passes: painted.contrast(clip, 2),
    "saturation down": lambda clip, passes: painted.desaturated(clip),
    "darker by gamma": lambda clip, passes: painted.gamma(clip, 1.6),
    "brighter by gamma": lambda clip, passes: painted.gamma(clip, 0.6),
    "sharpened": lambda clip, passes: painted.sharpened(clip),
    "one colour": painted.one_colour,
    "blur with grain on the screen": painted.blurred_with_grain,
    "blur with grain on the surface": lambda clip, passes: painted.blurred_with_grain(clip, passes, on_surface=True),
    "drift of 0.25": lambda clip, passes: painted.drifting(clip, passes, 0.25),
    "drift of 0.5": lambda clip, passes: painted.drifting(clip, passes, 0.5),
    "drift of 2": lambda clip, passes: painted.drifting(clip, passes, 2),
    "drift down": lambda clip, passes: painted.drifting(clip, passes, -1),
    "drift in red": lambda clip, passes: painted.drifting(clip, passes, (1, 0, 0)),
    "hue turns by 90": painted.hue_turning,
    "hue turns by 30": lambda clip, passes: painted.hue_turning(clip, passes, 30),
    "slides sideways": lambda clip, passes: painted.sliding(passes, (0.1, 0, 0)),
    "slides upwards": lambda clip, passes: painted.sliding(passes, (0, 0.1, 0)),
    "slides diagonally": lambda clip, passes: painted.sliding(passes, (0.08, 0.08, 0)),
    "slides slowly": lambda clip, passes: painted.sliding(passes, (0.05, 0.05, 0)),
    "texture turns into another": painted.morphing,
    "garment drifts": lambda clip, passes: painted.garment_drifting(clip, passes, 0.7),
    "stuck to the screen": painted.stuck_to_screen,
    "flicker": painted.flickering,
    "flicker of 4": lambda clip, passes: painted.flickering(clip, passes, 4),
    "flicker with period 3": lambda clip, passes: painted.flickering(clip, passes, period=3),
    "flicker with period 5": lambda clip, passes: painted.flickering(clip, passes, period=5),
    "jitter of 1": lambda clip, passes: painted.jittering(clip, 1),
    "jitter of 0.5": lambda clip, passes: painted.jittering(clip, 0.5),
    "jitter inside": lambda clip, passes: painted.jittering(clip, 1, passes),
    "rim of 1": lambda clip, passes: painted.rim_flickering(clip, passes, 1),
    "rim of 2": painted.rim_flickering,
    "rim of 3": lambda clip, passes: painted.rim_flickering(clip, passes, 3),
    "halo of 6": painted.haloed,
    "halo of 3": lambda clip, passes: painted.haloed(clip, passes, 3),
    "dark halo": lambda clip, passes: painted.haloed(clip, passes, 6, -20),
    "ghost": painted.ghosting,
    "faint ghost": lambda clip, passes: painted.ghosting(clip, passes, 0.3),
    "background flickers": painted.background_flickering,
    "background flickers with period 5": lambda clip, passes: painted.background_flickering(clip, passes, period=5),
    "background drifts": lambda clip, passes: painted.background_drifting(clip, passes, 0.5),
    "costume swaps": lambda clip, passes: painted.swapping_costume(clip, passes, lambda n: float(n >= HALF)),
    "costume swaps and back": lambda clip, passes: painted.swapping_costume(clip, passes, lambda n: float(6 <= n < HALF)),
    "costume swaps slowly": lambda clip, passes: painted.swapping_costume(clip, passes, lambda n: n / (painted.FRAMES - 1)),
    "frozen frame": lambda clip, passes: np.repeat(clip[:1], len(clip), 0),
    "noise": lambda clip, passes: np.random.default_rng(1).integers(0, 256, clip.shape).astype(np.uint8),
    "one frame late": lambda clip, passes: np.concatenate([clip[:1], clip[:-1]]),
    "every frame twice": lambda clip, passes: np.repeat(clip[::2], 2, 0),
    "dropped frames": lambda clip, passes: painted.dropping(clip),
    "reversed": lambda clip, passes: clip[::-1],
    "thin": lambda clip, passes: painted.reshaped(clip, passes, -2),
    "fat": lambda clip, passes: painted.reshaped(clip, passes, 2),
    "thin by a pixel": lambda clip, passes: painted.reshaped(clip, passes, -1),
    "fat by a pixel": lambda clip, passes: painted.reshaped(clip, passes, 1),
    "baked": bake_texture,
}
#: clip, figure on which it must lose, and by how many times the worst honest clip's value it must (for ``near 1``: how far from 1)
LOSES = [
    ("blurred", "detail", 0.4),
    ("blurred a little", "detail", 0.15),
    ("contrast x 0.25", "detail", 0.7),
    ("contrast x 0.25", "contrast", 0.7),
    ("contrast x 0.5", "contrast", 0.4),
    ("contrast x 2", "detail", 0.5),
    ("saturation down", "saturation", 0.6),
    ("darker by gamma", "exposure", 0.3),
    ("brighter by gamma", "exposure", 0.3),
    ("sharpened", "grain", 0.8),
    ("one colour", "detail", 0.95),
    ("blur with grain on the screen", "screen_lock", 4),
    ("blur with grain on the surface", "hmse_relative", 4),
    ("drift of 0.25", "drift", 1.7),
    ("drift of 0.5", "drift", 4),
    ("drift of 2", "drift", 15),
    ("drift down", "drift", 8),
    ("drift in red", "recolouring", 2.5),
    ("hue turns by 90", "recolouring", 15),
    ("hue turns by 30", "recolouring", 5),
    ("slides sideways", "slide", 2),
    ("slides upwards", "slide", 2),
    ("slides diagonally", "slide", 2),
    ("slides slowly", "slide", 1.4),
    ("texture turns into another", "texture_change", 2.2),
    ("garment drifts", "recolouring", 1.4),
    ("stuck to the screen", "hmse_texture", 4),
    ("stuck to the screen", "hmse_relative", 3),
    ("flicker", "flicker_fast", 6),
    ("flicker of 4", "flicker_fast", 3),
    ("flicker with period 3", "flicker_fast", 6),
    ("flicker with period 5", "hmse_p95", 10),
    ("jitter of 1", "jitter", 20),
    ("jitter of 0.5", "jitter", 10),
    ("jitter inside", "jitter", 20),
    ("rim of 1", "rim_error", 8),
    ("rim of 2", "rim_error", 15),
    ("rim of 3", "rim_error", 15),
    ("halo of 6", "halo_error", 20),
    ("halo of 3", "halo_error", 10),
    ("dark halo", "halo_error", 10),
    ("ghost", "ghost_error", 50),
    ("faint ghost", "ghost_error", 10),
    ("background flickers", "background_error", 50),
    ("background flickers with period 5", "background_error", 20),
    ("background drifts", "background_std", 3),
    ("costume swaps", "hmse_worst", 100),
    ("costume swaps and back", "hmse_worst", 100),
    ("costume swaps slowly", "recolouring", 15),
    ("frozen frame", "repeated_frames", 1),
    ("frozen frame", "hmse", 8),
    ("noise", "hmse", 100),
    ("noise", "silhouette_iou", 1.5),
    ("one frame late", "timing_error", 1),
    ("one frame late", "ghost_error", 50),
    ("every frame twice", "repeated_frames", 1),
    ("dropped frames", "timing_error", 1),
    ("reversed", "timing_error", 1),
    ("thin", "boundary_contrast", 1.5),
    ("fat", "boundary_contrast", 1.4),
    ("fat", "halo_error", 50),
    ("thin by a pixel", "rim_error", 3),
    ("fat by a pixel", "halo_error", 10),
    ("baked", "liveliness", 3),
]
#: the same on other shots, where they are hardest to see
LOSES_ELSEWHERE = [
    ("orbit", "stuck to the screen", "screen_lock", 4),
    ("orbit", "slides sideways", "slide", 2),
    ("orbit", "drift of 0.5", "drift", 3),
    ("orbit", "faint ghost", "ghost_error", 30),
    ("orbit", "jitter of 0.5", "jitter", 8),
    ("orbit", "hue turns by 30", "recolouring", 4),
    ("dance", "drift of 0.5", "drift", 5),
    ("dance", "slides upwards", "slide", 1.5),
    ("dance", "stuck to the screen", "hmse_texture", 4),
    ("dance", "halo of 3", "halo_error", 20),
    ("dance", "rim of 1", "rim_error", 4),
    ("dance", "costume swaps slowly", "recolouring", 10),
    ("dance", "one frame late", "timing_error", 1),
]


@cache
def _honest(shot: str) -> np.ndarray:
    return painted.paint(painted.shot(shot))


@cache
def _measure(shot: str, kind: str, name: str) -> dict[str, float]:
    """All figures of the parts that are wanted of a clip; parts are measured apart, so that a test pays for what it asks."""
    passes, clip = painted.shot(shot), _honest(shot)
    made = (HONEST | FAULTY)[kind](clip, passes)
    wanted = next(figures for _, figures in PARTS.values() if name in figures)
    return measure_clip(made, passes, clip if BY_NAME[name].better == "near 1" else None, wanted)


def _get(shot: str, kind: str, name: str) -> float:
    owner = next(figures for _, figures in PARTS.values() if name in figures)
    return _measure(shot, kind, next(iter(owner)) if BY_NAME[name].better != "near 1" else "detail")[name]


#: what a figure can come to without any fault, where an honest clip has none of it
LEAST = {"halo_error": 2.0, "ghost_error": 1.0, "background_error": 1.0, "background_std": 0.5, "screen_lock": 0.1}
LEAST |= {"repeated_frames": 0.4, "timing_error": 0.4}


def _check_loss(shot: str, kind: str, name: str, factor: float) -> None:
    value, better = _get(shot, kind, name), BY_NAME[name].better
    if better == "near 1":
        assert abs(value - 1) >= factor or 1 / value - 1 >= factor
        return
    # inside, the clip with a shadow on the ground is the lively one
    outside = any(
        name in figures for part, (_, figures) in PARTS.items() if part in ("surroundings", "edges", "segmentation", "timing")
    )
    honest = [_get(shot, one, name) for one in HONEST if outside or one != "shadow"]
    if better == "higher":
        assert value * factor <= min(honest), f"{name} {value:.3g} against {min(honest):.3g}"
    else:
        assert value >= factor * max(*honest, LEAST.get(name, 0)), f"{name} {value:.3g} against {max(honest):.3g}"


@pytest.mark.parametrize(("kind", "name", "factor"), LOSES)
def test_a_faulty_clip_loses(kind, name, factor):
    _check_loss("walk", kind, name, factor)


@pytest.mark.slow
@pytest.mark.parametrize(("shot", "kind", "name", "factor"), LOSES_ELSEWHERE)
def test_it_loses_on_other_shots(shot, kind, name, factor):
    _check_loss(shot, kind, name, factor)


def test_every_fault_is_tried():
    assert {kind for kind, *_ in LOSES} == set(FAULTY)


#: what a clip may come to at most without a fault, in whatever honest light, on the walk
HONEST_LIMITS = {
    "hmse_relative": 0.07,
    "hmse_floor": 1.0,
    "drift": 0.25,
    "recolouring": 2.5,
    "unexplained_change": 8.0,
    "flicker_fast": 1.5,
    "jitter": 0.12,
    "slide": 0.07,
    "screen_lock": 0.15,
    "rim_error": 170,
    "timing_error": 0,
    "repeated_frames": 0,
}


@pytest.mark.slow
@pytest.mark.parametrize("look", [Look(), Look(lamp=4, ambient=0.2), Look(lamp=-3), Look(lamp=0), Look(shadow=True)], ids=str)
def test_honest_light_raises_no_alarm(look):
    found = measure_clip(painted.paint(painted.shot(), look), painted.shot(), only=tuple(HONEST_LIMITS))
    assert {name: value for name, value in found.items() if name in HONEST_LIMITS and value > HONEST_LIMITS[name]} == {}


def test_a_frozen_texture_comes_to_the_floor():
    flat = painted.paint(painted.shot(), Look(lamp=0, ambient=1.05))
    found = measure_clip(flat, painted.shot(), only=("hmse", "hmse_floor", "slide", "jitter", "change_slope"))
    assert found["hmse"] < 0.6, "rounded matches come to 26 here"
    assert found["hmse_floor"] == pytest.approx(found["hmse"], rel=0.5)
    assert found["slide"] < 0.004 and found["jitter"] < 0.03 and abs(found["change_slope"]) < 0.03


def test_lost_contrast_does_not_win_relative_to_itself():
    plain, weak, double = (_get("walk", kind, "hmse_relative") for kind in ("lively", "contrast x 0.25", "contrast x 2"))
    assert weak > 0.8 * plain and double < 1.3 * plain


def test_neither_drift_nor_hue_nor_flicker_earns_liveliness():
    honest = _get("walk", "lively", "liveliness")
    for kind in (
        "drift of 0.5",
        "drift of 2",
        "drift in red",
        "hue turns by 90",
        "flicker",
        "costume swaps",
        "noise",
        "frozen frame",
    ):
        assert _get("walk", kind, "liveliness") < honest
    still = painted.paint(painted.shot(), Look(lamp=0, ambient=1.05))
    for clip in (
        painted.drifting(still, painted.shot(), 2),
        painted.hue_turning(still, painted.shot()),
        painted.flickering(still, painted.shot()),
    ):
        assert measure_clip(clip, painted.shot(), only=("liveliness",))["liveliness"] < 0.25 * honest


@pytest.mark.slow
def test_a_slow_drift_over_a_long_clip_is_seen_at_its_ends():
    """120 frames, of which a few are kept: 0.2 levels a frame come to 24."""
    passes = painted.shot("walk", 120, 56)
    clip = painted.paint(passes, Look(lamp=0, ambient=1.05))
    found = {}
    for name, images in (("steady", clip), ("drifting", painted.drifting(clip, passes, 0.2))):
        measurer = ClipMeasurer(("hmse", "change_slope"))
        for n in range(len(images)):
            measurer.add(images[n], passes.select([n]))
        found[name] = measurer.figures(), measurer.change
    steady, drifting = found["steady"], found["drifting"]
    assert drifting[0]["hmse"] < steady[0]["hmse"] + 1, "neighbours do not show it"
    assert 0.14 < drifting[0]["change_slope"] < 0.22 and abs(steady[0]["change_slope"]) < 0.025
    assert max(drifting[1]) == 119, "the first frame and the last are compared"
    assert drifting[1][119] == pytest.approx(0.2 * 119, rel=0.3)


def test_the_authors_formula_wraps_and_ours_does_not():
    passes = painted.shot("walk", 3)
    dark = painted.paint(passes, Look(lamp=0, ambient=1.05))
    clip = np.stack([dark[0], np.clip(dark[1].astype(int) + 20, 0, 255).astype(np.uint8), dark[2]])
    plain, brighter = (
        measure_clip(images, passes, only=("hmse_authors", "hmse_authors_printed", "hmse")) for images in (dark, clip)
    )
    assert plain["hmse_authors"] < 150 < 250 < brighter["hmse_authors"]
    assert brighter["hmse_authors_printed"] < 130, "squares of 8 bits stay below 256"


def test_the_reference_shots_have_what_the_figures_need():
    found = measure_clip(_honest("walk"), painted.shot(), only=("warp_error", "hmse", "liveliness"))
    assert found["warp_error"] == pytest.approx(found["hmse"], rel=0.15) and found["liveliness"] > 3


def test_figures_of_part_of_the_list_are_the_same():
    passes, clip = painted.shot("walk", 4), painted.paint(painted.shot("walk", 4))
    everything = measure_clip(clip, passes, clip)
    assert list(everything)[: len(FIGURES)] == [figure.name for figure in FIGURES]
    assert {name for _, names in PARTS.values() for name in names} == set(BY_NAME)
    for name in ("rim_error", "recolouring", "detail", "ghost_error", "boundary_contrast"):
        assert measure_clip(clip, passes, clip, only=(name,))[name] == pytest.approx(everything[name], nan_ok=True)
    with pytest.raises(KeyError):
        ClipMeasurer(("hmse_compat",))
