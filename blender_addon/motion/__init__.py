"""Motion in numpy: files are read into ``shared.motion.Motion``, retargeted to a rig, and edited.

Nothing here imports bpy. A rig comes in as ``character.rig.Rig``; what goes out is ``RigMotion`` or ``Channels``, which
``rigging.keyframes`` writes into an Action.
"""
