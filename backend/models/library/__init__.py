"""The library of models: what is on this machine, what can be got, and how it gets here and away again.

``catalogue`` is what is known to be good, ``folders`` and ``scanning`` what lies in the user's folders, ``cached`` what lies in
the hub's cache, ``listing`` all of it together; ``getting``, ``removing`` and ``verifying`` change it, ``received`` remembers what
came.
"""
