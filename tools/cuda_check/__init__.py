"""``python -m tools.cuda_check``: everything about a CUDA device in one bounded run.

``parts`` lists what is tried, each in a process of its own (``running``, ``child``) that writes rows of figures as they come
(``recording``); ``correctness`` asks whether frames are right, ``speed`` what they cost, ``choices`` what else makes them quicker,
and ``training`` how fast the starter learns. ``packing`` carries all of it to a machine without a network, and ``tables`` shows it.
In go passes and models, out come JSON, a table and pictures.
"""
