"""The queue: shots that wait, with the settings that they were queued with, and are made one after the other.

``rows`` has the states and the order, ``marked`` finds shots in plain values, ``table`` says what happened, ``store`` and ``book``
keep all of it in the user's folder: none of these uses bpy. ``finding`` and ``freezing`` read scenes, ``binding`` follows what
the names of a shot mean, ``preparing`` makes the plan of one whose turn has come, and ``runner`` has the shots made with the same
code as *Generate*. ``row_list`` and ``events`` tie it to the window. Nothing of it is stored in the .blend file, so that no undo
changes it.
"""
