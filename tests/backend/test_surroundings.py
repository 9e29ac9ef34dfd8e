"""Shadows that walk along and backgrounds that turn with the camera: on painted worlds whose every pixel is known, and as shots."""

from __future__ import annotations

import io
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from scipy.ndimage import binary_dilation

torch = pytest.importorskip("torch")

from scipy.ndimage import gaussian_filter  # noqa: E402

from latentman.backend.jobs.reuse import is_same_frame  # noqa: E402
from latentman.backend.models.loading import load  # noqa: E402
from latentman.backend.video.cameras import Camera, list_cameras, moves  # noqa: E402
from latentman.backend.video.correspondence import match_turning_background  # noqa: E402
from latentman.backend.video.edges import composite_surfaces  # noqa: E402
from latentman.backend.video.horizon import Horizon  # noqa: E402
from latentman.backend.video.look import Look  # noqa: E402
from latentman.backend.video.pipeline import RunContext, ShotPipeline  # noqa: E402
from latentman.backend.video.plate_filling import fill_along_horizon  # noqa: E402
from latentman.backend.video.shadows import (  # noqa: E402
    blur_sparse,
    cast_contact_shadow,
    clean_plate,
    guess_contact_shadow,
    measure_figures,
    scale_lengths,
)
from latentman.backend.video.surroundings import FrameBackground, make_moving, make_still  # noqa: E402
from latentman.backend.video.view_selection import bridge_views  # noqa: E402
from latentman.blender_addon.reference_shots.shots import SHOTS  # noqa: E402
from latentman.blender_addon.reference_shots.views import list_cameras as list_entries  # noqa: E402
from latentman.blender_addon.reference_shots.views import put_in_world, render_views  # noqa: E402
from latentman.shared.depth import normalise_depth  # noqa: E402
from latentman.shared.manifest import CameraEntry, PassesManifest, SurfaceEntry  # noqa: E402
from latentman.shared.passes import FramePasses  # noqa: E402
from latentman.shared.shot import METHODS, Method, ShotError, describe_method  # noqa: E402
from tests import samples  # noqa: E402

SIDE, FOCAL, EYE = 96, 1.6, 1.0


