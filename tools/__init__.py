"""Programs that make what the product ships or measures: bodies, clips, starter models, zips, the demo.

They may import everything; nothing in ``blender_addon``, ``backend`` or ``shared`` imports them.
"""
