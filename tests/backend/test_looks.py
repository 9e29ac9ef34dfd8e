"""Key frames, and looks that frames are made from later: on constructed surfaces, and as jobs with the starter."""

from __future__ import annotations

import gc
import io
import weakref
from contextlib import nullcontext
from dataclasses import replace

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

from latentman.backend.jobs.reuse import iter_unchanged  # noqa: E402
from latentman.backend.jobs.runner import ModelCache, RunCallbacks, run  # noqa: E402
from latentman.backend.jobs.store import JobStore  # noqa: E402
from latentman.backend.metrics.surface import hmse  # noqa: E402
from latentman.backend.models.loading import load  # noqa: E402
from latentman.backend.video.correspondence import prepare_surface_frames  # noqa: E402
from latentman.backend.video.keyframe_selection import select_keyframes  # noqa: E402
from latentman.backend.video.lattice import SurfaceLattice, pack_cells, unpack_cells  # noqa: E402
from latentman.backend.video.look import Anchor, Look, Plate, check_surface  # noqa: E402
from latentman.backend.video.pipeline import Interrupted, RunContext, ShotPipeline  # noqa: E402
from latentman.backend.video.propagation import init_from_texture  # noqa: E402
from latentman.backend.video.sampling import Sampler  # noqa: E402
from latentman.backend.video.selection import join_clips, select_frames  # noqa: E402
from latentman.backend.video.source import MemoryPasses  # noqa: E402
from latentman.backend.video.surface_filling import collect_surface_cells  # noqa: E402
from latentman.backend.video.techniques.surface_noise import draw_surface_noise, mix_noise  # noqa: E402
from latentman.blender_addon.reference_shots.shots import render_clip  # noqa: E402
from latentman.shared.passes import FramePasses  # noqa: E402
from latentman.shared.settings import with_settings  # noqa: E402
from latentman.shared.shot import METHODS, Fusion, Keyframes, Method, ShotError, check_request  # noqa: E402
from tests import samples  # noqa: E402

CPU = torch.device("cpu")


def _paint(passes):
    """(F, 3, H, W) pictures whose colours stick to the surface of ``samples.passes``; the background is -1."""
    colour = (
        np.stack([passes.rest_position[..., 0] / 0.12, passes.rest_position[..., 1] / 0.12, passes.rest_position[..., 0] * 0], -1)
        * 0.5
    )
    return torch.from_numpy(np.where(passes.mask[..., None] > 0, colour, -1.0).astype(np.float32)).permute(0, 3, 1, 2)


def _texture(passes, pictures):
    lattice = SurfaceLattice(passes, CPU)
    return lattice.extract_texture(lattice.texture(pictures, 1.0))


def _init_pictures(look: Look, passes: FramePasses) -> torch.Tensor:
    return init_from_texture(look, SurfaceLattice(passes, CPU, look.texture.side))


