"""``python -m tests.model_layouts [--write]``: every layout of model files, written as other programs write it, and whether it is
recognised, loads without a connection, and makes the pictures of diffusers' own pipeline.

The networks are shrunk ones of the real architecture. ``--write`` puts the table into ``docs/models.md``.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, StableDiffusionControlNetPipeline, StableDiffusionXLControlNetPipeline
from safetensors.torch import load_file, save_file

from latentman.backend.models.loading import load
from latentman.backend.models.plans import open_model_file
from latentman.backend.models.recognition import inspect_model_file
from latentman.backend.models.registry import find_model
from latentman.backend.models.tokenizers import make_clip_tokenizer
from latentman.backend.video.controls import make_control_pictures
from latentman.backend.video.pipeline import RunContext, ShotPipeline
from latentman.shared.shot import ShotError
from tests import lora_files, samples
from tests import original_layout as original

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"
MARKS = ("<!-- layouts: begin -->", "<!-- layouts: end -->")
FAMILIES = {"sd1": "SD 1.x", "sd2": "SD 2.x, v", "sdxl": "SDXL"}
CPU = torch.device("cpu")
LORAS = ("LoRA", "LoCon", "LoHa", "LoKr", "DoRA", "GLoRA", "IA3", "full difference")
SIZE, STEPS, GUIDANCE, PROMPT, NEGATIVE = 64, 4, 5.0, "a photo of a cat", "bad"


class Networks:
    """The shrunk networks of a family."""

    def __init__(self, family: str) -> None:
        torch.manual_seed(list(FAMILIES).index(family))
        self.family, self.unet, self.vae = family, original.make_unet(family), original.make_vae()
        self.vae.register_to_config(scaling_factor=0.13025 if family == "sdxl" else 0.18215, force_upcast=family == "sdxl")
        self.encoders, self.control = original.make_text_encoders(family), original.make_controlnet(self.unet)

    def copy(self) -> Networks:
        """Networks of its own with the same weights."""
        return copy.deepcopy(self)

    def write_checkpoint(self) -> original.State:
        """All tensors in the original layout."""
        return original.checkpoint_to_original(self.family, self.unet, self.vae, self.encoders)

    def write_control(self) -> original.State:
        """The ControlNet's tensors in the original layout."""
        return original.unet_to_original(self.control.state_dict(), original.LAYERS, original.ATTENTION[self.family])

    def make_pipeline(self, **scheduler: Any) -> DiffusionPipeline:
        """Diffusers' own pipeline."""
        parts: dict[str, Any] = dict(vae=self.vae, unet=self.unet, controlnet=self.control, text_encoder=self.encoders[0])
        options: dict[str, Any] = dict(prediction_type="v_prediction" if self.family == "sd2" else "epsilon") | scheduler
        parts["scheduler"] = DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            **options,
        )
        parts["tokenizer"] = make_clip_tokenizer("!" if self.family == "sd2" else "<|endoftext|>")
        if self.family == "sdxl":
            return StableDiffusionXLControlNetPipeline(
                text_encoder_2=self.encoders[1], tokenizer_2=make_clip_tokenizer("!"), add_watermarker=False, **parts
            )
        return StableDiffusionControlNetPipeline(
            safety_checker=None, feature_extractor=None, requires_safety_checker=False, **parts
        )


@dataclass(frozen=True)
class Case:
    """A model's name, the pipeline whose pictures it should make, the file that is to be recognised and as what, and the prompt."""

    name: str
    pipeline: DiffusionPipeline
    file: Path | None = None
    kind: str = ""
    prompt: str = PROMPT
    #: what diffusers' pipeline reads instead
    their_prompt: str = ""


Write = Callable[[Networks, Path], Case]


@dataclass(frozen=True)
class Layout:
    """A layout under its title, and what writes it."""

    title: str
    family: str
    write: Write


def _checkpoint(name: str, change: Callable[[original.State], Any] = dict, **scheduler: Any) -> Write:
    """A whole model in one file beside its ControlNet; ``change`` makes what is stored of the tensors."""

    def write(networks: Networks, folder: Path) -> Case:
        path, control = folder / name, folder / "depth.safetensors"
        stored = change(networks.write_checkpoint())
        if path.suffix.lower() == ".safetensors":
            save_file(stored, path)
        else:
            torch.save(stored, path)
        save_file(networks.write_control(), control)
        return Case(f"{path}|{control}", networks.make_pipeline(**scheduler), path, "checkpoint")

    return write


