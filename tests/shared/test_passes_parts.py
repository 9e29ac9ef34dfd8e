"""Passes that were rendered in parts are read as one shot."""

from __future__ import annotations

import msgspec
import pytest

from latentman.shared import passes_folder
from latentman.shared.manifest import CameraEntry, PassesManifest, PersonEntry, SurfaceEntry
from latentman.shared.shot import ShotError

IDENTITY = tuple(float(n % 5 == 0) for n in range(16))


def make_manifest(frames, surfaces, **values):
    """A manifest whose cameras and key points tell the frames apart."""
    cameras = tuple(CameraEntry(IDENTITY, (*IDENTITY[:15], float(frame))) for frame in frames)
    people = (PersonEntry(1, tuple(((float(frame), 0.0, 1.0),) * 18 for frame in frames)),)
    whole = PassesManifest(8, 8, 24.0, tuple(frames), 1.0, 2.5, cameras, tuple(surfaces), (), people)
    return msgspec.structs.replace(whole, **values)


BOX, CRATE = SurfaceEntry(1, "Box", 0), SurfaceEntry(2, "Crate", 0)


def save_part(folder, manifest):
    passes_folder.save_manifest(folder, manifest, passes_folder.name_part(manifest.frames))


def test_parts_are_one_shot(tmp_path):
    save_part(tmp_path, make_manifest((4, 5), (BOX, CRATE)))
    save_part(tmp_path, make_manifest((1, 2, 3), (BOX,)))
    # a chunk of another size, made again
    save_part(tmp_path, make_manifest((3, 4), (BOX, CRATE)))
    assert passes_folder.PassesFolder(tmp_path).manifest == make_manifest((1, 2, 3, 4, 5), (BOX, CRATE))
    with pytest.raises(ShotError, match="rendered in parts"):
        passes_folder.check_kind(tmp_path, is_part=False)
    passes_folder.check_kind(tmp_path, is_part=True)


@pytest.mark.parametrize("other", [{"near": 1.5}, {"width": 16}, {"fps": 25.0}])
def test_parts_of_other_shots_are_refused(tmp_path, other):
    save_part(tmp_path, make_manifest((1, 2), (BOX,)))
    save_part(tmp_path, make_manifest((3, 4), (BOX,), **other))
    with pytest.raises(ShotError, match="is of another size, depth range or frame rate than passes_0001-0002"):
        passes_folder.PassesFolder(tmp_path)


def test_damaged_parts_and_whole_shots_are_told_apart(tmp_path):
    (tmp_path / "passes_0001-0002.json").write_text("{")
    with pytest.raises(ShotError, match="no readable passes"):
        passes_folder.PassesFolder(tmp_path)
    # a whole shot's manifest says that all is there
    passes_folder.save_manifest(tmp_path, make_manifest((7,), (BOX,)))
    assert passes_folder.PassesFolder(tmp_path).manifest.frames == (7,)
    with pytest.raises(ShotError, match="whole shot"):
        passes_folder.check_kind(tmp_path, is_part=True)
