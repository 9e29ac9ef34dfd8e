"""What goes out: zips that are the same for the same commit, their checksums and notes, and a repository that Blender updates from.

``archives`` makes zips reproducible, ``wheel_tags`` says which wheel a Python takes, ``checks`` what must be true before, and
``repository`` makes the folder that is put on a web server.
"""
