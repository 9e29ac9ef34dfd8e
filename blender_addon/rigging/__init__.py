"""Blender's side of characters and motion: everything here imports bpy.

``characters`` and ``correctives`` build objects from body models, ``rigs`` reads armatures into ``character.rig.Rig``,
``keyframes`` writes motion into Actions, which ``action_use`` puts to use, ``action_reading`` reads back and ``action_notes``
annotates; ``pose_fitter``, ``constraints``, ``control_keys`` and ``ik`` deal with what else poses the bones; ``armature_source``
and ``scene_files`` are sources of motion. The arithmetic is in ``character`` and ``motion``.
"""
