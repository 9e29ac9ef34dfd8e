"""Selecting frames of a shot."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ...shared.manifest import PassesManifest
from ...shared.passes import FramePasses, join_frames
from ...shared.shot import ShotRequest


def select_frames(passes: FramePasses, rows: Sequence[int]) -> FramePasses:
    """The passes of the frames ``rows``, in that order."""
    return passes.select(rows)


def join_clips(first: FramePasses, second: FramePasses) -> FramePasses:
    """One clip after the other; passes that only one of them has are left out."""
    return join_frames([first, second])


def select_request(request: ShotRequest, rows: Sequence[int]) -> ShotRequest:
    """The request for the frames ``rows`` alone."""
    manifest, schedule = request.manifest, request.get_schedule()
    return msgspec.structs.replace(
        request,
        frames=tuple(request.frames[n] for n in rows),
        manifest=manifest and select_manifest(manifest, rows),
        schedule=msgspec.UNSET if schedule is None else schedule.select(rows),
    )


def select_manifest(manifest: PassesManifest, rows: Sequence[int]) -> PassesManifest:
    """The description of the frames ``rows`` alone."""
    return msgspec.structs.replace(
        manifest,
        frames=tuple(manifest.frames[n] for n in rows),
        cameras=tuple(manifest.cameras[n] for n in rows) if manifest.cameras else (),
        people=tuple(
            msgspec.structs.replace(person, keypoints=tuple(person.keypoints[n] for n in rows)) for person in manifest.people
        ),
    )
