"""Reference shots for evaluations: the mannequin in bundled or given motions, as saved passes, without Blender.

``rasteriser`` draws a mesh, ``views`` are the posed mannequin in front of a camera, ``shots`` the shots themselves and
``motion_metrics`` what is measured of a motion. ``python -m latentman.blender_addon.reference_shots`` writes them; the backend's
``evaluate`` runs it as a process of its own. Pure numpy.
"""