def _half(state: original.State) -> original.State:
    return {name: value.half() if value.is_floating_point() else value for name, value in state.items()}


def _folder(change: Callable[[Path], None], **options: Any) -> Write:
    """A diffusers folder with its ControlNet, changed on the disk."""

    def write(networks: Networks, folder: Path) -> Case:
        pipeline = networks.make_pipeline()
        pipeline.save_pretrained(folder / "model", **options)
        change(folder / "model")
        return Case(str(folder / "model"), pipeline)

    return write


def _leave(_: Path) -> None:
    return None


def _list_weights(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def _to_pickles(folder: Path) -> None:
    for path in _list_weights(folder):
        name = "pytorch_model.bin" if path.stem == "model" else "diffusion_pytorch_model.bin"
        torch.save(load_file(path), path.with_name(name))
        path.unlink()


def _list_safety_checker(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "requires_safety_checker": True}
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index))


def _control(name: str, change: Callable[[Networks], original.State]) -> Write:
    """A ControlNet in a file of its own, for a diffusers folder."""

    def write(networks: Networks, folder: Path) -> Case:
        pipeline = networks.make_pipeline()
        pipeline.save_pretrained(folder / "model")
        path = folder / name
        state = change(networks)
        if path.suffix.lower() == ".safetensors":
            save_file(state, path)
        else:
            torch.save(state, path)
        return Case(f"{folder / 'model'}|depth={path}", pipeline, path, "controlnet")

    return write


def _vae(name: str, change: Callable[[Any], original.State]) -> Write:
    """Another auto-encoder in a file of its own."""

    def write(networks: Networks, folder: Path) -> Case:
        other = networks.copy()
        torch.manual_seed(9)
        other.vae = original.make_vae()
        other.vae.register_to_config(**{key: networks.vae.config[key] for key in ("scaling_factor", "force_upcast")})
        networks.make_pipeline().save_pretrained(folder / "model")
        path = folder / name
        state = change(other.vae)
        if path.suffix.lower() == ".safetensors":
            save_file(state, path)
        else:
            torch.save({"state_dict": state}, path)
        return Case(f"{folder / 'model'}|vae={path}", other.make_pipeline(), path, "vae")

    return write


def _original_vae(vae: Any) -> original.State:
    return original.vae_to_original(vae.state_dict(), len(vae.config.block_out_channels))


def _early_names(vae: Any) -> original.State:
    words = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    return {re.sub(r"to_[qkv]|to_out\.0", lambda found: words[found[0]], name): value for name, value in vae.state_dict().items()}


def _embedding(name: str, change: Callable[[list[torch.Tensor]], Any]) -> Write:
    """A textual inversion of two vectors, whose word is the file's name."""

    def write(networks: Networks, folder: Path) -> Case:
        networks.make_pipeline().save_pretrained(folder / "model")
        torch.manual_seed(3)
        vectors = [torch.randn(2, encoder.config.hidden_size) for encoder in networks.encoders]
        path = folder / name
        stored = change(vectors)
        if path.suffix.lower() == ".safetensors":
            save_file(stored, path)
        else:
            torch.save(stored, path)
        other = networks.copy().make_pipeline()
        for n, own in enumerate(vectors):
            encoder, tokenizer = (f"{part}_2" if n else part for part in ("text_encoder", "tokenizer"))
            other.load_textual_inversion(
                own, token="<theirs>", text_encoder=other.components[encoder], tokenizer=other.components[tokenizer]
            )
        word = path.stem
        return Case(f"{folder / 'model'}|embedding={path}", other, path, "embedding", f"a cat, {word}", "a cat, <theirs>")

    return write


STRENGTH = 0.3


class _Changed:
    """Networks as ``lora_files`` asks for them."""

    def __init__(self, networks: Networks) -> None:
        self.family = networks.family
        names = ("text_encoder", "text_encoder_2")
        self.components = {"unet": networks.unet} | dict(zip(names, networks.encoders, strict=False))


