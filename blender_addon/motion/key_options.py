"""How a motion becomes keyframes, as the functions that write them take it. No bpy."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...shared.motion import MotionError
from .channels import ROOT_MODES
from .foot_contacts import ContactSettings
from .keying import Keying

FOOT_LOCKS = ("off", "soft", "hard")
TARGETS = ("ACTION", "NLA", "LAYER")


@dataclass(frozen=True)
class KeyOptions:
    """How a motion becomes keyframes.

    ``root`` from ``channels.ROOT_MODES``; ``foot_lock`` off, soft or hard; ``flat_soles`` as for ``retarget``; ``euler`` writes
    Euler angles in place of quaternions, in a bone's own order or XYZ; ``keep_modes`` writes what each bone has;
    ``mute_overruling`` allows to mute constraints that keep the bones from following their keys; ``target``: a new Action in
    use (``ACTION``), a strip on a new NLA track (``NLA``), or an Action below an additive layer for the animator's tweaks
    (``LAYER``); ``tolerance``: how far in metres hands, feet and head may move when keys are left out, 0 keys every frame;
    ``keep_rate`` keys the motion's own frames instead of the scene's; ``contact_settings``: when a foot counts as in contact
    with the ground. Raises ``MotionError`` for unknown values.
    """

    root: str = "BONE"
    foot_lock: str = "off"
    flat_soles: bool = False
    euler: bool = False
    keep_modes: bool = False
    mute_overruling: bool = False
    target: str = "ACTION"
    tolerance: float = 0.0
    keep_rate: bool = False
    contact_settings: ContactSettings = field(default_factory=ContactSettings)

    def __post_init__(self) -> None:
        for value, allowed in ((self.root, ROOT_MODES), (self.foot_lock, FOOT_LOCKS), (self.target, TARGETS)):
            if value not in allowed:
                raise MotionError(f"'{value}' is unknown; choose one of {', '.join(allowed)}.")

    @classmethod
    def from_keying(cls, keying: Keying) -> KeyOptions:
        """The options for the settings of the panel or the command line."""
        return cls(
            root=keying.root,
            foot_lock=keying.foot_lock,
            flat_soles=keying.flat_soles,
            euler=keying.rotation == "EULER",
            keep_modes=keying.rotation == "KEEP",
            mute_overruling=keying.mute_overruling,
            target=keying.target,
            tolerance=keying.tolerance / 1000,
            keep_rate=keying.keep_rate,
            contact_settings=keying.get_contact_settings(),
        )

    def choose_rotation_mode(self, own: str) -> str:
        """The rotation mode in which a bone is keyed that has the mode ``own``."""
        if self.keep_modes:
            return own
        if self.euler:
            return own if own not in ("QUATERNION", "AXIS_ANGLE") else "XYZ"
        return "QUATERNION"
