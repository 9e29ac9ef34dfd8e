"""What the names of a queued shot mean, found again after undo and renaming."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import msgspec

from ..references import Finder, Reference, refer_to
from .rows import QueuedShot


@dataclass(frozen=True)
class Bound:
    """What a row's names mean: found again after undo and renaming, which a name is not."""

    scene: Reference
    character: Reference | None
    cameras: tuple[Reference | None, ...]


def bind(queued: QueuedShot) -> Bound | None:
    """What the names of a shot mean now; None where its scene is not there."""
    scene = bpy.data.scenes.get((queued.scene, None))
    if scene is None:
        return None
    character = scene.objects.get(queued.character) if queued.character else None
    cameras = (scene.objects.get(name) or bpy.data.objects.get(name) for name in queued.cameras)
    return Bound(
        refer_to(scene),
        refer_to(character) if character is not None else None,
        tuple(refer_to(camera) if camera is not None else None for camera in cameras),
    )


def name_shot(queued: QueuedShot, bound: Bound, finder: Finder) -> QueuedShot:
    """A shot with the names that its data-blocks have now; of those that are gone the last ones."""

    def get_name(reference: Reference | None, name: str) -> str:
        found = finder.find(reference) if reference is not None else None
        return str(found.name) if found is not None else name

    return msgspec.structs.replace(
        queued,
        scene=get_name(bound.scene, queued.scene),
        character=get_name(bound.character, queued.character),
        cameras=tuple(get_name(one, name) for one, name in zip(bound.cameras, queued.cameras, strict=True)),
    )
