"""Keeps threads of ours from running while Blender renders.

Blender asks whether any thread runs Python, not whether its own does, before it looks into Python's objects during a render: for a
member of an overridden context, and for the functions of an engine. With another thread at work at that moment both change the
interpreter at once, which crashes it now and then (seen in 4.5 with Python's debugging allocator: "called without holding the GIL",
below ``BPY_context_member_get``). pyzmq's own thread, which lets go of what was sent without a copy, is kept from it as well.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zmq.utils.garbage import gc as sent

if TYPE_CHECKING:
    # clients of the backend without Blender come to the gate, too
    import bpy

#: held by the main thread while it renders, and by every other thread of ours while it does anything but wait
gate = threading.RLock()
#: have threads that wait for something else come to the gate
wakers: list[Callable[[], None]] = []
#: how long threads that have something to do get to come to the gate
SETTLE_SECONDS = 0.0002


@contextmanager
def override_context(context: bpy.types.Context, **members: Any) -> Iterator[None]:
    """Within the block operators find these members in the context, and no other thread of ours runs. Nothing that waits for one
    belongs into it."""
    with gate, context.temp_override(**members):
        # what they do before they are there would be at the same time as the render
        for wake in wakers:
            wake()
        time.sleep(SETTLE_SECONDS)
        yield


class _Sent(dict[int, Any]):
    """What was given to pyzmq to be sent without a copy: its thread lets go of it outside renders."""

    def pop(self, key: int, *_: Any) -> None:
        """Let go of one, and tell who tracks it."""
        with gate:
            found = super().pop(key, None)
            if found is not None and found.event is not None:
                found.event.set()
            del found


def keep_from_renders() -> None:
    """Have pyzmq's thread rest while Blender renders; a second call does nothing."""
    if not sent.is_alive():
        # it begins with a collection of its own
        sent.start()
    if not isinstance(sent.refs, _Sent):
        sent.refs = _Sent(sent.refs)
