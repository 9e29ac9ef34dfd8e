"""IP-Adapters and reference pictures: against diffusers' own pipelines, and through jobs and the wire."""

from __future__ import annotations

import io
import shutil
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")
from diffusers import StableDiffusionControlNetPipeline, StableDiffusionXLControlNetPipeline  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from latentman.backend.jobs.runner import ModelCache, RunCallbacks, run  # noqa: E402
from latentman.backend.jobs.store import JobStore  # noqa: E402
from latentman.backend.latentman_pipeline import LatentManPipeline, LatentManXLPipeline  # noqa: E402
from latentman.backend.models import registry  # noqa: E402
from latentman.backend.models.hub import HubError  # noqa: E402
from latentman.backend.models.loading import load  # noqa: E402
from latentman.backend.models.preflight import check_model  # noqa: E402
from latentman.backend.models.recognition import inspect_model_file  # noqa: E402
from latentman.backend.models.registry import find_model, fingerprint  # noqa: E402
from latentman.backend.reference_pictures import decode_reference, read_reference  # noqa: E402
from latentman.backend.tasks.shot import check_shot  # noqa: E402
from latentman.backend.video import memory  # noqa: E402
from latentman.backend.video.pipeline import Interrupted, RunContext, ShotPipeline  # noqa: E402
from latentman.shared import messages  # noqa: E402
from latentman.shared.manifest import PassesHeader  # noqa: E402
from latentman.shared.reference import MAX_BYTES, check_reference, name_picture, take_reference  # noqa: E402
from latentman.shared.settings import with_settings  # noqa: E402
from latentman.shared.shot import METHODS, ShotError, check_request  # noqa: E402
from tests import ip_adapter_files as files  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend import tiny  # noqa: E402
from tests.backend.wire import RunningServer  # noqa: E402
from tools.stand_in_hub import StandInHub  # noqa: E402

CPU = torch.device("cpu")
PIPELINES = {"sd": StableDiffusionControlNetPipeline, "sdxl": StableDiffusionXLControlNetPipeline}


def _picture(seed=0, size=(40, 40)):
    """(H, W, 3) uint8 that a coarse encoder tells from another one."""
    coarse = np.random.default_rng(seed).integers(0, 255, (5, 5, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.NEAREST))


def _encode(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Both families' folders, adapters of every variant for each, and the encoder beside them as the hub's repository has it."""
    root = tmp_path_factory.mktemp("reference")
    tiny.write_sd(root / "sd")
    tiny.write_sdxl(root / "sdxl")
    torch.manual_seed(1)
    files.make_encoder().save_pretrained(root / "models" / "image_encoder")
    for family, pipeline in PIPELINES.items():
        unet = pipeline.from_pretrained(_folder(root, family)).unet
        for variant in ("plain", "plus", "full", "faceid"):
            for end in ("safetensors", "bin"):
                files.write_adapter(root / "models" / f"{variant}_{family}.{end}", files.make_adapter(unet, variant))
    return root


def _folder(root, family):
    return root / "sd" / "whole" if family == "sd" else root / "sdxl"


def _name(root, family="sd", variant="plain", end="safetensors", strength=""):
    return f"{_folder(root, family)}|ip={root / 'models' / f'{variant}_{family}.{end}'}{strength}".replace(
        "|", f"|depth={_folder(root, family) / 'controlnet'}|"
    )


@pytest.fixture(scope="module")
def model(root):
    return load(_name(root), CPU)


def _request(picture=None, count=1, **changes):
    values = dict(preset="per_frame", steps=3, negative_prompt="dark")
    if picture is not None:
        values["reference"] = name_picture(_encode(picture))
    return samples.request(count, **(values | changes))


def _frames(model, request, passes, picture=None, run_context=None):
    return np.stack(list(ShotPipeline(model, request, passes, run_context or RunContext(), reference=picture).frames()))


def _theirs(root, family, variant, end, picture, strength, request, passes):
    """What diffusers' own pipeline makes of the same noise."""
    pipe = PIPELINES[family].from_pretrained(_folder(root, family))
    pipe.load_ip_adapter(
        str(root / "models"), subfolder="", weight_name=f"{variant}_{family}.{end}", image_encoder_folder="image_encoder"
    )
    pipe.set_ip_adapter_scale(strength)
    pipe.scheduler = SimpleNamespace(model=load(str(_folder(root, family)), CPU)).model.make_scheduler(request.sampling.steps)
    pipe.set_progress_bar_config(disable=True)
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(request.sampling.seed))
    return pipe(
        request.text.prompt,
        image=torch.from_numpy(passes.depth)[:1, None].expand(-1, 3, -1, -1),
        negative_prompt=request.text.negative_prompt,
        num_inference_steps=request.sampling.steps,
        guidance_scale=request.sampling.guidance_scale,
        latents=noise,
        ip_adapter_image=Image.fromarray(picture),
        height=request.height,
        width=request.width,
        output_type="np",
    ).images[0]


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@pytest.mark.parametrize(
    ("variant", "end", "guidance", "strength"),
    [
        ("plain", "safetensors", 4.0, 0.7),
        ("plain", "bin", 1.0, 1.0),
        ("plus", "bin", 4.0, 1.0),
        ("plus", "safetensors", 1.0, 0.5),
        ("full", "safetensors", 4.0, 0.6),
    ],
)
def test_frames_are_those_of_diffusers_own_pipeline(root, family, variant, end, guidance, strength):
    picture, passes = _picture(), samples.passes(1)
    request = _request(picture, guidance_scale=guidance, reference_strength=strength)
    model = load(_name(root, family, variant, end), CPU)
    assert not [warning for warning in model.warnings if "no place" in warning]
    ours = _frames(model, request, passes, picture)[0]
    theirs = _theirs(root, family, variant, end, picture, strength, request, passes)
    assert np.abs(ours - theirs * 255).max() <= 1.01
    plain = _frames(model, _request(guidance_scale=guidance), passes)[0]
    assert np.abs(ours.astype(int) - plain).max() > 5


