"""Procedural motion: the bundled clips, in the layout of MDM's ``results.npy``.

``gait`` turns foot plants, a root path and arm poses into joints; ``clips`` are the performances.
"""
