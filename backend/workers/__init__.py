"""Frames made by several processes: on the GPUs of one machine, or on a cluster that exists.

``units`` are the pieces that a shot is cut into and what is told of them; ``maker`` makes one, in a worker's process; ``port`` is
between the two threads there. ``queue`` says which unit comes next, ``pool`` has the workers do them, ``ray_workers`` are workers
as actors of Ray, and ``shot`` takes a job through all of it. Only ``ray_workers`` and ``ray_actor`` know Ray.
"""
