"""The mannequin: a human body generated from numbers alone and stored in the SMPL file layout.

``anatomy`` places joints and flesh, ``polycube`` makes the topology, ``surface`` wraps one onto the other, ``atlas`` makes the UV
layout, and ``rig`` computes weights, joint regressor and pose correctives. In go proportions, out comes one ``.npz`` with the
arrays of an SMPL model (Y up, facing +Z, left = +X, metres) and ``vt``/``ft`` for UV.
"""
