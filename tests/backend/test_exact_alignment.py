"""Alignment below the cell: chains against the true surface, resampling against scipy's splines, and the noise that must stay."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from scipy.ndimage import map_coordinates  # noqa: E402

from latentman.backend.metrics.surface import hmse  # noqa: E402
from latentman.backend.metrics.variants import VARIANTS  # noqa: E402
from latentman.backend.models.loading import load  # noqa: E402
from latentman.backend.video.correspondence import (  # noqa: E402
    find_cubic_corners,
    follow_chains,
    match_surfaces,
    prepare_surface_frame,
    prepare_surface_frames,
)
from latentman.backend.video.pipeline import RunContext, ShotPipeline  # noqa: E402
from latentman.backend.video.sampling import Sampler  # noqa: E402
from latentman.backend.video.techniques import Technique  # noqa: E402
from latentman.backend.video.techniques.alignment import ChainedPictures, LatentAlignment, MatchedCopy, choose_steps  # noqa: E402
from latentman.blender_addon.reference_shots.views import render_passes  # noqa: E402
from latentman.shared.shot import METHODS, Alignment, Method, ShotError, check_request  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend import painted_clips, tiny  # noqa: E402
from tools.studies.correspondence_truth import Pose, find_ambiguous_pixels, find_true_places  # noqa: E402

CPU = torch.device("cpu")
#: pixels that the board moves in each frame, to the right and down: less than a latent cell over the whole clip
STEP = np.array([0.4, 0.3])
CHAINED = Method(matching="surface", alignment=Alignment(until=1.0, reference="chain"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny Stable Diffusion."""
    root = tmp_path_factory.mktemp("tiny")
    tiny.write_sd(root)
    return load(str(root / "whole"), CPU)


def _board(offset, size: int = 48, margin: int = 6):
    """The rest positions and ids of a flat board that has moved by ``offset`` pixels behind a window."""
    rows, cols = np.mgrid[0:size, 0:size]
    key = np.stack([(cols - offset[0]) * 0.01, (rows - offset[1]) * 0.01, np.zeros(rows.shape)], -1)
    ids = np.zeros((size, size), int)
    ids[margin:-margin, margin:-margin] = 1
    return key, ids