def _look(passes, pictures, surfaces=None):
    plate = Plate.empty(*passes.mask.shape[1:])
    for picture, mask in zip(pictures, passes.mask, strict=True):
        image = ((picture / 2 + 0.5) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        plate = plate.add_frame(image, mask > 0)
    return Look(
        _texture(passes, pictures),
        Anchor(torch.randn(4, 4, 8, 8), (torch.rand(1, 3, 64, 64),), select_frames(passes, [0])),
        plate,
        surfaces or {},
    )


def test_cells_are_numbered_both_ways(rng):
    places, ids = rng.integers(-(1 << 17), 1 << 17, (500, 3)), rng.integers(0, 512, 500)
    back, objects = unpack_cells(pack_cells(places, ids))
    assert (back == places).all() and (objects == ids).all()
    assert len(np.unique(pack_cells(places, ids))) == len(np.unique(np.column_stack([places, ids]), axis=0))


def test_a_texture_on_its_own_dresses_frames_it_has_not_seen():
    passes = samples.passes(4, 64, 3)
    pictures = _paint(passes)
    texture = _texture(select_frames(passes, [0, 1]), pictures[:2])
    for n in (2, 3):
        blank = torch.full((3, 64, 64), -1.0)
        lattice = SurfaceLattice(select_frames(passes, [n]), CPU, texture.side)
        shown, known = lattice.paint(lattice.known_texture(texture), 0, blank)
        assert (known.numpy() == (passes.mask[n] > 0)).all() and (shown - pictures[n]).abs().max() < 0.06
    lattice = SurfaceLattice(passes, CPU, texture.side)
    assert torch.equal(lattice.known_texture(texture)[:, 3] > 0, lattice.texture(pictures, 1.0)[:, 3] > 1e-3)


def test_textures_join_coarsen_and_change_their_objects_numbers():
    passes = samples.passes(2, 64, 3)
    left = replace(passes, mask=passes.mask * (passes.rest_position[..., 0] < 0).astype(np.uint8))
    pictures = _paint(passes)
    half, whole = _texture(left, pictures * 0), _texture(passes, pictures)
    both = half.merge(whole)
    assert half.side == whole.side and len(both.cells) == len(whole.cells) and (both.cells.diff() > 0).all()
    assert torch.equal(both.get_values(half.cells), half.values), "what was known first stays"
    assert torch.equal(both.get_values(whole.cells[half.rows(whole.cells) < 0]), whole.values[half.rows(whole.cells) < 0])
    seen_well = whole.coarsen(whole.side * 4)
    assert seen_well.doubtful.any() and not seen_well.trusted.all() and len(seen_well.cells) < len(whole.cells) / 8
    assert seen_well.values[:, 3].sum() < whole.values[:, 3].sum(), "what is doubtful counts only where nothing else is known"
    whole = replace(whole, doubtful=None)
    coarse = whole.coarsen(whole.side * 4)
    assert torch.equal(coarse.cells, seen_well.cells)
    assert torch.allclose(coarse.values.sum(0), whole.values.sum(0), rtol=1e-4, atol=1e-3), "nothing is lost"
    other = whole.renumber({1: 7})
    assert (unpack_cells(other.cells.numpy())[1] == 7).all() and torch.equal(other.renumber({7: 1}).values, whole.values)
    assert len(whole.renumber({2: 1}).cells) == 0


def test_key_frames_cover_the_surface_with_few():
    """The orbit's frames see other sides; a clip that stands still needs one frame."""
    passes = render_clip("a person waves with the right hand", 12, orbit=180.0)
    everything = list(range(12))
    keys = select_keyframes(MemoryPasses(passes), everything, Keyframes(count=4, least_gain=0.01))
    assert len(keys) == 4 and len(set(keys)) == 4 and max(keys) - min(keys) >= 6
    seen = [
        set(np.unique(pack_cells(np.floor(f.key / 0.03).astype(np.int64), f.ids)).tolist()) for f in prepare_surface_frames(passes)
    ]

    def covered(rows):
        return len(set().union(*(seen[n] for n in rows)))

    assert covered(keys) > 0.9 * covered(everything) and covered(keys) > covered([0, 1, 2, 3])
    assert len(select_keyframes(MemoryPasses(passes), everything, Keyframes(count=4, least_gain=0.2))) < 4
    assert select_keyframes(MemoryPasses(passes), [3, 7], Keyframes(count=4)) in ([3, 7], [7, 3])
    still = samples.passes(6, 64, 0)
    assert select_keyframes(MemoryPasses(still), list(range(6)), Keyframes()) == [0]
    texture = _texture(still, _paint(still))
    assert select_keyframes(MemoryPasses(still), list(range(6)), Keyframes(), texture) == [], "a known surface needs no key frame"


def test_a_look_survives_the_disk_and_damage_is_said():
    passes = samples.passes(2)
    look = _look(passes, _paint(passes), {1: "Body"})
    back = Look.decode(look.encode())
    assert torch.equal(back.texture.cells, look.texture.cells) and torch.equal(back.texture.values, look.texture.values)
    assert (
        torch.equal(back.anchor.trajectory, look.anchor.trajectory)
        and (back.anchor.passes.rest_position == look.anchor.passes.rest_position).all()
    )
    assert (back.plate.colour == look.plate.colour).all() and back.surfaces == {1: "Body"}
    for data in (b"", b"half", look.encode()[:2000]):
        with pytest.raises(ShotError, match="cannot be read"):
            Look.decode(data)


def test_what_is_filled_and_doubtful_survives_and_looks_without_it_still_load():
    passes = samples.passes(2)
    plain = _look(passes, _paint(passes), {1: "Body"})
    bare = replace(plain, texture=replace(plain.texture, doubtful=None))
    back = Look.decode(bare.encode())
    assert back.filled is None and back.texture.doubtful is None and back.worn_texture is back.texture
    surface = collect_surface_cells(prepare_surface_frames(passes), plain.texture.side)
    look = plain.fill(surface)
    back = Look.decode(look.encode())
    assert torch.equal(back.texture.doubtful, look.texture.doubtful) and back.texture.doubtful.any()
    assert torch.equal(back.filled.cells, look.filled.cells) and torch.equal(back.filled.values, look.filled.values)
    assert len(back.worn_texture.cells) == int(back.texture.trusted.sum()) < len(back.texture.cells)
    named = back.renumber({7: "Body"})
    assert {7} == {*unpack_cells(named.filled.cells.numpy())[1], *unpack_cells(named.texture.cells.numpy())[1]}
    assert len(named.texture.doubtful) == len(named.texture.cells)
    with np.load(io.BytesIO(look.encode())) as file:
        arrays = {name: file[name] for name in file.files}
    for change in ({"doubtful": arrays["doubtful"][:-1]}, {"filled_values": arrays["filled_values"][:-1]}):
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **(arrays | change))
        with pytest.raises(ShotError, match="cannot be read"):
            Look.decode(buffer.getvalue())


