"""The examples in CONTRIBUTING's pages do what the pages say, as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("bpy")

from diffusers import (  # noqa: E402
    ControlNetUnionModel,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLControlNetUnionPipeline,
)
from PIL import Image  # noqa: E402

from latentman.backend import maps  # noqa: E402
from latentman.backend.__main__ import main  # noqa: E402
from latentman.backend.models import families, registry  # noqa: E402
from latentman.backend.models.loading import load  # noqa: E402
from latentman.backend.video.pipeline import RunContext, ShotPipeline  # noqa: E402
from latentman.blender_addon.motion import layouts  # noqa: E402
from latentman.blender_addon.motion.readers import read  # noqa: E402
from latentman.shared import passes_folder  # noqa: E402
from latentman.shared.manifest import PassesManifest  # noqa: E402
from latentman.shared.passes import FramePasses  # noqa: E402
from latentman.shared.shot import ShotError  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend import tiny  # noqa: E402
from tests.checkout import ROOT, copy_checkout  # noqa: E402

PAGES = ROOT / "docs" / "development"


def codes_of(page: str) -> list[str]:
    """The Python examples of a page."""
    return re.findall(r"```python\n(.*?)```", (PAGES / page).read_text(encoding="utf-8"), re.S)


def code_of(page: str) -> str:
    """The first Python example of a page."""
    return codes_of(page)[0]


def run_in(module, code: str) -> None:
    """Run an example at the end of a module, as somebody would write it there."""
    exec(compile(code, f"<example in {module.__name__}>", "exec"), vars(module))


def frames_of(model, request, passes) -> np.ndarray:
    """(F, H, W, 3) int of a shot."""
    return np.stack(list(ShotPipeline(model, request, passes, RunContext()).frames())).astype(int)


def test_paths_in_the_pages_exist():
    pages = [ROOT / "CONTRIBUTING.md", *PAGES.glob("*.md"), *(ROOT / "docs" / "decisions").glob("*.md")]
    of_examples = {"backend/video/techniques/colour_matching.py"}
    for page in pages:
        for path in re.findall(r"`((?:shared|backend|blender_addon|tools|tests|docs)/[\w./]*)`", page.read_text(encoding="utf-8")):
            assert path in of_examples or (ROOT / path).exists(), f"{page.name} names {path}"


def test_a_motion_format(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(layouts, "VECTOR_LAYOUTS", dict(layouts.VECTOR_LAYOUTS))
    run_in(layouts, code_of("add_a_motion_format.md"))
    vectors = np.cumsum(rng.normal(0, 0.02, (40, 69)), 0)
    vectors[:, 1] += 0.95
    np.save(tmp_path / "clip.npy", vectors)
    file = read(tmp_path / "clip.npy")
    assert file.describe() == ["69-number vectors", "0: clip · 40 frames at 30 fps"]
    motion = file.get_motion(0)
    assert motion.fps == 30 and motion.joints.shape == (40, 22, 3)
    assert np.abs(motion.joints[:, 0] - vectors[:, :3]).max() < 1e-9
    # the angle of a quaternion is the length of its axis-angle vector
    turned = np.linalg.norm(vectors[:, 3:].reshape(40, 22, 3), axis=-1)
    found = 2 * np.arccos(np.clip(np.abs(motion.rotations[:, :22, 0]), 0, 1))
    assert np.abs(np.where(turned > np.pi, 2 * np.pi - turned, turned) - found).max() < 1e-6


#: asks for motions by name, as a fresh process with the package installed does
ASK_SWAY = """
import json, sys
import torch
from latentman.backend.motion.registry import describe_sources, load
from latentman.shared.motion import MotionError
from latentman.shared.motion_request import Kept, MotionRequest
import numpy as np

def ask(name, request, kept=None):
    try:
        made = load(name, torch.device("cpu")).make(request, kept, lambda step, of: None)
    except MotionError as error:
        return str(error)
    lean = 2 * np.degrees(np.arctan2(made.rotations[:, :, 0, 3], made.rotations[:, :, 0, 0]))
    gap = float(np.abs(made.joints[:, 0] - made.joints[:, -1]).max())
    return [made.joints.shape, made.fps, float(np.abs(lean).max()), made.warnings, gap]

