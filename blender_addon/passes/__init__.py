"""The passes of a shot: depth, mask, UV, rest position, body part, object, normal, position and motion vectors, rendered by
Cycles at one sample per pixel.

``render_set`` says which objects are rendered, ``camera`` how they are seen. ``surfaces`` and ``scene_setup`` temporarily override
meshes and scene settings and restore them afterwards. ``render`` renders the frames, ``reading`` reads their EXR files, and
``people`` finds the characters' key points. The input is a scene; the output are ``FramePasses`` and their manifest.
"""
