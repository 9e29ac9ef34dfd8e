"""Where the shots that were rendered in Blender lie. Free of torch."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT / "build" / "cuda_check" / "shots"
