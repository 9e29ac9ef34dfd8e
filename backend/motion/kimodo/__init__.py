"""NVIDIA's Kimodo as a motion source: its command ``kimodo_gen`` runs in an environment of its own, and files go to and fro.

Kimodo has no service that answers requests (its demo is a page for people), but its command reads a folder with prompts and
constraints and writes ``.npz`` files, which is what is used here. ``skeleton`` knows its joints, ``constraints`` writes what is
kept of a motion, ``command`` runs it, ``source`` composes them.
"""
