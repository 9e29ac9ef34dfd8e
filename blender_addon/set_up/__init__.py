"""*Set Up*: makes the Python environment that the backend runs in, by a process of its own, and shows how it goes.

The process is ``backend/install.py``; nothing of it runs in Blender's Python, and nothing is fetched before the user says so.
"""
