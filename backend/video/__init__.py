"""The method: passes and a request in, consistent frames out.

``correspondence`` finds which pixels show the same surface, ``alignment`` and ``guidance`` use that, ``attention`` and ``noise``
tie the frames together; ``lattice`` holds colours on the surface, and ``fusion`` has frames share them. ``denoising`` composes
these on diffusers' components for a clip; ``pipeline`` makes a shot of clips: ``keys`` first, which settle a ``look``, then by
``propagation`` the frames that begin with it.
"""
