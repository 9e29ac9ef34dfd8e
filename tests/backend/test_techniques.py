"""Techniques: the promises of every hook, how they compose, and those of other packages, on tiny models."""

from __future__ import annotations

import re
import sys
import tomllib
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from latentman.backend.__main__ import main  # noqa: E402
from latentman.backend.latentman_pipeline import LatentManPipeline  # noqa: E402
from latentman.backend.models.loading import load  # noqa: E402
from latentman.backend.video import memory  # noqa: E402
from latentman.backend.video.pipeline import RunContext, ShotPipeline  # noqa: E402
from latentman.backend.video.techniques import Technique, context, registry  # noqa: E402
from latentman.backend.video.techniques.fusion import TextureFusion  # noqa: E402
from latentman.shared.settings import list_parts  # noqa: E402
from latentman.shared.shot import METHODS, Fusion, Guidance, Keyframes, Method, ShotError  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend import tiny  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny Stable Diffusion on disk."""
    root = tmp_path_factory.mktemp("tiny")
    tiny.write_sd(root)
    return root / "whole"


@pytest.fixture(scope="module")
def model(folder):
    """It, loaded."""
    return load(str(folder), torch.device("cpu"))


def _latents(model, request, *techniques, run_context=None, noise=None):
    passes = samples.passes(len(request.frames), request.width)
    return ShotPipeline(model, request, passes, run_context or RunContext(), noise, techniques=techniques).latents()


def _frames(model, request, *techniques):
    passes = samples.passes(len(request.frames), request.width)
    return np.stack(list(ShotPipeline(model, request, passes, RunContext(), techniques=techniques).frames()))


class Recorder(Technique):
    """Notes every call, and what came in."""

    def __init__(self, gradients=()):
        super().__init__()
        self.calls, self.values, self._gradients = [], [], dict(enumerate(gradients))

    def _note(self, hook, tensor=None, *more):
        if tensor is not None:
            more = (tuple(tensor.shape), tensor.dtype, tensor.requires_grad, *more)
            self.values.append((hook, tensor.detach().clone()))
        self.calls.append((hook, *more))
        return tensor

    def begin(self, context):
        super().begin(context)
        self._note("begin")

    def noise_source(self, frame):
        return frame

    def first_noise(self, noise):
        return self._note("first_noise", noise)

    @contextmanager
    def attention(self, networks, groups):
        self._note("attention", None, [type(network).__name__ for network in networks], groups)
        yield
        self._note("end of attention")

    def reference_frames(self, step):
        return (min(1, self.context.passes.frame_count - 1),)

    def begin_step(self, step):
        self._note("begin_step", None, step)

    def before_step(self, latents, step):
        return self._note("before_step", latents, step)

    def before_prediction(self, frames, step):
        self._note("before_prediction", None, list(frames), step)

    def gradient_through(self, step):
        return self._gradients.get(step)

    def loss(self, frames, clean, step):
        self._note("loss", clean, list(frames), step)
        return clean.square().sum()

    def correct_clean(self, clean, step):
        return self._note("correct_clean", clean, step)

    def follow_gradient(self, latents, gradient, step):
        assert gradient.abs().max() > 0
        self._note("follow_gradient", gradient, step)
        return latents

    def after_step(self, latents, step):
        return self._note("after_step", latents, step)

    def finish_pictures(self, pictures):
        self._note("finish_pictures", torch.stack(pictures))
        return pictures


def test_every_hook_is_called_as_promised(model, monkeypatch):
    monkeypatch.setattr(memory, "MAX_BATCH_FRAMES", 2)
    recorder = Recorder(["network", "prediction"])
    method = Method(shared_noise=False, cross_frame_attention=False)
    whole = _frames(model, samples.request(3, steps=3, method=method))
    made = _frames(model, samples.request(3, steps=3, method=method), recorder)
    assert np.abs(made.astype(int) - whole).max() <= 1, "looking on changes nothing but the batches"
    of_frames = lambda n: ((n, 4, 8, 8), torch.float32, False)  # noqa: E731
    expected = [
        ("begin",),
        ("first_noise", *of_frames(3)),
        ("attention", ["UNet2DConditionModel", "ControlNetModel"], 2),
    ]
    for step in range(3):
        expected += [("begin_step", step), ("before_step", *of_frames(3), step)]
        for rows in ([0, 1], [2]):
            expected.append(("before_prediction", sorted({1, *rows}), step))
            if step < 2:
                expected.append(("loss", (len(rows), 4, 8, 8), torch.float32, True, rows, step))
        expected.append(("correct_clean", *of_frames(3), step))
        if step < 2:
            expected.append(("follow_gradient", *of_frames(3), step))
        expected.append(("after_step", *of_frames(3), step))
    expected += [("end of attention",), ("finish_pictures", (3, 3, 64, 64), torch.float32, False)]
    assert recorder.calls == expected


def test_a_technique_that_does_nothing_changes_nothing(model):
    for method in (METHODS["latentman"], METHODS["per_frame"]):
        request = samples.request(2, steps=5, method=method)
        assert torch.equal(_latents(model, request, Technique()), _latents(model, request))


def test_frames_with_an_anchor_are_seen_behind_it(model):
    """Key frames first, then the others behind the first of them, which is given and not predicted."""
    method = msgspec.structs.replace(METHODS["surface"], cross_frame_attention=False, keyframes=Keyframes(count=1, strength=0.5))
    recorder, seen = Recorder(), []
    begin = recorder.begin
    recorder.begin = lambda context: (seen.append(context), begin(context))
    made = _frames(model, samples.request(3, steps=4, method=method), recorder)
    keys, others = seen
    assert keys.joint and keys.given == 0 and keys.texture is None and len(keys.rows) == 1
    assert not others.joint and others.given == 1 and others.texture is not None
    assert {*keys.rows, *others.rows} == {0, 1, 2} and others.passes.frame_count == 3 and others.own_passes.frame_count == 2
    assert (others.passes.rest_position[0] == keys.own_passes.rest_position[0]).all()
    start = recorder.calls.index(("begin",), 1)
    shapes = {(hook, rest[0][0]) for hook, *rest in recorder.calls[start:] if rest and isinstance(rest[0], tuple)}
    assert shapes == {("first_noise", 2), ("before_step", 3), ("correct_clean", 2), ("after_step", 2), ("finish_pictures", 2)}
    assert ("before_prediction", [1, 2], 2) in recorder.calls[start:], "the given frame is not predicted"
    assert made.shape == (3, 64, 64, 3)


def test_what_a_technique_sees_does_not_depend_on_the_batches(model, monkeypatch):
    def values(batch):
        monkeypatch.setattr(memory, "MAX_BATCH_FRAMES", batch)
        recorder = Recorder(["network", "prediction", None])
        _frames(model, samples.request(5, steps=3, preset="per_frame"), recorder)
        losses = [(call[4], call[5]) for call in recorder.calls if call[0] == "loss"]
        clean = [value for hook, value in recorder.values if hook == "loss"]
        return losses, torch.cat(clean), [(hook, value) for hook, value in recorder.values if hook != "loss"]

    def close(a, b):
        return float((a - b).abs().max()) <= 1e-3 * float(b.abs().max())

    whole_losses, whole_clean, whole = values(8)
    assert whole_losses == [([0, 1, 2, 3, 4], 0), ([0, 1, 2, 3, 4], 1)]
    for batch in (1, 2):
        losses, clean, others = values(batch)
        assert [(row, step) for rows, step in losses for row in rows] == [(row, step) for step in (0, 1) for row in range(5)]
        assert all(len(rows) <= batch for rows, _ in losses)
        assert close(clean, whole_clean)
        assert [hook for hook, _ in others] == [hook for hook, _ in whole]
        for (hook, a), (_, b) in zip(others, whole, strict=True):
            assert close(a, b), (hook, float((a - b).abs().max()), float(b.abs().max()))


class Shift(Technique):
    """Adds to the clean latents and to the first noise, and has a loss of its own."""

    def __init__(self, by, factor=1.0, rho=0.0):
        super().__init__()
        self.by, self.factor, self.rho, self.came, self.gradient = by, factor, rho, [], None

    def first_noise(self, noise):
        return noise * self.factor + self.by

    def correct_clean(self, clean, step):
        self.came.append(clean)
        return clean * self.factor + self.by

    def gradient_through(self, step):
        return "network" if self.rho and step == 0 else None

    def loss(self, frames, clean, step):
        return (clean - self.by).square().sum()

    def follow_gradient(self, latents, gradient, step):
        self.gradient = gradient
        return latents - self.rho * gradient


def test_two_techniques_work_one_after_the_other(model):
    request = samples.request(2, steps=2, preset="cross_frame")
    first, second = Shift(0.25, 0.5), Shift(-0.5)
    both = _latents(model, request, first, second)
    assert torch.equal(second.came[0], first.came[0] * 0.5 + 0.25)
    assert not torch.allclose(both, _latents(model, request, second, first), atol=1e-3), "their order counts"
    alone = Shift(0.25, 0.5)
    assert not torch.allclose(_latents(model, request, alone), both, atol=1e-3)


def test_two_losses_have_gradients_of_their_own(model):
    class Loss(Shift):
        def first_noise(self, noise):
            return noise

        def correct_clean(self, clean, step):
            return clean

    request = samples.request(2, steps=2, preset="cross_frame")
    first, second, alone = Loss(0.5, rho=1e-3), Loss(-2.0, rho=2e-3), Loss(-2.0, rho=2e-3)
    _latents(model, request, first, second)
    _latents(model, request, alone)
    assert torch.equal(second.gradient, alone.gradient) and not torch.allclose(first.gradient, second.gradient)


def test_the_corrected_clean_latents_are_what_comes_out(model):
    """Euler's last step ends at the clean prediction."""

    class Grey(Technique):
        def correct_clean(self, clean, step):
            return torch.full_like(clean, 0.3) if step == 3 else clean

    request = samples.request(2, steps=4, preset="per_frame", scheduler="euler")
    assert torch.allclose(_latents(model, request, Grey()), torch.tensor(0.3), atol=1e-3)
    assert not torch.allclose(_latents(model, request), torch.tensor(0.3), atol=0.5)


