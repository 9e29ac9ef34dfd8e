"""Motion and model files that are dropped into the viewport."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import bpy
import pytest

from latentman.blender_addon import properties
from latentman.blender_addon.model_file_kind import MAX_HEADER, guess_kind
from latentman.blender_addon.motion.readers import BUNDLED, SUFFIXES
from latentman.blender_addon.operators import dropping
from latentman.blender_addon.operators.motion import ALL_SUFFIXES
from latentman.shared.model_name import WEIGHTS

pytestmark = pytest.mark.usefixtures("registered_operators")


def _list_endings(handler):
    return handler.bl_file_extensions.split(";")


def _write_weights(path, names):
    header = json.dumps({name: {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]} for name in names}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    return path


def _drop(operator, paths):
    """Drop files as Blender does: with a folder and names, and the first as a path."""
    names = [{"name": path.name} for path in paths]
    return operator(filepath=str(paths[0]), directory=str(paths[0].parent), files=names)


def test_every_file_that_can_be_read_can_be_dropped():
    own, shared = _list_endings(dropping.MotionFileHandler), _list_endings(dropping.SceneFileHandler)
    assert set(own) | set(shared) == set(ALL_SUFFIXES) and set(own) == set(SUFFIXES)
    assert not set(own) & {".fbx", ".glb", ".gltf", ".usd", ".usda", ".usdc", ".usdz", ".abc", ".obj", ".blend"}
    assert _list_endings(dropping.ModelFileHandler) == list(WEIGHTS)
    for handler in (dropping.MotionFileHandler, dropping.SceneFileHandler, dropping.ModelFileHandler):
        module, name = handler.bl_import_operator.split(".")
        known = getattr(getattr(bpy.ops, module), name).get_rna_type().properties
        assert {"filepath", "directory", "files"} <= set(known.keys()), "what Blender hands over"


def test_files_are_taken_over_a_viewport_only(character):
    settings = properties.get_settings(bpy.context)
    view, other = (
        SimpleNamespace(area=SimpleNamespace(type=kind), scene=bpy.context.scene) for kind in ("VIEW_3D", "IMAGE_EDITOR")
    )
    handlers = (dropping.MotionFileHandler, dropping.SceneFileHandler, dropping.ModelFileHandler)
    assert [handler.poll_drop(view) for handler in handlers] == [True, False, True], (
        "Blender's importers are alone without a character"
    )
    settings.character = character
    assert all(handler.poll_drop(view) for handler in handlers) and not any(handler.poll_drop(other) for handler in handlers)
    assert not any(handler.poll_drop(SimpleNamespace(area=None, scene=bpy.context.scene)) for handler in handlers)


def test_motions_become_takes(character, tmp_path, capfd):
    settings = properties.get_settings(bpy.context)
    paths = [tmp_path / "a.npy", tmp_path / "b.npy", tmp_path / "c.npy"]
    for path in (paths[0], paths[2]):
        shutil.copy(BUNDLED, path)
    paths[1].write_bytes(b"no")
    with pytest.raises(RuntimeError, match="Pick a character first, or add the mannequin, and drop the file again"):
        _drop(bpy.ops.latentman.drop_motion, paths)
    settings.character = character
    assert _drop(bpy.ops.latentman.drop_motion, paths[:1]) == {"FINISHED"} and len(bpy.data.actions) == 1
    assert _drop(bpy.ops.latentman.drop_motion, paths) == {"FINISHED"} and len(bpy.data.actions) == 3
    said = "".join(capfd.readouterr())
    assert "2 of 3 files are keyed" in said and "b.npy cannot be read" in said
    with pytest.raises(RuntimeError, match=r"b\.npy cannot be read"):
        _drop(bpy.ops.latentman.drop_motion, [paths[1], paths[1]])
    with pytest.raises(RuntimeError, match=r"b\.npy cannot be read"):
        _drop(bpy.ops.latentman.drop_motion, [paths[1]])
    assert len(bpy.data.actions) == 3 and bpy.ops.latentman.drop_motion() == {"CANCELLED"}


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["lora_unet_down_blocks_0.lora_down.weight"], "lora"),
        (["unet.down.to_q.lora_A.weight"], "lora"),
        (["lycoris_a.hada_w1_a"], "lora"),
        (["model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.decoder.conv_in.weight"], "checkpoint"),
        (["control_model.input_hint_block.0.bias"], "controlnet"),
        (["double_blocks.0.img_attn.qkv.weight", "img_in.weight"], "checkpoint"),
        (["transformer_blocks.0.img_mod.1.weight"], "checkpoint"),
        (["x_pad_token", "layers.0.attention.qkv.weight"], "checkpoint"),
        (["controlnet_blocks.0.weight", "transformer_blocks.0.attn.to_q.weight"], "controlnet"),
        (["control_layers.0.before_proj.weight"], "controlnet"),
        (["transformer.transformer_blocks.0.attn.to_q.lora_A.weight"], "lora"),
        (["emb_params"], "embedding"),
        (["clip_l", "clip_g"], "embedding"),
        (["encoder.conv_in.weight", "decoder.conv_in.weight"], "vae"),
        (["image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"], "ip_adapter"),
        (["down_blocks.0.attentions.0.norm.weight"], ""),
        ([], ""),
    ],
)
def test_the_kind_of_a_file_by_its_tensors(tmp_path, names, kind):
    assert guess_kind(_write_weights(tmp_path / "a.safetensors", names)) == kind


@pytest.mark.parametrize(
    "content",
    [b"", b"\x05", (MAX_HEADER + 1).to_bytes(8, "little"), b"\x02\0\0\0\0\0\0\0[]", b"\x09\0\0\0\0\0\0\0not json!", b"\xff" * 99],
)
def test_files_of_any_content_have_no_kind(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    assert guess_kind(tmp_path / "a.safetensors") == "" == guess_kind(tmp_path / "gone") == guess_kind(tmp_path)


def test_models_are_put_into_the_model(empty_scene, tmp_path):
    settings = properties.get_settings(bpy.context)
    loras = [_write_weights(tmp_path / f"{name}.safetensors", ["lora_unet_a.lora_up.weight"]) for name in ("a", "b")]
    before = settings.model
    assert bpy.ops.latentman.drop_model(filepath=str(loras[0]), use="LORA") == {"FINISHED"}
    names = [{"name": path.name} for path in loras]
    assert bpy.ops.latentman.drop_model(directory=str(tmp_path), files=names, use="LORA") == {"FINISHED"}
    assert settings.model == f"{before}|lora={loras[0]}@1|lora={loras[1]}@1", "one that is there already is not added again"
    assert bpy.ops.latentman.drop_model(filepath=str(loras[0]), use="CHECKPOINT") == {"FINISHED"}
    assert settings.model.startswith(f"{loras[0]}|lora=")
    kept = settings.model
    for arguments, sentence in (
        ({"directory": str(tmp_path), "files": names, "use": "CHECKPOINT"}, "Only one file can be the model"),
        ({"filepath": str(tmp_path / "a|b.safetensors"), "use": "LORA"}, "has a bar"),
        ({"filepath": str(loras[0]), "use": "LIBRARY"}, "is not running; press Start"),
    ):
        with pytest.raises(RuntimeError, match=sentence):
            bpy.ops.latentman.drop_model(**arguments)
    assert settings.model == kept and bpy.ops.latentman.drop_model() == {"CANCELLED"}
