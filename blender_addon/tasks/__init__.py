"""Pieces of work for the backend, as the panel and the command line see them.

``task`` holds what all have in common: a ticket, a state, callbacks for the end. ``shot`` renders passes and stores frames,
``motion`` keys what was made from words. A task's ``step`` does a little work on the main thread and returns at once; messages
reach it through the connection, which knows it by its ticket.
"""
