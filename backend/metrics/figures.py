"""The list of all figures: what each is, its unit, its floor and what it does not see. ``docs/figures.md`` is made of it; they are
computed by ``clip_measurer``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher", "near 1", "reads"]


@dataclass(frozen=True)
class Figure:
    """What a figure is: its name, unit, which values are good (``reads`` for those that only help to read others), what it
    measures, the value of a faultless clip, and its known weaknesses."""

    name: str
    unit: str
    better: Better
    meaning: str
    floor: str
    weakness: str


SQUARED, LEVELS = "levels squared", "levels"
#: in the order in which they are computed, see ``clip_measurer.PARTS``
FIGURES: tuple[Figure, ...] = (
    Figure(
        "hmse",
        SQUARED,
        "lower",
        "The paper's human mean squared error: mean squared difference of the same surface points in consecutive frames, the "
        "earlier one read between its pixels by cubic convolution. Points within two pixels of a silhouette, and those that cannot "
        "be read between pixels (the edge of an arm before the body), count for `rim_error` instead.",
        "`hmse_floor`, 0.2 to 1.5 at 256 pixels",
        "Slow changes, rims and surroundings; contrast that is lost lowers it; independent noise counts about a tenth too little.",
    ),
    Figure(
        "hmse_floor",
        SQUARED,
        "reads",
        "The `hmse` of a frozen texture that is as sharp as the clip, on the same points: what reading between pixels and rounding "
        "to 8 bits add.",
        "",
        "An estimate: the texture is made of waves of 4 to 12 pixels, so that of grain it says too little.",
    ),
    Figure(
        "hmse_relative",
        "ratio",
        "lower",
        "The sum of `hmse`'s differences over twice the variance of the texture around each point: 1 is another texture in each "
        "frame, whatever the contrast.",
        "below 0.03",
        "A change of brightness counts more in a picture without texture, where it can exceed 1.",
    ),
    Figure(
        "hmse_texture",
        SQUARED,
        "lower",
        "`hmse` of what is finer than four pixels: light that changes smoothly over the surface does not count.",
        "as `hmse`; 1 to 7 in light that moves",
        "A shadow's edge that wanders counts.",
    ),
    Figure(
        "hmse_p95",
        SQUARED,
        "lower",
        "The 95th percentile of the pairs' `hmse`.",
        "as `hmse`",
        "In clips under 20 frames the worst.",
    ),
    Figure(
        "hmse_worst",
        SQUARED,
        "lower",
        "The worst pair's `hmse`: a jump, such as a costume that changes once.",
        "as `hmse`",
        "Slow changes.",
    ),
    Figure(
        "hmse_cyclic",
        SQUARED,
        "lower",
        "`hmse` with equal weight for each pair, and the pair of the last frame and the first as one more, as the authors have it.",
        "as `hmse`",
        "The last pair compares different light and poses.",
    ),
    Figure("matched_fraction", "ratio", "reads", "Points that `hmse` compares over the pixels inside.", "0.85 to 0.97", ""),
    Figure(
        "rim_error",
        SQUARED,
        "lower",
        "As `hmse`, of the points that it leaves out: within two pixels of the silhouette and where a limb covers another. The "
        "earlier frame's pixels off the character take no part.",
        "20 to 150: there is no reading between pixels at an edge",
        "Compare it between methods on the same shot only.",
    ),
    Figure(
        "jitter",
        "pixels",
        "lower",
        "Root mean square by which the texture jumps against the surface from one frame to the next, solved from its slopes.",
        "0.01 to 0.1; light that moves looks like a little of it",
        "Steps above three pixels are underestimated; needs a texture.",
    ),
    Figure(
        "slide",
        "pixels a frame",
        "lower",
        "Root mean square over patches of the surface of the speed at which the texture keeps moving over it in the same "
        "direction, from frames 1 to 8 apart.",
        "0.002 in still light, up to 0.025 in light that moves quickly",
        "A shadow's edge that wanders over the body counts; sliding along the view counts less.",
    ),
    Figure(
        "texture_change",
        "ratio",
        "lower",
        "How much of the texture has become another between frames at least half the clip apart: 1 less the correlation of the "
        "same points' brightness against their surroundings.",
        "0.001 in still light before a still camera, 0.1 in light that moves",
        "A shadow's edge that wanders counts; says nothing of colours and of what is coarser than three pixels.",
    ),
    Figure(
        "screen_lock",
        "correlation",
        "lower",
        "How much of the texture stays on the screen where the surface has moved by four pixels or more: what the same pixels have "
        "in common beyond what the same points have.",
        "within 0.1 of 0",
        "Only pixels that move; NaN in a shot where none does.",
    ),
    Figure(
        "change_slope",
        "levels a frame",
        "reads",
        "Growth of the root mean square change of surface points with the frames between, up to the clip's whole length.",
        "about 0 over several cycles of a motion; up to 1.5 in a short clip in which the light moves",
        "Light that moves counts; read it on clips of 100 frames and more.",
    ),
    Figure(
        "hmse_authors",
        SQUARED,
        "lower",
        "The authors' own formula without its overflow: frames unwrapped into a texture of 256x256, interpolated, consecutive "
        "textures and the last and the first subtracted, squares averaged over the texels that both show.",
        "10 to 100: texels are finer than pixels, and it reaches across the edges",
        "Interpolates across seams; counts edges; depends on the layout of the texture coordinates.",
    ),
    Figure(
        "hmse_authors_printed",
        SQUARED,
        "reads",
        "The same as the authors' code prints it, in 8 bits: 256 becomes 0. Only to compare with printed numbers.",
        "",
        "Saturates near 105, the mean of the squares of random bytes modulo 256; changes above 16 levels lose their order.",
    ),
    Figure(
        "warp_error",
        SQUARED,
        "lower",
        "Mean squared difference between a frame and the previous one warped by Blender's motion vectors, where both show the same "
        "surface.",
        "as `hmse`",
        "Needs the motion pass and a frame step of 1; as `hmse`.",
    ),
    Figure(
        "drift",
        "levels a frame",
        "lower",
        "Speed at which a brightness or colour is added to the whole character, beside what a white light makes of its colours.",
        "0.02 to 0.1 over 20 frames",
        "On a costume of one grey, brightening and more light are the same, and it takes it for light. Without the normal pass, "
        "turning counts.",
    ),
    Figure(
        "recolouring",
        LEVELS,
        "lower",
        "Root mean square change of surface points across their own hue over the clip: other colours, not other light.",
        "1 to 2",
        "Coloured lights and bright reflections count; a costume of greys cannot show it.",
    ),
    Figure(
        "unexplained_change",
        LEVELS,
        "lower",
        "Root mean square change of surface points over the clip that no white light on the turning surface explains.",
        "2 to 3",
        "Cast shadows and reflections count.",
    ),
    Figure(
        "flicker_fast",
        LEVELS,
        "lower",
        "Root mean square of the cells' changes of colour with periods under four frames, in windows of sixteen.",
        "0.5 to 1.1",
        "Needs six frames.",
    ),
    Figure(
        "flicker_slow",
        LEVELS,
        "lower",
        "The same with periods of four to sixteen frames.",
        "1 to 4",
        "Light that moves quickly counts.",
    ),
    Figure(
        "liveliness",
        LEVELS,
        "higher",
        "Root mean square change of shading that lights on the turning surface explain: smooth functions of the normal that change "
        "smoothly over the clip. A change of the whole frame, of a hue, or in a rhythm earns nothing.",
        "0 to 1 for a baked texture (up to 2 where the camera turns)",
        "Needs the normal pass; cast shadows earn little; a lamp that turns with the body is not seen.",
    ),
    Figure(
        "detail",
        "ratio",
        "near 1",
        "Root mean square of the band between 0.8 and 2.5 pixels inside the silhouettes over that of the per-frame run with the "
        "same seed; what lies outside takes no part.",
        "1",
        "Grain is detail to it, see `grain`.",
    ),
    Figure(
        "detail_level",
        LEVELS,
        "reads",
        "The same without a reference; `grain_level`, `detail_coarse_level`, `contrast_level`, `saturation_level` and "
        "`exposure_level` are what the ratios below are made of.",
        "",
        "Says nothing across shots and costumes.",
    ),
    Figure("grain", "ratio", "near 1", "The same of what is finer than 0.8 pixels.", "1", "Compression takes it away."),
    Figure("detail_coarse", "ratio", "near 1", "The same between 2.5 and 6 pixels.", "1", "Holds some shading."),
    Figure(
        "contrast", "ratio", "near 1", "The same of the brightness about its mean.", "1", "Depends on the costume that was made."
    ),
    Figure("saturation", "ratio", "near 1", "The same of the colours about their grey.", "1", "As `contrast`."),
    Figure("exposure", "ratio", "near 1", "Mean brightness of the characters over the per-frame run's.", "1", "As `contrast`."),
    Figure(
        "surface_variance_low",
        SQUARED,
        "reads",
        "Variance of surface cells' colours over the clip in the band above four pixels; `_lag1` and `_lag8` half the mean squared "
        "change over so many frames.",
        "",
        "Honest light counts.",
    ),
    Figure(
        "surface_variance_high", SQUARED, "lower", "The same of the texture below four pixels.", "2 to 4", "A lower contrast wins."
    ),
    Figure(
        "reappearance",
        SQUARED,
        "lower",
        "Change of points that were hidden for at least four frames.",
        "2 to 15",
        "Light that moved.",
    ),
    Figure(
        "shading_std",
        LEVELS,
        "reads",
        "Root of `surface_variance_low`: all changes of shading, whatever made them.",
        "",
        "Drift and flicker raise it; `liveliness` is what they cannot earn.",
    ),
    Figure(
        "background_error",
        SQUARED,
        "lower",
        "`hmse` of the pixels that show no surface in either frame.",
        "0",
        "For a still camera.",
    ),
    Figure(
        "background_std",
        LEVELS,
        "lower",
        "Standard deviation over the clip of the pixels that show no surface within twelve pixels.",
        "0",
        "For a still camera; shadows on the ground count.",
    ),
    Figure(
        "halo_error",
        SQUARED,
        "lower",
        "Mean squared difference of the six pixels outside the silhouettes from what the same pixels show when the characters are "
        "far.",
        "0; 5 to 15 with shadows on the ground",
        "For a still camera; pixels that are never clear take no part; a background that flickers counts.",
    ),
    Figure(
        "ghost_error",
        SQUARED,
        "lower",
        "The same of pixels that the characters left within the last two frames.",
        "0; 5 with shadows on the ground",
        "As `halo_error`.",
    ),
    Figure(
        "silhouette_iou",
        "ratio",
        "higher",
        "Overlap of the mask and the character found by its colours.",
        "0.9 to 1",
        "Colours like the background's.",
    ),
    Figure(
        "boundary_f_measure",
        "ratio",
        "higher",
        "The same of their outlines, within two pixels.",
        "0.9 to 1",
        "As `silhouette_iou`.",
    ),
    Figure(
        "boundary_contrast",
        "ratio",
        "higher",
        "Colour gradient on the outline over that 4 to 12 pixels beside it.",
        "2 to 6",
        "A drawn outline wins.",
    ),
    Figure(
        "timing_error",
        "frames",
        "lower",
        "Mean number of frames by which the outline that the picture's edges fit best is early or late.",
        "0",
        "Motion under a pixel a frame; more than three frames; a silhouette of another size raises it.",
    ),
    Figure(
        "repeated_frames",
        "ratio",
        "lower",
        "Frames that show the same as the one before although the silhouette moved.",
        "0",
        "Noise hides them.",
    ),
)
#: figures that are there where weights are at hand, see ``perceptual`` and ``lpips``
OPTIONAL: tuple[Figure, ...] = (
    Figure(
        "clip_similarity",
        "cosine",
        "higher",
        "How alike CLIP's image encoder finds the characters, alone on grey, of consecutive frames. Only where its weights are in "
        "the hub's cache.",
        "above 0.97",
        "Saturates; a blur or a frozen frame is as good as any.",
    ),
    Figure(
        "dino_similarity",
        "cosine",
        "higher",
        "The same by DINOv2's encoder.",
        "above 0.95",
        "As `clip_similarity`.",
    ),
    Figure(
        "lpips",
        "distance",
        "lower",
        "LPIPS (AlexNet, version 0.1) of each frame and the one before, laid over it along the exact matches, on the points inside "
        "that both show. Only where AlexNet's weights are in torch's cache and the package `lpips` is installed.",
        "near 0",
        "A blur and lost contrast lower it; reading between pixels costs a little.",
    ),
)
#: the figures that tables show; all stand in the files
MAIN = (
    *(
        "hmse",
        "hmse_floor",
        "hmse_relative",
        "hmse_worst",
        "rim_error",
        "jitter",
        "slide",
        "texture_change",
        "drift",
        "recolouring",
        "flicker_fast",
    ),
    *("liveliness", "detail", "contrast", "reappearance", "background_error", "halo_error", "ghost_error", "silhouette_iou"),
    "timing_error",
)
#: name -> figure
BY_NAME = {figure.name: figure for figure in FIGURES}
