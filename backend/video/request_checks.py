"""What a kind of model cannot do of a request, known before it is loaded and before passes are rendered for it."""

from __future__ import annotations

from ...shared.shot import ShotError, ShotRequest
from ..models.families import Family


def check_request(family: Family, row_frames: int, request: ShotRequest) -> None:
    """Raise ``ShotError`` for what a model of a family, of whose clips ``row_frames`` share a row of latents, cannot do of a
    request."""
    method, title = request.get_method(), family.title
    if row_frames > 1:
        if method.alignment is not None or method.guidance is not None:
            raise ShotError(
                "method",
                f"{title} has one latent for {row_frames} frames, so that there is none of each frame's own to align or to "
                "guide; choose 'per_frame' or a preset that begins with surface.",
            )
        if len({prompt for mix in request.list_mixes() for prompt in mix.list_prompts()}) > 1:
            raise ShotError(
                "prompt", f"{title} is told one prompt for a whole clip; leave one, or make a shot of its own for each prompt."
            )
    if family.kind == "clip":
        if method.guidance is not None and method.guidance.gradient == "full":
            raise explain_gradient(family)
        if method.cross_frame_attention and method.fusion is None:
            raise family.explain_unshared()
    # frames of two prompts are made under each where each has a look of its own
    if not family.mixes_texts and method.fusion is None and not all(mix.is_pure for mix in request.list_mixes()):
        raise ShotError(
            "prompt",
            f"{title} cannot mix the words of two prompts; let the prompt change at once, or choose a preset that begins with "
            "surface.",
        )


def explain_gradient(family: Family) -> ShotError:
    """The error for a loss whose gradient would have to go through the networks of a model of clips."""
    return ShotError(
        "method",
        f"{family.title} denoises whole clips, through which no gradient goes; switch the pixel guidance's gradient to 'decoder' "
        "or off.",
    )
