"""The method: passes and a request in, consistent frames out.

``correspondence`` finds which pixels show the same surface, ``alignment`` and ``guidance`` use that, ``attention`` and
``noise`` tie the frames together, ``pipeline`` composes them on diffusers' components.
"""
