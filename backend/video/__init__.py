"""The method: passes and a request in, consistent frames out.

``denoising`` takes a clip through the steps of diffusers' components; ``techniques`` are what ties its frames together, plugged
in around each step. ``correspondence`` finds which pixels show the same surface, ``lattice`` holds colours on the surface.
``pipeline`` makes a shot of clips: ``keys`` first, which settle a ``look``, then by ``propagation`` the frames that begin with it.
"""