def _stand(angle: float, radius: float = 4.0, height: float = EYE) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where a camera stands that orbits the origin of a ground at height 0, and its axes: right, up, and where it looks."""
    place = np.array([radius * np.sin(angle), -radius * np.cos(angle), height])
    ahead = np.array([-np.sin(angle), np.cos(angle), 0.0])
    return place, np.array([np.cos(angle), np.sin(angle), 0.0]), np.array([0.0, 0.0, 1.0]), ahead


def _camera(angle: float) -> Camera:
    place, right, up, ahead = _stand(angle)
    turn = np.stack([right, up, -ahead])
    to_camera = np.eye(4)
    to_camera[:3, :3], to_camera[:3, 3] = turn, -turn @ place
    projection = np.zeros((4, 4))
    projection[0, 0] = projection[1, 1] = 2 * FOCAL
    projection[2, 2:], projection[3, 2] = (-1.002, -0.2), -1
    return Camera(to_camera, projection)


def _paint(angle: float, side: int = SIDE) -> np.ndarray:
    """(H, W, 3) a world by its own camera: waves on the ground, a sky of stripes; no matrix is used."""
    place, right, up, ahead = _stand(angle)
    x, y = np.meshgrid((np.arange(side) + 0.5) / side - 0.5, 0.5 - (np.arange(side) + 0.5) / side)
    way = ahead + x[..., None] / FOCAL * right + y[..., None] / FOCAL * up
    ground = way[..., 2] < 0
    reach = np.where(ground, -place[2] / np.where(ground, way[..., 2], -1), 0)
    hit = place + way * reach[..., None]
    azimuth = np.arctan2(way[..., 1], way[..., 0])
    # waves fade with the distance, as a picture cannot hold them there
    fade = np.exp(-reach / 12)
    sand = 150 + 45 * fade * np.sin(hit[..., 0] * 2.2) * np.cos(hit[..., 1] * 2.2)
    sky = 120 + 60 * np.sin(azimuth * 9) + 20 * way[..., 2]
    return np.where(ground[..., None], np.stack([sand, sand * 0.9, sand * 0.6], -1), np.stack([sky * 0.5, sky * 0.8, sky], -1))


def _stub_passes(masks: np.ndarray, **more: np.ndarray) -> FramePasses:
    zero = np.zeros((*masks.shape, 3), np.float32)
    depth = (masks * 0.7).astype(np.float32)
    return FramePasses(depth, masks.astype(np.uint8), zero[..., :2], zero, masks.astype(np.uint8), **more)


def _figure(column: int, side: int = SIDE) -> np.ndarray:
    out = np.zeros((side, side), bool)
    out[side // 4 : side * 3 // 4, column - 6 : column + 6] = True
    return out


def test_rays_end_where_points_are_seen():
    camera = _camera(0.4)
    distance = np.linspace(2, 9, 40 * 30).reshape(30, 40)
    points = camera.find_points(distance)
    pixels, before = camera.project(points, 30, 40)
    assert before.all() and np.abs(pixels - np.stack(np.meshgrid(np.arange(40) + 0.5, np.arange(30) + 0.5), -1)).max() < 1e-6
    place, *_, ahead = _stand(0.4)
    assert np.abs((points - place) @ ahead - distance).max() < 1e-6, "distances are along the view"
    assert not camera.project(place - ahead, 30, 40)[1]
    assert moves([camera, _camera(0.41)], 64, 64) and not moves([camera, _camera(0.4)], 64, 64) and not moves([camera], 64, 64)


def test_cameras_that_are_none_are_not_taken():
    entry = CameraEntry(tuple(np.zeros(16)), tuple(np.eye(4).ravel()))
    assert list_cameras(PassesManifest(8, 8, 20.0, (1,), 1.0, 2.0, (entry,))) == [] == list_cameras(None)


def test_a_horizon_is_mended_and_what_is_known_stays():
    rows, columns = np.mgrid[0:80, 0:120]
    line = 30 + columns * 0.1
    share = np.clip(rows - line, 0, 1)[..., None]
    image = (share * [200, 180, 120] + (1 - share) * [60, 90, 160]).astype(np.float32)
    unknown = np.zeros((80, 120), bool)
    unknown[10:70, 45:85] = True
    made = fill_along_horizon(np.where(unknown[..., None], 0, image).astype(np.float32), unknown)
    assert np.abs(made - image)[~unknown].max() == 0
    middle = np.abs(made - image)[15:65].mean(-1)
    assert middle.mean() < 2.5, "the line goes on as it came"
    # filled row by row without a slope it would be a step of four rows
    assert (middle > 40).sum() < 40 * 2.5
    assert (fill_along_horizon(image, np.ones_like(unknown)) == image).all(), "from nothing nothing is made"


@pytest.fixture(scope="module")
def beach():
    """A ground that grows brighter to the right, a figure, its painted shadow, and a rock that is none of it."""
    rows, columns = np.mgrid[0:128, 0:128]
    ground = (rows > 48)[..., None] * (150 + columns * 0.3)[..., None] * np.array([1.0, 0.85, 0.6])
    clean = np.where((rows > 48)[..., None], ground, [120, 160, 220]).astype(np.float32)
    clean[60:70, 110:122] *= 0.3
    figure = np.zeros((128, 128), bool)
    figure[24:104, 58:70] = True
    shape = ((rows - 100) / 6.0) ** 2 + ((columns - 42) / 26.0) ** 2 < 1
    shadow = gaussian_filter(shape.astype(np.float32), 1.5)
    tone = np.array([0.5, 0.45, 0.4])
    picture = clean * (1 - shadow[..., None] * tone)
    picture[figure] = [200, 20, 20]
    return clean, figure, shadow, tone, picture.round().astype(np.uint8)


def test_a_painted_shadow_is_taken_out_and_its_tone_is_kept(beach):
    clean, figure, shadow, tone, picture = beach
    distance = np.where(figure, 0, 24).astype(np.float32)
    found = clean_plate(picture, distance, figure)
    assert np.abs(found.colour.astype(float) - clean).mean() < 1.5
    assert np.abs(found.colour.astype(float) - clean)[shadow > 0.3].max() < 25 < np.abs(picture - clean)[shadow > 0.9].min()
    assert found.tone is not None and np.abs(found.tone - tone).max() < 0.08
    assert (found.colour[60:70, 112:120] < 80).all(), "a rock is no shadow"
    assert not found.mended[:40, :40].any() and found.mended[figure].all()
    lit = clean_plate(np.where(figure[..., None], picture, clean).astype(np.uint8), distance, figure)
    assert lit.tone is None and np.abs(lit.colour.astype(float) - clean).mean() < 1.5
    cut = figure.copy()
    cut[100:, 58:70] = True
    assert clean_plate(picture, distance, cut).tone is None, "without feet in the picture nothing is theirs"


def test_shadows_follow_their_pass(beach):
    """What was dark in the anchor is lit in a frame whose shadow lies elsewhere, and that place is as dark as it was."""
    clean, figure, shadow, tone, picture = beach
    around = make_still(
        picture, np.where(figure, 0, 24).astype(np.float32), figure, shadow=shadow[None] * 0.8, former=None, ground=None
    )
    assert 0.7 < around.level < 0.9
    moved = np.roll(shadow, 50, 1)
    body = np.roll(figure, 50, 1)
    shown = np.where(body[..., None], [200.0, 20, 20], np.where(figure[..., None], clean, picture)).astype(np.float32)
    colour, known = around.render(None)
    laid = FrameBackground(colour, known, 1 - np.clip(moved * 0.8 / around.level, 0, 1)[..., None] * around.tone)
    picture = torch.from_numpy(shown / 127.5 - 1).permute(2, 0, 1)
    made = composite_surfaces(picture, torch.from_numpy(body), laid.colour, laid.known, laid.shade)
    made = made.permute(1, 2, 0).numpy() * 127.5 + 127.5
    expected = clean * (1 - moved[..., None] * tone)
    # a pixel on a slanted outline shows both
    away = ~binary_dilation(body, iterations=2) & ~figure
    assert np.abs(made - expected)[away].mean() < 2.5
    assert np.corrcoef(1 - (made / clean).mean(-1)[away], moved[away])[0, 1] > 0.95
    assert np.abs(made - shown)[body].max() < 0.01, "characters are left alone"


def test_a_contact_shadow_is_below_the_feet_and_walks_with_them():
    """A box whose places are known stands on the ground, or hovers above it."""
    camera, near, far = _camera(0.0), 3.0, 5.0

    def cast(x: float, above: float = 0.0) -> np.ndarray:
        column, bottom = int(SIDE / 2 + x / 4 * FOCAL * SIDE), int(SIDE / 2 + (EYE - above) / 4 * FOCAL * SIDE)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[20:bottom, column - 4 : column + 4] = 1
        depth = normalise_depth(np.where(mask > 0, 4.0, 1e10), near, far)
        return cast_contact_shadow(replace(_stub_passes(mask[None]), depth=depth[None]), 0, camera, 0.0, near, far)

    here, there = cast(-0.5), cast(0.5)
    assert here.max() > 0.5 and (here[: SIDE // 2] == 0).all(), "there is none above the horizon"
    rows, columns = np.nonzero(here > 0.5 * here.max())
    assert abs(columns.mean() - (SIDE / 2 - 0.5 / 4 * FOCAL * SIDE)) < 4 and rows.min() > SIDE / 2 + EYE / 4 * FOCAL * SIDE - 6
    assert np.corrcoef(np.roll(here, round(1 / 4 * FOCAL * SIDE), 1).ravel(), there.ravel())[0, 1] > 0.95
    assert cast(0.0, above=0.5).max() < 0.5 * cast(0.0).max()
    guessed = guess_contact_shadow(_figure(40).astype(np.uint8))
    row, column = np.unravel_index(guessed.argmax(), guessed.shape)
    assert abs(column - 40) <= 7 and abs(row - SIDE * 3 / 4) <= 3 and guessed[_figure(40)].max() == 0
    assert guess_contact_shadow(np.ones((8, 8), np.uint8)).max() == 0


def _scale(camera: Camera, factor: float) -> Camera:
    """The same view of a world that is ``factor`` as large."""
    to_camera, projection = camera.world_to_camera.copy(), camera.projection.copy()
    to_camera[:3, 3] *= factor
    projection[2, 3] *= factor
    return Camera(to_camera, projection)


@pytest.mark.parametrize("factor", [0.0125, 0.2, 20.0, 106.0])
def test_contact_shadows_are_the_same_in_worlds_of_any_size(factor):
    """Figures of 2 cm and of 180 m, as scenes in other units have them."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[20:86, 44:52] = 1

    def cast(factor: float) -> tuple[np.ndarray, float]:
        camera, near, far = _scale(_camera(0.0), factor), 3.0 * factor, 5.0 * factor
        depth = normalise_depth(np.where(mask > 0, 4.0 * factor, 1e10), near, far)
        (figure,) = measure_figures(depth, mask, camera, near, far)
        scale = scale_lengths(figure)
        passes = replace(_stub_passes(mask[None]), depth=depth[None])
        return cast_contact_shadow(passes, 0, camera, 0.0, near, far, scale), figure

    (usual, tall), (other, scaled) = cast(1.0), cast(factor)
    assert abs(tall - 66 / SIDE / FOCAL * 4) < 0.1 and abs(scaled / tall - factor) < 0.01 * factor
    assert usual.max() > 0.5 and np.abs(usual - other).max() < 0.15