def test_what_a_multistep_solver_remembers_goes_through_before_step(model):
    recorder = Recorder()
    _latents(model, samples.request(2, steps=4, preset="per_frame", scheduler="dpm++"), recorder)
    counts = [sum(call[0] == "before_step" and call[-1] == step for call in recorder.calls) for step in range(4)]
    assert counts == [1, 2, 3, 3], "the latents, and up to two predictions of the steps before"


def test_reference_frames_are_in_every_batch(model):
    """Without attention that looks at them they change nothing."""
    request = samples.request(4, steps=2, preset="per_frame")
    run = ShotPipeline(model, request, samples.passes(4), RunContext())._make_denoising([0, 1, 2, 3], None, None, joint=True)
    latents = torch.randn(4, 4, 8, 8)
    with torch.no_grad():
        plain = run._predictor(latents, latents[[1, 2]], [1, 2], [1, 2], 0)
        for frames in ([0, 1, 2], [0, 1, 2, 3], [1, 2, 3]):
            assert torch.allclose(run._predictor(latents, latents[[1, 2]], [1, 2], frames, 0), plain, atol=1e-4)


def test_noise_is_shared_as_a_technique_has_it(model):
    class Pairs(Technique):
        def noise_source(self, frame):
            return frame // 2

    def first(request, *techniques, noise=None):
        recorder = Recorder()
        _latents(model, request, *techniques, recorder, noise=noise)
        return next(value for hook, value in recorder.values if hook == "first_noise")

    request = samples.request(4, steps=1, preset="per_frame")
    noise, own = first(request, Pairs()), first(request)
    assert torch.equal(noise[0], noise[1]) and torch.equal(noise[2], noise[3]) and not torch.equal(noise[1], noise[2])
    assert torch.equal(noise[2], own[1])
    given = torch.randn(4, 4, 8, 8)
    assert torch.equal(first(samples.request(4, steps=1, method=Method(surface_noise=0.5)), noise=given), given)
    assert torch.equal(first(request, Shift(1.0), noise=given), given + 1)