def test_what_no_key_frame_shows_takes_its_colour_along_the_surface():
    """The key frame shows the left three quarters of a disc, whose rim is white: the rest is as what is beside it."""
    passes = samples.passes(2, 64, 0)
    shown = replace(passes, mask=passes.mask * (passes.rest_position[..., 0] < 0.06).astype(np.uint8))
    pictures = torch.full((2, 3, 64, 64), -1.0)
    pictures[:, 0][torch.from_numpy(shown.mask > 0)] = 0.5
    white = torch.from_numpy((shown.mask > 0) & (passes.rest_position[..., 0] > 0.045))
    pictures.permute(0, 2, 3, 1)[white] = 1.0
    look = _look(shown, pictures)
    surface = collect_surface_cells(prepare_surface_frames(passes), look.texture.side)
    right = torch.from_numpy((passes.mask[0] > 0) & (passes.rest_position[0, ..., 0] > 0.08))
    made = _init_pictures(look.fill(surface), passes)[0][:, right]
    assert (made.mean(1) - torch.tensor([0.5, -1.0, -1.0])).abs().max() < 0.2
    assert _init_pictures(look, passes)[0][1, right].mean() > 0.5, "the nearest pixel is one of the rim"
    # in small copies' larger cells, too
    large = collect_surface_cells(prepare_surface_frames(passes), 2 * look.texture.side)
    made = _init_pictures(look.fill(large), passes)[0][:, right]
    assert (made.mean(1) - torch.tensor([0.5, -1.0, -1.0])).abs().max() < 0.3