def _centres(pixels: np.ndarray, width: int) -> np.ndarray:
    return np.stack([pixels % width, pixels // width], 1) + 0.5


def test_motion_below_a_pixel_adds_up_along_the_chain():
    count = 12
    frames = [prepare_surface_frame(*_board(n * STEP)) for n in range(count)]
    chains = follow_chains(frames)
    assert len(chains.pixels[0]) == 0
    for n in range(1, count):
        here, roots, places = chains.pixels[n], chains.roots[n], chains.places[n]
        # what came into sight at the window's edge has a later root
        assert (roots == 0).mean() > 0.6 and (roots < n).all()
        moved = (n - roots)[:, None] * STEP
        np.testing.assert_allclose(places, _centres(here, 48) - moved, atol=2e-3)
    assert np.abs(chains.places[-1] - _centres(chains.pixels[-1], 48)).max() > 4


def test_chains_against_the_true_surface():
    """A turning body: the places composed over four frames are those of the mesh itself."""
    views = [Pose(yaw=6.0 * n).make_view() for n in range(5)]
    passes = render_passes(views, 256)
    chains = follow_chains(prepare_surface_frames(passes))
    pixels, true, seen = find_true_places(views[4], views[0], 256)
    seen &= ~find_ambiguous_pixels(passes, 4, 256)[pixels]
    first = chains.roots[4] == 0
    at = np.full(256 * 256, -1)
    at[pixels] = np.arange(len(pixels))
    rows = at[chains.pixels[4][first]]
    error = np.linalg.norm(chains.places[4][first] - true[rows], axis=1)
    assert first.sum() > 0.6 * seen.sum() and np.median(error) < 0.05 and (error < 0.5).mean() > 0.99
    assert np.median(np.linalg.norm(true[rows] - _centres(pixels[rows], 256), axis=1)) > 1, "there is motion to be found"


def test_a_point_that_was_hidden_begins_a_new_chain():
    frames = []
    for n in range(4):
        key, ids = _board(n * STEP)
        if n == 1:
            # another object stands before the board's middle for one frame
            ids[:, 20:28] *= 2
        frames.append(prepare_surface_frame(key, ids))
    chains = follow_chains(frames)
    roots = np.full((48, 48), -1)
    roots.ravel()[chains.pixels[3]] = chains.roots[3]
    assert (roots[12:36, 22:26] == 2).all() and (roots[12:36, 10:16] == 0).all()


def test_what_a_point_shows_is_what_its_root_shows(rng):
    """Also where a root's pixels are in older chains: whatever the pictures, they agree along every chain."""
    chains = follow_chains(prepare_surface_frames(painted_clips.shot("dance", 5)))
    found = (
        ChainedPictures(chains, torch.device("cpu"))(torch.from_numpy(rng.normal(size=(5, 3, 128, 128)).astype(np.float32)))
        .flatten(2)
        .numpy()
    )
    for n in range(1, 5):
        assert len(chains.pixels[n]) and (chains.roots[n] < n).all()
        for root in np.unique(chains.roots[n]):
            own = chains.roots[n] == root
            corners, weights = find_cubic_corners(chains.places[n][own], 128, 128)
            np.testing.assert_allclose(found[n][:, chains.pixels[n][own]], (found[root][:, corners] * weights).sum(1), atol=1e-5)


def test_pictures_are_resampled_as_splines_say(rng):
    frames = [prepare_surface_frame(*_board(n * STEP)) for n in range(6)]
    chains = follow_chains(frames)
    rows, cols = np.mgrid[0:48, 0:48]
    first = np.sin(cols / 2.3) * np.cos(rows / 2.9)
    pictures = torch.from_numpy(np.stack([first, *rng.normal(size=(5, 48, 48))])[:, None].astype(np.float32))
    found = ChainedPictures(chains, torch.device("cpu"))(pictures)[:, 0].numpy()
    copied = MatchedCopy(_match_boards(6), CPU)(pictures)[:, 0].numpy()
    for n in range(1, 6):
        here = chains.pixels[n][chains.roots[n] == 0]
        row, col = here // 48, here % 48
        wanted = map_coordinates(first, [row - n * STEP[1], col - n * STEP[0]], order=3)
        assert np.abs(found[n].ravel()[here] - wanted).max() < 0.02
    # copying from cell to cell never sees motion below the cell
    assert np.abs(copied[5].ravel()[here] - wanted).max() > 0.5
    untouched = np.setdiff1d(np.arange(48 * 48), chains.pixels[5])
    np.testing.assert_array_equal(found[5].ravel()[untouched], pictures[5, 0].numpy().ravel()[untouched])


def _match_boards(count):
    passes = samples.passes(count, 48)
    boards = [_board(n * STEP) for n in range(count)]
    ids = np.stack([board[1] for board in boards]).astype(np.uint8)
    passes = replace(passes, mask=ids, rest_position=np.stack([board[0] for board in boards]).astype(np.float32))
    return match_surfaces(passes, 48, 48, "prev")


class _Watcher(Technique):
    """Notes the latents around a step, and what was predicted of them; moves the clean ones by ``shift`` at the first step."""

    def __init__(self, shift=0.0):
        super().__init__()
        self.shift, self.before, self.predicted, self.clean, self.after = shift, [], [], [], []

    def before_step(self, latents, step):
        self.before.append(latents)
        return latents

    def correct_clean(self, clean, step):
        self.predicted.append(clean)
        return clean

    def move_clean(self, clean, step):
        moved = clean + self.shift if step == 0 and self.shift else clean
        self.clean.append(moved)
        return moved

    def after_step(self, latents, step):
        self.after.append(latents)
        return latents


def _watch(model, method, *, scheduler="ddim", shift=0.0):
    watcher = _Watcher(shift)
    request = samples.request(3, steps=4, method=method, scheduler=scheduler)
    ShotPipeline(model, request, samples.passes(3, shift=3), RunContext(), techniques=[watcher]).latents()
    return watcher


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++", "euler"])
def test_moved_clean_latents_keep_the_predicted_noise(model, scheduler):
    """x = p clean + q noise before and after a step: with the same noise the latents move by p times as much as the clean ones."""
    still, moved = (_watch(model, METHODS["cross_frame"], scheduler=scheduler, shift=shift) for shift in (0.0, 0.25))
    # the picture's scale, from the scheduler's own words: what noiseless latents are worth before the second step
    scale = float(Sampler(model.make_scheduler(4, scheduler), 0).add_noise(torch.ones(1), torch.zeros(1), 1))
    torch.testing.assert_close(moved.after[0] - still.after[0], torch.full_like(still.after[0], 0.25 * scale), atol=2e-4, rtol=0)


def test_alignment_leaves_every_frame_its_noise(model):
    found = _watch(model, CHAINED)
    sampler = Sampler(model.make_scheduler(4, "ddim"), 0)

    def find_noise(latents, clean, step):
        ones, zeros = torch.ones(1), torch.zeros(1)
        p, q = (float(sampler.add_noise(*pair, step)) for pair in ((ones, zeros), (zeros, ones)))
        return (latents - p * clean) / q

    for step in range(3):
        before = find_noise(found.before[step], found.predicted[step], step)
        after = find_noise(found.after[step], found.clean[step], step + 1)
        torch.testing.assert_close(after, before, atol=1e-3, rtol=0)
        assert not torch.equal(found.clean[step][1:], found.predicted[step][1:])
        torch.testing.assert_close(found.clean[step][0], found.predicted[step][0])
    # the first noise is nearly all that there is at the first step, and its variance stays
    noise = find_noise(found.after[0], found.clean[0], 1)
    assert float(noise.std()) == pytest.approx(float(find_noise(found.before[0], found.predicted[0], 0).std()), rel=1e-3)


def test_a_copy_of_a_steady_clip_stays_steady():
    """The figure that copying from cell to cell fails: it adds hundreds."""
    starter, passes = load("starter", CPU), painted_clips.shot("walk", 2, 256)
    clip = painted_clips.paint(passes, painted_clips.Look(lamp=0.0, ambient=1.05))
    pictures = torch.from_numpy(clip).permute(0, 3, 1, 2).float() / 127.5 - 1

    def measure(latents):
        shown = starter.decode(latents).clamp(-1, 1) * 127.5 + 127.5
        return hmse(shown.round().byte().permute(0, 2, 3, 1).numpy(), passes)

    with torch.no_grad():
        latents = starter.encode(pictures)
        before = measure(latents)
        alignment = LatentAlignment(Alignment(until=1.0, reference="chain"))
        alignment.begin(tiny.context(passes, starter.decode, starter.encode))
        assert measure(alignment.move_clean(latents, 0)) < before + 20
        assert measure(MatchedCopy(match_surfaces(passes, 32, 32, "prev"), CPU)(latents)) > before + 100


def test_it_works_on_its_steps_alone(model):
    half = msgspec.structs.replace(CHAINED, alignment=Alignment(until=0.5, reference="chain"))
    found = _watch(model, half)
    moved = [not torch.equal(after, before) for after, before in zip(found.clean, found.predicted, strict=True)]
    assert moved == [True, True, False, False]


@pytest.mark.parametrize(
    ("count", "chosen"),
    [(0, []), (1, [0]), (8, list(range(8))), (9, list(range(1, 9))), (40, [4, 9, 14, 19, 24, 29, 34, 39])],
)
def test_many_steps_are_not_all_aligned(count, chosen):
    """What the auto-encoder adds each time would add up."""
    assert choose_steps(range(count)) == chosen


def test_a_hundred_steps_move_latents_as_often_as_twenty(model):
    """The paper's own copying goes on in all of its steps, the first of which begins with one noise for all frames."""
    for reference, wanted in (("chain", 8), ("prev", 19)):
        method = msgspec.structs.replace(CHAINED, alignment=Alignment(reference=reference))
        moves = []
        for kind in ("move_clean", "before_step"):
            original = getattr(LatentAlignment, kind)

            def note(self, latents, step, original=original, moves=moves):
                made = original(self, latents, step)
                moves.extend([step] if not torch.equal(made, latents) else [])
                return made

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(LatentAlignment, kind, note)
                list(ShotPipeline(model, samples.request(3, steps=50, method=method), samples.passes(3), RunContext()).frames())
        assert len(moves) == wanted and max(moves) == 19


def test_chains_need_exact_matches():
    request = samples.request(method=Method(alignment=Alignment(reference="chain")))
    with pytest.raises(ShotError, match="set the matching to surface"):
        check_request(request)


def test_the_preset_is_the_papers_with_exact_parts(model):
    method = METHODS["latentman_exact"]
    assert method.matching == "surface" and method.alignment.reference == "chain" and method.guidance is not None
    assert VARIANTS["latentman_exact"] is method and method.fusion is None and method.keyframes is None
    passes = samples.passes(3)
    made = {
        preset: np.stack(list(ShotPipeline(model, samples.request(3, steps=5, preset=preset), passes, RunContext()).frames()))
        for preset in ("latentman_exact", "latentman")
    }
    assert (made["latentman_exact"] != made["latentman"]).any() and made["latentman_exact"].std() > 1


def test_a_shot_without_a_character_is_left_alone(model):
    nothing = {name: array * 0 for name, array in samples.passes(2).arrays().items()}
    passes = replace(samples.passes(2), **nothing)
    request = samples.request(2, method=CHAINED)
    aligned = list(ShotPipeline(model, request, passes, RunContext()).frames())
    plain = list(ShotPipeline(model, samples.request(2, method=METHODS["cross_frame"]), passes, RunContext()).frames())
    assert (np.stack(aligned) == np.stack(plain)).all()
