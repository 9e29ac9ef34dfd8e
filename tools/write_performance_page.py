"""Writes ``docs/performance.md``: what was measured, from the results in ``docs/results``, and what is computed of GPUs' memory, by
the same planner that places models: ``python -m tools.write_performance_page``; ``--check`` only compares."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from latentman.backend.models.library.catalogue import find_need
from latentman.backend.models.memory_plan import MOST_FRAMES, plan_memory
from latentman.shared.machine import write_size
from latentman.shared.shot import ShotError

from .bench_cost import list_cost_changes, read_cost
from .cuda_check.running import RESULTS, read_results
from .cuda_check.tables import format_number
from .write_catalogue_memory import FAMILIES
from .write_cuda_page import FOLDER as CUDA
from .written_page import write_page

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
#: the memory of usual cards, in GB
CARDS = (6, 8, 12, 24, 80)
TITLES = {
    "sd1": "Stable Diffusion 1.5",
    "sd2": "Stable Diffusion 2.1",
    "sdxl": "SDXL",
    "z_image": "Z-Image",
    "wan_vace": "Wan VACE 1.3B",
    "wan_animate": "Wan Animate",
    "ltx2": "LTX-2",
}
#: precision -> how it is called
PRECISIONS = {"float16": "half precision", "float32": "single precision"}
PLACES = {"none": "whole", "model": "part by part", "sequential": "layer by layer"}
#: the preset that the others are compared with
BASELINE = "per_frame"
#: the rows of the CUDA results that are repeated here
SHOWN = ("sd15", "sdxl")

INTRODUCTION = """# Performance

What to expect of a machine. Figures in **bold** were measured in a run on a named machine; those in *italics* are computed by the
planner that places a model in memory, and were not seen on such a card. `python -m tools.write_performance_page` writes this page.

"""
ON_CPU = """## Measured on a processor

The starter at 256x256, 20 steps and its own guidance of 1.5, one walk, one seed: processor time of one thread a frame as a multiple
of that of frames that are each made by themselves, by `python -m tools.bench_cost`. The longer a shot, the less the surface presets
cost: only key frames are denoised from noise, eight at most. One run each, beside other work, and good to a tenth. `make bench`
measures what each technique costs on your machine, and how that grows with frames, steps and size.

{age}

"""
NO_CUDA = """## On CUDA

Nothing on this page was measured on a CUDA card yet. `python -m tools.cuda_check --minutes 8 --out DIR` measures everything in one
run on a machine that has one: seconds a frame and peak memory of each way of making a shot with the networks of Stable Diffusion
1.5 and SDXL, against the paper's setting; precisions, batches, compilation and offloading; and whether frames are right.

"""
WITH_CUDA = """## Measured on CUDA

On one {device} ([all of it](results/cuda/README.md)); random weights of the published shapes, with a depth ControlNet.

"""
MEMORY = """## Memory of GPUs, computed

For frames of a model's own size with one depth ControlNet, where nothing else uses the card: what the weights take, and what guided
denoising takes for each frame beside them. *Whole* means that the model stays on the card, *part by part* that only the part at
work does (text encoder, denoiser, auto-encoder), *layer by layer* that only a layer does, which is slow. Then come the frames that
go through the networks together, {most} at most; *tiles* are those that frames are decoded in. A model of clips takes all frames
of a clip at once, and its column *a frame* is for those.

"""
AFTER = """
Weights in fewer bits, other sizes and your own files: `latentman models inspect FILE --memory` computes the same for a model on
your disk, and the panel's library says of each model whether the device at hand holds it ([models.md](models.md)).

What the tables leave out: the preset `latentman` keeps what it needs to differentiate through the networks, several times a frame's
denoising; where that does not fit batches become smaller by themselves, and `--guidance-gradient decoder` needs much less.
"""


def _write_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n\n"


def describe_card(family: str, precision: str, gigabytes: int) -> str:
    """How a family's base lies in the memory of a card."""
    need = find_need(family, precision)
    assert need is not None, "the catalogue knows the families"
    try:
        plan = plan_memory(need, gigabytes * 2**30, gpu=True)
    except ShotError:
        return "no"
    tiles = ", tiles" if plan.tiling else ""
    return f"{PLACES[plan.offload]}, {plan.frames if need.together == 1 else need.together}{tiles}"


def _make_memory_table(precision: str) -> str:
    rows = []
    for family, (side, _, _) in FAMILIES.items():
        need = find_need(family, precision)
        assert need is not None, "the catalogue knows the families"
        frame = need.denoising * (2 if need.is_guided else 1)
        size = write_size(frame) if need.together == 1 else f"{write_size(frame)} for {need.together}"
        cells = [TITLES[family], f"{side}x{side}", write_size(need.resident), size]
        rows.append([*cells, *(f"*{describe_card(family, precision, gigabytes)}*" for gigabytes in CARDS)])
    return _write_table(["model", "size", "weights", "a frame", *(f"{gigabytes} GB" for gigabytes in CARDS)], rows)


def _make_cpu_section() -> str:
    stored = read_cost()
    seconds, changes = stored["seconds"], list_cost_changes(stored)
    age = f"**Out of date**: {'; '.join(changes)}." if changes else "Made with today's weights, presets and code."
    counts = list(seconds[BASELINE])
    rows = [
        [f"`{preset}`", *(f"**{own[count] / seconds[BASELINE][count]:.2f}**" if count in own else "" for count in counts)]
        for preset, own in seconds.items()
    ]
    return ON_CPU.format(age=age) + _write_table(["preset", *(f"{count} frames" for count in counts)], rows)


def _make_cuda_section() -> str:
    if not (CUDA / RESULTS).exists():
        return NO_CUDA
    found = read_results(CUDA / RESULTS)
    rows = [
        [
            f"{part}: {row['name']}",
            f"**{format_number(row['seconds_per_frame'])}**",
            f"**{format_number(row.get('times_as_fast_as_paper'))}**",
            f"**{format_number(row.get('peak_mb'))}**",
        ]
        for part in SHOWN
        for row in found["parts"].get(part, {}).get("rows", ())
        if row.get("seconds_per_frame") is not None and not row.get("is_computed")
    ]
    heads = ["shot", "seconds a frame", "times as fast as the paper's setting", "peak MB"]
    return WITH_CUDA.format(device=found["facts"].get("device_name", "?")) + _write_table(heads, rows)


def format_page() -> str:
    """The page's text."""
    memory = "".join(f"In {title}:\n\n{_make_memory_table(precision)}" for precision, title in PRECISIONS.items())
    parts = (
        INTRODUCTION,
        _make_cuda_section(),
        _make_cpu_section(),
        MEMORY.format(most=MOST_FRAMES),
        memory.rstrip("\n"),
        "\n",
        AFTER,
    )
    return "".join(parts)


def main(argv: list[str] | None = None) -> int:
    """Write the page, or compare it; returns 1 when it is stale."""
    return write_page("write_performance_page", __doc__, PAGE, format_page, argv)


if __name__ == "__main__":
    sys.exit(main())
