"""LoRAs for transformers, in files as trainers write them: added as diffusers adds them, or by hand where it does not read them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file, save_file

from latentman.backend.__main__ import main
from latentman.backend.models.identity import identify
from latentman.backend.models.image_model import ImageModel
from latentman.backend.models.loading import load
from latentman.backend.models.preflight import check_model
from latentman.backend.models.prompts.named_loras import find_named_lora
from latentman.backend.models.quantization import is_quantized_part
from latentman.backend.models.recognition import inspect_model_file
from latentman.backend.models.registry import fingerprint
from latentman.backend.models.transformer_loras import TransformerNames, add_transformer_loras
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


@pytest.mark.parametrize("start", ["", "diffusion_model."])
def test_xlabs_names_of_pairs_of_blocks_alone(flux, start, tmp_path):
    """Which most of what it has published consists of."""
    names = {
        f"{start}double_blocks.0.processor.qkv_lora{n}": f"double_blocks.0.{what}_attn.qkv" for n, what in ((1, "img"), (2, "txt"))
    }
    state, added = _make(flux, {title: ORIGINAL["flux"][name] for title, name in names.items()}, lambda layer: layer)
    state = {name.replace(".lora_B", ".up").replace(".lora_A", ".down"): value for name, value in state.items()}
    path = _write(tmp_path / "style.safetensors", state)
    assert inspect_model_file(path).family == "flux" and inspect_model_file(path).rank == RANK
    check_model(f"{flux.name}|lora={path}", 64, 64)
    _assert_added(flux, flux.load(path), added)


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
        ("WanHighNoise-style.safetensors", (True, False), "there is much noise"),
        ("style_low_v1.5.safetensors", (False, True), "there is little noise"),
        ("lowlands.safetensors", (True, True), "Put high_noise or low_noise into its name"),
        ("ultra-high-res.safetensors", (True, True), "it is added to both"),
        ("low_light.safetensors", (True, True), "it is added to both"),
    ):
        model = base.load(_write(tmp_path / name, state))
        after = [model.pipeline.transformer.state_dict(), model.pipeline.transformer_2.state_dict()]
        found = tuple(any(not torch.equal(a[key], b[key]) for key in a) for a, b in zip(before, after, strict=True))
        assert found == changed and any(said in sentence for sentence in model.warnings), name


def test_fewer_bits_come_after_a_lora(flux, tmp_path, monkeypatch):
    """Rounded weights take no difference."""
    state, added = _make(flux, _spell_plainly(flux), SPELLINGS["diffusers"])
    path, held = _write(tmp_path / "style.safetensors", state), list[State]()

    class StandIn:
        """What torchao does, without rounding."""

        is_late, sentence = True, "Fewer bits."

        def holds(self, part: str) -> bool:
            return is_quantized_part(part) and not self.waits_for(part)

        def waits_for(self, part: str) -> bool:
            return part.startswith("transformer") or (part.startswith("text_encoder") and told["have_texts_loras"])

        def make_config(self, kind: Any) -> None:
            return None

        def check(self, network: Any) -> None:
            return None

        def quantize(self, network: Any) -> None:
            held.append({key: value.clone() for key, value in network.state_dict().items()})

    told = dict[str, bool]()
    monkeypatch.setattr(
        "latentman.backend.models.loading.choose_quantization", lambda *_, **known: [told.update(known), StandIn()][1]
    )
    model = flux.load(path)
    (weights,) = held
    _assert_added(flux, model, added)
    assert all(torch.equal(value, weights[key]) for key, value in model.denoiser.state_dict().items())
    held.clear()
    layer = "text_model.encoder.layers.0.mlp.fc1"
    words = {f"lora_te1_{layer.replace('.', '_')}.lora_{end}.weight": torch.ones(16, 16) for end in ("up", "down")}
    path = _write(tmp_path / "words.safetensors", state | words)
    pipeline = flux.load(path, options=LoadOptions(weights="8bit")).pipeline
    parts = {name: network.state_dict() for name, network in pipeline.components.items() if is_quantized_part(name)}
    assert len(held) == len(parts) == 3
    for network in parts.values():
        assert any(network.keys() == one.keys() and all(torch.equal(one[key], network[key]) for key in one) for one in held)


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
    assert "weights of 8 bits" in found["memory"] and "weights of 4 bits" not in found["memory"]
    assert main(["models", "inspect", f"{flux.name}|lora=nowhere.safetensors"]) == 1
    assert "nowhere.safetensors" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    for name, said in (
        (f"starter|lora={tmp_path / 'empty'}", "holds no LoRA"),
        (f"starter|lora={path}", "is for FLUX.1, and the model is none"),
        (f"starter|lora={path.parent / 'folder'}", "is for FLUX.1, and the model is none"),
        (f"starter|embedding={tmp_path / 'empty'}", "holds no textual inversion"),
    ):
        (tmp_path / "folder").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "folder")
        assert main(["models", "inspect", name]) == 1 and said in capsys.readouterr().err, name
    # as they are pasted
    assert main(["models", "inspect", "'starter'", "starter|"]) == 0


def test_what_a_file_has_of_one_of_several_layers_does_not_replace_them(flux, tmp_path):
    """Such as the bias of the queries beside the factors of queries, keys and values."""
    whole = "double_blocks.0.img_attn.qkv"
    state, added = _make(flux, {whole: ORIGINAL["flux"][whole]}, SPELLINGS["comfy"])
    biases = {
        f"transformer_blocks.0.attn.to_{letter}": torch.full((len(added[ORIGINAL["flux"][whole][0]]),), 0.5) for letter in "qkv"
    }
    beside = {f"diffusion_model.{layer}.diff_b": bias for layer, bias in biases.items()}
    for some in (1, 3):
        kept = dict(list(beside.items())[:some])
        found = flux.load(_write(tmp_path / f"{some}.safetensors", state | kept)).denoiser.state_dict()
        for n, (layer, bias) in enumerate(biases.items()):
            assert torch.allclose(found[f"{layer}.weight"], flux.weights[f"{layer}.weight"] + added[layer], atol=1e-5)
            assert torch.allclose(found[f"{layer}.bias"], flux.weights[f"{layer}.bias"] + (bias if n < some else 0))


def _make_plain(base: Base, layers: tuple[str, ...], spell: Callable[[str], str]) -> tuple[State, State]:
    return _make(base, {layer: (layer,) for layer in layers}, spell)


def _read_weights(base: Base, path: Path) -> State:
    return base.load(path).denoiser.state_dict()


@pytest.fixture(scope="module")
def wan(tmp_path_factory) -> Base:
    return _make_base("wan_vace", tmp_path_factory)


def test_biases_and_whole_differences_lie_beside_factors(wan, tmp_path):
    """As what was extracted from a distilled Wan has them, with norms, the head and numbers that are no layer's."""
    inner = {"blocks.0.self_attn.q": ("blocks.0.attn1.to_q",), "time_projection.1": ("condition_embedder.time_proj",)}
    state, added = _make(wan, inner, SPELLINGS["comfy"])
    generator = torch.Generator().manual_seed(3)
    plain = {
        "blocks.0.self_attn.q.diff_b": "blocks.0.attn1.to_q.bias",
        "time_projection.1.diff_b": "condition_embedder.time_proj.bias",
        "blocks.1.self_attn.norm_k.diff": "blocks.1.attn1.norm_k.weight",
        "blocks.1.norm3.diff": "blocks.1.norm2.weight",
        "blocks.1.norm3.diff_b": "blocks.1.norm2.bias",
        "blocks.0.diff_m": "blocks.0.scale_shift_table",
        "blocks.1.modulation.diff": "blocks.1.scale_shift_table",
        "head.diff_m": "scale_shift_table",
        "head.head.diff": "proj_out.weight",
        "vace_patch_embedding.diff_b": "vace_patch_embedding.bias",
    }
    wanted = {f"{layer}.weight": value for layer, value in added.items()}
    for title, name in plain.items():
        wanted[name] = state[f"diffusion_model.{title}"] = torch.randn(wan.weights[name].shape, generator=generator)
    path = _write(tmp_path / "distilled.safetensors", state)
    check_model(f"{wan.name}|lora={path}", 64, 64)
    model = wan.load(path)
    found = model.denoiser.state_dict()
    for name, before in wan.weights.items():
        assert torch.allclose(found[name].contiguous(), before + wanted.get(name, 0), atol=1e-5), name
    assert not any("distilled.safetensors" in said for said in model.warnings)


