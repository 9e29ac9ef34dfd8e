"""Everything that uses Blender's API.

Operators, panels and the command line are the interfaces to people. Body models, motion and retargeting in the middle work on
numpy arrays. Only ``client`` communicates with the backend, over a socket.
"""
