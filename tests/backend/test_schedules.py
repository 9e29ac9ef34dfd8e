"""Shots in which prompts and control strengths change from frame to frame, on constructed surfaces with the starter."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from latentman.backend.jobs.runner import ModelCache, RunCallbacks, run
from latentman.backend.jobs.store import JobStore
from latentman.backend.models.loading import load
from latentman.backend.tasks.shot import check_shot
from latentman.backend.video.frame_conditions import FrameConditions
from latentman.backend.video.look import Look
from latentman.backend.video.pipeline import Interrupted, RunContext, ShotPipeline
from latentman.backend.video.selection import select_frames
from latentman.shared.schedule import Mix, make_schedule
from latentman.shared.shot import METHODS, Fusion, Keyframes, Method, ShotError, with_schedule
from tests import samples
from tests.backend.test_look_files import make_passes

COUNT = 6
KEYED = Method(
    matching="surface", fusion=Fusion(full_steps=1), background=METHODS["surface"].background, keyframes=Keyframes(2, 0.7, 0.0)
)
ROBOT = "a grey robot, in a city"
#: keeps the model that all of these jobs use
MODELS = ModelCache()


@pytest.fixture(scope="module")
def model():
    return load("starter", torch.device("cpu"))


@pytest.fixture(scope="module")
def passes():
    return select_frames(make_passes(), range(COUNT))


def make_request(prompts=(), control=(), count=COUNT, schedule=None, **changes):
    values = {"steps": 2, "preset": "surface", "method": KEYED} | changes
    return with_schedule(samples.request(count, **values), make_schedule(prompts, control, **(schedule or {})))


def make_frames(model, request, passes, **more):
    looks = []
    pipeline = ShotPipeline(model, request, passes, RunContext(keep_look=looks.append), **more)
    found = dict(pipeline.iter_frames())
    return np.stack([found[n] for n in sorted(found)]).astype(int), looks


def test_each_prompts_frames_are_those_of_a_shot_of_its_own(model, passes):
    request = make_request([(4, ROBOT)], schedule={"keep_place": False})
    frames, _ = make_frames(model, request, passes)
    first, _ = make_frames(model, make_request(count=3), select_frames(passes, range(3)))
    second, _ = make_frames(model, make_request(count=3, prompt=ROBOT), select_frames(passes, range(3, 6)))
    own = np.concatenate([first, second])
    # other frames in a batch change the last bits, and what no key frame shows well is filled along what all frames show
    assert np.abs(frames - own).max() <= 8 and np.abs(frames - own).mean() < 0.1 and np.abs(first - second).max() > 20


def test_a_place_is_kept_unless_it_is_to_change(model, passes):
    outside = (passes.mask == 0).all(0)
    steps = {}
    for keep_place in (True, False):
        said = make_request([(4, "a woman in a green dress, on a beach")], schedule={"keep_place": keep_place}, steps=6)
        frames, _ = make_frames(model, said, passes)
        steps[keep_place] = np.abs(frames[3] - frames[2])[outside].mean()
    assert steps[True] < 0.7 * steps[False], steps


def test_a_frame_between_two_prompts_is_their_mean(model, passes):
    request = make_request([(5, ROBOT)], schedule={"prompt_blend": 2})
    assert request.list_mixes()[3].share == 0.5
    pipeline = ShotPipeline(model, request, passes, RunContext())
    looks, pictures = [], {}
    pipeline._run_context.keep_look = looks.append
    pictures = dict(pipeline._iter_pictures((), ()))
    given = looks[0].list_by_prompt(request.text.prompt)
    under = [pipeline._propagate_under(prompt, given, [3])[1][0] for prompt in (request.text.prompt, ROBOT)]
    assert torch.allclose(pictures[3], (under[0] + under[1]) / 2, atol=1e-3) and (under[0] - under[1]).abs().max() > 0.05
    assert 3 not in looks[0].keyframes, "key frames are under one prompt"


def test_without_key_frames_it_is_made_under_both(model, passes):
    """Each frame once, a mixed one as the mean of what both prompts make of it among their own frames."""
    surface = METHODS["surface"]
    # two frames are mixed in parts of a third
    request = make_request([(4, ROBOT)], schedule={"prompt_blend": 3})
    request = msgspec.structs.replace(request, method=msgspec.structs.replace(surface, keyframes=None))
    mixed = [n for n, mix in enumerate(request.list_mixes()) if not mix.is_pure]
    assert len(mixed) == 2
    under: dict[str, dict[int, torch.Tensor]] = {}
    pipeline = ShotPipeline(model, request, passes, RunContext())
    make = pipeline._make_jointly

    def note(prompt, rows, *rest):
        for row, picture in make(prompt, rows, *rest):
            under.setdefault(prompt, {})[row] = picture
            yield row, picture

    noted: dict[str, dict[int, torch.Tensor]] = {}
    denoise = pipeline._denoise_jointly

    def note_latents(prompt, rows, *rest):
        made = denoise(prompt, rows, *rest)
        noted[prompt] = dict(zip(rows, made[0], strict=True))
        return made

    pipeline._make_jointly, pipeline._denoise_jointly = note, note_latents
    found = list(pipeline._iter_pictures((), ()))
    assert sorted(row for row, _ in found) == list(range(COUNT))
    pictures, own = dict(found), request.text.prompt
    for row in mixed:
        share = request.list_mixes()[row].get_share(ROBOT)
        assert 0.2 < share < 0.8
        assert torch.allclose(pictures[row], (1 - share) * under[own][row] + share * under[ROBOT][row], atol=1e-5)
    latents = ShotPipeline(model, request, passes, RunContext()).latents()
    assert len(latents) == COUNT
    # the same as for pictures: the second prompt keeps the first one's place
    for row, mix in enumerate(request.list_mixes()):
        made = sum(mix.get_share(prompt) * noted[prompt][row] for prompt in mix.list_prompts())
        assert torch.allclose(latents[row], made, atol=1e-5)


@pytest.mark.parametrize("preset", ["per_frame", "cross_frame", "surface"])
def test_shots_without_key_frames_follow_the_prompts(model, passes, preset):
    few = select_frames(passes, range(4))
    method = msgspec.structs.replace(METHODS[preset], keyframes=None)
    frames, _ = make_frames(model, make_request([(3, ROBOT)], count=4, preset=preset, method=method), few)
    plain, _ = make_frames(model, make_request(count=4, preset=preset, method=method), few)
    assert np.abs(frames[2:] - plain[2:]).max() > 20
    assert np.abs(frames[:2] - plain[:2]).max() <= (2 if preset != "surface" else 255)
    if preset == "per_frame":
        robots, _ = make_frames(model, make_request(count=4, preset=preset, method=None, prompt=ROBOT), few)
        assert np.abs(frames[2:] - robots[2:]).max() <= 2


def test_a_mix_of_prompts_is_that_of_their_embeddings(model):
    found = model.encode_text("a", "bad", True, 64, 64, "a wood", further=(ROBOT,))
    assert len(found.embeddings) == 4
    conditions = FrameConditions(("a", ROBOT), (Mix("a"), Mix("a", ROBOT, 0.25), Mix(ROBOT)), (1.0, 0.5, 0.0))
    mixed, (one, other) = conditions.mix(found.embeddings[1:3], [2, 1, 0]), found.embeddings[1:3]
    assert torch.equal(mixed[0], other) and torch.equal(mixed[2], one) and torch.allclose(mixed[1], 0.75 * one + 0.25 * other)
    assert conditions.get_control_factors([1, 2], 2, mixed).flatten().tolist() == [0.5, 0.0, 0.5, 0.0]
    in_front = conditions.put_in_front(ROBOT, 0.7)
    assert in_front.mixes[0] == Mix(ROBOT) and in_front.control_scales == (0.7, 1.0, 0.5, 0.0)


def test_each_frame_has_its_own_control_strength(model, passes):
    few = select_frames(passes, range(3))
    changes = {"preset": "per_frame", "method": None, "count": 3}
    frames, _ = make_frames(model, make_request(control=(1.0, 0.3, 0.0), **changes), few)
    for row, strength in enumerate((1.0, 0.3, 0.0)):
        plain, _ = make_frames(model, make_request(control_scale=strength, **changes), few)
        assert np.abs(frames[row] - plain[row]).max() <= 2
        assert np.abs(frames[(row + 1) % 3] - plain[(row + 1) % 3]).max() > 2


def test_denoising_is_one_stage_under_however_many_prompts(model, passes):
    told = []
    context = RunContext(progress=lambda *news: told.append(news))
    dict(ShotPipeline(model, make_request([(4, ROBOT)]), passes, context).iter_frames())
    assert [news[1:] for news in told if news[0] == "denoising"] == [(n, 4) for n in range(1, 5)]


def test_the_looks_of_a_shots_prompts_are_kept_together(model, passes):
    request = make_request([(4, ROBOT)], (1.0, 0.9, 0.8, 0.7, 0.6, 0.5))
    frames, looks = make_frames(model, request, passes)
    look = Look.decode(looks[0].encode())
    assert list(look.others) == [ROBOT] and look.others[ROBOT].others == {}
    assert set(look.list_by_prompt("own")) == {request.text.prompt, ROBOT}
    assert look.anchor.prompt == request.text.prompt and look.anchor.control_scale in request.get_schedule().control_scales
    again, _ = make_frames(model, request, passes, look=look, finalized=True)
    rest = [n for n in range(COUNT) if n not in look.keyframes]
    assert rest and np.abs(again - frames[rest]).max() <= 2
    with pytest.raises(ShotError, match="cannot be read"):
        Look.decode(looks[0].encode()[:-900])


def run_job(store, request, passes, look=""):
    job = store.open(msgspec.structs.replace(request, look=look), passes)
    return job, run(job, MODELS, RunCallbacks())["frames"]["made"]


def test_only_frames_of_which_something_else_is_said_are_made_again(tmp_path, passes):
    store = JobStore(tmp_path)
    request = make_request([(4, ROBOT)])
    first, made = run_job(store, request, passes)
    assert made == COUNT

    def again(*given, **changes):
        job, made = run_job(store, make_request(*given, **changes), passes, first.name)
        kept = [n for n in range(COUNT) if (job.read_frame(n) == first.read_frame(n)).all()]
        return made, kept

    assert again([(4, ROBOT), (90, "a knight")])[0] == 0, "no frame is under it"
    made, kept = again([(5, ROBOT)])
    assert made == 1 and kept == [0, 1, 2, 4, 5], "the key was moved"
    made, kept = again([(4, "a green robot, in a city")])
    assert made == 3 and kept == [0, 1, 2]
    made, kept = again([(4, ROBOT)], (1.0, 1.0, 0.2, 1.0, 1.0, 1.0))
    assert made == 1 and kept == [0, 1, 3, 4, 5]
    made, kept = again()
    assert made == 3 and kept == [0, 1, 2], "the schedule was taken away"


def test_a_shot_that_begins_under_another_prompt_gives_its_look_back(tmp_path, passes):
    """The first look in the file is then not that of the shot's own prompt."""
    store = JobStore(tmp_path)
    first, _ = run_job(store, make_request([(1, ROBOT)]), passes)
    look = first.read_look()
    assert look.anchor.prompt == ROBOT and not look.others
    assert run_job(store, make_request([(1, ROBOT)]), passes, first.name)[1] == 0
    plain, made = run_job(store, make_request(), passes, first.name)
    own, _ = run_job(store, make_request(), passes)
    assert made == COUNT and all((plain.read_frame(n) == own.read_frame(n)).all() for n in range(COUNT))


