"""The commands of Blender's command line, a module for each kind of work; ``command_line.py`` puts them together."""
