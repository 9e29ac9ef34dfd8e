"""``python -m tools.studies.correspondence``: how exact the matchings are against the true surface points.

Every case changes one thing more and more between two views of the mannequin. Measured for each matching and resolution: the
fraction of mutually visible pixels that is matched within a pixel, the fraction that is wrong by more, the error's median and 95th
percentile in pixels, and the time. Pixels whose centre falls between two pieces of surface are left out, because the passes do not
say which of them is there. Writes ``correspondence.json``, ``correspondence.csv`` and plots.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from latentman.backend.pictures import write_png
from latentman.backend.video.correspondence import match_hungarian, match_surfaces
from latentman.blender_addon.reference_shots.views import render_passes
from latentman.shared.passes import FramePasses

from .correspondence_truth import Pose, find_ambiguous_pixels, find_true_places

ROOT = Path(__file__).resolve().parents[2]
PASSES_SIZE = 512
RESOLUTIONS = (32, 64, 128, 256, 512)
#: largest side for the Hungarian matching, which takes minutes beyond it
HUNGARIAN_MAX_SIZE = 256
BASE = Pose()


def _bend_limbs(angle: float) -> tuple[tuple[str, tuple[float, float, float]], ...]:
    return (
        ("left_shoulder", (0.0, -angle * 0.3, angle)),
        ("left_elbow", (0.0, -angle * 0.5, 0.0)),
        ("right_hip", (-angle * 0.4, 0.0, 0.0)),
        ("right_knee", (angle * 0.5, 0.0, 0.0)),
    )


def make_cases() -> dict[str, list[tuple[float, Pose]]]:
    """Case -> pairs of an amount and the second view's pose."""
    across = (("right_shoulder", (0.0, 70.0, 20.0)), ("right_elbow", (0.0, 60.0, 0.0)))
    return {
        "motion (degrees)": [(a, Pose(joints=_bend_limbs(a))) for a in (5, 15, 30, 60, 90)],
        "rotation (degrees)": [(a, Pose(yaw=a)) for a in (5, 15, 30, 60, 90)],
        "scale (factor)": [(s, Pose(distance=4.2 * s)) for s in (1.1, 1.25, 1.5, 2.0, 3.0)],
        "occlusion (arm before the body)": [(y, Pose(joints=across, yaw=y)) for y in (0, 10, 20, 40)],
        "camera (degrees of orbit)": [(a, Pose(orbit=a, side=a / 100, focal=1.9 + a / 200)) for a in (5, 15, 30, 60)],
    }


#: a match that is off by more than this many pixels shows another place of the body
LEAK_DISTANCE = 3.0


def score_matching(places: np.ndarray, pixels: np.ndarray, true: tuple[np.ndarray, np.ndarray, np.ndarray]) -> dict[str, float]:
    """Score a matching against the truth. ``leaks`` is a fraction of all matches; the other fractions are of the mutually visible
    pixels."""
    true_pixels, true_at, seen = true
    at = np.full(max(int(true_pixels.max(initial=0)), int(pixels.max(initial=0))) + 1, -1)
    at[pixels] = np.arange(len(pixels))
    row = at[true_pixels]
    found = row >= 0
    far = np.linalg.norm(places[row[found]] - true_at[found], axis=1)
    error = far[seen[found]]
    count = max(int(seen.sum()), 1)
    return {
        "matched": len(error) / count,
        "within_1px": (error <= 1).sum() / count,
        "within_0p75": (error <= 0.75).sum() / count,
        "wrong": (error > 1).sum() / count,
        "leaks": float((far > LEAK_DISTANCE).mean()) if len(far) else 0.0,
        "median_px": float(np.median(error)) if len(error) else float("nan"),
        "p95_px": float(np.percentile(error, 95)) if len(error) else float("nan"),
        "visible": int(seen.sum()),
    }


def _measure(method: str, passes: FramePasses, size: int, true: tuple[np.ndarray, np.ndarray, np.ndarray]) -> dict[str, float]:
    started = time.perf_counter()
    found = (match_hungarian if method == "hungarian" else match_surfaces)(passes, size, size, "prev")
    seconds = time.perf_counter() - started
    return score_matching(found.places[1], found.target_pixels[1], true) | {"seconds": seconds}


