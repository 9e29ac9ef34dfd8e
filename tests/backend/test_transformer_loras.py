"""LoRAs for transformers, in files as trainers write them: added as diffusers adds them, or by hand where it does not read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file, save_file

from latentman.backend.__main__ import main
from latentman.backend.models.image_model import ImageModel
from latentman.backend.models.loading import load
from latentman.backend.models.preflight import check_model
from latentman.backend.models.quantization import is_quantized_part
from latentman.backend.models.transformer_loras import add_transformer_loras
from latentman.backend.video.pipeline import RunContext, ShotPipeline
from latentman.shared.load_options import LoadOptions
from latentman.shared.shot import ShotError
from tests import samples
from tools import tiny_transformers

CPU = torch.device("cpu")
RANK = 3
State = dict[str, torch.Tensor]
#: layers under diffusers' names, of the kinds that trainers choose
LAYERS = {
    "z_image": (
        "layers.1.attention.to_q",
        "layers.0.attention.to_out.0",
        "layers.0.feed_forward.w2",
        "layers.1.adaLN_modulation.0",
    ),
    "qwen_image": ("transformer_blocks.0.attn.to_k", "transformer_blocks.0.attn.to_add_out", "transformer_blocks.0.img_mlp.net.2"),
    "flux": ("transformer_blocks.0.attn.to_v", "single_transformer_blocks.0.proj_mlp", "single_transformer_blocks.0.norm.linear"),
    "sd3": ("transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.add_v_proj", "transformer_blocks.0.ff.net.0.proj"),
    "wan_vace": ("blocks.0.attn1.to_q", "blocks.1.attn2.to_v", "blocks.1.ffn.net.2"),
}
QKV = tuple(f"attn.to_{letter}" for letter in "qkv")
#: layers under their authors' names -> diffusers', several of which share its rows
ORIGINAL = {
    "z_image": {"layers.0.attention.qkv": tuple(f"layers.0.attention.to_{letter}" for letter in "qkv")},
    "flux": {
        "double_blocks.0.img_attn.qkv": tuple(f"transformer_blocks.0.{name}" for name in QKV),
        "double_blocks.0.txt_attn.qkv": tuple(f"transformer_blocks.0.attn.add_{letter}_proj" for letter in "qkv"),
        "double_blocks.0.img_attn.proj": ("transformer_blocks.0.attn.to_out.0",),
        "double_blocks.0.txt_mlp.2": ("transformer_blocks.0.ff_context.net.2",),
        "double_blocks.0.img_mod.lin": ("transformer_blocks.0.norm1.linear",),
        "single_blocks.0.linear1": tuple(f"single_transformer_blocks.0.{name}" for name in (*QKV, "proj_mlp")),
        "single_blocks.0.linear2": ("single_transformer_blocks.0.proj_out",),
    },
    "sd3": {
        "joint_blocks.0.x_block.attn.qkv": tuple(f"transformer_blocks.0.{name}" for name in QKV),
        "joint_blocks.0.context_block.attn.proj": ("transformer_blocks.0.attn.to_add_out",),
        "joint_blocks.1.x_block.mlp.fc2": ("transformer_blocks.1.ff.net.2",),
    },
    "wan_vace": {
        "blocks.0.self_attn.q": ("blocks.0.attn1.to_q",),
        "blocks.1.cross_attn.o": ("blocks.1.attn2.to_out.0",),
        "blocks.0.ffn.0": ("blocks.0.ffn.net.0.proj",),
    },
}


@dataclass(frozen=True)
class Base:
    """A tiny model of a family, by its name, with its transformer's weights."""

    family: str
    name: str
    weights: Mapping[str, torch.Tensor]

    def load(self, *loras: Path | str, options: LoadOptions | None = None) -> ImageModel:
        return load("|".join([self.name, *(f"lora={lora}" for lora in loras)]), CPU, options)


