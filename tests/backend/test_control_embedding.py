"""ControlNets whose pictures were embedded before: to the last bit what they give for the pictures."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from latentman.backend.models.control_embedding import KEPT, can_embed, embed_pictures, without_embedding  # noqa: E402
from latentman.backend.models.families import StableDiffusion  # noqa: E402
from latentman.backend.models.loading import load  # noqa: E402


@pytest.fixture(scope="module")
def starter():
    return load("starter", torch.device("cpu"))


def _run(network, cond, latents, words):
    with torch.no_grad():
        down, middle = network(latents, 500, words, cond, return_dict=False)
    return [*down, middle]


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_a_controlnet_gives_the_same_for_embedded_pictures(starter, order):
    (network,) = starter.controlnets
    usual = network.config.controlnet_conditioning_channel_order
    pictures = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    latents = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    words = torch.randn(6, 16, starter.unet.config.cross_attention_dim, generator=torch.Generator().manual_seed(3))
    try:
        network.register_to_config(controlnet_conditioning_channel_order=order)
        plain = _run(network, pictures.repeat(2, 1, 1, 1), latents, words)
        with torch.no_grad():
            embedded = embed_pictures(network, pictures)
        with without_embedding([network]):
            ours = _run(network, embedded.repeat(2, 1, 1, 1), latents, words)
        after = _run(network, pictures.repeat(2, 1, 1, 1), latents, words)
    finally:
        network.register_to_config(controlnet_conditioning_channel_order=usual)
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(plain, ours, after, strict=True))


def test_the_family_embeds_the_pictures_of_short_clips_alone(starter):
    (network,) = starter.controlnets
    pictures = torch.rand(KEPT + 1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert starter.family.prepare_controls(starter, [pictures])[0] is pictures
        (short,) = starter.family.prepare_controls(starter, [pictures[:2]])
    assert torch.equal(short, embed_pictures(network, pictures[:2])) and short.shape[2:] == (8, 8)
    latents = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    options = {
        "encoder_hidden_states": torch.randn(4, 16, starter.unet.config.cross_attention_dim),
        "return_dict": False,
    }
    with torch.no_grad():
        made = [
            starter.family.predict_controls(starter, latents, 500, [torch.cat([each] * 2)], [0.7], options)
            for each in (pictures[:2], short)
        ]
    assert all(torch.equal(a, b) for a, b in zip(made[0][0], made[1][0], strict=True)) and torch.equal(made[0][1], made[1][1])


def test_a_family_that_calls_controlnets_in_its_own_way_has_the_pictures(starter):
    class Other(StableDiffusion):
        def predict_controls(self, *args):
            return super().predict_controls(*args)

    pictures = torch.rand(2, 3, 64, 64)
    assert Other().prepare_controls(starter, [pictures])[0] is pictures
    assert StableDiffusion().prepare_controls(starter, [pictures])[0].shape[2:] == (8, 8)


def test_a_network_whose_weights_are_elsewhere_is_called_as_a_whole(starter):
    (network,) = starter.controlnets
    assert can_embed(network, torch.zeros(1, 3, 8, 8)) and not can_embed(network, torch.zeros(1, 3, 8, 8, device="meta"))
