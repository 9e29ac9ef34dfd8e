"""Motion files -> ``shared.motion.Motion`` -> bone rotations -> keyframes.

``readers``, ``rotations`` and ``retarget`` are pure numpy; only ``keyframes`` writes an Action.
"""
