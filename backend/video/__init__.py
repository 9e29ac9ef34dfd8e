"""The method: passes and a request in, consistent frames out.

``denoising`` runs a clip through the steps of diffusers' components; ``techniques`` are plugged in around each step and keep its
frames consistent. ``correspondence`` finds which pixels show the same surface, ``lattice`` stores colours on the surface.
``pipeline`` makes a shot: the key frames (``keyframe_selection``) are denoised jointly and give the ``look``, from which
``propagation`` starts every other frame.
"""