def test_a_stopped_shot_of_two_prompts_goes_on_with_the_same_frames(tmp_path, passes):
    request = make_request([(4, ROBOT)], schedule={"prompt_blend": 2})
    whole, _ = run_job(JobStore(tmp_path / "a"), request, passes)
    store = JobStore(tmp_path / "b")
    # in the first prompt's key frames, in the second's, and after both
    for limit in (2, 4, 7):
        asked = [0]

        def should_stop(asked=asked, limit=limit):
            asked[0] += 1
            return asked[0] > limit

        with pytest.raises(Interrupted):
            run(store.open(request, passes), MODELS, RunCallbacks(should_stop=should_stop))
    job, _ = run_job(store, request, passes)
    assert all(np.abs(job.read_frame(n).astype(int) - whole.read_frame(n)).max() <= 2 for n in range(COUNT))


def test_what_is_said_of_a_change_is_not_measured_as_flicker(tmp_path, passes):
    request = make_request([(4, ROBOT)])
    job = JobStore(tmp_path).open(request, passes)
    figures = run(job, MODELS, RunCallbacks())["consistency"]
    steady, _ = make_frames(load("starter", torch.device("cpu")), make_request(), passes)
    from latentman.backend.metrics.surface import hmse

    across = hmse(np.stack([job.read_frame(2), job.read_frame(3)]), select_frames(passes, [2, 3]))
    assert figures["hmse"] < 0.2 * across and figures["hmse"] < 3 * hmse(steady.astype(np.uint8), passes) + 5


def test_a_prompt_of_later_frames_is_read_before_anything_is_made():
    check_shot(make_request([(4, ROBOT)]))
    for prompt, words in (("a (robot:9999)", "is not within"), ("a robot <lora:shiny:1>", "would work in all frames")):
        with pytest.raises(ShotError, match=words):
            check_shot(make_request([(4, prompt)]))
