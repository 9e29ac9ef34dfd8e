"""The passes of a shot: depth, mask, UV, rest position, body part, object, normal, position, motion vectors and shadows, exact at
the centre of every pixel.

``render`` makes the frames. ``visibility`` and ``render_set`` say what is shown. ``captured_scene`` evaluates it in a scene of our
own, ``evaluated`` reads it into the plain arrays of ``geometry``, ``drawn_scene`` and ``shadow_scene`` let Cycles draw these,
``reading`` reads its files, and ``surface_numbers`` says which surface a pixel shows. The input is a scene; the output are
``FramePasses`` and their manifest.
"""