@pytest.mark.parametrize("family, kind", [("sd", LatentManPipeline), ("sdxl", LatentManXLPipeline)])
def test_the_pipelines_take_a_picture_as_diffusers_do(root, family, kind):
    passes, picture = samples.passes(1), _picture()
    request = _request(picture, preset="per_frame", steps=3)
    pipe = kind.from_pretrained(_folder(root, family))
    pipe.set_progress_bar_config(disable=True)
    pipe.load_ip_adapter(str(root / "models"), subfolder="", weight_name=f"plus_{family}.bin", image_encoder_folder="image_encoder")
    pipe.set_ip_adapter_scale(0.6)
    wanted = _theirs(root, family, "plus", "bin", picture, 0.6, request, passes)
    image = Image.fromarray(picture)
    tensor = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255

    def make(**given):
        return pipe(
            request.text.prompt,
            passes,
            3,
            request.sampling.guidance_scale,
            request.text.negative_prompt,
            method="per_frame",
            generator=torch.Generator().manual_seed(request.sampling.seed),
            output_type="np",
            **given,
        )

    for given in (image, [image], [[image]], picture, tensor):
        assert np.abs(make(ip_adapter_image=given).frames[0] - wanted).max() < 0.01
    plain = make()
    assert np.abs(plain.frames[0] - wanted).max() > 0.01 and "the adapter is not used" in plain.warnings[0]


def test_without_a_picture_and_with_strength_0_nothing_changes(root, model):
    passes, picture = samples.passes(2), _picture()
    bare = load(str(_folder(root, "sd")), CPU)
    for preset in ("per_frame", "surface"):
        wanted = _frames(bare, _request(count=2, preset=preset), passes)
        context = RunContext()
        assert (_frames(model, _request(count=2, preset=preset), passes, run_context=context) == wanted).all()
        assert any("not used" in warning for warning in context.warnings)
        nothing = _request(picture, 2, preset=preset, reference_strength=0.0)
        assert (_frames(model, nothing, passes, picture) == wanted).all()


def test_the_names_strength_holds_until_the_shot_says_another(root, model):
    passes, picture = samples.passes(1), _picture()
    usual, named = _request(picture), load(_name(root, strength="@0.25"), CPU)

    def make(model, **changes):
        return _frames(model, with_settings(usual, changes), passes, picture)

    assert (make(model) == make(model, reference_strength=0.6)).all()
    assert (make(named) == make(model, reference_strength=0.25)).all()
    assert (make(named, reference_strength=1.0) == make(model, reference_strength=1.0)).all()
    assert (make(load(_name(root, strength="@0"), CPU)) == make(model, reference_strength=0.0)).all()
    assert not (make(model) == make(model, reference_strength=1.0)).all()


@pytest.mark.parametrize("preset", ["surface", "latentman", "cross_frame"])
def test_it_goes_with_every_method_in_any_batch(model, monkeypatch, preset):
    passes, picture = samples.passes(5, shift=5), _picture()
    request = _request(picture, 5, preset=preset, reference_strength=1.0)
    whole = _frames(model, request, passes, picture)
    before = dict(model.unet.attn_processors)
    other = _frames(model, with_settings(request, {"reference": name_picture(_encode(_picture(7)))}), passes, _picture(7))
    assert all(np.abs(whole[n].astype(int) - other[n]).max() > 3 for n in range(5))
    monkeypatch.setattr(memory, "MAX_BATCH_FRAMES", 2)
    assert np.abs(whole.astype(int) - _frames(model, request, passes, picture)).max() <= 2
    assert dict(model.unet.attn_processors) == before


