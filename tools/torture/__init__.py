"""Breaks what can break, again and again, and counts what did not survive it.

``trial`` is what every part has in common; ``processes`` and ``client`` are the two sides as processes of their own; ``shots`` are
the small jobs; ``parts`` are the kinds of trouble, one file each; ``page`` writes ``docs/reliability.md``.
"""
