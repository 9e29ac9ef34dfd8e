"""The life of a piece of work in the backend: a shot or a motion, from the first message to the last.

``task`` holds what all have in common, ``shot`` and ``motion`` are the two kinds, ``worker`` runs them one after the other,
``outbox`` takes their messages to the socket. The socket's thread only passes messages on to a task; everything that touches
the disk or the device happens on the task's own thread or on the worker's.
"""