def test_a_hand_that_the_key_frames_hardly_show_gets_one_more():
    """The first frame shows all but a hand, the second the hand and less of the rest, which is not enough of the whole surface."""
    passes = samples.passes(2, 128, 0)
    x, there = passes.rest_position[..., 0], passes.mask > 0
    hand = there & (x > 0.17)
    shown = there & np.stack([x[0] <= 0.17, x[1] > -0.08])
    arrays = {
        name: np.where(shown.reshape(*shown.shape, *[1] * (array.ndim - 3)), array, array.dtype.type(0))
        for name, array in passes.arrays().items()
    }
    arrays["part"] = np.where(shown, np.where(hand, 2, 1), 0).astype(np.uint8)
    shot, one_part = (MemoryPasses(FramePasses(**(arrays | {"part": part}))) for part in (arrays["part"], shown.astype(np.uint8)))
    assert select_keyframes(one_part, [0, 1], Keyframes(least_gain=0.2)) == [0]
    assert select_keyframes(shot, [0, 1], Keyframes(least_gain=0.2)) == [0, 1]
    assert select_keyframes(shot, [0, 1], Keyframes(count=1, least_gain=0.2)) == [0], "never more than asked"
    assert select_keyframes(shot, [0], Keyframes(least_gain=0.2)) == [0], "what no frame shows is no reason"


def test_a_look_stored_under_former_names_can_be_read():
    look = _look(samples.passes(2), _paint(samples.passes(2)), {1: "Body"})
    with np.load(io.BytesIO(look.encode())) as file:
        arrays = {name: file[name] for name in file.files}
    for new, old in {"trajectory": "path", "pass_rest_position": "pass_rest"}.items():
        arrays[old] = arrays.pop(new)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    back = Look.decode(buffer.getvalue())
    assert torch.equal(back.anchor.trajectory, look.anchor.trajectory)
    assert (back.anchor.passes.rest_position == look.anchor.passes.rest_position).all()


def test_a_look_follows_names_and_refuses_another_surface():
    passes = samples.passes(2)
    look = _look(passes, _paint(passes), {1: "Body"})
    moved = replace(passes, mask=passes.mask * 3)
    assert (unpack_cells(look.adapt_to_shot(MemoryPasses(moved), {3: "Body"}).texture.cells.numpy())[1] == 3).all()
    with pytest.raises(ShotError, match="another character"):
        look.adapt_to_shot(MemoryPasses(moved), {3: "Somebody Else"})
    bodies = [render_clip("a person walks forward", 2, turn=angle) for angle in (-30.0, 40.0)]
    texture = _texture(bodies[0], torch.zeros(2, 3, 256, 256))
    check_surface(texture, MemoryPasses(bodies[1]))
    thinner = replace(bodies[1], rest_position=bodies[1].rest_position * np.array([0.9, 1.0, 0.8], np.float32))
    with pytest.raises(ShotError, match="another character"):
        check_surface(texture, MemoryPasses(thinner))


def test_frames_begin_with_the_texture_before_the_known_background():
    passes = samples.passes(3, 64, 12)
    pictures = _paint(passes)
    pictures[:, 2] += torch.linspace(0, 1, 64)[None, :, None] * torch.from_numpy(passes.mask == 0)
    made = _init_pictures(_look(select_frames(passes, [0, 2]), pictures[[0, 2]]), select_frames(passes, [1]))[0]
    assert (made - pictures[1]).abs().max() < 0.1, "what frame 1 uncovers, the others show"
    # only the right half is known: the other takes the nearest colour, never black
    half = replace(passes, mask=passes.mask * (passes.rest_position[..., 0] > 0).astype(np.uint8))
    made = _init_pictures(_look(half, pictures), select_frames(passes, [1]))[0]
    left = (passes.mask[1] > 0) & (passes.rest_position[1, ..., 0] < 0)
    assert float(made[0][torch.from_numpy(left)].mean()) > -0.2
    nobody = FramePasses(**{name: array * 0 for name, array in passes.arrays().items()})
    assert torch.isfinite(_init_pictures(_look(passes, pictures), select_frames(nobody, [1]))).all()


