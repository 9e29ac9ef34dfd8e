"""Body model files -> armature, mesh, shape keys, UV.

``unpickling`` and ``body_model`` are pure numpy; ``build`` makes Blender objects of what they return.
"""
