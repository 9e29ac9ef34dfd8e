"""Characters in numpy: body model files are read, bones are mapped to joints, and ``Rig`` describes an armature.

Nothing here imports bpy; ``rigging`` makes Blender objects from body models and reads armatures into ``Rig``.
"""
