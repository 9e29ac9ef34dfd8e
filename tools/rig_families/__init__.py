"""Skeletons as other programs build them: their bones' names, what hangs on what, and the bones between and beside the joints.

``bones`` are the tables, from published hierarchies; ``skeletons`` reads them and puts them on a body; ``families`` are all that
are tried, with their fingers and spellings.
"""