def test_people_of_all_sizes_have_a_persons_shadow():
    assert [scale_lengths(size) for size in (0.5, 1.0, 1.7, 3.0, 5.0, np.inf, np.nan, 0.0)] == [1.0] * 8
    assert scale_lengths(0.017) == pytest.approx(0.01) and scale_lengths(170.0) == pytest.approx(100)
    camera = _camera(0.0)
    two = np.zeros((SIDE, SIDE), np.uint8)
    two[20:80, 10:16], two[60:80, 70:76] = 1, 2
    depth = normalise_depth(np.where(two > 0, 4.0, 1e10), 3.0, 5.0)
    tall, short = measure_figures(depth, two, camera, 3.0, 5.0)
    assert tall == pytest.approx(3 * short, rel=0.1), "each by itself, however far apart they are"
    assert measure_figures(depth, two, camera, 0.0, 0.0) == [] == measure_figures(depth, two * 0, camera, 3.0, 5.0)


@pytest.mark.parametrize("factor", [0.01, 1.0, 100.0])
def test_a_camera_that_moves_does_so_in_worlds_of_any_size(factor):
    first = _scale(_camera(0.0), factor)
    aside = Camera(first.world_to_camera.copy(), first.projection)
    aside.world_to_camera[0, 3] += 0.05 * factor
    assert moves([first, aside], 64, 64, nearest=3.0 * factor)