def test_noise_that_a_scheduler_adds_belongs_to_the_shot_s_frames(model, monkeypatch):
    """Frames that are no key frames come out the same whichever others are made beside them."""
    method = msgspec.structs.replace(METHODS["surface"], shared_noise=False, keyframes=Keyframes(count=1, strength=0.75))
    request = samples.request(4, steps=4, method=method, scheduler="lcm", guidance_scale=1.0)
    together = _latents(model, request)
    monkeypatch.setattr(memory, "MAX_BATCH_FRAMES", 1)
    assert torch.allclose(_latents(model, request), together, atol=1e-2)


def test_pictures_are_finished_with_and_without_fusion(model):
    class Bright(Technique):
        def finish_pictures(self, pictures):
            return [torch.ones_like(picture) for picture in pictures]

    for preset in ("per_frame", "surface"):
        assert (_frames(model, samples.request(2, preset=preset), Bright()) == 255).all()


def test_matches_are_found_once(monkeypatch):
    asked, match = [], context.match_hungarian
    monkeypatch.setattr(context, "match_hungarian", lambda *args, **options: (asked.append(args[1:]), match(*args, **options))[1])
    clip = tiny.context(samples.passes(2), preset="latentman")
    assert clip.matches((8, 8), "prev") is clip.matches((8, 8), "prev")
    clip.matches((8, 8), "first")
    clip.matches((32, 32), "prev")
    assert asked == [(8, 8, "prev"), (8, 8, "first"), (32, 32, "prev")]