def test_the_backgrounds_own_prompt_does_not_see_the_picture(model):
    """Where no character is, only the background's prompt counts, so that the picture changes nothing far from the character
    while its attention is looked at alone."""
    from latentman.backend.models.ip_adapters import encode_reference
    from latentman.backend.video.reference_attention import attend_to_reference

    seen = encode_reference(model, _picture(), 1.0, True)
    latents, words = torch.randn(6, 4, 8, 8), torch.randn(6, 77, model.unet.config.cross_attention_dim)

    def predict(reference):
        with torch.no_grad(), attend_to_reference(model.unet, reference, 3):
            return model.unet(latents, 500, encoder_hidden_states=words).sample

    with_picture, without = predict(seen), predict(None)
    assert not torch.allclose(with_picture[:2], without[:2], atol=1e-3)
    assert not torch.allclose(with_picture[2:4], without[2:4], atol=1e-3)
    assert torch.allclose(with_picture[4:], without[4:], atol=1e-5)


def test_a_shot_with_a_background_prompt_and_a_picture(model):
    passes, picture = samples.passes(2), _picture()
    request = _request(picture, 2, background_prompt="a beach", reference_strength=1.0)
    found = _frames(model, request, passes, picture)
    plain = _frames(model, with_settings(request, {"reference": ""}), passes)
    assert np.abs(found.astype(int) - plain).max() > 3


def test_a_lora_and_an_adapter_go_together(root, tmp_path):
    """As in diffusers' own pipeline, the LoRA changes the text's attention and leaves the picture's."""
    unet = load(str(_folder(root, "sd")), CPU).unet
    state = {}
    for name in unet.attn_processors:
        layer = unet.get_submodule(name.removesuffix(".processor"))
        for part in ("to_q", "to_k", "to_v"):
            linear, key = getattr(layer, part), f"unet.{name.removesuffix('.processor')}.{part}"
            state[f"{key}.lora_A.weight"] = torch.randn(2, linear.in_features)
            state[f"{key}.lora_B.weight"] = torch.randn(linear.out_features, 2) * 0.1
    save_file(state, tmp_path / "some.safetensors")
    picture, passes = _picture(), samples.passes(1)
    request = _request(picture, reference_strength=1.0)
    model = load(f"{_name(root)}|lora={tmp_path / 'some.safetensors'}", CPU)
    ours = _frames(model, request, passes, picture)[0]
    pipe = StableDiffusionControlNetPipeline.from_pretrained(_folder(root, "sd"))
    pipe.load_lora_weights(str(tmp_path), weight_name="some.safetensors")
    pipe.load_ip_adapter(str(root / "models"), subfolder="", weight_name="plain_sd.bin", image_encoder_folder="image_encoder")
    pipe.scheduler = model.make_scheduler(3)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        request.text.prompt,
        image=torch.from_numpy(passes.depth)[:, None].expand(-1, 3, -1, -1),
        negative_prompt="dark",
        num_inference_steps=3,
        guidance_scale=4.0,
        latents=torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(4)),
        ip_adapter_image=Image.fromarray(picture),
        output_type="np",
    ).images[0]
    assert np.abs(ours - theirs * 255).max() <= 1.01


# -- encoders ---------------------------------------------------------------------------------------------------------


def _encoder(folder):
    from transformers import CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection.from_pretrained(folder / "models" / "image_encoder")


@pytest.mark.parametrize("layout", ["transformers", "open_clip"])
@pytest.mark.parametrize("end", ["safetensors", "bin"])
def test_an_encoder_in_one_file_beside_the_adapter(root, tmp_path, model, layout, end):
    """As ComfyUI lays them out: models/ipadapter and models/clip_vision."""
    encoder = _encoder(root)
    state = files.encoder_to_open_clip(encoder) if layout == "open_clip" else encoder.state_dict()
    path = tmp_path / "clip_vision" / f"CLIP-ViT-H-14-laion2B-s32B-b79K.{end}"
    path.parent.mkdir()
    state = {name: value.contiguous() for name, value in state.items()}
    save_file(state, path) if end == "safetensors" else torch.save(state, path)
    # one that does not fit lies there, too
    other = files.make_encoder(64, 48).state_dict()
    save_file({name: value.contiguous() for name, value in other.items()}, path.with_name("CLIP-ViT-bigG.safetensors"))
    adapter = tmp_path / "ipadapter" / "sd15.bin"
    adapter.parent.mkdir()
    shutil.copy(root / "models" / "plain_sd.bin", adapter)
    name = _name(root).split("|ip=")[0]
    found = find_model(f"{name}|ip={adapter}").reference
    assert found.encoder == str(path) and found.found
    loaded = load(f"{name}|ip={adapter}", CPU)
    assert any(str(path) in warning for warning in loaded.warnings) and not any("no place" in said for said in loaded.warnings)
    picture, passes = _picture(), samples.passes(1)
    assert (_frames(loaded, _request(picture), passes, picture) == _frames(model, _request(picture), passes, picture)).all()
    told = inspect_model_file(path)
    assert told.kind == "picture_encoder" and told.layout == layout and "picture encoder" in told.sentence and not told.problem


