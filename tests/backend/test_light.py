"""Light that surfaces turn in: found in pictures, taken out of textures, and given back to every frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from latentman.backend.metrics.clip_measurer import measure_clip  # noqa: E402
from latentman.backend.video.light import Light, apply_gain, fit_light  # noqa: E402
from latentman.backend.video.look import Anchor, Look, Plate  # noqa: E402
from latentman.backend.video.selection import select_frames  # noqa: E402
from latentman.backend.video.techniques.fusion import TextureFusion  # noqa: E402
from latentman.shared.shot import Fusion, ShotError  # noqa: E402
from tests.backend import painted_clips as painted  # noqa: E402
from tests.backend import tiny  # noqa: E402

CPU = torch.device("cpu")
FRAMES = 10
LIT = painted.Look(lamp=0.0)
FLAT = painted.Look(lamp=0.0, ambient=1.05)


def _paint(look: painted.Look) -> list[torch.Tensor]:
    clip = painted.paint(painted.shot("walk", FRAMES), look)
    return [torch.from_numpy(image).permute(2, 0, 1).float() / 127.5 - 1 for image in clip]


def _log_brightness(look: painted.Look) -> np.ndarray:
    return np.log(np.maximum(painted.paint(painted.shot("walk", FRAMES), look), 4).astype(float).mean(-1))


def test_the_light_of_a_lamp_is_found_and_a_costume_without_shading_has_none():
    passes = painted.shot("walk", FRAMES)
    gain = fit_light(_paint(LIT), passes).compute_gain(passes, 0, CPU)
    inside = passes.mask[0] > 0
    true = (_log_brightness(LIT) - _log_brightness(FLAT))[0][inside]
    assert np.corrcoef(gain[0].log().numpy()[inside], true)[0, 1] > 0.8
    assert (gain[0][~torch.from_numpy(inside)] == 1).all()
    even = fit_light(_paint(FLAT), passes).compute_gain(passes, 0, CPU)[0].log()[torch.from_numpy(inside)]
    assert even.std() < 0.2 * gain[0].log()[torch.from_numpy(inside)].std()


def test_what_says_nothing_of_light_leaves_pictures_as_they_are():
    passes, pictures = painted.shot("walk", FRAMES), _paint(LIT)
    without = replace(passes, normal=None)
    nobody = replace(passes, mask=passes.mask * 0)
    for one in (fit_light(pictures, without), fit_light(pictures, nobody)):
        assert not one.coefficients.any()
        assert torch.equal(apply_gain(pictures[0], one.compute_gain(passes, 0, CPU)), pictures[0])
    assert (Light(np.ones(8)).compute_gain(without, 0, CPU) == 1).all()


def _finish(light: float) -> np.ndarray:
    """Finished frames of the lit clip, whose texture is that of the first and the last frame."""
    passes, pictures = painted.shot("walk", FRAMES), _paint(LIT)
    few = [0, FRAMES - 1]
    made = TextureFusion(Fusion(light=light, shading=0.0))
    made.begin(tiny.context(select_frames(passes, few)))
    own = [pictures[n] for n in few]
    found, anchor = made.find_light(own), Anchor(torch.zeros(1, 1, 1, 1), (), select_frames(passes, [0]))
    look = Look(made.texture(own, found), anchor, Plate.empty(128, 128), light=found)
    fusion = TextureFusion(Fusion(light=light, shading=0.0))
    fusion.begin(replace(tiny.context(passes), texture=look.texture, light=look.light, joint=False))
    finished = fusion.finish_pictures(pictures, look)
    return np.stack([((p + 1) * 127.5).clamp(0, 255).round().byte().permute(1, 2, 0).numpy() for p in finished])


def test_a_texture_turns_in_the_light_that_its_key_frames_show():
    passes = painted.shot("walk", FRAMES)
    true = painted.paint(passes, LIT)
    found = {light: _finish(light) for light in (0.0, 1.0)}
    error = {light: float(((clip.astype(float) - true)[passes.mask > 0] ** 2).mean()) for light, clip in found.items()}
    assert error[1.0] < 0.6 * error[0.0]
    lively = {light: measure_clip(clip, passes, only=("liveliness",))["liveliness"] for light, clip in found.items()}
    honest = measure_clip(true, passes, only=("liveliness",))["liveliness"]
    assert lively[0.0] < 0.35 * honest and 0.6 * honest < lively[1.0] < 1.4 * honest


def test_whose_light_a_clip_is_seen_in():
    passes, pictures = select_frames(painted.shot("walk", FRAMES), [0, 5]), _paint(LIT)[::5]
    given = Light(np.linspace(0.1, 0.8, 8))

    def begin(settings: Fusion = Fusion(), shown=passes, **changes) -> TextureFusion:
        fusion = TextureFusion(settings)
        fusion.begin(replace(tiny.context(shown), **changes))
        return fusion

    first = begin()
    own = first.find_light(pictures)
    texture = first.texture(pictures, own)
    assert own is not None and own.coefficients.any()
    assert begin(Fusion(light=0.0)).find_light(pictures) is None
    assert begin(shown=replace(passes, normal=None)).find_light(pictures) is None
    assert begin(texture=texture, keeps_light=False).find_light(pictures) is None, "such a texture holds its light itself"
    assert begin(texture=texture, light=given).find_light(pictures) is given
    worn = begin(texture=texture, light=Light.even(), keeps_light=False).find_light(pictures)
    assert np.array_equal(worn.coefficients, own.coefficients), "a costume is seen in the shot's own"


def test_a_light_survives_the_disk_and_damage_is_said():
    passes, pictures = painted.shot("walk", FRAMES), _paint(LIT)
    fusion = TextureFusion(Fusion())
    fusion.begin(tiny.context(passes))
    anchor = Anchor(torch.zeros(1, 4, 8, 8), (), select_frames(passes, [0]))
    look = Look(
        fusion.texture(pictures, fusion.find_light(pictures)), anchor, Plate.empty(128, 128), light=Light(np.linspace(-0.5, 0.5, 8))
    )
    back = Look.decode(look.encode()).light
    assert back is not None and np.array_equal(back.coefficients, look.light.coefficients)
    assert Look.decode(replace(look, light=None).encode()).light is None
    with pytest.raises(ShotError, match="light is damaged"):
        Look.decode(replace(look, light=Light(np.full(8, np.nan))).encode())
