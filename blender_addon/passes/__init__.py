"""A shot's passes: depth, mask, UV, rest position, part, object, normal, position and motion, by Cycles at one sample a pixel.

``subjects`` says what is in the picture, ``camera`` how it is seen, ``surfaces`` and ``scene_setup`` lend meshes and scene
what the render needs and give back what was there, ``render`` runs the frames, ``reading`` reads them, ``people`` follows
the characters' skeletons. In goes a scene, out come ``FramePasses`` and their manifest.
"""