def test_an_encoder_that_is_named(root, tmp_path):
    adapter = tmp_path / "alone" / "plain.safetensors"
    adapter.parent.mkdir()
    shutil.copy(root / "models" / "plain_sd.safetensors", adapter)
    name = f"{_name(root).split('|ip=')[0]}|ip={adapter}"
    with pytest.raises(ShotError, match=r"no picture encoder beside plain.safetensors.*encoder=FOLDER.*24 numbers"):
        find_model(name)
    assert load(f"{name}|encoder={root / 'models' / 'image_encoder'}", CPU).adapter is not None
    files.make_encoder(64, 48).save_pretrained(tmp_path / "other")
    with pytest.raises(ShotError, match=r"does not fit plain.safetensors"):
        find_model(f"{name}|encoder={tmp_path / 'other'}")
    with pytest.raises(ShotError, match="is no picture encoder"):
        find_model(f"{name}|encoder={_folder(root, 'sd')}")
    with pytest.raises(ShotError, match="is no picture encoder"):
        find_model(f"{name}|encoder={tmp_path / 'nowhere.safetensors'}")
    with pytest.raises(ShotError, match="no IP-Adapter; add ip=FILE"):
        find_model(f"{_folder(root, 'sd')}|encoder={tmp_path / 'other'}")


def test_the_hubs_encoder_is_fetched_alone(root, tmp_path, monkeypatch):
    from huggingface_hub import constants

    hub, commit = StandInHub(), "a" * 40
    repository = tmp_path / "repository"
    shutil.copytree(root / "models" / "image_encoder", repository / "models" / "image_encoder")
    (repository / "models" / "ip-adapter_sd15.bin").write_bytes(b"0" * 10_000)
    hub.repositories["h94/IP-Adapter"] = (commit, repository)
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setitem(registry.HUB_REVISIONS, "h94/IP-Adapter", commit)
    adapter = tmp_path / "alone" / "plain.safetensors"
    adapter.parent.mkdir()
    shutil.copy(root / "models" / "plain_sd.safetensors", adapter)
    name = f"{_name(root).split('|ip=')[0]}|ip={adapter}|encoder=h94/IP-Adapter/models/image_encoder"
    try:
        check_model(name, 64, 64)
        assert load(name, CPU).adapter is not None
        assert not any("ip-adapter_sd15" in path for _, path, _ in hub.requests)
        asked = len(hub.requests)
        load(name, CPU)
        assert len(hub.requests) == asked
        with pytest.raises(ShotError, match="elsewhere"):
            check_model(name.replace("models/image_encoder", "elsewhere"), 64, 64)
    finally:
        hub.close()


def test_the_hubs_encoder_by_the_adapters_width(tmp_path):
    from latentman.backend.models.picture_encoders import find_reference_source, split_hub_folder

    for width, plus, folder in ((1024, False, "models"), (1280, False, "sdxl_models"), (1280, True, "models")):
        parts = {"ip_adapter": {f"1.to_{letter}_ip.weight": torch.zeros(8, 16) for letter in "kv"}}
        rows = {"latents": (1, 4, 8), "proj_in.weight": (8, width)} if plus else {"proj.weight": (64, width), "proj.bias": (64,)}
        parts["image_proj"] = {name: torch.zeros(shape) for name, shape in rows.items()}
        path = files.write_adapter(tmp_path / f"{width}{plus}" / "a" / "b" / "c.safetensors", parts)
        assert find_reference_source(str(path), None, "", tmp_path).encoder == f"h94/IP-Adapter/{folder}/image_encoder"
    assert split_hub_folder("openai/clip-vit-large-patch14") == ("openai/clip-vit-large-patch14", "")
    assert split_hub_folder("h94/IP-Adapter/models/image_encoder") == ("h94/IP-Adapter", "models/image_encoder")
    assert split_hub_folder("/root/somewhere") is None and split_hub_folder("one") is None


# -- what cannot be used ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "other"), [("sd", "sdxl"), ("sdxl", "sd")])
@pytest.mark.parametrize("variant", ["plain", "plus"])
def test_an_adapter_for_another_family_is_refused_before_anything_is_loaded(root, family, other, variant):
    name = _name(root, family, variant).replace(f"{variant}_{family}", f"{variant}_{other}")
    for attempt in (lambda: check_model(name, 64, 64), lambda: load(name, CPU)):
        with pytest.raises(ShotError, match=r"for text of .* numbers, and the model") as caught:
            attempt()
        assert str(caught.value).count(". ") <= 1


