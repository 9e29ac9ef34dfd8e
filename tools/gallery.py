"""``python -m tools.gallery``: the gallery of the documentation, moving pictures of what the shipped weights make, in
``docs/images/gallery``.

Six prompts over three shots: ``<shot>.webp`` has a column for each prompt, above the frames that an image model makes one by one,
below those of the preset ``surface``. ``dressed.webp`` turns a dressed character. What is made stays in ``build/gallery``: a
run that was stopped goes on where it was. ``--frames`` and ``--only`` make less of it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from latentman.backend.metrics.making import describe_making
from latentman.blender_addon.passes.ring import TURNS
from latentman.shared.version import VERSION

ROOT = Path(__file__).resolve().parents[1]
WORK, IMAGES = ROOT / "build" / "gallery", ROOT / "docs" / "images" / "gallery"
#: walks by, is walked around, dances
SHOTS = ("walk", "orbit", "dance")
PROMPTS = {
    "beach": "a man with brown hair in a red shirt and blue jeans and white shoes, on a beach",
    "forest": "a woman with blond hair in a yellow jacket and black trousers and brown boots, in a forest",
    "city": "a man with black hair in a blue striped shirt and white shorts and red shoes, in a city",
    "moon": "an astronaut in a white suit, on the moon",
    "desert": "a knight in armour with a red tabard, in a desert",
    "stage": "a dancer with red hair in a purple shirt and white trousers and black boots, on a stage",
}
#: the first one before a plain place: thin parts take up what is behind them
DRESSED = "a man with brown hair in a red shirt and blue jeans and white shoes, in a studio"
#: the upper and the lower row
BEFORE, AFTER = "per_frame", "surface"
SEED = 4
#: of a picture in the gallery, and of all of it
TILE, FRAMES_PER_SECOND, QUALITY = 192, 12, 72


def run(*command: str) -> None:
    """Run a module of this project's in a process of its own, as a user does; raises ``subprocess.CalledProcessError``."""
    subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=True)


def render_shots(frames: int) -> Path:
    """The passes of the shots, with their cameras and shadows; returns the folder."""
    folder = WORK / f"passes_{frames}"
    if not (folder / "shots.json").exists():
        shots = ("--shots", *SHOTS)
        run("latentman.blender_addon.reference_shots", str(folder), "--frames", str(frames), "--world", *shots)
    return folder


def generate(passes: Path, prompt: str, preset: str, out: Path) -> list[Path]:
    """Make a shot's frames, unless they are all there; returns their files."""
    run(
        "latentman.backend",
        *("generate", str(passes), "--prompt", PROMPTS[prompt], "--preset", preset, "--seed", str(SEED)),
        *("--out", str(out), "--jobs", str(WORK / "jobs")),
    )
    return sorted(out.glob("[0-9]*.png"))


def dress(frames_folder: Path) -> list[Path]:
    """Dress the mannequin; returns the views of the turntable in their order."""
    if not (frames_folder / "report.json").exists():
        frames_folder.parent.mkdir(parents=True, exist_ok=True)
        blend = frames_folder.parent / "mannequin.blend"
        begin = (
            "import os, sys; sys.path.insert(0, '.'); import bpy; from latentman.blender_addon import properties; "
            "from tools.demo import build_scene; properties.register(); build_scene(0, 2, 12); "
            f"bpy.ops.wm.save_as_mainfile(filepath={str(blend)!r}); os._exit(0)"
        )
        subprocess.run([sys.executable, "-c", begin], cwd=ROOT, check=True)
        out = ("--out", str(frames_folder))
        run("latentman.blender_addon", str(blend), "dress", "--prompt", DRESSED, "--seed", str(SEED), *out)
    return sorted(frames_folder.glob("[0-9]*.png"))[:TURNS]


def lay_out(rows: Sequence[Sequence[Sequence[Path]]]) -> list[Image.Image]:
    """Clips (rows, columns, frames) beside each other: a picture for every frame."""
    height, width = len(rows), len(rows[0])
    pictures = []
    for n in range(min(len(clip) for row in rows for clip in row)):
        picture = Image.new("RGB", (width * TILE, height * TILE))
        for y, row in enumerate(rows):
            for x, clip in enumerate(row):
                with Image.open(clip[n]) as frame:
                    picture.paste(frame.convert("RGB").resize((TILE, TILE), Image.Resampling.LANCZOS), (x * TILE, y * TILE))
        pictures.append(picture)
    return pictures


def save_moving(pictures: Sequence[Image.Image], path: Path) -> None:
    """Save pictures as one that moves, for ever."""
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *rest = pictures
    first.save(path, save_all=True, append_images=rest, duration=round(1000 / FRAMES_PER_SECOND), loop=0, quality=QUALITY, method=6)
    print(path, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.gallery", description=__doc__)
    names = (*SHOTS, "dressed")
    parser.add_argument("--frames", type=int, default=24, help="frames of every shot; default 24")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="make these pictures")
    args = parser.parse_args(argv)
    passes = render_shots(args.frames)
    made_of = {"version": VERSION, "seed": SEED, "prompts": PROMPTS, "dressed": DRESSED}
    made_of |= describe_making(variants=(BEFORE, AFTER))
    # what a run with other weights, presets or code had made is not gone on with
    key = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]
    for shot in (name for name in SHOTS if name in args.only):
        clips = WORK / f"clips_{args.frames}_{key}" / shot
        rows = [
            [generate(passes / shot, prompt, preset, clips / f"{prompt}_{preset}") for prompt in PROMPTS]
            for preset in (BEFORE, AFTER)
        ]
        save_moving(lay_out(rows), IMAGES / f"{shot}.webp")
    if "dressed" in args.only:
        save_moving(lay_out([[dress(WORK / f"dressed_{key}" / "views")]]), IMAGES / "dressed.webp")
    if set(SHOTS) <= set(args.only) and args.frames == parser.get_default("frames"):
        # the page's word on their age is about all three
        (IMAGES / "made_of.json").write_text(json.dumps(made_of, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
