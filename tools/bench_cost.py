"""What the presets cost on a processor, in shots of several lengths: ``python -m tools.bench_cost`` writes
``docs/results/cost/cost.json``, which ``docs/performance.md`` shows.

Processor time of one thread is counted, so that other work on the machine changes little; a row is kept as soon as it is there,
and a run that was stopped goes on behind the last.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from latentman.backend.metrics.making import describe_making, list_changes
from latentman.shared.files import write_atomically

from .bench_method import ROOT, run_apart

FOLDER = ROOT / "docs" / "results" / "cost"
COST = FOLDER / "cost.json"
#: preset -> numbers of frames; what has no key frames costs the same a frame in every shot
SHOTS = {
    "per_frame": (12, 24, 96),
    "cross_frame": (12, 24),
    "latentman": (12, 24),
    "surface": (12, 24, 96),
}
STEPS, SIZE = 20, 256


def read_cost() -> dict[str, Any]:
    """What was measured: ``seconds`` of the processor, preset -> number of frames, as text -> a frame's; and made of what."""
    return json.loads(COST.read_text(encoding="utf-8"))


def list_cost_changes(stored: Mapping[str, Any]) -> list[str]:
    """In words, what has changed since; figures of frames take no part."""
    today = describe_making()
    return list_changes({**stored, "figures": today["figures"]}, today)


def main() -> int:
    """Measure what is missing."""
    os.environ["OMP_NUM_THREADS"] = "1"
    made_of = {"steps": STEPS, "size": SIZE, **describe_making(variants=SHOTS)}
    del made_of["figures"]
    stored = read_cost() if COST.exists() else {}
    known = stored["seconds"] if all(stored.get(key) == value for key, value in made_of.items()) else {}
    found = {preset: dict(known.get(preset, {})) for preset in SHOTS}
    for preset, counts in SHOTS.items():
        for frames in counts:
            if str(frames) not in found[preset]:
                found[preset][str(frames)] = round(run_apart(preset, frames, STEPS, SIZE)["processor_seconds_per_frame"], 4)
                print(f"{preset:>14} {frames:4} frames {found[preset][str(frames)]:7.3f} s a frame", flush=True)
                FOLDER.mkdir(parents=True, exist_ok=True)
                write_atomically(COST, (json.dumps(made_of | {"seconds": found}, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
