"""Keeps threads of ours from running while Blender renders.

Blender asks whether any thread runs Python, not whether its own does, before it looks into Python's objects during a render: for a
member of an overridden context, and for the functions of an engine. With another thread at work at that moment both change the
interpreter at once, which crashes it now and then (seen in 4.5 with Python's debugging allocator: "called without holding the GIL",
below ``BPY_context_member_get``).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bpy

#: held by the main thread while it renders, and by every other thread of ours while it does anything but wait
gate = threading.RLock()


@contextmanager
def override_context(context: bpy.types.Context, **members: Any) -> Iterator[None]:
    """Within the block operators find these members in the context, and no other thread of ours runs. Nothing that waits for one
    belongs into it."""
    with gate, context.temp_override(**members):
        yield