parts = np.zeros((40, 3), bool)
parts[:, 0] = True
kept = Kept(np.zeros((40, 22, 3), np.float32), parts)
print(json.dumps([
    [line for line in describe_sources() if line.startswith("sway")],
    ask("sway", MotionRequest("a person sways", 2.0, variants=2)),
    ask("sway:degrees=25", MotionRequest("a person sways | sways", 2.0)),
    ask("sway", MotionRequest("a person sways", 2.0, loop=True)),
    ask("sway", MotionRequest("a person walks", 2.0)),
    ask("sway", MotionRequest("a person sways", 30.0)),
    ask("sway", MotionRequest("a person sways", 2.0), kept),
    ask("sway:degrees=90", MotionRequest("a person sways", 2.0)),
    ask("sway:speed=1", MotionRequest("a person sways", 2.0)),
]))
"""


@pytest.mark.slow
def test_a_motion_source(tmp_path):
    package = tmp_path / "site"
    (package / "my_package-1.0.dist-info").mkdir(parents=True)
    (package / "my_package.py").write_text(code_of("add_a_motion_source.md"))
    (package / "my_package-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    page = (PAGES / "add_a_motion_source.md").read_text(encoding="utf-8")
    (toml,) = re.findall(r"```toml\n(.*?)```", page, re.S)
    group, entry = re.findall(r'entry-points\."(.*?)"\]\n(.*)', toml)[0]
    (package / "my_package-1.0.dist-info" / "entry_points.txt").write_text(f"[{group}]\n{entry.replace(chr(34), '')}\n")
    done = subprocess.run(
        [sys.executable, "-c", ASK_SWAY],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(package), str(ROOT / "build" / "package"), str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    listed, plain, wide, loop, other, long, kept, far, unknown = json.loads(done.stdout.splitlines()[-1])
    assert listed == ["sway: Sway. leans from side to side; keeps nothing; settings: degrees"]
    assert plain[0] == [2, 120, 22, 3], plain
    assert plain[1] == 60 and plain[2] == pytest.approx(10, abs=0.1) and plain[3] == []
    assert wide[2] == pytest.approx(25, abs=0.1) and wide[3] == ["Every sentence sways alike."]
    assert loop[4] < 1e-4
    assert other == "This model only sways; write that the person sways."
    assert "makes at most 20 seconds" in long and "cannot keep the path of a motion; choose another model" in kept
    assert "choose 0 to 45" in far and "does not know the setting 'speed'; it has degrees" in unknown


@pytest.fixture
def with_outline(monkeypatch):
    """The kind of the page, for one test."""
    before = dict(maps.MAPS)
    run_in(maps, code_of("add_a_controlnet_kind.md"))
    # as a fresh start of Python has it
    monkeypatch.setattr(registry, "CONTROLS", tuple(kind for kind in maps.MAPS if kind not in maps.FOR_NO_CONTROLNET))
    yield
    maps.MAPS.clear()
    maps.MAPS.update(before)


def test_a_controlnet_kind(tmp_path, with_outline):
    passes = samples.passes(2)
    manifest = PassesManifest(64, 64, 20.0, (1, 2), 1.0, 2.0)
    pictures = maps.MAPS["outline"](passes, manifest)
    assert pictures.shape == (2, 64, 64, 3) and pictures.dtype == np.uint8
    regions = passes.mask.astype(int) * 10 + passes.part
    for y, x in np.ndindex(63, 63):
        here = regions[0, y + 1, x + 1]
        assert (pictures[0, y + 1, x + 1, 0] == 255) == (
            here not in (regions[0, y, x + 1], here + 1) or here != regions[0, y + 1, x]
        )

    passes_folder.save(tmp_path / "passes", passes, manifest)
    assert main(["export", str(tmp_path / "passes"), "--out", str(tmp_path / "maps"), "--maps", "outline"]) == 0
    (written,) = (tmp_path / "maps").rglob("*0001*.png")
    assert (np.asarray(Image.open(written)) == pictures[0]).all()

    tiny.write_sd(tmp_path / "models")
    base, control = tmp_path / "models" / "base", tmp_path / "models" / "control"
    request = samples.request(2, steps=2, manifest=manifest)
    both = load(f"{base}|depth={control}|outline={control}", torch.device("cpu"))
    assert both.controls == ("depth", "outline")
    made = frames_of(both, request, passes)
    assert (made != frames_of(load(f"{base}|depth={control}", torch.device("cpu")), request, passes)).any()


def write_union(root: Path) -> None:
    """A tiny SDXL in ``whole`` and ``base``, with a union ControlNet that lies apart in ``union``, too."""
    tiny.write_sdxl(root / "plain")
    plain = StableDiffusionXLControlNetPipeline.from_pretrained(root / "plain")
    torch.manual_seed(1)
    names = ("block_out_channels", "norm_num_groups", "layers_per_block", "cross_attention_dim", "attention_head_dim")
    names += ("down_block_types", "addition_embed_type", "addition_time_embed_dim", "use_linear_projection")
    names += ("projection_class_embeddings_input_dim",)
    union = ControlNetUnionModel(
        **{name: plain.controlnet.config[name] for name in names},
        conditioning_embedding_out_channels=(4, 8, 8, 16),
        num_trans_channel=16,
        num_trans_head=2,
        num_proj_channel=16,
    )
    # a fresh ControlNet adds nothing: its last layers begin at zero, and those that take the picture hardly see it
    for layer in (*union.controlnet_down_blocks, union.controlnet_mid_block):
        torch.nn.init.normal_(layer.weight, std=0.2)
    for weight in union.controlnet_cond_embedding.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    union.save_pretrained(root / "union")
    parts = {name: part for name, part in plain.components.items() if name not in ("controlnet", "image_encoder")}
    StableDiffusionXLControlNetUnionPipeline(controlnet=union, **parts).save_pretrained(root / "whole")


def test_a_model_family(tmp_path, monkeypatch):
    write_union(tmp_path)
    known = [family for family in families.FAMILIES if type(family).__name__ != "StableDiffusionXLUnion"]
    monkeypatch.setattr(families, "FAMILIES", known)
    name = f"{tmp_path / 'whole'}|depth={tmp_path / 'union'}"
    with pytest.raises(ShotError, match="ControlNetUnionModel for a kind of model that is not supported"):
        load(name, torch.device("cpu"))
    space: dict = {}
    exec(compile(code_of("add_a_model_family.md"), "<example>", "exec"), space)
    passes = samples.passes(2)
    far = FramePasses(**{**passes.arrays(), "depth": passes.depth * 0.3})
    made = []
    request = samples.request(2, steps=3, background_prompt="a beach")
    for one in (name, str(tmp_path / "whole")):
        model = load(one, torch.device("cpu"))
        assert isinstance(model.family, space["StableDiffusionXLUnion"]) and isinstance(model.controlnet, ControlNetUnionModel)
        made.append(frames_of(model, request, passes))
        assert made[0].shape == (2, 64, 64, 3) and made[0].std() > 1
        near_latents, far_latents = (ShotPipeline(model, request, clip, RunContext()).latents() for clip in (passes, far))
        assert (near_latents - far_latents).abs().max() > 0.02 * near_latents.std(), "the picture follows the depth"
    assert (made[0] == made[1]).all()


def copy_package(target: Path) -> Path:
    """The package in a folder of its own, to be changed."""
    names = ("shared", "backend", "blender_addon", "tools", "__init__.py", "blender_manifest.toml")
    package = copy_checkout(target / "latentman", *names)
    (package / "docs").mkdir()
    return package


def run_copy(package: Path, *arguments: str) -> str:
    """What a fresh Python prints that finds a copy of the package, its tools and nothing of this checkout."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=package.parent,
        env={**os.environ, "PYTHONPATH": f"{package.parent}{os.pathsep}{package}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def find_on_settings_page(package: Path, text: str) -> list[str]:
    """The lines with a text on the page of settings that the copy of the package writes."""
    run_copy(package, "-m", "tools.write_settings_page")
    page = (package / "docs" / "settings.md").read_text(encoding="utf-8")
    return [line for line in page.splitlines() if text in line]


def insert(file: Path, before: str, code: str) -> None:
    """Put lines before the one that begins with a text, unless somebody has done so while trying the page out."""
    text = file.read_text(encoding="utf-8")
    if code not in text:
        at = text.index(before)
        file.write_text(text[:at] + code + text[at:], encoding="utf-8")


#: what a fresh process knows of a technique, once it is built in
TRY_TECHNIQUE = """
import argparse, json

import torch
from latentman.backend.video.techniques.registry import build_techniques
from latentman.shared import arguments, shot

parser = argparse.ArgumentParser()
arguments.add_method_arguments(parser)
method = arguments.read_method(parser.parse_args(["--colour-matching-strength", "1"]), "per_frame")
shot.check_request(shot.make_request("x", (1,), 24.0, method=method))
(technique,) = build_techniques(method)
technique.context = type("Clip", (), {"joint": True})
clean = technique.correct_clean(torch.arange(16.0).view(2, 2, 2, 2), 0)
found = {
    "name": type(technique).__name__,
    "means": clean.mean((2, 3)).tolist(),
}
print("FOUND" + json.dumps(found), flush=True)
"""


@pytest.mark.slow
def test_a_built_in_technique(tmp_path):
    package = copy_package(tmp_path)
    example, struct, field, imports, entry = codes_of("add_a_technique.md")
    shot_module, techniques = package / "shared" / "shot.py", package / "backend" / "video" / "techniques"
    insert(shot_module, "class Method(", f"{struct}\n\n")
    insert(shot_module, "    plugins: dict", field)
    body = example[example.index("class SteadyColours") :].replace("SteadyColours", "LatentColourMatching")
    body = body.replace("settings_type = Settings", "settings_type = ColourMatching")
    (techniques / "colour_matching.py").write_text(f"{imports}\n\n{body}", encoding="utf-8")
    insert(techniques / "registry.py", "from .cross_frame", "from .colour_matching import LatentColourMatching\n")
    insert(techniques / "registry.py", "}\n\n\ndef build_techniques", entry)
    found = json.loads(run_copy(package, "-c", TRY_TECHNIQUE).partition("FOUND")[2].splitlines()[0])
    assert found["name"] == "LatentColourMatching" and found["means"][0] == found["means"][1] == [1.5, 5.5]
    (line,) = find_on_settings_page(package, "--colour-matching-strength")
    assert "How much of the first frame's colours all take" in line


#: what a fresh process knows of a preset, once it is declared
TRY_PRESET = """
import argparse, json, os, traceback

import bpy
from latentman.blender_addon import properties
from latentman.shared import arguments, shot

NAME = "surface_crisp"
try:
    properties.register()
    settings = bpy.context.scene.latentman
    # what both command lines are made of
    parser = argparse.ArgumentParser()
    arguments.add_settings(parser, shot.ShotRequest)
    args = parser.parse_args(["--prompt", "x", "--fps", "24", "--preset", NAME])
    request = shot.make_request("x", (1,), 24.0, preset=NAME)
    shot.check_request(request)
    settings.preset = NAME
    found = {
        "argument": args.preset,
        "sharpness": request.get_method().fusion.sharpness,
        "panel": [(item.identifier, item.name) for item in settings.bl_rna.properties["preset"].enum_items][-1],
        "chosen": settings.preset,
        "others": [name for name in shot.PRESETS if name != NAME],
    }
    print("FOUND" + json.dumps(found), flush=True)
    os._exit(0)
except BaseException:
    # an interpreter with the add-on registered does not end by itself
    traceback.print_exc()
    os._exit(1)
"""


def test_a_preset(tmp_path):
    from latentman.shared.shot import PRESETS

    package = copy_package(tmp_path)
    insert(package / "shared" / "shot.py", "}\n#: those that are offered", code_of("add_a_preset.md"))
    found = json.loads(run_copy(package, "-c", TRY_PRESET).partition("FOUND")[2].splitlines()[0])
    assert found["argument"] == found["chosen"] == "surface_crisp" and found["sharpness"] == 100
    assert found["panel"] == ["surface_crisp", "Surface, Crisp"]
    assert found["others"] == [name for name in PRESETS if name != "surface_crisp"]
    (line,) = find_on_settings_page(package, "| surface_crisp |")
    assert "sharpness 100" in line