@pytest.mark.parametrize("name", ["ddim", "euler", "dpm++", "lcm"])
def test_noised_latents_are_what_their_clean_prediction_says(name):
    model = load("starter", CPU)
    sampler = Sampler(model.make_scheduler(10, name), 0)
    clean, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    latents = sampler.add_noise(clean, noise, 6)
    assert torch.allclose(sampler.predict_clean(latents, sampler.prediction_for(latents, clean, 6), 6), clean, atol=1e-4)
    expected = sampler._scheduler.add_noise(clean, noise, sampler.timesteps[6:7].repeat(2))
    assert torch.allclose(latents, expected, atol=1e-4)


KEYED = Method(
    matching="surface", fusion=Fusion(full_steps=2), background=METHODS["surface"].background, keyframes=Keyframes(2, 0.5)
)


def _turning():
    """Six 64-pixel frames of the mannequin, half of it seen from either side."""
    return render_clip("a person waves with the right hand", 6, orbit=120.0, turn=-60.0)


def _small(passes, size=64):
    from latentman.backend.video.correspondence import shrink

    return FramePasses(**{name: np.ascontiguousarray(shrink(array, size, size)) for name, array in passes.arrays().items()})


@pytest.fixture(scope="module")
def walk():
    return _small(_turning())


@pytest.fixture(scope="module")
def starter():
    return load("starter", CPU)


def test_what_key_frames_were_made_with_goes_before_the_others_are_made(starter, walk, monkeypatch):
    runs, make, propagate = [], ShotPipeline._make_denoising, ShotPipeline._propagate

    def keep(self, *args, **options):
        run = make(self, *args, **options)
        runs.append((options["joint"], weakref.ref(run)))
        return run

    def check(self, *args):
        gc.collect()
        assert runs and not any(run() for joint, run in runs if joint)
        return propagate(self, *args)

    monkeypatch.setattr(ShotPipeline, "_make_denoising", keep)
    monkeypatch.setattr(ShotPipeline, "_propagate", check)
    frames = dict(ShotPipeline(starter, samples.request(6, steps=2, method=KEYED), walk, RunContext()).iter_frames())
    assert len(frames) == 6 and [joint for joint, _ in runs] == [True, False]


def test_frames_after_the_key_frames_do_not_depend_on_each_other(starter, walk):
    request = samples.request(6, steps=6, method=KEYED)
    looks = []
    pipeline = ShotPipeline(starter, request, walk, RunContext(keep_look=looks.append))
    whole = dict(pipeline.iter_frames())
    keyframes = pipeline._select_keyframes(())[request.text.prompt]
    for one in (looks[0].anchor.trajectory, *looks[0].anchor.controls):
        assert one.untyped_storage().nbytes() == one.numel() * one.element_size(), "the other frames' need not stay"
    assert sorted(whole) == list(range(6)) and list(whole)[:2] == keyframes, "key frames come first"
    rest = [n for n in range(6) if n not in keyframes]
    alone = dict(
        ShotPipeline(starter, request, walk, RunContext(), look=Look.decode(looks[0].encode()), finalized=True).iter_frames(
            done=[n for n in range(6) if n != rest[1]]
        )
    )
    assert list(alone) == [rest[1]] and np.abs(alone[rest[1]].astype(int) - whole[rest[1]]).max() <= 2
    ordered = np.stack(list(pipeline.frames()))
    assert all(np.abs(ordered[n].astype(int) - whole[n]).max() <= 2 for n in range(6))
    assert pipeline.latents().shape == (6, 4, 8, 8)


def test_frames_begun_from_the_look_need_no_second_pass(starter, walk):
    looks = []
    request = samples.request(6, steps=6, method=KEYED)
    keys = list(dict(ShotPipeline(starter, request, walk, RunContext(keep_look=looks.append)).iter_frames()))[:2]

    def rest(**change):
        passes = [0]

        def count(_, inputs):
            passes[0] += len(inputs[0])

        hook = starter.unet.register_forward_pre_hook(count)
        made = dict(
            ShotPipeline(starter, with_settings(request, change), walk, RunContext(), look=looks[0], finalized=True).iter_frames(
                done=keys
            )
        )
        hook.remove()
        return passes[0], np.stack(list(made.values())).astype(int)

    guided_method = msgspec.structs.replace(KEYED, keyframes=msgspec.structs.replace(KEYED.keyframes, guided=True))
    (once, images), (alone, unguided), (twice, guided) = rest(), rest(guidance_scale=1.0), rest(method=guided_method)
    assert (images == unguided).all() and (images != guided).any() and once == alone and twice == 2 * once