@pytest.mark.parametrize(
    "spell",
    [
        lambda layer: "lora_unet__" + layer.replace(".", "_"),
        lambda layer: f"pipe.dit.{layer}",
        lambda layer: "lycoris_" + layer.replace(".", "_").replace("attn_o", "attn_to_out_0"),
    ],
    ids=["two dots", "pipe", "half of a name"],
)
def test_names_of_other_trainers_of_wan(wan, spell, tmp_path):
    layers = {"blocks.0.self_attn.o": ("blocks.0.attn1.to_out.0",), "blocks.1.cross_attn.v": ("blocks.1.attn2.to_v",)}
    state, added = _make(wan, layers, spell)
    path = _write(tmp_path / "style.safetensors", state)
    check_model(f"{wan.name}|lora={path}", 64, 64)
    _assert_added(wan, wan.load(path), added)


def test_names_of_adapters_may_be_two(wan, tmp_path):
    state, added = _make_plain(wan, ("blocks.0.attn1.to_q",), lambda layer: layer)
    path = _write(
        tmp_path / "style.safetensors", {key.replace(".weight", ".default_0.default.weight"): state[key] for key in state}
    )
    _assert_added(wan, wan.load(path), added)


def test_layers_for_pictures_have_their_place_in_wan_animate():
    """What models that are shown a picture have, and the face adapter, whose keys and values are one layer."""
    layers = {
        "blocks.0.attn2.add_k_proj",
        "blocks.0.attn2.norm_added_k",
        "condition_embedder.image_embedder.ff.net.2",
        *(f"face_adapter.1.to_{letter}" for letter in "qkv"),
        "face_adapter.1.to_out",
        "pose_patch_embedding",
    }
    places = TransformerNames("wan_animate", {"transformer": layers})
    for title, wanted in (
        ("diffusion_model.blocks.0.cross_attn.k_img", "blocks.0.attn2.add_k_proj"),
        ("lora_unet_blocks_0_cross_attn_norm_k_img", "blocks.0.attn2.norm_added_k"),
        ("diffusion_model.img_emb.proj.3", "condition_embedder.image_embedder.ff.net.2"),
        ("diffusion_model.face_adapter.fuser_blocks.1.linear1_q", "face_adapter.1.to_q"),
        ("diffusion_model.face_adapter.fuser_blocks.1.linear1_kv", "face_adapter.1.to_k+face_adapter.1.to_v"),
        ("diffusion_model.face_adapter.fuser_blocks.1.linear2", "face_adapter.1.to_out"),
        ("diffusion_model.pose_patch_embedding", "pose_patch_embedding"),
    ):
        found = places.find(title)
        assert found is not None and found.module == wanted, title