def test_wrong_shapes_and_divergence_name_the_culprit(model):
    class Half(Technique):
        def correct_clean(self, clean, step):
            return clean[:1]

    class Bomb(Technique):
        def after_step(self, latents, step):
            return latents * 1e9

        def advice_on_divergence(self, step):
            return "defuse the bomb"

    request = samples.request(2, preset="per_frame")
    with pytest.raises(ShotError, match=r"Half gave \[1, 4, 8, 8\] instead of \[2, 4, 8, 8\]"):
        _latents(model, request, Half())
    with pytest.raises(ShotError, match="diverged at step 1; defuse the bomb"):
        _latents(model, request, Bomb())


def test_guidance_goes_with_a_kept_look(model):
    """The given frame has no prediction to be compared with."""
    method = Method(fusion=Fusion(), guidance=Guidance(0.0, 1.0))
    request, passes, looks = samples.request(3, steps=2, method=method), samples.passes(3), []
    list(ShotPipeline(model, request, passes, RunContext(keep_look=looks.append)).frames())
    again = list(ShotPipeline(model, request, passes, RunContext(), look=looks[0]).frames())
    assert len(again) == 3


def test_built_in_techniques_come_in_the_registry_s_order():
    parts = {name: part() for name, part in list_parts(Method).items() if name in registry.BUILT_IN}
    built = registry.build_techniques(Method(True, 0.5, True, **parts))
    assert [type(technique) for technique in built] == list(registry.BUILT_IN.values())
    assert built[1].settings == 0.5
    assert [technique.settings for technique in built if isinstance(technique, TextureFusion)] == [Fusion()]
    assert registry.build_techniques(METHODS["per_frame"]) == []


def _install(folder: Path, module: str, code: str, entries: dict[str, str]) -> None:
    """A distribution as an installer would leave it."""
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{registry.GROUP}]", *lines]) + "\n")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder that packages are installed into, with one that is broken in every way."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    _install(
        tmp_path,
        "broken_package",
        "raise RuntimeError('no licence\\nsecond line')",
        {"explodes": "broken_package:Nothing", "absent": "no_such_module:Nothing", "number": "math:pi"},
    )
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def _example() -> tuple[str, dict[str, str]]:
    """The code and the entry points that the page on techniques shows."""
    text = (ROOT / "docs" / "development" / "add_a_technique.md").read_text(encoding="utf-8")
    code, project = (re.search(rf"```{kind}\n(.*?)```", text, re.S)[1] for kind in ("python", "toml"))
    return code, tomllib.loads(project)["project"]["entry-points"][registry.GROUP]


