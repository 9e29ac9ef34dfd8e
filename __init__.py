"""LatentMan for Blender: consistent frames of an animated character by an image diffusion model.

One package, whether Blender loads it as an extension, pip installs it, or it runs from a checkout. Importing it imports
neither bpy nor torch; ``register`` and ``unregister`` are what Blender calls.
"""

from __future__ import annotations


def register() -> None:
    """Switch the extension on."""
    from .blender_addon import registration

    registration.register()


def unregister() -> None:
    """Switch the extension off."""
    from .blender_addon import registration

    registration.unregister()