def test_a_layer_counts_once(flux, tmp_path):
    """In a file that programs have written under two kinds of names, which is said."""
    own, added = _make_plain(flux, ("transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.to_out.0"), SPELLINGS["diffusers"])
    names = ("double_blocks.0.img_attn.qkv", "double_blocks.0.img_attn.proj")
    theirs, _ = _make(flux, {name: ORIGINAL["flux"][name] for name in names}, SPELLINGS["kohya"])
    model = flux.load(_write(tmp_path / "twice.safetensors", own | theirs))
    _assert_added(flux, model, added)
    assert any("twice.safetensors has 2 of its layers twice" in said for said in model.warnings)
    dotted = {name.replace("to_q", "to.q"): value for name, value in own.items()}
    _assert_added(flux, flux.load(_write(tmp_path / "dotted.safetensors", dotted)), added)


def test_weights_that_take_the_place_of_others(flux, tmp_path):
    """What a norm divides by, as FLUX.1's authors have it in the LoRAs that let it see a picture, and ComfyUI."""
    layer = "transformer_blocks.0.attn.norm_q.weight"
    new = torch.linspace(0.5, 2.0, len(flux.weights[layer]))
    state, _ = _make_plain(flux, ("transformer_blocks.0.attn.to_v",), SPELLINGS["diffusers"])
    for name in (
        "double_blocks.0.img_attn.norm.query_norm.scale",
        "diffusion_model.double_blocks.0.img_attn.norm.query_norm.set_weight",
    ):
        path = _write(tmp_path / "set.safetensors", state | {name: new})
        assert torch.allclose(_read_weights(flux, path)[layer], new, atol=1e-6), name
        half = flux.load(f"{path}@0.5").denoiser.state_dict()
        assert torch.allclose(half[layer], (new + flux.weights[layer]) / 2, atol=1e-6)
    wide = {"img_in.lora_A.weight": torch.zeros(2, 128), "img_in.lora_B.weight": torch.zeros(32, 2)}
    wide |= {"img_in.reshape_weight": torch.tensor([32, 128])}
    path = _write(tmp_path / "depth.safetensors", wide | {f"diffusion_model.{key}": value for key, value in state.items()})
    for ask in (lambda one: check_model(one, 64, 64), lambda one: load(one, CPU)):
        with pytest.raises(ShotError, match=r"lets FLUX\.1 see a picture .* choose a whole model that does"):
            ask(f"{flux.name}|lora={path}")


