"""Procedural motion: the bundled clips, in the layout of MDM's ``results.npy``.

``gait`` turns foot contacts, a root path and arm poses into joints; ``clips`` are the plans of the bundled clips; ``actions``,
``timeline`` and ``library`` make random captioned performances, on which the starter motion model is trained.
"""
