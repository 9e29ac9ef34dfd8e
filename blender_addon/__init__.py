"""Everything that talks to Blender.

Operators, panels and the command line come in from the edges; the pure middle (body models, motion, retargeting) takes
and gives numpy arrays. The only place that knows the backend is ``client``, over a socket.
"""