def test_lengths_of_ai_toolkit(flux, tmp_path):
    """Its DoRA calls them otherwise than PEFT's."""
    layer = "transformer_blocks.0.attn.to_q"
    state, _ = _make_plain(flux, (layer,), SPELLINGS["diffusers"])
    lengths = torch.linspace(0.5, 2.0, 32)
    ours, theirs = (
        _read_weights(flux, _write(tmp_path / f"{end}.safetensors", state | {f"transformer.{layer}.{end}": lengths}))
        for end in ("magnitude", "lora_magnitude_vector")
    )
    assert torch.equal(ours[f"{layer}.weight"], theirs[f"{layer}.weight"])
    assert torch.allclose(ours[f"{layer}.weight"].norm(dim=1), lengths, atol=1e-5)


def _name_layers(*names: str, width: int = 32) -> State:
    return {
        f"{name}.lora_{end}.weight": torch.zeros(shape) for name in names for end, shape in (("A", (2, width)), ("B", (width, 2)))
    }


@pytest.mark.parametrize(
    ("state", "family"),
    [
        (_name_layers("transformer.transformer_blocks.0.attn.to_q", "transformer.transformer_blocks.0.attn2.to_q"), "sd3"),
        (_name_layers("transformer.transformer_blocks.3.attn2.to_q", width=1536), "sd3"),
        (_name_layers("double_blocks.0.img_attn.qkv"), "flux"),
        # HunyuanVideo
        (_name_layers("double_blocks.0.img_attn_qkv"), "other"),
        (_name_layers("lora_unet_double_blocks_0_img_attn_qkv", "lora_unet_double_blocks_0_img_mlp_fc1"), "other"),
        (_name_layers("transformer.single_transformer_blocks.39.attn.to_q"), "other"),
        (_name_layers("transformer.single_transformer_blocks.0.attn.to_q", "transformer.transformer_blocks.19.attn.to_q"), "other"),
        # Chroma
        (_name_layers("diffusion_model.double_blocks.0.img_attn.qkv", "diffusion_model.distilled_guidance_layer.in_proj"), "other"),
        # FLUX.2
        (_name_layers("transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj"), "other"),
        (_name_layers("double_blocks.0.img_attn.qkv", "double_stream_modulation_img.lin"), "other"),
        # AuraFlow
        (_name_layers("transformer.joint_transformer_blocks.0.attn.to_q", "transformer.single_transformer_blocks.0.ff"), "other"),
        # Lumina
        (_name_layers("diffusion_model.layers.0.attention.qkv", width=2304), "other"),
        (_name_layers("diffusion_model.layers.0.attention.qkv", width=3840), "z_image"),
        # Cosmos
        (_name_layers("diffusion_model.blocks.0.self_attn.q_proj"), "other"),
        (_name_layers("diffusion_model.blocks.0.self_attn.q"), "wan_vace"),
        (_name_layers("lora_unet__blocks_0_self_attn_q"), "wan_vace"),
        (_name_layers("transformer.transformer_blocks.0.attn1.to_q", "transformer.transformer_blocks.0.attn2.to_q"), "other"),
        (_name_layers("diffusion_model.transformer_blocks.0.attn2.to_q", width=4096), "ltx2"),
    ],
)
def test_models_with_like_names_are_told_apart(state, family, tmp_path):
    assert inspect_model_file(_write(tmp_path / "style.safetensors", state)).family == family


