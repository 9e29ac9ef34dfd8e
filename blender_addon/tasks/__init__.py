"""The tasks that the backend runs, on Blender's side.

``task`` holds what they have in common: a ticket, a state, callbacks for the end. ``shot`` renders passes, with what
``shot_render`` chooses, and stores frames; ``look`` and ``dress`` are such shots of their own kinds. ``motion`` keys motions
generated from text. A task's ``step`` does a small part of the work on the main thread and returns soon; the connection passes it
the messages with its ticket.
"""
