"""A shot's passes: depth, mask, UV, rest position and part, rendered by Cycles at one sample a pixel.

``scene_setup`` lends the scene the needed settings and gives back what was there, ``render`` runs the frames, ``exr``
reads them, ``ranges`` finds the depth range of the whole shot.
"""