def test_what_a_trainer_says_of_the_base_counts(flux, tmp_path):
    """Attention of Chroma has the names and the shapes of FLUX.1's."""
    state, _ = _make(flux, {"double_blocks.0.img_attn.qkv": ORIGINAL["flux"]["double_blocks.0.img_attn.qkv"]}, SPELLINGS["kohya"])
    path = tmp_path / "style.safetensors"
    for told, fits in (
        ("flux-1-dev/lora", True),
        ("chroma/lora", False),
        ("hunyuan-video/lora", False),
        ("flux2-klein/lora", False),
    ):
        save_file(state, path, {"modelspec.architecture": told})
        assert (inspect_model_file(path).problem == "") == fits, told


def test_numbers_that_are_none_are_a_sentence(flux, tmp_path):
    """They would turn all frames black."""
    layer = "transformer_blocks.0.attn.to_q"
    state, _ = _make_plain(flux, (layer,), SPELLINGS["diffusers"])
    first = f"transformer.{layer}.lora_A.weight"
    broken = state[first].clone()
    broken[0, 0] = float("nan")
    for name, changed, strength, said in (
        ("nan.safetensors", {first: broken}, "1", "has numbers at .* that are infinite or none at all; download it again"),
        ("alpha.safetensors", {f"transformer.{layer}.alpha": torch.tensor(float("inf"))}, "1", "that are infinite or none at all"),
        ("two.safetensors", {f"transformer.{layer}.alpha": torch.ones(2)}, "1", "has 2 numbers for one in .*; download it again"),
        (
            "whole.safetensors",
            {first: broken.nan_to_num().to(torch.int8)},
            "1",
            "are whole numbers or overlap; choose another file",
        ),
        ("strong.safetensors", {}, "1e300", "weights become larger than float32 can hold; give it less strength"),
    ):
        path = _write(tmp_path / name, state | changed)
        with pytest.raises(ShotError, match=said):
            flux.load(f"{path}@{strength}")
        if name in ("two.safetensors", "whole.safetensors"):
            with pytest.raises(ShotError, match=said):
                check_model(f"{flux.name}|lora={path}", 64, 64)


def test_a_bias_where_there_is_none_is_a_sentence(wan, tmp_path):
    state = {
        "diffusion_model.blocks.0.modulation.diff_b": torch.ones(1),
        "diffusion_model.blocks.0.self_attn.q.diff_b": torch.ones(24),
    }
    path = _write(tmp_path / "style.safetensors", state)
    for ask in (lambda one: check_model(one, 64, 64), lambda one: load(one, CPU)):
        with pytest.raises(ShotError, match="it changes a bias, and the model has none; choose another"):
            ask(f"{wan.name}|lora={path}")


def test_text_encoders_are_looked_at_before(flux, tmp_path):
    """A LoRA whose layers they have in another size."""
    state = _name_layers("lora_te1_text_model_encoder_layers_0_mlp_fc1", width=768)
    path = _write(tmp_path / "words.safetensors", state)
    for ask in (lambda one: check_model(one, 64, 64), lambda one: load(one, CPU)):
        with pytest.raises(ShotError, match="it changes weights of 768x768, and the model's are 16x16"):
            ask(f"{flux.name}|lora={path}")


