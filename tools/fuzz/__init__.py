"""Messages that no honest peer sends, to either side, from a seed.

``messages`` makes them, ``backend`` sends them to a running backend, ``client`` to the add-on's connection. Each run prints its
seed and its counts: ``python -m tools.fuzz --messages 100000 --seed 7``.
"""
