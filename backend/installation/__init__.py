"""Makes the Python environment that the backend runs in: what *Set Up* runs, in a process of its own.

Runs in any Python from 3.11 on, Blender's own among them, which it changes in nothing, and needs only the standard library: the
packages are what it is about to fetch. ``python backend/install.py plan|install|repair|move|remove`` is its command line; a JSON
object a line says how it goes.
"""