def test_the_texture_binds_all_frames(starter, walk):
    request = samples.request(6, steps=6, method=KEYED)
    loose = msgspec.structs.replace(KEYED, fusion=None, keyframes=None)
    held, free = (
        np.stack(list(ShotPipeline(starter, msgspec.structs.replace(request, method=method), walk, RunContext()).frames()))
        for method in (KEYED, loose)
    )
    assert hmse(held, walk) < 0.6 * hmse(free, walk)


def _unchanged(request, passes, old, old_passes):
    return dict(iter_unchanged(request, MemoryPasses(passes), old, MemoryPasses(old_passes)))


def _run(store, request, passes, stop=lambda: False):
    job, stored = store.open(request, passes), []
    report = run(job, ModelCache(), RunCallbacks(frame_stored=stored.append, should_stop=stop))
    assert sorted(stored) == list(range(len(request.frames))), "every frame is told of once"
    return job, report


@pytest.mark.slow
def test_only_changed_frames_are_made_again(tmp_path, walk):
    store, request = JobStore(tmp_path), samples.request(6, steps=5, method=KEYED)
    first, report = _run(store, request, walk)
    assert report["frames"] == {"made": 6, "kept": 0}
    arrays = {name: array.copy() for name, array in walk.arrays().items()}
    for name, array in arrays.items():
        array[4] = walk.arrays()[name][3]
    tweaked = FramePasses(**arrays)
    again = msgspec.structs.replace(request, look=first.name)
    second, report = _run(store, again, tweaked)
    assert report["frames"] == {"made": 1, "kept": 5}
    images = {n: second.read_frame(n) for n in range(6)}
    assert all((images[n] == first.read_frame(n)).all() for n in (0, 1, 2, 3, 5))
    neighbours = np.stack([images[3], images[4]])
    inside = hmse(np.stack([first.read_frame(n) for n in range(6)]), walk)
    # one pair differs from the mean over all frames by more than a little
    assert hmse(neighbours, select_frames(tweaked, [3, 4])) <= 1.25 * max(inside, 1.0), "a re-made frame fits its old neighbour"
    # the look lives on: a third job can begin with the second
    assert (second.folder / "look.npz").exists()
    _, report = _run(store, msgspec.structs.replace(request, look=second.name), walk)
    assert report["frames"] == {"made": 1, "kept": 5}


@pytest.mark.slow
def test_the_costume_goes_into_another_shot(tmp_path, walk):
    store, request = JobStore(tmp_path), samples.request(6, steps=5, method=KEYED)
    first, _ = _run(store, request, walk)
    other = with_settings(request, dict(prompt="a woman in a green dress, in a forest", seed=9, frames=(1, 2, 3)))
    turned = select_frames(walk, [5, 3, 1])
    dressed, _ = _run(store, msgspec.structs.replace(other, look=first.name), turned)
    plain, _ = _run(store, other, turned)
    same = join_clips(select_frames(walk, [3]), select_frames(turned, [1]))
    kept, own = (hmse(np.stack([first.read_frame(3), job.read_frame(1)]), same) for job in (dressed, plain))
    assert kept < 0.5 * own


@pytest.mark.slow
def test_a_stopped_shot_goes_on_with_the_same_frames(tmp_path, walk):
    request = samples.request(6, steps=5, method=KEYED)
    whole, _ = _run(JobStore(tmp_path / "a"), request, walk)
    store, frames = JobStore(tmp_path / "b"), []
    for limit in (1, 3, 99):
        frames.clear()
        job = store.open(request, walk)
        callbacks = RunCallbacks(frame_stored=frames.append, should_stop=lambda limit=limit: len(frames) >= limit)
        with nullcontext() if limit == 99 else pytest.raises(Interrupted):
            run(job, ModelCache(), callbacks)
    assert job.report() and all(np.abs(job.read_frame(n).astype(int) - whole.read_frame(n)).max() <= 2 for n in range(6))


