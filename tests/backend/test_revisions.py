"""Models of the hub are loaded at the commit that is written down, however they are named."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import save_file
from transformers import CLIPTextConfig

from latentman.backend.models.registry import HUB_REVISIONS, PRESETS, fingerprint, split_revision
from latentman.backend.motion.registry import STARTER as MOTION_STARTER
from latentman.backend.motion.text import HUB
from tests.backend import tiny
from tests.checkout import ROOT, clean_environment

COMMIT, OTHER = "0123456789abcdef" * 2 + "01234567", "f" * 40


class Hub:
    """The hub as it lies in a cache on disk: the real loaders read it, offline, in a process of their own."""

    PROGRAM = """
import json, sys
import torch
from latentman.backend.models.loading import load
from latentman.backend.motion.text import TextEncoder
said = {}
for name in sys.argv[1:]:
    try:
        if name.startswith("text:"):
            TextEncoder("clip", name[5:] or None, torch.device("cpu"))
        else:
            load(name, torch.device("cpu"))
        said[name] = "loaded"
    except Exception as error:
        said[name] = f"{type(error).__name__}: {error}"
print("\\n" + json.dumps(said))
"""

    def __init__(self, folder):
        self.folder = folder

    def add(self, name, commit, source=None, newest=False):
        """A repository's files at a commit; without ``source`` files that nobody can load."""
        root = self.folder / f"models--{name.replace('/', '--')}"
        snapshot = root / "snapshots" / commit
        if source is None:
            snapshot.mkdir(parents=True)
            for file in ("config.json", "model_index.json"):
                (snapshot / file).write_text('{"_class_name": "Nothing"}')
        else:
            shutil.copytree(source, snapshot)
        if newest:
            (root / "refs").mkdir(exist_ok=True)
            (root / "refs" / "main").write_text(commit)

    def load(self, *names):
        """What loading each of the names said."""
        environment = clean_environment(self.folder / "home") | {"HF_HUB_CACHE": str(self.folder), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", self.PROGRAM, *names],
            cwd=self.folder,
            env=environment | {"PYTHONPATH": str(ROOT / "build" / "package")},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """A tiny Stable Diffusion and a tiny SDXL, bases and ControlNets."""
    root = tmp_path_factory.mktemp("networks")
    tiny.write_sd(root / "sd")
    tiny.write_sdxl(root / "xl")
    return {
        "sd15": (root / "sd" / "base", root / "sd" / "control"),
        "sdxl": (root / "xl", root / "xl" / "controlnet"),
    }


def test_every_name_of_the_hub_has_a_commit():
    for source in PRESETS.values():
        for name in (source.base, *(control for _, control in source.controls)):
            assert Path(name).is_dir() or name in HUB_REVISIONS, name
    assert set(HUB.values()) <= set(HUB_REVISIONS)
    assert all(re.fullmatch("[0-9a-f]{40}", commit) for commit in HUB_REVISIONS.values())
    assert len(set(HUB_REVISIONS.values())) == len(HUB_REVISIONS)


@pytest.mark.slow
def test_presets_are_loaded_at_their_commits(networks, tmp_path):
    """What the owners put there since then is not even looked at."""
    hub = Hub(tmp_path)
    for preset, folders in networks.items():
        source = PRESETS[preset]
        for name, folder in zip((source.base, source.controls[0][1]), folders, strict=True):
            hub.add(name, HUB_REVISIONS[name], folder)
            hub.add(name, OTHER, newest=True)
    base, control = PRESETS["sd15"].base, PRESETS["sd15"].controls[0][1]
    other = f"{base}@{OTHER}|{control}", f"{base}|{control}@{OTHER}"
    said = hub.load("sd15", "sdxl", f"{base}|{control}", f"sd15|depth={control}", *other)
    assert list(said.values())[:4] == ["loaded"] * 4, said
    assert all(said[name].startswith("ShotError: The model") for name in other), said


@pytest.mark.slow
def test_other_names_are_loaded_at_the_commits_behind_them(networks, tmp_path):
    hub = Hub(tmp_path)
    for name, folder in zip(("me/base", "me/control"), networks["sd15"], strict=True):
        hub.add(name, COMMIT, folder)
        hub.add(name, OTHER, newest=True)
    pinned = f"me/base@{COMMIT}|me/control@{COMMIT}"
    newest = "me/base|me/control", f"me/base@{COMMIT}|me/control", f"me/base|me/control@{COMMIT}"
    said = hub.load(pinned, *newest)
    assert said.pop(pinned) == "loaded" and all(text.startswith("ShotError: The model") for text in said.values()), said


@pytest.mark.slow
def test_loras_and_textual_inversions_of_the_hub(networks, tmp_path):
    """Offline from the cache, under diffusers' names and others, at a commit or the newest."""
    hub = Hub(tmp_path / "hub")
    base, control = (str(folder) for folder in networks["sd15"])
    name = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    for file, state in {
        "usual/pytorch_lora_weights.safetensors": {f"unet.{name}.lora.{end}.weight": torch.ones(2, 2) for end in ("up", "down")},
        "other/my style.safetensors": {
            f"unet.{name}.lora.up.weight": torch.ones(32, 2),
            f"unet.{name}.lora.down.weight": torch.ones(2, 32),
        },
        "cat/learned_embeds.bin": {"<cat>": torch.ones(CLIPTextConfig.from_pretrained(f"{base}/text_encoder").hidden_size)},
    }.items():
        path = tmp_path / file
        path.parent.mkdir()
        if path.suffix == ".bin":
            torch.save(state, path)
        else:
            save_file(state, path)
        hub.add(f"me/{path.parent.name}", COMMIT, path.parent, newest=True)
    model = f"{base}|{control}"
    good = [f"{model}|lora=me/other|embedding=me/cat", f"{model}|lora=me/other@0.5", f"{model}|lora=me/other@{COMMIT}@0.5"]
    bad = [f"{model}|lora=me/usual", f"{model}|lora=me/absent", f"{model}|lora=me/other@{OTHER}", f"{model}|embedding=me/other"]
    said = hub.load(*good, *bad)
    assert [said[name] for name in good] == ["loaded"] * 3, said
    assert "does not fit this model" in said[bad[0]] and "holds no textual inversion" in said[bad[3]]
    assert all(said[name].startswith("ShotError: The model") for name in bad), said


@pytest.mark.slow
def test_text_encoders_are_loaded_at_their_commits(tmp_path):
    hub, encoder = Hub(tmp_path), MOTION_STARTER / "text_encoder"
    hub.add(HUB["clip"], HUB_REVISIONS[HUB["clip"]], encoder)
    hub.add(HUB["clip"], OTHER, newest=True)
    hub.add("me/encoder", COMMIT, encoder)
    hub.add("me/encoder", OTHER, newest=True)
    said = hub.load("text:", f"text:me/encoder@{COMMIT}", "text:me/encoder")
    assert list(said.values())[:2] == ["loaded"] * 2 and said["text:me/encoder"].startswith("MotionError: "), said


def test_what_lies_on_this_machine_has_no_commit(tmp_path, monkeypatch):
    folder = tmp_path / f"model@{COMMIT}"
    folder.mkdir()
    assert split_revision(str(folder)) == (str(folder), None)
    # a folder that is named like a preset's hub id
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, tmp_path / PRESETS["sd15"].base)
    assert split_revision(PRESETS["sd15"].base) == (PRESETS["sd15"].base, None)
    for odd in ("me/base@main", "me/base@" + COMMIT[:39], "me/base@" + COMMIT.upper(), "@", "", COMMIT):
        assert split_revision(odd) == (odd, None), odd
    assert fingerprint(f"me/base@{COMMIT}|me/control") != fingerprint(f"me/base@{OTHER}|me/control")


def test_another_pin_is_another_model(monkeypatch):
    before = fingerprint("sdxl"), fingerprint("sd15"), fingerprint("starter")
    monkeypatch.setitem(HUB_REVISIONS, PRESETS["sdxl"].controls[0][1], OTHER)
    after = fingerprint("sdxl"), fingerprint("sd15"), fingerprint("starter")
    assert before[0] != after[0] and before[1:] == after[1:]


def test_an_encoder_beside_its_checkpoint_needs_no_commit():
    own = MOTION_STARTER / "text_encoder"
    assert split_revision(str(own)) == (str(own), None)