def _lora(method: str) -> Write:
    """A LoRA of a method with kohya's names; diffusers' pipeline has its dense differences in the weights."""

    def write(networks: Networks, folder: Path) -> Case:
        networks.make_pipeline().save_pretrained(folder / "model")
        other, path = networks.copy(), folder / "lora.safetensors"
        lora_files.add_differences(_Changed(other), lora_files.write_file(_Changed(networks), method, path), STRENGTH)
        return Case(f"{folder / 'model'}|lora={path}@{STRENGTH}", other.make_pipeline(), path, "lora")

    return write


def _their_lora(names: tuple[str, str]) -> Write:
    """A LoRA with the names of diffusers or PEFT, which diffusers' pipeline loads itself."""

    def write(networks: Networks, folder: Path) -> Case:
        networks.make_pipeline().save_pretrained(folder / "model")
        torch.manual_seed(7)
        state = {}
        for module in (lora_files.ATTENTION, lora_files.TEXT, lora_files.FEED):
            own = networks.unet.get_submodule(module).weight
            for name, shape in zip(names, ((4, own.shape[1]), (own.shape[0], 4)), strict=True):
                state[f"unet.{module}.{name}.weight"] = torch.randn(shape) * 0.3
        path = folder / "lora.safetensors"
        save_file(state, path)
        other = networks.copy().make_pipeline()
        other.load_lora_weights(str(folder), weight_name=path.name, adapter_name="theirs")
        other.set_adapters(["theirs"], [STRENGTH])
        return Case(f"{folder / 'model'}|lora={path}@{STRENGTH}", other, path, "lora")

    return write


def _by_names(vectors: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    return dict(zip(("clip_l", "clip_g"), vectors, strict=False)) if len(vectors) > 1 else {"emb_params": vectors[0]}


def _by_web_ui(vectors: list[torch.Tensor]) -> dict[str, Any]:
    return {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors[0]}, "name": "mine", "step": 1000}


def list_layouts() -> list[Layout]:
    """Every layout, in the order of the table."""
    out = []
    for family in FAMILIES:
        out += [
            Layout("one file, `.safetensors`", family, _checkpoint("model.safetensors")),
            Layout("one file, `.ckpt`", family, _checkpoint("model.ckpt", lambda state: {"state_dict": state, "global_step": 1})),
            Layout("one file, `.SAFETENSORS`, EMA weights beside", family, _checkpoint("MODEL.SAFETENSORS", original.add_ema)),
            Layout("diffusers folder", family, _folder(_leave)),
            Layout("diffusers folder, `.bin`", family, _folder(_to_pickles)),
            Layout("diffusers folder, only `*.fp16.safetensors`", family, _folder(_leave, variant="fp16")),
            Layout("diffusers folder, in shards", family, _folder(_leave, max_shard_size="1MB")),
            Layout("ControlNet, original layout, `.pth`", family, _control("depth.pth", lambda own: own.write_control())),
            Layout(
                "ControlNet, original layout, `.safetensors`, behind `control_model.`",
                family,
                _control("depth.safetensors", lambda own: original.under("control_model.", own.write_control())),
            ),
            Layout(
                "ControlNet, diffusers' layout, `.safetensors`",
                family,
                _control("depth.safetensors", lambda own: own.control.state_dict()),
            ),
            Layout("VAE, original layout, `.ckpt`", family, _vae("vae.ckpt", _original_vae)),
            Layout("VAE, diffusers' layout, `.safetensors`", family, _vae("vae.safetensors", lambda v: v.state_dict())),
            Layout("VAE, early names of diffusers", family, _vae("vae.safetensors", _early_names)),
            *(Layout(f"{method}, names of kohya and LyCORIS", family, _lora(method)) for method in LORAS),
            Layout("LoRA, names of PEFT", family, _their_lora(("lora_A", "lora_B"))),
            Layout("LoRA, names of diffusers", family, _their_lora(("lora.down", "lora.up"))),
            Layout("textual inversion, `.safetensors`", family, _embedding("EasyNegative.safetensors", _by_names)),
        ]
    out += [
        *(Layout("textual inversion, `.pt`", family, _embedding("my-style.pt", _by_web_ui)) for family in ("sd1", "sd2")),
        Layout("diffusers folder, safety checker missing", "sd1", _folder(_list_safety_checker)),
        Layout(
            "one file, v and zero terminal SNR by `v_pred` and `ztsnr`",
            "sdxl",
            _checkpoint(
                "model.safetensors",
                lambda state: state | {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)},
                prediction_type="v_prediction",
                rescale_betas_zero_snr=True,
                timestep_spacing="trailing",
            ),
        ),
    ]
    return out


