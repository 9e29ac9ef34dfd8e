"""The mannequin: a human body made from numbers alone, stored in the SMPL file layout.

``anatomy`` says where joints and flesh are, ``polycube`` gives the topology, ``surface`` wraps one onto the other,
``atlas`` lays the skin flat, ``rig`` computes weights, joint regressor and pose correctives. In go proportions, out
comes one ``.npz`` with the arrays of an SMPL model (Y up, facing +Z, left = +X, metres) and ``vt``/``ft`` for UV.
"""