@pytest.mark.slow
def test_looks_that_cannot_be_kept(tmp_path, walk):
    store, request = JobStore(tmp_path), samples.request(6, steps=2, method=KEYED, look="0" * 24)
    with pytest.raises(ShotError, match="does not have the kept look"):
        store.open(request, walk)
    optional = msgspec.structs.replace(request, look_optional=True)
    job, report = _run(store, optional, walk)
    assert report["frames"]["made"] == 6
    other = replace(walk, rest_position=walk.rest_position * np.array([1.6, 0.6, 1.9], np.float32))
    kept = samples.request(6, steps=2, method=KEYED, look=job.name)
    with pytest.raises(ShotError, match="another character"):
        _run(store, kept, other)
    _, report = _run(store, msgspec.structs.replace(kept, look_optional=True), other)
    assert any("made anew" in text for text in report["warnings"])
    for change, sentence in (
        ({"look": "../../etc"}, "is not a look"),
        ({"method": Method(keyframes=Keyframes())}, "need fusion"),
        ({"look": job.name, "preset": "latentman"}, "cannot keep a look"),
        ({"method": msgspec.structs.replace(KEYED, keyframes=Keyframes(0))}, "out of range"),
    ):
        with pytest.raises(ShotError, match=sentence):
            check_request(samples.request(**change))


def test_unchanged_frames_are_found_by_their_passes():
    passes, request = samples.passes(4), samples.request(4)
    assert _unchanged(request, passes, request, passes) == {0: 0, 1: 1, 2: 2, 3: 3}
    shifted = msgspec.structs.replace(request, frames=(2, 3, 4, 5))
    assert _unchanged(shifted, select_frames(passes, [1, 2, 3, 3]), request, passes) == {0: 1, 1: 2, 2: 3}
    ranged = replace(passes, depth=passes.depth * 0.99)
    assert len(_unchanged(request, ranged, request, passes)) == 4, "the shot's depth range may move a little"
    moved = replace(passes, rest_position=passes.rest_position.copy())
    moved.rest_position[2] += 1e-3
    assert _unchanged(request, moved, request, passes) == {0: 0, 1: 1, 3: 3}
    assert _unchanged(request, samples.passes(4, 32), request, passes) == {}


def test_the_plate_prefers_what_was_seen_far_from_the_character():
    surface = np.zeros((2, 40, 40), bool)
    surface[0, :, 10:14], surface[1, :, 30:34] = True, True
    images = np.stack([np.full((40, 40, 3), 50, np.uint8), np.full((40, 40, 3), 200, np.uint8)])
    plate = Plate.empty(40, 40)
    for image, mask in zip(images, surface, strict=True):
        plate = plate.add_frame(image, mask)
    assert plate.known.all() and (plate.colour[:, 5:18] == 200).all() and (plate.colour[:, 28:36] == 50).all()
    one = Plate.empty(40, 40).add_frame(images[0], surface[0])
    assert not one.known[:, 8:16].any() and (one.fill_unknown() == 50).all()