@pytest.fixture(scope="module")
def orbit():
    """Key frames of a painted world seen by an orbiting camera, a figure before each."""
    angles, masks = (0.0, 0.3, 0.6), np.stack([_figure(column) for column in (48, 40, 52)])
    pictures = [
        np.where(mask[..., None], [255, 0, 0], _paint(angle)).round().astype(np.uint8)
        for angle, mask in zip(angles, masks, strict=True)
    ]
    seen_by = [_camera(angle) for angle in np.linspace(0, 0.6, 7)]
    around = make_moving(pictures, _stub_passes(masks), [_camera(angle) for angle in angles], seen_by, 0.0, None, shadows=False)
    return around, pictures


def test_a_background_turns_with_the_camera(orbit):
    around, pictures = orbit
    for angle in (0.1, 0.2, 0.45):
        true = _paint(angle)
        made, known = around.render(_camera(angle))
        assert known.all() and np.abs(made - true).mean() < 6
        # the same picture in every frame, as it was
        assert np.abs(pictures[0].astype(float) - true)[:, :30].mean() > 12
    # a place that no key frame shows is filled once, so that it does not slide either
    assert len(around.cameras) >= 3 and around.tone is None
    one, other = (around.render(_camera(angle))[0] for angle in (0.2, 0.2))
    assert (one == other).all()


def test_without_a_ground_all_is_far_away():
    around = make_moving(
        [_paint(0.0).round().astype(np.uint8)],
        _stub_passes(np.zeros((1, SIDE, SIDE))),
        [_camera(0.0)],
        [_camera(0.1)],
        None,
        None,
        shadows=True,
    )
    made, true = around.render(_camera(0.1))[0], _paint(0.1)
    # to the right of what it shows, a picture of the left is no help
    error = np.abs(made - true)[:, 20:]
    assert error[:40].mean() < 4 < error[70:].mean()
    assert around.tone is not None


