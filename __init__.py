"""LatentMan for Blender: the extension's entry."""

from .blender_addon.registration import register, unregister

__all__ = ["register", "unregister"]