def test_noise_on_the_surface_is_white_and_moves_along():
    """The disc's latents of 8x8 pixels overlap those of the frame before wholly, by half, or not at all as it moves."""
    still, shape = samples.passes(1, 256, 0), (64, 32, 32)
    noise = draw_surface_noise(still, shape, 5, 0.01)[0]
    assert abs(float(noise.std()) - 1) < 0.02 and abs(float(noise.mean())) < 0.02
    for a, b in ((noise[:, :, 1:], noise[:, :, :-1]), (noise[:, 1:], noise[:, :-1])):
        assert abs(float((a * b).mean())) < 0.02, "neighbours know nothing of each other"
    assert float((noise[0] * noise[1]).mean()) == pytest.approx(0, abs=0.1)
    assert torch.equal(noise, draw_surface_noise(still, shape, 5, 0.01)[0])
    assert float((noise * draw_surface_noise(still, shape, 6, 0.01)[0]).mean()) == pytest.approx(0, abs=0.02)
    for shift, overlap in ((8, 1.0), (4, 0.5), (2, 0.75)):
        passes = samples.passes(2, 256, shift)
        here, there = draw_surface_noise(passes, shape, 5, 0.01)
        whole = torch.from_numpy(passes.mask).float()[:, None]
        inner = [F.avg_pool2d(m[None], 8)[0, 0] > 0.999 for m in whole]
        moved = (shift + 7) // 8
        both = inner[0][:, : 32 - moved] & inner[1][:, moved:]
        found = float((here[:, :, : 32 - moved] * there[:, :, moved:])[:, both].mean())
        assert found == pytest.approx(overlap if shift != 2 else 0.25, abs=0.06)
        outside = (F.max_pool2d(whole, 8)[:, 0] == 0).all(0)
        assert torch.equal(here[:, outside], there[:, outside]), "the background stays where it is"


def test_noise_on_surroundings_follows_the_world():
    passes = samples.passes(2, 64, 0)
    props = np.where(passes.mask > 0, passes.mask, 9).astype(np.uint16)
    middle = (np.arange(64) + 0.5) * 0.1
    place = np.stack(np.broadcast_arrays(middle[None, None, :], middle[None, :, None], 0.0), -1)
    world = np.repeat(place, 2, 0).astype(np.float32)
    world[1, ..., 0] += 0.8
    seen = replace(passes, object_index=props, position=world)
    first, second = draw_surface_noise(seen, (16, 8, 8), 3, 0.1)
    empty = (F.max_pool2d(torch.from_numpy(passes.mask).float()[:, None], 8)[:, 0] == 0).all(0)
    both = empty[:, 1:] & empty[:, :-1]
    assert torch.equal(first[:, :, 1:][:, both], second[:, :, :-1][:, both]), "the camera moved by one latent pixel"


def test_mixed_noise_keeps_its_variance():
    one, other = torch.randn(2, 1, 64, 64, 64)
    found = mix_noise(one, other, 0.9)
    assert float(found.std()) == pytest.approx(1, abs=0.02)
    assert float((found * other).mean()) == pytest.approx(0.9**0.5, abs=0.02)


@pytest.mark.parametrize("scheduler", ["lcm", "tcd", "euler", "dpm++"])
def test_few_steps_and_other_schedulers_make_key_frames_too(starter, walk, scheduler):
    method = msgspec.structs.replace(KEYED, surface_noise=0.5)
    request = samples.request(6, steps=4, method=method, scheduler=scheduler, guidance_scale=1.0)
    frames = np.stack(list(ShotPipeline(starter, request, walk, RunContext()).frames()))
    assert frames.shape == (6, 64, 64, 3) and frames.std() > 5


@pytest.mark.slow
@pytest.mark.parametrize("frames, empty", [(1, ()), (1, (0,)), (4, (2,)), (4, (0, 1, 2, 3))])
def test_single_frames_and_frames_without_a_character(starter, walk, tmp_path, frames, empty):
    arrays = {name: array[:frames].copy() for name, array in walk.arrays().items()}
    for array in arrays.values():
        array[list(empty)] = 0
    request, store = samples.request(frames, steps=4, method=KEYED), JobStore(tmp_path)
    job, _ = _run(store, request, FramePasses(**arrays))
    assert job.list_finished_frames() == list(range(frames))
    (job.folder / "report.json").unlink()
    job.frame_path(frames - 1).unlink()
    _, report = _run(store, request, FramePasses(**arrays))
    assert report["frames"]["made"] == frames, "what was lost is made from the stored look"
