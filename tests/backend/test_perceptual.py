"""What image encoders find alike, with tiny encoders of the real classes."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from transformers import (  # noqa: E402
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
)

from latentman.backend.metrics import perceptual  # noqa: E402
from latentman.backend.metrics.clip_measurer import measure_clip  # noqa: E402
from latentman.backend.metrics.frames import prepare_frame  # noqa: E402
from latentman.backend.metrics.perceptual import PerceptualSimilarity, cut_out, find_encoders, load_encoder  # noqa: E402
from tests import samples  # noqa: E402

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}


@pytest.fixture(scope="module", params=["clip", "dino"])
def folder(request, tmp_path_factory):
    """A folder with a tiny encoder."""
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp(request.param)
    if request.param == "clip":
        CLIPVisionModelWithProjection(CLIPVisionConfig(intermediate_size=32, projection_dim=8, **SMALL)).save_pretrained(out)
        (out / "preprocessor_config.json").write_text('{"crop_size": {"height": 32, "width": 32}, "image_mean": [0.5, 0.5, 0.5]}')
    else:
        Dinov2Model(Dinov2Config(mlp_ratio=2, **SMALL)).save_pretrained(out)
    return out


def test_the_same_picture_is_alike_and_another_is_less_so(folder, rng):
    encode = load_encoder(folder)
    passes = samples.passes(3, 64, 0)
    same = np.repeat(rng.integers(0, 255, (1, 64, 64, 3)).astype(np.uint8), 3, 0)
    other = rng.integers(0, 255, same.shape).astype(np.uint8)
    found = [
        measure_clip(clip, passes, only=("hmse",), more={"x": PerceptualSimilarity("clip_similarity", encode)})["clip_similarity"]
        for clip in (same, other)
    ]
    assert found[0] == pytest.approx(1, abs=1e-6) and found[1] < 0.9999


def test_only_the_character_is_shown(rng):
    passes = samples.passes(1, 64, 0)
    image = rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)
    elsewhere = np.where(passes.mask[0][..., None] > 0, image, 255 - image).astype(np.uint8)
    one, two = (cut_out(prepare_frame(0, picture, passes)) for picture in (image, elsewhere))
    assert one.shape[0] == one.shape[1] and (one == two).all() and (one[0, 0] == perceptual.GREY).all()
    empty = type(passes)(**{name: np.zeros_like(array) for name, array in passes.arrays().items()})
    assert cut_out(prepare_frame(0, image, empty)) is None


def test_encoders_that_are_not_at_hand_are_left_out(tmp_path, monkeypatch, folder):
    asked = []

    def find(name: str, *, local_files_only: bool) -> str:
        asked.append((name, local_files_only))
        if name == perceptual.ENCODERS["clip_similarity"]:
            raise perceptual.LocalEntryNotFoundError("not here")
        return str(tmp_path if len(asked) < 3 else folder)

    monkeypatch.setattr(perceptual.huggingface_hub, "snapshot_download", find)
    find_encoders.cache_clear()
    assert find_encoders() == {}, "one is absent, the other an empty folder"
    find_encoders.cache_clear()
    assert set(find_encoders()) == {"dino_similarity"}
    assert all(local for _, local in asked), "nothing is fetched"
    find_encoders.cache_clear()