def measure_cases(resolutions: tuple[int, ...], hungarian_max_size: int) -> Iterator[dict[str, Any]]:
    """One row for each case, amount, resolution and method."""
    first = BASE.make_view()
    for case, steps in make_cases().items():
        for amount, pose in steps:
            second = pose.make_view()
            passes = render_passes([first, second], PASSES_SIZE)
            for size in resolutions:
                pixels, places, seen = find_true_places(second, first, size)
                seen &= ~find_ambiguous_pixels(passes, 1, size)[pixels]
                true = (pixels, places, seen)
                for method in ("surface", "hungarian"):
                    if method == "surface" or size <= hungarian_max_size:
                        yield {
                            "case": case,
                            "amount": amount,
                            "size": size,
                            "method": method,
                            **_measure(method, passes, size, true),
                        }


def measure_speedup(size: int) -> float:
    """How many times quicker the surface matching is than the Hungarian one in this run, for a body that fills the height
    of a (size, size) picture, with one part for each bone."""
    one, two = Pose(focal=2.6).make_view(), Pose(joints=_bend_limbs(15), yaw=15, focal=2.6).make_view()
    passes = render_passes([one, two], size)
    took = {}
    for name, matching in (("warm", match_surfaces), ("surface", match_surfaces), ("hungarian", match_hungarian)):
        started = time.perf_counter()
        matching(passes, size, size, "prev")
        took[name] = time.perf_counter() - started
    return took["hungarian"] / took["surface"]


def summarise(table: list[dict]) -> dict[str, float]:
    """The figures of ``tools.bench``: the worst of all cases but changes of scale beyond two."""

    def worst(method: str, size: int, key: str) -> float:
        return float(
            min(
                r[key]
                for r in table
                if r["method"] == method and r["size"] == size and not (r["case"].startswith("scale") and r["amount"] > 2)
            )
        )

    return {
        "surface_within_1px_256": worst("surface", 256, "within_1px"),
        "surface_within_0p75_64": worst("surface", 64, "within_0p75"),
        "hungarian_within_1px_256": worst("hungarian", 256, "within_1px"),
        "hungarian_within_0p75_64": worst("hungarian", 64, "within_0p75"),
    }


def _plot(table: list[dict], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["case"] for row in table))
    figure = Figure(figsize=(4 * len(names), 7), dpi=80)
    axes = figure.subplots(2, len(names), squeeze=False)
    colours = {32: "#bbbbbb", 64: "#7aa6c2", 128: "#4c78a8", 256: "#1f4e79", 512: "#0b2239"}
    for column, case in enumerate(names):
        for line, key, label in ((0, "within_1px", "matched within 1 px"), (1, "p95_px", "95th percentile, px")):
            axis = axes[line][column]
            for method, style in (("surface", "-o"), ("hungarian", "--x")):
                for size in RESOLUTIONS:
                    chosen = [r for r in table if (r["case"], r["method"], r["size"]) == (case, method, size)]
                    if chosen:
                        axis.plot(
                            [r["amount"] for r in chosen],
                            [r[key] for r in chosen],
                            style,
                            color=colours[size],
                            label=f"{method} {size}",
                            linewidth=1.4,
                            markersize=4,
                        )
            axis.set_ylabel(label if column == 0 else "")
            axis.set_xlabel(case)
            if line == 0:
                axis.set_ylim(0, 1.03)
            else:
                axis.set_yscale("log")
            axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=7, loc="lower left")
    figure.tight_layout()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    write_png(path, np.asarray(canvas.buffer_rgba()))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "correspondence")
    parser.add_argument("--resolutions", type=lambda text: tuple(int(n) for n in text.split(",")), default=RESOLUTIONS)
    parser.add_argument("--hungarian-most", type=int, default=HUNGARIAN_MAX_SIZE, help="largest side for the Hungarian matching")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    table = []
    for row in measure_cases(args.resolutions, args.hungarian_most):
        table.append(row)
        print(
            "{case:34} {amount:6g} {size:4} {method:9} matched {matched:6.3f} within 1 px {within_1px:6.3f} "
            "wrong {wrong:6.3f} leaks {leaks:6.3f} median {median_px:7.3f} p95 {p95_px:7.2f} {seconds:8.3f} s".format(**row),
            flush=True,
        )
    rounded = [{k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()} for row in table]
    (args.out / "correspondence.json").write_text(json.dumps(rounded, indent=0))
    with (args.out / "correspondence.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rounded[0]))
        writer.writeheader()
        writer.writerows(rounded)
    _plot(table, args.out / "correspondence.png")


if __name__ == "__main__":
    main()