def test_face_id_is_refused_in_a_sentence(root):
    for end in ("safetensors", "bin"):
        with pytest.raises(ShotError, match="FaceID kind, which wants another network"):
            find_model(_name(root, variant="faceid", end=end))
    told = inspect_model_file(root / "models" / "faceid_sd.bin")
    assert told.kind == "ip_adapter" and told.variant == "faceid" and told.problem


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda parts: parts["ip_adapter"].popitem(), r"(attention layers, and the model|does not fit the model|lacks)"),
        (lambda parts: parts["image_proj"].pop("proj.bias"), "lacks 1 of the 4 weights of its projection"),
        (lambda parts: parts["image_proj"].update({"norm.weight": torch.ones(7)}), "another shape in its projection"),
        (lambda parts: parts["image_proj"].clear(), "lacks a part of an IP-Adapter"),
        (lambda parts: parts["ip_adapter"].clear(), "lacks a part of an IP-Adapter"),
        (lambda parts: parts["ip_adapter"].update({"1.to_k_ip.weight": torch.zeros(5, 64)}), "does not fit the model|for text of"),
    ],
)
def test_a_damaged_adapter_is_a_sentence(root, tmp_path, change, sentence):
    parts = torch.load(root / "models" / "plain_sd.bin")
    change(parts)
    path = files.write_adapter(tmp_path / "adapter.bin", parts)
    name = f"{_name(root).split('|ip=')[0]}|ip={path}|encoder={root / 'models' / 'image_encoder'}"
    with pytest.raises(ShotError, match=sentence):
        load(name, CPU)


def test_weights_without_a_place_are_named(root, tmp_path):
    parts = torch.load(root / "models" / "plain_sd.bin")
    parts["image_proj"]["stranger.weight"] = torch.zeros(3)
    path = files.write_adapter(tmp_path / "adapter.safetensors", parts)
    loaded = load(f"{_name(root).split('|ip=')[0]}|ip={path}|encoder={root / 'models' / 'image_encoder'}", CPU)
    assert any("1 of the weights in adapter.safetensors have no place" in warning for warning in loaded.warnings)


REAL = {
    "sd1": (
        dict(block_out_channels=(320, 640, 1280, 1280), cross_attention_dim=768, attention_head_dim=8),
        16,
        {1: (320, 768), 13: (1280, 768), 31: (1280, 768)},
    ),
    "sdxl": (
        dict(
            block_out_channels=(320, 640, 1280),
            cross_attention_dim=2048,
            attention_head_dim=(5, 10, 20),
            use_linear_projection=True,
            transformer_layers_per_block=(1, 2, 10),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        ),
        70,
        {1: (640, 2048), 47: (1280, 2048), 139: (1280, 2048)},
    ),
}