def test_key_frames_are_bridged_so_that_backgrounds_overlap():
    cameras = {n: _camera(0.06 * n) for n in range(16)}
    found = bridge_views([0, 15], range(16), cameras, Horizon(0.0))
    assert found[0] == 0 and 15 in found and 3 <= len(found) <= 8
    for n, row in enumerate(found[1:], 1):
        # angles of a view are about 0.6 wide, so a third of it is where the nearest one before looks, too
        assert min(abs(cameras[row].world_to_camera[0, 1] - cameras[one].world_to_camera[0, 1]) for one in found[:n]) < 0.5
    assert bridge_views([3], [3, 4], cameras, Horizon(0.0)) == [3], "what is nearly the same needs none"
    assert bridge_views([], range(3), cameras, Horizon(0.0), [cameras[1]]) == []
    assert bridge_views([], range(16), cameras, Horizon(0.0), [cameras[0]]) != [], "a camera that goes on to unseen places"


def test_latents_of_a_turning_background_are_copied_from_where_they_are():
    cameras = [_camera(angle) for angle in (0.0, 0.15, 0.3)]
    matches = match_turning_background(_stub_passes(np.stack([_figure(48)] * 3)), cameras, Horizon(0.0), 24, 24)
    taken: set[tuple[int, int]] = set()
    # cells that hold any pixel of the figure, which stands between two columns of them
    held = _figure(48).reshape(24, SIDE // 24, 24, SIDE // 24).any((1, 3)).ravel()
    for one in matches:
        for frame, (reference, here, there) in enumerate(zip(one.reference, one.target_pixels, one.reference_pixels, strict=True)):
            if reference < 0:
                continue
            assert not held[here].any() and not held[there].any(), "hands and feet are left to the surface"
            assert reference < frame and not taken & {(frame, int(cell)) for cell in here}
            taken |= {(frame, int(cell)) for cell in here}
            coarse = [_paint(angle, 24).reshape(-1, 3) for angle in (0.0, 0.15, 0.3)]
            # a cell is up to half a cell beside its place; the far sky changes slowly
            sky = here < 24 * 10
            assert np.abs(coarse[frame][here] - coarse[reference][there])[sky].mean() < 16
    assert len(taken) > 24 * 24


def test_surroundings_survive_the_disk_and_damage_is_said(orbit, starter):
    looks = []
    passes = samples.passes(2)
    method = METHODS["surface_fast"]
    request = samples.request(2, steps=2, method=method)
    list(ShotPipeline(starter, request, passes, RunContext(keep_look=looks.append)).frames())
    look = replace(looks[0], surroundings=replace(orbit[0], tone=np.full(3, 0.4, np.float32), level=0.7, scale=0.25))
    back = Look.decode(look.encode()).surroundings
    assert (back.colour == orbit[0].colour).all() and (back.weight == orbit[0].weight).all() and back.level == 0.7
    assert back.ground == 0.0 and back.scale == 0.25 and (back.tone == np.float32(0.4)).all()
    assert all((a.pack() == b.pack()).all() for a, b in zip(back.cameras, orbit[0].cameras, strict=True))
    with np.load(io.BytesIO(look.encode())) as file:
        arrays = {name: file[name] for name in file.files}
    former = io.BytesIO()
    np.savez_compressed(former, **{name: one for name, one in arrays.items() if name != "around_scale"})
    assert Look.decode(former.getvalue()).surroundings.scale == 1.0, "looks of earlier versions have none"
    for name, value in (
        ("around_tone", np.array([np.nan] * 3, np.float32)),
        ("around_cameras", np.zeros((1, 32))),
        ("around_cameras", np.zeros((len(orbit[0].cameras), 32))),
        ("anchor_camera", np.full(32, np.nan)),
        ("around_weight", np.zeros((1, 2, 2), np.uint8)),
        ("around_level", np.array(np.inf)),
        ("around_scale", np.array(0.0)),
        ("around_scale", np.array(np.nan)),
        ("around_scale", np.ones(2)),
    ):
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{**arrays, name: value})
        with pytest.raises(ShotError, match="cannot be read"):
            Look.decode(buffer.getvalue())