@pytest.fixture(scope="module", params=LAYERS)
def base(request, tmp_path_factory) -> Base:
    return _make_base(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def flux(tmp_path_factory) -> Base:
    return _make_base("flux", tmp_path_factory)


def _make_base(family: str, tmp_path_factory: Any) -> Base:
    root = tmp_path_factory.mktemp(family)
    getattr(tiny_transformers, f"write_{family}")(root)
    control = f"|depth={root / 'control'}" if (root / "control").is_dir() else ""
    weights = load_file(next((root / "base" / "transformer").glob("*.safetensors")))
    return Base(family, f"{root / 'base'}{control}", weights)


def _draw(rows: int, columns: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, RANK, generator=generator), torch.randn(RANK, columns, generator=generator)


def _measure(base: Base, layers: tuple[str, ...]) -> tuple[int, int]:
    """Rows and columns of layers that share them."""
    shapes = [base.weights[f"{layer}.weight"].shape for layer in layers]
    return sum(shape[0] for shape in shapes), shapes[0][1]


def _make(base: Base, layers: Mapping[str, tuple[str, ...]], spell: Callable[[str], str]) -> tuple[State, State]:
    """A file in which the layers have names, with an alpha of 1.5 or none, and what it adds to diffusers' layers."""
    state, added = State(), State()
    for n, (title, targets) in enumerate(layers.items()):
        up, down = _draw(*_measure(base, targets), n)
        ends = ("lora_up", "lora_down") if spell(title).startswith("lora_") else ("lora_B", "lora_A")
        state[f"{spell(title)}.{ends[0]}.weight"], state[f"{spell(title)}.{ends[1]}.weight"] = up.clone(), down.clone()
        scale = 1.0
        if n % 2 == 0 and ends[0] == "lora_up":
            state[f"{spell(title)}.alpha"], scale = torch.tensor(1.5), 1.5 / RANK
        sizes = [base.weights[f"{layer}.weight"].shape[0] for layer in targets]
        for layer, part in zip(targets, (scale * up @ down).split(sizes), strict=True):
            added[layer] = part
    return state, added


def _assert_added(base: Base, model: ImageModel, added: Mapping[str, torch.Tensor], strength: float = 1.0) -> None:
    """All other weights are as they were."""
    found = model.denoiser.state_dict()
    for name, before in base.weights.items():
        more = added.get(name.removesuffix(".weight"))
        wanted = before if more is None or not name.endswith(".weight") else before + strength * more
        assert torch.allclose(found[name].contiguous(), wanted, atol=1e-5), name


def _write(path: Path, state: State) -> Path:
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return path


def _spell_plainly(base: Base) -> dict[str, tuple[str, ...]]:
    return {layer: (layer,) for layer in LAYERS[base.family]}


#: how programs begin the names of layers: diffusers, PEFT, those that call it as ComfyUI does, kohya's scripts
SPELLINGS: dict[str, Callable[[str], str]] = {
    "diffusers": lambda layer: f"transformer.{layer}",
    "peft": lambda layer: f"base_model.model.{layer}",
    "comfy": lambda layer: f"diffusion_model.{layer}",
    "kohya": lambda layer: "lora_unet_" + layer.replace(".", "_"),
    "lycoris": lambda layer: "lycoris_" + layer.replace(".", "_"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_layers_under_diffusers_names(base, spelling, tmp_path):
    state, added = _make(base, _spell_plainly(base), SPELLINGS[spelling])
    if spelling == "lycoris":
        state = {name.replace("lora_B", "lora_up").replace("lora_A", "lora_down"): value for name, value in state.items()}
    path = _write(tmp_path / "style.safetensors", state)
    check_model(f"{base.name}|lora={path}", 64, 64)
    model = base.load(f"{path}@0.5")
    _assert_added(base, model, added, 0.5)
    assert not any("style.safetensors" in sentence for sentence in model.warnings)


@pytest.mark.parametrize("spelling", ["comfy", "kohya"])
@pytest.mark.parametrize("family", ORIGINAL)
def test_layers_under_their_authors_names(family, spelling, tmp_path, tmp_path_factory):
    """Of those that diffusers has in several parts, each has its rows."""
    base = _make_base(family, tmp_path_factory)
    state, added = _make(base, ORIGINAL[family], SPELLINGS[spelling])
    path = _write(tmp_path / "style.safetensors", state)
    check_model(f"{base.name}|lora={path}", 64, 64)
    _assert_added(base, base.load(path), added)


@pytest.mark.parametrize("spelling", ["diffusers", "comfy", "kohya"])
def test_diffusers_adds_the_same(base, spelling, tmp_path):
    """Its own loader, with the adapter fused."""
    plain = spelling == "diffusers" or base.family in ("qwen_image", "z_image")
    if not plain and (base.family == "sd3" or (base.family, spelling) in (("flux", "comfy"), ("wan_vace", "kohya"))):
        pytest.skip("diffusers does not read these names, or only where no layer is left out")
    # it takes the rows of this one to be as many as the published model has
    layers = _spell_plainly(base) if plain else {key: value for key, value in ORIGINAL[base.family].items() if "linear1" not in key}
    state, _ = _make(base, layers, SPELLINGS[spelling])
    path = _write(tmp_path / "style.safetensors", state)
    ours, theirs = base.load(path).denoiser, base.load()
    theirs.pipeline.load_lora_weights(load_file(path))
    theirs.pipeline.fuse_lora()
    theirs.pipeline.unload_lora_weights()
    fused = theirs.denoiser.state_dict()
    assert any(not torch.equal(fused[name], before) for name, before in base.weights.items())
    for name, value in ours.state_dict().items():
        assert torch.allclose(value, fused[name], atol=1e-4), name


def test_xlabs_names_of_flux(flux, tmp_path):
    """Its trainer changes the queries, keys and values of a block by themselves."""
    inner = dict(ORIGINAL["flux"])
    single = tuple(f"single_transformer_blocks.0.{name}" for name in QKV)
    names = {
        "double_blocks.0.processor.qkv_lora1": inner["double_blocks.0.img_attn.qkv"],
        "double_blocks.0.processor.qkv_lora2": inner["double_blocks.0.txt_attn.qkv"],
        "double_blocks.0.processor.proj_lora1": inner["double_blocks.0.img_attn.proj"],
        "single_blocks.0.processor.qkv_lora": single,
        "single_blocks.0.processor.proj_lora": inner["single_blocks.0.linear2"],
    }
    state, added = _make(flux, names, lambda layer: layer)
    state = {name.replace(".lora_B", ".up").replace(".lora_A", ".down"): value for name, value in state.items()}
    _assert_added(flux, flux.load(_write(tmp_path / "style.safetensors", state)), added)


def test_several_add_up_in_any_order(flux, tmp_path):
    """Also where one knows a layer as a part of another, and where one's change depends on the weights that it finds."""
    whole = {"double_blocks.0.img_attn.qkv": ORIGINAL["flux"]["double_blocks.0.img_attn.qkv"]}
    first, added = _make(flux, whole, SPELLINGS["kohya"])
    layer = "transformer_blocks.0.attn.to_q"
    second, more = _make(flux, {layer: (layer,)}, SPELLINGS["diffusers"])
    scaled = {f"transformer.{layer}.lora_magnitude_vector": torch.ones(len(flux.weights[f"{layer}.weight"]))}
    paths = [
        _write(tmp_path / f"{name}.safetensors", state) for name, state in (("a", first), ("b", second), ("c", second | scaled))
    ]
    _assert_added(flux, flux.load(*paths[:2]), added | {layer: added[layer] + more[layer]})
    one, other = (flux.load(*order).denoiser.state_dict() for order in (paths, reversed(paths)))
    assert all(torch.allclose(value, other[name], atol=1e-6) for name, value in one.items())


def test_frames_are_those_of_the_changed_weights(flux, tmp_path):
    state, _ = _make(flux, _spell_plainly(flux), SPELLINGS["diffusers"])
    path = _write(tmp_path / "style.safetensors", state)
    request, passes = samples.request(1, 64, steps=2, preset="per_frame"), samples.passes(1, 64)

    def draw(model: ImageModel) -> torch.Tensor:
        return ShotPipeline(model, request, passes, RunContext()).latents()

    plain = draw(flux.load())
    assert not torch.allclose(draw(flux.load(path)), plain) and torch.equal(draw(flux.load(f"{path}@0")), plain)


def test_text_encoders_learn_too(flux, tmp_path):
    """CLIP and T5, under the names of kohya's scripts and of ComfyUI."""
    pipeline = flux.load().pipeline
    before = {name: getattr(pipeline, name).state_dict() for name in ("text_encoder", "text_encoder_2")}
    clip = "text_model.encoder.layers.0.self_attn.q_proj"
    t5 = "encoder.block.0.layer.0.SelfAttention.q"
    for spelling in (
        (f"lora_te1_{clip.replace('.', '_')}", f"lora_te3_{t5.replace('.', '_')}"),
        (f"text_encoders.clip_l.transformer.{clip}", f"text_encoders.t5xxl.transformer.{t5}"),
        (f"text_encoder.{clip}", f"text_encoder_2.{t5}"),
    ):
        state, wanted = State(), []
        for network, title, layer in zip(before, spelling, (clip, t5), strict=True):
            key = next(
                name
                for name in before[network]
                if name.removeprefix("text_model.") == f"{layer.removeprefix('text_model.')}.weight"
            )
            up, down = _draw(*before[network][key].shape, 5)
            state[f"{title}.lora_up.weight"], state[f"{title}.lora_down.weight"] = up, down
            wanted.append((network, key, before[network][key] + up @ down))
        path = _write(tmp_path / "words.safetensors", state)
        check_model(f"{flux.name}|lora={path}", 64, 64)
        changed = flux.load(path).pipeline
        for network, key, value in wanted:
            assert torch.allclose(getattr(changed, network).state_dict()[key], value, atol=1e-5), (spelling, network)


def test_what_does_not_fit_is_a_sentence(flux, tmp_path):
    """Before anything is loaded and when it is."""
    other, _ = _make(flux, {"layers.0.attention.qkv": ("transformer_blocks.0.attn.to_q",)}, SPELLINGS["comfy"])
    layer = "transformer_blocks.0.attn.to_q"
    wide = {f"transformer.{layer}.lora_A.weight": torch.zeros(2, 7), f"transformer.{layer}.lora_B.weight": torch.zeros(9, 2)}
    lacking = {f"transformer.{layer}.lora_A.weight": torch.zeros(2, 7)}
    placeless = {name.replace("transformer_blocks.0", "transformer_blocks.17"): value for name, value in wide.items()}
    unet = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    of_sd = {f"{unet}.lora_down.weight": torch.zeros(2, 768), f"{unet}.lora_up.weight": torch.zeros(320, 2)}
    for name, state, said in (
        ("z.safetensors", other, "is for Z-Image, and the model is FLUX.1; choose one for it"),
        ("wide.safetensors", wide, "does not fit this model: at .* it changes weights of 9x7, .* choose one for FLUX.1"),
        ("lacking.safetensors", lacking, "lacks tensors of .* download it again"),
        ("deep.safetensors", placeless, "none of the layers that it changes is in it"),
        ("sd.safetensors", of_sd, "is for Stable Diffusion 1.x, and the model is FLUX.1"),
        ("none.safetensors", {"a.weight": torch.zeros(3)}, "none.safetensors"),
    ):
        path = _write(tmp_path / name, state)
        for ask in (lambda one: check_model(one, 64, 64), lambda one: load(one, CPU)):
            with pytest.raises(ShotError, match=said):
                ask(f"{flux.name}|lora={path}")
    partly = _make(flux, _spell_plainly(flux), SPELLINGS["diffusers"])[0] | placeless
    model = flux.load(_write(tmp_path / "partly.safetensors", partly))
    assert any("1 of the 4 layers that partly.safetensors changes are not in this model" in said for said in model.warnings)


def test_each_of_a_pair_learns_from_its_own(tmp_path_factory, tmp_path):
    """By the file's name; without such a name both do, which is said."""
    root = tmp_path_factory.mktemp("pair")
    tiny_transformers.write_wan_vace(root, boundary=0.6)
    base = Base("wan_vace", str(root / "base"), load_file(next((root / "base" / "transformer").glob("*.safetensors"))))
    state, _ = _make(base, _spell_plainly(base), SPELLINGS["comfy"])
    plain = base.load().pipeline
    before = [plain.transformer.state_dict(), plain.transformer_2.state_dict()]
    for name, changed, said in (
        ("style_high_noise.safetensors", (True, False), "there is much noise"),
        ("Style-LOW.safetensors", (False, True), "there is little noise"),
        ("lowlands.safetensors", (True, True), "it is added to both"),
    ):
        model = base.load(_write(tmp_path / name, state))
        after = [model.pipeline.transformer.state_dict(), model.pipeline.transformer_2.state_dict()]
        found = tuple(any(not torch.equal(a[key], b[key]) for key in a) for a, b in zip(before, after, strict=True))
        assert found == changed and any(said in sentence for sentence in model.warnings), name


def test_fewer_bits_come_after_a_lora(flux, tmp_path, monkeypatch):
    """Rounded weights take no difference."""
    state, added = _make(flux, _spell_plainly(flux), SPELLINGS["diffusers"])
    path, held = _write(tmp_path / "style.safetensors", state), []

    class StandIn:
        """What torchao does, without rounding."""

        is_late, sentence = True, "Fewer bits."

        def holds(self, part: str) -> bool:
            return is_quantized_part(part) and not part.startswith("transformer")

        def make_config(self, kind: Any) -> None:
            return None

        def check(self, network: Any) -> None:
            return None

        def quantize(self, network: Any) -> None:
            held.append({key: value.clone() for key, value in network.state_dict().items()})

    monkeypatch.setattr("latentman.backend.models.loading.choose_quantization", lambda *_, **__: StandIn())
    model = flux.load(path)
    (weights,) = held
    _assert_added(flux, model, added)
    assert all(torch.equal(value, weights[key]) for key, value in model.denoiser.state_dict().items())


def test_weights_in_fewer_bits_are_left_alone(flux, tmp_path):
    state, _ = _make(flux, _spell_plainly(flux), SPELLINGS["diffusers"])
    path, pipeline = _write(tmp_path / "style.safetensors", state), flux.load().pipeline

    class Packed(torch.nn.Parameter):
        """As libraries hold such weights: a class of their own."""

    layer = pipeline.transformer.transformer_blocks[0].attn.to_v
    layer.weight = Packed(layer.weight.data, requires_grad=False)
    with pytest.raises(ShotError, match=r"are held in fewer bits, to which the LoRA style\.safetensors cannot be added"):
        add_transformer_loras(pipeline, load(flux.name, CPU).family.layout, [(str(path), 1.0)])


def test_inspect_says_what_it_is_for(flux, tmp_path, capsys):
    state, _ = _make(flux, ORIGINAL["flux"], SPELLINGS["kohya"])
    path = _write(tmp_path / "style.safetensors", state)
    assert main(["models", "inspect", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["family"], found["rank"]) == ("lora", "flux", RANK) and not found["problem"]


def test_inspect_says_whether_the_parts_of_a_name_go_together(flux, tmp_path, capsys):
    """Without loading them, and how all of it would lie in memory."""
    state, _ = _make(flux, ORIGINAL["flux"], SPELLINGS["kohya"])
    path = _write(tmp_path / "style.safetensors", state)
    name = f"{flux.name}|lora={path}@0.5"
    assert main(["models", "inspect", name, "starter"]) == 0
    said = capsys.readouterr().out
    assert f"The parts of {name} go together." in said and "starter is a model that has a name." in said
    assert said.count("own steps:") == 2
    layer = "transformer.transformer_blocks.0.attn.to_q"
    wide = {f"{layer}.lora_A.weight": torch.zeros(2, 7), f"{layer}.lora_B.weight": torch.zeros(9, 2)}
    wrong = f"{flux.name}|lora={_write(tmp_path / 'wide.safetensors', wide)}"
    assert main(["models", "inspect", wrong]) == 1
    assert "it changes weights of 9x7" in capsys.readouterr().err
    assert main(["models", "inspect", name, wrong, "--json", "--memory"]) == 1
    found, refused = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert found["model"] == name and not found["problem"] and "Its parts are transformer" in found["memory"]
    assert refused["model"] == wrong and "9x7" in refused["problem"]
    assert main(["models", "inspect", f"{flux.name}|lora=nowhere.safetensors"]) == 1
    assert "nowhere.safetensors" in capsys.readouterr().err
