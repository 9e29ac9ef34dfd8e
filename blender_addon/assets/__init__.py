"""Assets as Blender's Asset Browser has them: the library that the extension makes in the user's data, and those that are made
from a character's takes and poses.

``catalogs`` is the text of catalog files, free of bpy. ``library`` knows where the library is and registers it in the preferences,
whose libraries ``entries`` lists; ``building`` has it written by a second Blender, which runs ``contents``; ``arrivals`` finishes
what is dragged out of it. ``marking`` makes a data-block an asset, ``pose_action`` an Action of one frame, ``previews`` draws the
small picture of either with ``figure_drawing``, and ``references`` finds the Action that an asset is. ``drawing`` is the library's
page in the preferences, ``shelf`` the 3D viewport's shelf.
"""