@pytest.mark.parametrize("family", REAL)
def test_layers_of_real_models_are_numbered_as_in_published_files(family):
    """ip-adapter_sd15 ends with layer 31, ip-adapter_sdxl with layer 139; the UNet's middle comes last."""
    from diffusers import UNet2DConditionModel

    from latentman.backend.models.ip_adapter_kinds import find_ip_adapter_kind
    from latentman.backend.models.ip_adapters import check_adapter_fit, list_attention_layers

    config, count, known = REAL[family]
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    layers = list(list_attention_layers(unet).values())
    assert len(layers) == count and all(layers[number // 2] == shape for number, shape in known.items())
    shapes = {f"ip_adapter.{2 * n + 1}.to_{letter}_ip.weight": shape for n, shape in enumerate(layers) for letter in "kv"}
    context = config["cross_attention_dim"]
    shapes |= {"image_proj.proj.weight": (4 * context, 1024), "image_proj.proj.bias": (4 * context,)}
    kind = find_ip_adapter_kind(shapes)
    assert (kind.family, kind.variant, kind.tokens, kind.problem) == (family, "plain", 4, "")
    numbers = check_adapter_fit("adapter", kind, shapes, unet)
    assert list(numbers.values()) == list(range(1, 2 * count, 2)) and next(reversed(numbers)).startswith("mid_block")


def test_memory_is_planned_with_the_encoder(root):
    from latentman.backend.models.memory_need import estimate_need
    from latentman.backend.models.network_shapes import list_networks
    from latentman.backend.models.registry import ModelSource

    found = find_model(_name(root))
    need = estimate_need(list_networks(found), 64, 64, torch.float32)
    assert need.weights["image_encoder"] == 4 * sum(p.numel() for p in _encoder(root).parameters())
    bare = ModelSource(found.base, found.controls)
    assert "image_encoder" not in list_networks(bare)


def test_names_with_an_adapter(root):
    base = _folder(root, "sd")
    adapter = root / "models" / "plain_sd.safetensors"
    assert find_model(f"{base}|ip={adapter}@0.6").reference.strength == 0.6
    assert find_model(f'{base}| IP = "{adapter}" |').reference.adapter == str(adapter)
    assert find_model(f"{base}").reference is None
    for wrong in (f"{base}|ip={adapter}@2", f"{base}|ip={adapter}@strong", f"{base}|ip={adapter}@nan"):
        with pytest.raises(ShotError, match="from 0 to 1"):
            find_model(wrong)
    with pytest.raises(ShotError, match="several IP-Adapters"):
        find_model(f"{base}|ip={adapter}|ip={root / 'models' / 'plus_sd.bin'}")
    with pytest.raises(ShotError, match=r"no IP-Adapter /nowhere.safetensors"):
        find_model(f"{base}|ip=/nowhere.safetensors")
    with pytest.raises(ShotError, match="is a folder; name one IP-Adapter's file"):
        find_model(f"{base}|ip={root / 'models'}")
    with pytest.raises(ShotError, match="is no IP-Adapter"):
        find_model(f"{base}|ip={base / 'unet' / 'diffusion_pytorch_model.safetensors'}")


def test_a_changed_adapter_or_encoder_is_another_model(root, tmp_path):
    shutil.copytree(root / "models", tmp_path / "models")
    name = _name(root).replace(str(root / "models"), str(tmp_path / "models"))
    before = fingerprint(name)
    assert before == fingerprint(name)
    assert fingerprint(f"{name}@0.5") != before
    weights = tmp_path / "models" / "image_encoder" / "model.safetensors"
    weights.touch()
    assert fingerprint(name) != before


def test_files_are_recognised(root):
    for variant in ("plain", "plus", "full"):
        told = inspect_model_file(root / "models" / f"{variant}_sdxl.bin")
        assert (told.kind, told.variant, told.problem) == ("ip_adapter", variant, "") and "an IP-Adapter" in told.sentence
    # of the real widths the family is known
    from tests.backend.test_model_files import _of

    shapes = {"image_proj.proj.weight": (8192, 1280), "ip_adapter.1.to_k_ip.weight": (640, 2048)}
    from latentman.backend.models.recognition import recognise

    assert recognise(_of(shapes)).family == "sdxl"


# -- pictures ---------------------------------------------------------------------------------------------------------


def test_pictures_of_every_kind_show_what_people_see():
    own = _picture(3, (40, 60))
    grey = np.asarray(Image.fromarray(own).convert("L"))
    assert (decode_reference(_encode(own)) == own).all()
    for kind in ("BMP", "TIFF", "WEBP"):
        found = decode_reference(_encode(own, kind, **({"lossless": True} if kind == "WEBP" else {})))
        assert (found == own).all(), kind
    assert (decode_reference(_encode(grey)) == grey[..., None]).all()
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    assert np.abs(decode_reference(_encode(deep)).astype(int) - grey[..., None]).max() <= 1
    assert np.abs(decode_reference(_encode(deep, "TIFF")).astype(int) - grey[..., None]).max() <= 1
    assert np.abs(decode_reference(_encode(Image.fromarray(own).quantize(255), "GIF")).astype(int) - own).max() <= 2
    printed = decode_reference(_encode(Image.fromarray(own).convert("CMYK"), "JPEG", quality=98, subsampling=0))
    assert np.abs(printed.astype(int) - own).mean() < 8
    # see-through is white, whatever colour lies below it
    alpha = np.dstack([own, np.where(np.arange(60) < 30, 255, 0)[None].repeat(40, 0)]).astype(np.uint8)
    found = decode_reference(_encode(alpha))
    assert (found[:, :30] == own[:, :30]).all() and (found[:, 30:] == 255).all()
    assert (decode_reference(_encode(alpha, "WEBP", lossless=True, exact=True)) == found).all()
    palette = Image.fromarray(alpha).quantize(255)
    assert (decode_reference(_encode(palette, "PNG"))[:, 35:] == 255).all()


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_camera_held_sideways(turn):
    """The eight orientations of EXIF: what is stored, turned as they say, is the picture."""
    upright = _picture(5, (40, 60))
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    found = decode_reference(_encode(np.ascontiguousarray(stored), "PNG", exif=exif))
    assert found.shape == upright.shape and (found == upright).all()


def test_pictures_that_are_none_are_a_sentence(tmp_path):
    sound = _encode(_picture(), "JPEG")
    cases = {
        b"%!PS-Adobe-3.0 EPSF-3.0\n": "no picture that can be read",
        b"a text": "no picture that can be read",
        sound[:-200]: "damaged",
        _encode(_picture())[:200]: "damaged",
        _encode(np.zeros((8, 8, 3), np.uint8)): "too few to show",
        _encode(Image.new("1", (9000, 8000))): "9000x8000 pixels; make it smaller",
    }
    for data, sentence in cases.items():
        with pytest.raises(ShotError, match=sentence) as caught:
            decode_reference(data)
        assert caught.value.code == "reference" and "\n" not in str(caught.value)


def test_images_and_arrays_in_python():
    own = _picture()
    assert (read_reference(Image.fromarray(own)) == own).all() and (read_reference(own) == own).all()
    assert (read_reference(own / np.float32(255)) == own).all()
    assert read_reference(own[..., 0]).shape == read_reference(own[..., :1]).shape == own.shape
    for wrong in (
        np.zeros((3, 40, 40), np.uint8),
        own.astype(int),
        own.astype(np.float32),
        np.zeros((40, 40, 3)) + np.nan,
        "a.png",
    ):
        with pytest.raises(ShotError, match="The reference"):
            read_reference(wrong)


def test_a_path_becomes_a_name_and_bytes(tmp_path):
    picture = tmp_path / "a hero (1).png"
    picture.write_bytes(_encode(_picture()))
    request = samples.request()
    for text in (str(picture), f'"{picture}"', f"file://{str(picture).replace(' ', '%20')}", str(picture).replace(" ", "\\ ")):
        taken, data = take_reference(with_settings(request, {"reference": text}))
        assert data == picture.read_bytes() and taken.text.reference == name_picture(data)
        check_request(taken)
        check_reference(taken, data)
    assert take_reference(with_settings(request, {"reference": "//a hero (1).png"}), tmp_path)[1] == data
    # without a picture, its strength is nothing
    taken, data = take_reference(with_settings(request, {"reference": " ", "reference_strength": 0.3}))
    assert taken == request and data == b""
    (tmp_path / "empty.png").touch()
    with (tmp_path / "huge.png").open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    for text, sentence in {
        str(tmp_path / "gone.png"): "There is no reference picture",
        str(tmp_path): "cannot be read",
        str(tmp_path / "empty.png"): "is empty",
        str(tmp_path / "huge.png"): "more than 32 MB",
        "//beside.png": "save that file",
        "x" * 5000: "cannot be read",
    }.items():
        with pytest.raises(ShotError, match=sentence) as caught:
            take_reference(with_settings(request, {"reference": text}))
        assert caught.value.code == "reference"
    with pytest.raises(ShotError, match="did not come with its shot"):
        check_reference(with_settings(request, {"reference": "hero.png"}), b"")


def test_a_picture_that_is_not_square_is_said(model):
    for size, said in (((40, 80), True), ((40, 42), False)):
        picture, context = _picture(size=size), RunContext()
        _frames(model, _request(picture), samples.passes(1), picture, context)
        assert any("only the square in its middle" in warning for warning in context.warnings) == said


# -- jobs -------------------------------------------------------------------------------------------------------------


class _Loaded(ModelCache):
    def __init__(self, model):
        self.get = lambda *_: model


def _images(job):
    return [job.read_frame(n) for n in range(len(job.request.frames))]


def test_another_picture_is_another_job_and_a_look_of_another_shot(root, model, tmp_path):
    store, passes, name = JobStore(tmp_path), samples.passes(3), _name(root)
    first, second = _encode(_picture(1)), _encode(_picture(2))
    base = samples.request(preset="surface", model=name)
    one, two, none = (
        store.open(with_settings(base, {"reference": name_picture(data) if data else ""}), passes, reference=data)
        for data in (first, second, b"")
    )
    assert len({one.name, two.name, none.name}) == 3
    assert (one.read_reference() == _picture(1)).all() and none.read_reference() is None
    run(one, _Loaded(model), RunCallbacks())
    # frames are taken over from a look of the same picture only
    for data, same in ((first, True), (second, False)):
        request = msgspec.structs.replace(with_settings(base, {"reference": name_picture(data)}), look=one.name)
        assert store.open(request, passes, reference=data).has_same_settings(one) == same
    with pytest.raises(ShotError, match="did not come with its shot"):
        store.open(with_settings(base, {"reference": name_picture(first)}), passes)
    with pytest.raises(ShotError, match="did not come with its shot"):
        store.open(base, passes, reference=first)


@pytest.mark.parametrize("preset", ["per_frame", "surface"])
def test_a_stopped_job_goes_on_bit_for_bit(root, model, tmp_path, preset):
    passes, data = samples.passes(4, shift=5), _encode(_picture())
    request = samples.request(4, preset=preset, steps=5, model=_name(root), reference=name_picture(data))
    whole = JobStore(tmp_path / "whole").open(request, passes, reference=data)
    run(whole, _Loaded(model), RunCallbacks())
    for steps in (2, 6):
        told = []

        def progress(stage, step, count, told=told):
            told.append(stage)

        store = JobStore(tmp_path / f"stopped{steps}")
        job = store.open(request, passes, reference=data)
        with pytest.raises(Interrupted):
            run(job, _Loaded(model), RunCallbacks(progress, should_stop=lambda told=told, steps=steps: len(told) > steps))
        # whoever asks again brings the picture, and mends what is damaged
        (job.folder / "reference.picture").write_bytes(b"half")
        again = store.open(request, passes, reference=data)
        assert again.name == job.name
        run(again, _Loaded(model), RunCallbacks())
        for ours, theirs in zip(_images(again), _images(whole), strict=True):
            assert (ours == theirs).all()


def test_a_job_without_its_picture_is_a_sentence(root, model, tmp_path):
    data = _encode(_picture())
    job = JobStore(tmp_path).open(
        samples.request(model=_name(root), reference=name_picture(data)), samples.passes(), reference=data
    )
    (job.folder / "reference.picture").write_bytes(_encode(_picture(1)))
    with pytest.raises(ShotError, match="generate the shot again"):
        run(job, _Loaded(model), RunCallbacks())


def test_what_is_found_before_passes_are_rendered(root, tmp_path):
    data = _encode(_picture())
    with_adapter = samples.request(model=_name(root), reference=name_picture(data))
    check_shot(with_adapter, data)
    for model, picture, sentence in (
        (str(_folder(root, "sd")), data, "cannot look at a reference picture; add an IP-Adapter"),
        ("starter", data, r"starter\|ip=FILE"),
        (_name(root), b"not a picture", "no picture that can be read"),
        (_name(root), data[:100], "damaged"),
    ):
        request = with_settings(with_adapter, {"model": model, "reference": name_picture(picture)})
        with pytest.raises(ShotError, match=sentence) as caught:
            check_shot(request, picture)
        assert caught.value.code == "reference"


def test_a_picture_over_the_wire(root, tmp_path):
    data = _encode(_picture())
    server = RunningServer(tmp_path)
    try:
        client = server.connect()
        request = samples.request(2, model=_name(root), reference=name_picture(data))

        def submit(ticket, arrays, model=None):
            asked = with_settings(request, {"model": model}) if model else request
            client.send(messages.SubmitShot(ticket=ticket, request=asked, header=PassesHeader()), arrays)

        array = np.frombuffer(data, np.uint8)
        submit("right", {"reference": array})
        assert client.wait_for(messages.PassesWanted, "right")
        client.send(messages.Cancel(ticket="right"))
        for ticket, arrays, model in (
            ("none", None, None),
            ("other", {"reference": array[:-1]}, None),
            ("plain", {"reference": array}, str(_folder(root, "sd"))),
        ):
            submit(ticket, arrays, model)
            failed = client.wait_for(messages.Failed, ticket)[0]
            assert failed.code == "reference" and failed.message.endswith("."), ticket
        assert server.alive
    finally:
        server.close()


# -- diffusers' own loading -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["plain", "plus"])
def test_a_pipeline_with_diffusers_own_adapter(root, model, variant):
    pipe = LatentManPipeline.from_pretrained(_folder(root, "sd"))
    passes, picture = samples.passes(2), _picture()
    noise = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(3))

    def make(**changes):
        return pipe("a man", passes, 3, latents=noise, output_type="np", **({"method": "per_frame"} | changes)).frames

    plain = make()
    with pytest.raises(ShotError, match="cannot look at a reference picture"):
        make(reference=picture)
    weights = f"{variant}_sd.bin"
    pipe.load_ip_adapter(str(root / "models"), subfolder="", weight_name=weights, image_encoder_folder="image_encoder")
    before = dict(pipe.unet.attn_processors)
    assert (make() == plain).all()
    pipe.set_ip_adapter_scale(0.7)
    made = make(reference=Image.fromarray(picture))
    assert (made == make(reference=picture, reference_strength=0.7)).all() and np.abs(made - plain).max() > 0.02
    depth = torch.from_numpy(passes.depth)[:, None].expand(-1, 3, -1, -1)
    theirs = PIPELINES["sd"](**pipe.components, requires_safety_checker=False)
    theirs.scheduler = model.make_scheduler(3)
    theirs.set_progress_bar_config(disable=True)
    wanted = theirs(
        ["a man"] * 2,
        image=depth,
        num_inference_steps=3,
        latents=noise,
        ip_adapter_image=Image.fromarray(picture),
        output_type="np",
    ).images
    assert np.abs(made - wanted).max() * 255 <= 1.01
    assert dict(pipe.unet.attn_processors) == before
    found = make(reference=picture, method=METHODS["latentman"])
    assert found.shape == plain.shape and np.isfinite(found).all()


def test_hub_errors_are_sentences_without_a_connection(root, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    shutil.copy(root / "models" / "plain_sd.bin", tmp_path / "plain.bin")
    name = f"{_name(root).split('|ip=')[0]}|ip={tmp_path / 'plain.bin'}|encoder=h94/IP-Adapter/models/image_encoder"
    for attempt in (lambda: check_model(name, 64, 64), lambda: load(name, CPU)):
        with pytest.raises(ShotError, match="HF_HUB_OFFLINE"):
            attempt()
    assert issubclass(HubError, OSError)
