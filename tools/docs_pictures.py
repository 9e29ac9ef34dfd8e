"""``python -m tools.docs_pictures``: makes the documentation's pictures of the window from a real one, into ``docs/images``.

It runs ``tools.window_test`` and crops what that photographs. ``docs/images/made_of.json`` keeps the state of the window's code
that each picture shows; ``--check`` changes nothing, names the pictures that are older than the code, and exits with 1 if there
are any.
``--from FOLDER`` takes the photographs of an earlier run. ``--only NAME ...`` makes some of the pictures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
IMAGES, PHOTOGRAPHS = ROOT / "docs" / "images", ROOT / "build" / "window"
RECORD = IMAGES / "made_of.json"
#: (left, top, right, bottom) of the sidebar and of its upper half in the window of ``window_test``
SIDEBAR, TOP = (764, 74, 1050, 732), (764, 74, 1050, 574)
WHOLE = (0, 0, 1280, 900)
#: the modules that draw the window
DRAWING = (
    "panels.py",
    "*_panel.py",
    "panel_base.py",
    "error_drawing.py",
    "status_bar.py",
    "set_up/drawing.py",
    "viewer.py",
    "menus.py",
)


@dataclass(frozen=True)
class Picture:
    """A picture of the documentation: photographs of one run of the window's test, cropped and set beside each other."""

    name: str
    parts: tuple[str, ...]
    photographs: tuple[str, ...]
    box: tuple[int, int, int, int]


PICTURES = (
    Picture("set_up", ("first-clip",), ("20-fresh", "21-plan", "22-fetching", "23-trying", "24-connected"), TOP),
    Picture("generating", ("first-clip",), ("28-generating",), WHOLE),
    Picture("bones", ("panel", "sources"), ("3-bones-unfolded", "14-doubtful-bones"), SIDEBAR),
    Picture("motion", ("panel", "sources"), ("3-motion-unfolded",), WHOLE),
    Picture("panel", ("history",), ("17-compared",), WHOLE),
)


def compute_state() -> str:
    """A digest of the code that draws the window."""
    digest = hashlib.sha256()
    for pattern in DRAWING:
        for path in sorted((ROOT / "blender_addon").glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def read_record() -> dict[str, str]:
    """picture -> the state of the code that it shows."""
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}


def find_old(pictures: Sequence[Picture]) -> list[str]:
    """The names of the pictures that are missing or show an earlier state of the window."""
    state, record = compute_state(), read_record()
    return [found.name for found in pictures if record.get(found.name) != state or not (IMAGES / f"{found.name}.png").exists()]


def make(picture: Picture, photographs: Path) -> None:
    """Crop and save a picture; raises ``FileNotFoundError`` for a photograph that was not made."""
    parts = [Image.open(photographs / f"{name}.png").convert("RGB").crop(picture.box) for name in picture.photographs]
    sheet = Image.new("RGB", (sum(part.width for part in parts), max(part.height for part in parts)))
    left = 0
    for part in parts:
        sheet.paste(part, (left, 0))
        left += part.width
    sheet.save(IMAGES / f"{picture.name}.png", optimize=True)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs_pictures", description=__doc__)
    names = [picture.name for picture in PICTURES]
    parser.add_argument("--check", action="store_true", help="change nothing, and name the pictures that are older than the code")
    parser.add_argument("--from", dest="folder", type=Path, help="take the photographs of an earlier run")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="make these pictures")
    args = parser.parse_args(argv)
    pictures = [picture for picture in PICTURES if picture.name in args.only]
    if args.check:
        old = find_old(pictures)
        print("\n".join(f"docs/images/{name}.png is older than the window's code; run make docs-pictures" for name in old))
        return int(bool(old))
    state, record = compute_state(), read_record()
    for parts in dict.fromkeys(picture.parts for picture in pictures):
        if args.folder is None:
            subprocess.run([sys.executable, "-m", "tools.window_test", *parts], cwd=ROOT, check=True)
        for picture in pictures:
            if picture.parts == parts:
                make(picture, args.folder or PHOTOGRAPHS)
                record[picture.name] = state
                print(IMAGES / f"{picture.name}.png", flush=True)
    RECORD.write_text(json.dumps(dict(sorted(record.items())), indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
