"""Techniques: what ties the frames of a clip together, one file each, plugged into the denoising loop.

``technique`` documents the hooks that they have.
``registry`` says which there are and in which order they work, those of other packages included (entry points of the group
``latentman.techniques``); ``listing`` describes them for people. A technique learns about its clip from a ``ClipContext``; in and
out go latents, noise and pictures. No technique knows of another.
"""

from .context import ClipContext
from .technique import Technique

__all__ = ["ClipContext", "Technique"]