def test_a_blur_that_leaves_out_rows_and_columns_of_zeros_is_the_whole_one(rng):
    for sigmas in ((0.05, 2.0), (0.4, 0.7), (3.0, 9.0), (20.0, 1.0)):
        spots = np.zeros((90, 60), np.float32)
        spots[rng.integers(0, 90, 12), rng.integers(0, 60, 12)] = rng.random(12)
        assert (blur_sparse(spots, sigmas) == gaussian_filter(spots, sigmas)).all()
    assert not blur_sparse(np.zeros((9, 6), np.float32), (1.0, 1.0)).any()


@pytest.fixture(scope="module")
def starter():
    return load("starter", torch.device("cpu"))


def _shrink(passes: FramePasses, side: int) -> FramePasses:
    from latentman.backend.video.correspondence import shrink

    return FramePasses(**{name: np.ascontiguousarray(shrink(array, side, side)) for name, array in passes.arrays().items()})


@pytest.fixture(scope="module")
def shot():
    """Six small frames before a camera that orbits: passes with shadows, and the manifest."""
    views = SHOTS["orbit"](6)
    found = put_in_world(render_views(views, 128), views, 128)
    manifest = PassesManifest(64, 64, 20.0, tuple(range(1, 7)), found.near, found.far, list_entries(views))
    return _shrink(found.passes, 64), manifest


def _make(model, shot, method: Method, look=None, done=(), **more):
    passes, manifest = shot
    looks: list[Look] = []
    request = samples.request(6, steps=4, method=method, **more)
    request = msgspec.structs.replace(request, manifest=manifest)
    pipeline = ShotPipeline(model, request, passes, RunContext(keep_look=looks.append), look=look, finalized=look is not None)
    return dict(pipeline.iter_frames(done)), looks


def test_frames_of_a_turning_shot_are_made_again_from_its_look_alone(starter, shot):
    whole, looks = _make(starter, shot, METHODS["surface"])
    around = looks[0].surroundings
    assert around is not None and len(around.cameras) >= 2 and around.tone is not None and around.ground is not None
    kept = Look.decode(looks[0].encode())
    rest = [n for n in range(6) if n not in kept.keyframes]
    again, _ = _make(starter, shot, METHODS["surface"], kept, done=[n for n in range(6) if n != rest[-1]])
    assert list(again) == [rest[-1]] and np.abs(again[rest[-1]].astype(int) - whole[rest[-1]]).max() <= 2
    # before a camera that stands still, and from a look of before there were surroundings
    passes, manifest = shot
    still = passes, msgspec.structs.replace(manifest, cameras=manifest.cameras[:1] * 6)
    _, looks = _make(starter, still, METHODS["surface"])
    assert looks[0].surroundings is not None and not looks[0].surroundings.cameras
    former = replace(Look.decode(looks[0].encode()), surroundings=None)
    again, _ = _make(starter, still, METHODS["surface"], former, done=[n for n in range(6) if n != rest[-1]])
    assert len(again) == 1


def test_shadows_and_turning_can_be_switched_off(starter, shot):
    method = METHODS["surface"]
    off = msgspec.structs.replace(method, shadows=None, background=msgspec.structs.replace(method.background, follow_camera=False))
    passes, manifest = shot
    plain = replace(passes, shadow=None), msgspec.structs.replace(manifest, cameras=())
    (without, looks), (other, _) = _make(starter, shot, off), _make(starter, plain, off)
    assert looks[0].surroundings is None and all((without[n] == other[n]).all() for n in range(6))
    # surroundings that are rendered have places of their own
    scenery = msgspec.structs.replace(manifest, surfaces=(SurfaceEntry(2, "Ground", 0),))
    _, looks = _make(starter, (passes, scenery), METHODS["surface"])
    assert looks[0].surroundings is None


def test_a_frame_whose_shadow_moved_a_little_is_the_same():
    passes = samples.passes(1)
    shadow = np.zeros((1, 64, 64), np.float16)
    shadow[0, 40:50, 10:40] = 0.8
    one = replace(passes, shadow=shadow)
    assert is_same_frame(one, replace(passes, shadow=np.roll(shadow, 1, 2))) and not is_same_frame(one, passes)
    assert not is_same_frame(one, replace(passes, shadow=np.roll(shadow, 12, 2)))


def test_a_method_without_shadows_is_called_as_it_was():
    assert "shadows" not in describe_method(METHODS["latentman"]) and "shadows" in describe_method(METHODS["surface"])
