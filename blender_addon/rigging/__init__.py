"""Blender's side of characters and motion: everything here imports bpy.

``characters`` and ``correctives`` build objects from body models, ``rigs`` reads armatures into ``character.rig.Rig``,
``keyframes`` writes motion into Actions and reads it back, ``constraints`` and ``ik`` deal with control bones. The
arithmetic is in ``character`` and ``motion``.
"""