def test_text_of_a_pair_changes_once(tmp_path_factory, tmp_path):
    """Whichever transformer the file is for by its name, and without a word of one where it is for none."""
    root = tmp_path_factory.mktemp("texts")
    tiny_transformers.write_wan_vace(root, boundary=0.6)
    base = Base("wan_vace", str(root / "base"), load_file(next((root / "base" / "transformer").glob("*.safetensors"))))
    key = "encoder.block.0.layer.0.SelfAttention.q.weight"
    model = base.load()
    assert not any("transformer_2" in said for said in model.warnings)
    before = model.pipeline.text_encoder.state_dict()[key]
    up, down = _draw(*before.shape, 5)
    words = {
        f"lora_te_{key.replace('.', '_').removesuffix('_weight')}.lora_{end}.weight": value
        for end, value in (("up", up), ("down", down))
    }
    layers, _ = _make_plain(base, ("blocks.0.attn1.to_q",), SPELLINGS["comfy"])
    for name, state in (("style_low.safetensors", words | layers), ("words.safetensors", words)):
        path = _write(tmp_path / name, state)
        check_model(f"{base.name}|lora={path}", 64, 64)
        model = base.load(path)
        assert torch.allclose(model.pipeline.text_encoder.state_dict()[key], before + up @ down, atol=1e-5), name
        assert any(name in said for said in model.warnings) == (name == "style_low.safetensors")


def test_alphas_of_peft(flux, tmp_path):
    """Beside the file: of all layers, and of some by their names or by regular expressions; without them it is said."""
    layers = ("transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.to_k")
    state, added = _make_plain(flux, layers, SPELLINGS["peft"])
    path, beside = _write(tmp_path / "adapter_model.safetensors", state), tmp_path / "adapter_config.json"
    for config, scales in (
        ({"lora_alpha": 2 * RANK}, (2, 2)),
        ({"lora_alpha": 2 * RANK, "alpha_pattern": {"to_q": RANK}}, (1, 2)),
        ({"lora_alpha": 2 * RANK, "alpha_pattern": {r".*attn\.to_q": 3 * RANK}}, (3, 2)),
        ({"lora_alpha": 2 * RANK, "alpha_pattern": {r"^transformer_blocks\.\d+\.attn.to_q": RANK}}, (1, 2)),
        ({"lora_alpha": 2, "use_rslora": True}, (2 / RANK**0.5,) * 2),
    ):
        beside.write_text(json.dumps(config))
        _assert_added(flux, flux.load(path), {layer: scale * added[layer] for layer, scale in zip(layers, scales, strict=True)})
    name = f"{flux.name}|lora={path}"
    before = identify(name), fingerprint(name)
    beside.write_text(json.dumps({"lora_alpha": 7 * RANK}))
    assert identify(name) != before[0] and fingerprint(name) != before[1]
    beside.write_text(json.dumps({"lora_alpha": 2, "alpha_pattern": {"(a+)+b": 3}}))
    with pytest.raises(ShotError, match=r"tells the alphas of its layers by .* which is not understood"):
        flux.load(path)
    beside.unlink()
    assert any("adapter_config.json is not beside adapter_model.safetensors" in said for said in flux.load(path).warnings)


def test_a_prompt_names_one_beside_a_transformers_folder(flux, tmp_path):
    """Where ComfyUI has both."""
    state, _ = _make_plain(flux, ("transformer_blocks.0.attn.to_q",), SPELLINGS["diffusers"])
    for folder in ("diffusion_models", "unet"):
        base = _write_in(tmp_path / folder / "models" / folder / "flux" / "dev.safetensors", state)
        lora = _write_in(tmp_path / folder / "models" / "loras" / "my style.safetensors", state)
        assert find_named_lora("My Style", str(base)) == lora


def _write_in(path: Path, state: State) -> Path:
    path.parent.mkdir(parents=True)
    return _write(path, state)


@pytest.mark.parametrize(
    ("stem", "steps"),
    [
        ("Wan21_T2V_14B_lightx2v_cfg_step_distill_lora_rank32", 4),
        ("wan2.2_t2v_lightx2v_8steps_lora_v1.1_high_noise", 8),
        ("Wan21_CausVid_14B_T2V_lora_rank32_v2", 4),
        ("Wan21_AccVid_T2V_14B_lora_rank32_fp16", 4),
        ("my_causal_video", 0),
    ],
)
def test_few_steps_are_told_by_names(wan, stem, steps, tmp_path):
    state, _ = _make_plain(wan, ("blocks.0.attn1.to_q",), SPELLINGS["comfy"])
    found = inspect_model_file(_write(tmp_path / f"{stem}.safetensors", state)).recommended
    assert (found.steps, found.guidance_scale) == ((steps, 1.0) if steps else (0, -1.0))
