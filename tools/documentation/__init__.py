"""What makes the documentation's site (``mkdocs.yml``) of README, CONTRIBUTING, ``docs/`` and docstrings.

``hooks`` brings in the pages that lie outside ``docs/`` and makes their links fit; ``attributes`` takes what the code says about
fields and constants.
"""
