"""*Pair...*: one pasted line, and a backend on another machine is this user's."""

from __future__ import annotations

import threading

import bpy
from bpy.props import StringProperty

from ...shared import logs
from ...shared.curve_keys import KeysError
from ...shared.invitation import SCHEME, PairingError, read_invitation
from ...shared.pairing import pair
from .. import preferences
from ..connection import connection
from ..typed_access import OperatorResult, get_layout
from .polls import Poll
from .reports import report

logger = logs.get_logger(__name__)
#: how often the window looks whether the backend has answered
LOOK_SECONDS = 0.1


class PairingAttempt:
    """Pairs in a thread of its own, as the backend may be slow or away."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._stop = threading.Event()
        #: the backend's address, or why there is none
        self.endpoint, self.error = "", ""
        self._thread = threading.Thread(target=self._run, name="latentman-pairing", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """End it without a result; waits for that."""
        self._stop.set()
        self._thread.join()

    def wait(self) -> None:
        """Wait for its end."""
        self._thread.join()

    def _run(self) -> None:
        try:
            self.endpoint = pair(self._text, should_stop=self._stop.is_set)
        except (PairingError, KeysError) as error:
            self.error = str(error)
        except Exception as error:
            logger.exception("pairing failed")
            self.error = f"Pairing failed unexpectedly ({type(error).__name__}: {error}); more is in {logs.find_own()}"


#: the one that is under way
attempt: PairingAttempt | None = None


def look_after_attempt() -> float | None:
    """Connect once the backend has answered; the window's timer calls it, which None ends."""
    global attempt
    if attempt is None:
        return None
    if not attempt.done:
        return LOOK_SECONDS
    ended, attempt = attempt, None
    connection.error = ended.error
    if ended.endpoint:
        logger.info("Paired with the backend at %s", ended.endpoint)
        found = preferences.get_preferences(bpy.context)
        if found is not None:
            found.endpoint = ended.endpoint
        connection.connect(ended.endpoint)
    connection.redraw()
    return None


def stop_attempt() -> None:
    """End what is under way, as when the add-on is switched off."""
    global attempt
    ended, attempt = attempt, None
    if bpy.app.timers.is_registered(look_after_attempt):
        bpy.app.timers.unregister(look_after_attempt)
    if ended is not None:
        ended.stop()


class PairBackend(Poll, bpy.types.Operator):
    bl_idname = "latentman.pair_backend"
    bl_label = "Pair..."
    bl_description = "Use a backend on another machine: paste the line that latentman serve --pair prints there"

    text: StringProperty(
        name="Text", description="The line that begins with latentman://, as it was printed there", options={"SKIP_SAVE"}
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse while there is a backend, or while one is being paired with."""
        if connection.running:
            return cls.refuse("A backend is connected already; stop it first")
        return attempt is None or cls.refuse("The other machine has not answered yet")

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Ask for the text; what was copied is there already."""
        manager = context.window_manager
        if manager is None:
            return {"CANCELLED"}
        if manager.clipboard.strip().lower().startswith(SCHEME):
            self.text = manager.clipboard.strip()
        return manager.invoke_props_dialog(self, width=500)

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the field."""
        get_layout(self).prop(self, "text")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Begin to pair; the timer does the rest."""
        global attempt
        try:
            invitation = read_invitation(self.text)
        except PairingError as error:
            report(self, {"ERROR"}, str(error))
            return {"CANCELLED"}
        attempt = PairingAttempt(self.text)
        if not bpy.app.timers.is_registered(look_after_attempt):
            bpy.app.timers.register(look_after_attempt, first_interval=LOOK_SECONDS, persistent=True)
        report(self, {"INFO"}, f"Pairing with {invitation.endpoint.removeprefix('tcp://')}")
        return {"FINISHED"}


CLASSES = (PairBackend,)
