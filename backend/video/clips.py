"""Models of clips, whose frames see each other: what they can do of a request."""

from __future__ import annotations

from ...shared.shot import ShotError
from ..models.image_model import ImageModel


def check_clip(model: ImageModel) -> None:
    """Raise ``ShotError`` for a model of clips."""
    if model.family.kind == "clip":
        raise ShotError("model", f"No shots are made with {model.family.title} yet; leave motion= out of the model's name.")