@dataclass(frozen=True)
class Figures:
    """What came of a layout; ``level`` is the largest difference of a picture's levels of 255, ``said`` the first sentence of what
    went wrong."""

    recognised: bool
    loads: bool
    level: int
    said: str = ""

    @property
    def good(self) -> bool:
        """Whether all is as it should be."""
        return self.recognised and self.loads and self.level <= 1


@contextmanager
def without_connection() -> Any:
    """Whoever connects to anything fails."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("it asks for a connection")

    kept = socket.socket.connect, socket.getaddrinfo
    socket.socket.connect, socket.getaddrinfo = refuse, refuse  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        socket.socket.connect, socket.getaddrinfo = kept  # type: ignore[method-assign]


def _is_recognised(case: Case) -> bool:
    if case.file is None:
        return bool(find_model(case.name).base)
    found = inspect_model_file(case.file)
    if found.kind == "checkpoint":
        open_model_file(case.file, "checkpoint")
    return found.kind == case.kind and not found.problem


def measure(layout: Layout, networks: Networks, folder: Path) -> Figures:
    """Write a layout, load it without a connection, and compare a frame with diffusers' own pipeline."""
    case = layout.write(networks, folder)
    try:
        with without_connection():
            recognised = _is_recognised(case)
            model = load(case.name, CPU)
    except ShotError as error:
        return Figures(recognised=False, loads=False, level=255, said=str(error))
    request = samples.request(
        1,
        steps=STEPS,
        preset="per_frame",
        guidance_scale=GUIDANCE,
        prompt=case.prompt,
        negative_prompt=NEGATIVE,
        scheduler="ddim",
        width=SIZE,
        height=SIZE,
    )
    passes = samples.passes(1, SIZE)
    noise = torch.randn(1, 4, SIZE // 8, SIZE // 8, generator=torch.Generator().manual_seed(1))
    (ours,) = ShotPipeline(model, request, passes, RunContext(), noise=noise).frames()
    (picture,) = make_control_pictures(passes, request, ("depth",))
    case.pipeline.set_progress_bar_config(disable=True)
    with torch.no_grad():
        theirs = case.pipeline(
            prompt=case.their_prompt or case.prompt,
            negative_prompt=NEGATIVE,
            image=torch.from_numpy(picture).float(),
            latents=noise.clone(),
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            width=SIZE,
            height=SIZE,
            output_type="np",
        ).images[0]
    level = int(np.abs(ours.astype(int) - (theirs * 255).round().astype(int)).max())
    assert ours.std() > 1, "a picture of one colour shows nothing"
    return Figures(recognised, loads=True, level=level)


def write_table(found: dict[Layout, Figures]) -> str:
    """The table: a row for each title, a column for each family."""
    titles = list(dict.fromkeys(layout.title for layout in found))
    lines = ["| layout | " + " | ".join(FAMILIES.values()) + " |", "|---" * (1 + len(FAMILIES)) + "|"]
    for title in titles:
        cells = []
        for family in FAMILIES:
            figures = next((own for layout, own in found.items() if (layout.title, layout.family) == (title, family)), None)
            if figures is None:
                cells.append("")
            elif figures.said:
                cells.append(figures.said.replace("|", "\\|"))
            else:
                words = ["yes" if own else "no" for own in (figures.recognised, figures.loads, figures.level <= 1)]
                cells.append(" · ".join(words) + f" ({figures.level})")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the command line; 1 where a layout is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into docs/models.md")
    args = parser.parse_args()
    networks, found = {family: Networks(family) for family in FAMILIES}, {}
    for layout in list_layouts():
        with tempfile.TemporaryDirectory() as folder:
            found[layout] = measure(layout, networks[layout.family], Path(folder))
        print(f"{layout.family:5} {layout.title:75} {found[layout]}", flush=True)
    table = write_table(found)
    print(table)
    if args.write:
        text = PAGE.read_text(encoding="utf-8")
        before, after = text.index(MARKS[0]) + len(MARKS[0]), text.index(MARKS[1])
        PAGE.write_text(text[:before] + "\n\n" + table + "\n" + text[after:], encoding="utf-8")
    return int(not all(figures.good for figures in found.values()))


if __name__ == "__main__":
    sys.exit(main())
