"""The diffusion backend: a program of its own, in an environment of its own.

Shots come in over a loopback socket or from a folder of saved passes; frames go out as they are finished. Everything
that needs torch lives here.
"""
