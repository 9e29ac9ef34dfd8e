"""Image-model files as other programs write them: the original layout of Stable Diffusion's checkpoints, LoRAs, embeddings.

The names are those of the CompVis and Stability repositories' networks, made from diffusers' names: the other way round than the
product reads them. Networks are shrunk: two or three levels, narrow, with the real vocabulary.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

State = dict[str, torch.Tensor]
VOCABULARY = 49408

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def _rename_resnet(rest: str) -> str:
    first, _, end = rest.partition(".")
    return f"{_RESNET[first]}.{end}"


def unet_to_original(state: State, layers: int, has_attention: tuple[bool, ...]) -> State:
    """A UNet's or ControlNet's tensors. ``layers`` residual blocks in a level; ``has_attention`` of each level on the way down."""
    levels, found = len(has_attention), {}
    for name, value in state.items():
        if match := re.match(r"down_blocks\.(\d+)\.(resnets|attentions|downsamplers)\.(\d+)\.(.*)", name):
            level, part, n, rest = int(match[1]), match[2], int(match[3]), match[4]
            index = 1 + level * (layers + 1) + n
            if part == "resnets":
                new = f"input_blocks.{index}.0.{_rename_resnet(rest)}"
            elif part == "attentions":
                new = f"input_blocks.{index}.1.{rest}"
            else:
                new = f"input_blocks.{(level + 1) * (layers + 1)}.0.op.{rest.removeprefix('conv.')}"
        elif match := re.match(r"up_blocks\.(\d+)\.(resnets|attentions|upsamplers)\.(\d+)\.(.*)", name):
            level, part, n, rest = int(match[1]), match[2], int(match[3]), match[4]
            if part == "resnets":
                new = f"output_blocks.{level * (layers + 1) + n}.0.{_rename_resnet(rest)}"
            elif part == "attentions":
                new = f"output_blocks.{level * (layers + 1) + n}.1.{rest}"
            else:
                place = 2 if has_attention[levels - 1 - level] else 1
                new = f"output_blocks.{level * (layers + 1) + layers}.{place}.{rest}"
        elif match := re.match(r"mid_block\.(resnets|attentions)\.(\d+)\.(.*)", name):
            part, n, rest = match[1], int(match[2]), match[3]
            new = f"middle_block.1.{rest}" if part == "attentions" else f"middle_block.{2 * n}.{_rename_resnet(rest)}"
        elif match := re.match(r"controlnet_cond_embedding\.blocks\.(\d+)\.(.*)", name):
            new = f"input_hint_block.{2 + 2 * int(match[1])}.{match[2]}"
        elif match := re.match(r"controlnet_down_blocks\.(\d+)\.(.*)", name):
            new = f"zero_convs.{match[1]}.0.{match[2]}"
        else:
            for old, start in (
                ("time_embedding.linear_1", "time_embed.0"),
                ("time_embedding.linear_2", "time_embed.2"),
                ("add_embedding.linear_1", "label_emb.0.0"),
                ("add_embedding.linear_2", "label_emb.0.2"),
                ("conv_in", "input_blocks.0.0"),
                ("conv_norm_out", "out.0"),
                ("conv_out", "out.2"),
                ("controlnet_cond_embedding.conv_in", "input_hint_block.0"),
                ("controlnet_cond_embedding.conv_out", "input_hint_block.14"),
                ("controlnet_mid_block", "middle_block_out.0"),
            ):
                if name.startswith(old + "."):
                    new = start + name[len(old) :]
                    break
            else:
                raise AssertionError(name)
        found[new] = value
    assert len(found) == len(state)
    return found


def vae_to_original(state: State, levels: int) -> State:
    """An auto-encoder's tensors; its attention is convolutions of one pixel there."""
    found = {}
    for name, value in state.items():
        new = re.sub(r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)", r"encoder.down.\1.block.\2", name)
        new = re.sub(r"encoder\.down_blocks\.(\d+)\.downsamplers\.0", r"encoder.down.\1.downsample", new)
        new = re.sub(
            r"decoder\.up_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"decoder.up.{levels - 1 - int(m[1])}.block.{m[2]}", new
        )
        new = re.sub(r"decoder\.up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"decoder.up.{levels - 1 - int(m[1])}.upsample", new)
        new = new.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
        new = new.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        if "mid_block.attentions.0" in new:
            new = new.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm").replace("to_out.0", "proj_out")
            new = re.sub(r"to_([qkv])\.", r"\1.", new)
            value = value[:, :, None, None] if value.ndim == 2 else value
        found[new] = value
    return found


def clip_to_open_clip(state: State, spare: bool) -> State:
    """A text encoder's tensors as OpenCLIP has them. ``spare`` adds the last layer, which SD 2.x does not use."""
    found: State = {}
    state = {name.removeprefix("text_model."): value for name, value in state.items()}
    for name, value in state.items():
        if name == "text_projection.weight":
            found["text_projection"] = value.T.contiguous()
            continue
        new = name.replace("embeddings.token_embedding", "token_embedding").replace("final_layer_norm", "ln_final")
        new = new.replace("embeddings.position_embedding.weight", "positional_embedding")
        new = re.sub(r"encoder\.layers\.(\d+)\.", r"transformer.resblocks.\1.", new)
        new = new.replace("layer_norm1", "ln_1").replace("layer_norm2", "ln_2").replace("self_attn.out_proj", "attn.out_proj")
        new = new.replace("mlp.fc1", "mlp.c_fc").replace("mlp.fc2", "mlp.c_proj")
        if match := re.match(r"(.*)self_attn\.([qkv])_proj\.(weight|bias)", new):
            if match[2] == "q":
                parts = [state[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
                found[f"{match[1]}attn.in_proj_{match[3]}"] = torch.cat(parts)
            continue
        found[new] = value
    if spare:
        last = max(int(match[1]) for name in found if (match := re.match(r"transformer\.resblocks\.(\d+)\.", name)))
        found |= {
            name.replace(f"resblocks.{last}.", f"resblocks.{last + 1}."): torch.randn_like(value)
            for name, value in list(found.items())
            if f"resblocks.{last}." in name
        }
        found.setdefault("text_projection", torch.randn(64, 64))
    return found | {"logit_scale": torch.tensor(4.6)}


def under(prefix: str, state: State) -> State:
    """The tensors with their names behind a prefix."""
    return {prefix + name: value.detach().clone().contiguous() for name, value in state.items()}


def _text_encoder(kind: type[Any], width: int, layers: int, activation: str) -> Any:
    return kind(
        CLIPTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=width // 64,
            max_position_embeddings=77,
            projection_dim=width,
            hidden_act=activation,
            bos_token_id=49406,
            eos_token_id=49407,
            pad_token_id=1,
        )
    ).eval()


def make_vae() -> AutoencoderKL:
    """A shrunk auto-encoder of four latent channels."""
    return AutoencoderKL(
        block_out_channels=(32, 32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
    ).eval()


_DOWN = {True: "CrossAttnDownBlock2D", False: "DownBlock2D"}
_UP = {True: "CrossAttnUpBlock2D", False: "UpBlock2D"}
SHAPES: dict[str, dict[str, Any]] = {
    "sd1": dict(block_out_channels=(32, 64, 64), attention_head_dim=8, cross_attention_dim=64),
    "sd2": dict(block_out_channels=(64, 128), attention_head_dim=[1, 2], cross_attention_dim=64, use_linear_projection=True),
    "sdxl": dict(
        block_out_channels=(64, 128, 128),
        attention_head_dim=[1, 2, 2],
        cross_attention_dim=192,
        use_linear_projection=True,
        transformer_layers_per_block=[1, 2, 3],
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=6 * 256 + 128,
    ),
}
ATTENTION: dict[str, tuple[bool, ...]] = {"sd1": (True, True, False), "sd2": (True, False), "sdxl": (False, True, True)}
LAYERS = 2


def make_unet(family: str, in_channels: int = 4) -> UNet2DConditionModel:
    """A shrunk UNet of a family."""
    attention = ATTENTION[family]
    return UNet2DConditionModel(
        in_channels=in_channels,
        layers_per_block=LAYERS,
        down_block_types=tuple(_DOWN[has] for has in attention),
        up_block_types=tuple(_UP[has] for has in reversed(attention)),
        **SHAPES[family],
    ).eval()


def make_controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """A ControlNet of a UNet whose every layer does something."""
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 32, 96, 256))
    for layer in (*control.controlnet_down_blocks, control.controlnet_mid_block, control.controlnet_cond_embedding.conv_out):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return control.eval()


def make_text_encoders(family: str) -> list[Any]:
    """The shrunk text encoders of a family."""
    if family == "sd1":
        return [_text_encoder(CLIPTextModel, 64, 3, "quick_gelu")]
    if family == "sd2":
        return [_text_encoder(CLIPTextModel, 64, 3, "gelu")]
    return [_text_encoder(CLIPTextModel, 64, 3, "quick_gelu"), _text_encoder(CLIPTextModelWithProjection, 128, 3, "gelu")]


def checkpoint_to_original(family: str, unet: Any, vae: Any, encoders: list[Any]) -> State:
    """A whole checkpoint."""
    state = under("model.diffusion_model.", unet_to_original(unet.state_dict(), LAYERS, ATTENTION[family]))
    state |= under("first_stage_model.", vae_to_original(vae.state_dict(), len(vae.config.block_out_channels)))
    if family == "sd1":
        state |= under("cond_stage_model.transformer.text_model.", _drop_root(encoders[0].state_dict()))
        state["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    elif family == "sd2":
        state |= under("cond_stage_model.model.", clip_to_open_clip(encoders[0].state_dict(), spare=True))
    else:
        state |= under("conditioner.embedders.0.transformer.text_model.", _drop_root(encoders[0].state_dict()))
        state |= under("conditioner.embedders.1.model.", clip_to_open_clip(encoders[1].state_dict(), spare=False))
    return state | {"alphas_cumprod": torch.linspace(1, 0, 1000)}


def _drop_root(state: State) -> State:
    return {name.removeprefix("text_model."): value for name, value in state.items()}


def add_ema(state: State, change: float = 0.5) -> State:
    """A checkpoint with the running means of its UNet's weights, named as the CompVis repository names them."""
    averaged = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): value * change
        for name, value in state.items()
        if name.startswith("model.diffusion_model.")
    }
    return state | averaged | {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(1)}