def test_the_example_in_the_guide_makes_frames(model, folder, site, capsys):
    code, entries = _example()
    ((name, value),) = entries.items()
    module, kind = value.split(":")
    _install(site, module, code, entries)

    def request(**plugins):
        return samples.request(3, steps=4, method=Method(shared_noise=False, plugins=plugins))

    def spread(latents):
        return float(latents.mean((2, 3)).std(0).mean())

    plain, pulled = _latents(model, request()), _latents(model, request(**{name: {"strength": 1.0}}))
    assert spread(pulled) < 0.3 * spread(plain)
    assert (_frames(model, request(**{name: {}})) != _frames(model, request())).any()
    for values, sentence in (
        ({"strength": 7}, f"In the technique '{name}', the strength 7 is out of range; choose 0 to 1."),
        ({"strength": "much"}, "the strength much is out of range"),
        ({"power": 1}, f"The technique '{name}' has no setting 'power'; it has strength."),
    ):
        with pytest.raises(ShotError, match=re.escape(sentence)):
            ShotPipeline(model, request(**{name: values}), samples.passes(3), RunContext())

    # as a diffusers pipeline: by name, and as an object
    pipe, loaded = LatentManPipeline.from_pretrained(folder), sys.modules[module]

    def call(method, *techniques):
        generators = [torch.Generator().manual_seed(n) for n in range(3)]
        return pipe(
            "a man", samples.passes(3), 3, method=method, generator=generators, output_type="latent", techniques=techniques
        ).frames

    bare = Method(shared_noise=False)
    by_name = call(msgspec.structs.replace(bare, plugins={name: {"strength": 1.0}}))
    assert torch.equal(by_name, call(bare, getattr(loaded, kind)(loaded.Settings(1.0))))
    assert not torch.allclose(by_name, call(bare), atol=1e-3)

    assert main(["techniques"]) == 0
    shown = capsys.readouterr().out
    assert f"{name}  [{module} 1.0]  Pulls the mean" in shown and "strength: 0 to 1, default 0.5." in shown
    assert "explodes  [broken_package 1.0]" in shown and "reference: 'prev' | 'first'" in shown
    assert all(f"{built}  [latentman" in shown for built in registry.BUILT_IN)


@pytest.mark.parametrize(
    "plugins, sentence",
    [
        ({"nonsense": {}}, "There is no technique 'nonsense'; choose absent, explodes, number."),
        ({"fusion": {}}, "'fusion' is built in; set it in the method itself"),
        ({"explodes": {}}, "'explodes' of broken_package 1.0 cannot be used (RuntimeError: no licence); update that package"),
        ({"absent": {}}, "'absent' of broken_package 1.0 cannot be used (ModuleNotFoundError: No module named 'no_such_module')"),
        ({"number": {}}, "(math:pi is not a class derived from Technique)"),
    ],
)
def test_missing_and_broken_plugins_are_named_when_they_are_asked_for(model, site, plugins, sentence):
    def pipeline(asked):
        return ShotPipeline(model, samples.request(1, method=Method(plugins=asked)), samples.passes(1), RunContext())

    with pytest.raises(ShotError, match=re.escape(sentence)) as caught:
        pipeline(plugins)
    assert caught.value.code == "plugin" and "\n" not in str(caught.value)
    assert len(list(pipeline({}).frames())) == 1, "those who do not ask for it are not troubled"


def test_plugins_without_settings_with_bad_ones_and_with_faults_of_their_own(model, site):
    code = """
from __future__ import annotations
import msgspec
from latentman.backend.video.techniques import Technique

class Plain(Technique):
    pass

class Needs(msgspec.Struct, frozen=True):
    folder: str
    count: int = 3

class Needy(Technique):
    settings_type = Needs

class Odd(Technique):
    settings_type = dict

class Fails(Technique):
    def __init__(self, settings):
        raise OSError("no file")
"""
    _install(site, "other", code, {"plain": "other:Plain", "needy": "other:Needy", "odd": "other:Odd", "fails": "other:Fails"})

    def build(**plugins):
        return registry.build_techniques(Method(False, 0.0, False, plugins=plugins))

    names = [type(technique).__name__ for technique in build(plain={}, needy={"folder": "x", "count": 5})]
    assert names == ["Needy", "Plain"], "by name, whatever the order in which they were asked for"
    assert build(needy={"folder": "x"})[0].settings.count == 3
    for plugins, sentence in (
        ({"plain": {"x": 1}}, "has no setting 'x'; it has none"),
        ({"needy": {}}, "missing required field `folder`"),
        ({"needy": {"folder": "x", "count": "many"}}, "Expected `int`, got `str`"),
        ({"odd": {}}, "its settings_type is not a msgspec.Struct"),
        ({"fails": {}}, "(OSError: no file)"),
    ):
        with pytest.raises(ShotError, match=re.escape(sentence)):
            build(**plugins)


def test_without_any_package_the_sentence_says_so(monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda group: [])
    with pytest.raises(ShotError, match="no package with techniques is installed"):
        registry.load_plugin("nonsense")
