"""Cross-frame attention (Text2Video-Zero): every frame's self-attention takes keys and values from the first frame."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from .technique import Technique


class CrossFrameAttention(Technique):
    """Every frame's self-attention looks at the first frame."""

    def reference_frames(self, step: int) -> tuple[int, ...]:
        """The first frame."""
        return (0,)

    def attention(self, networks: Sequence[Any], groups: int) -> AbstractContextManager[None]:
        """The processors that look at it."""
        context = self.context
        held = context.method.get_released().omit_attention
        guided = context.model.uses_guidance(context.request.sampling.guidance_scale)
        return context.model.family.attend_to_first_frame(
            context.model, networks, groups, context.latent_size, guided=guided, held=held
        )
