"""Image models by name: ``registry`` says where they are, ``loading`` makes diffusers components of them.

``starter/`` is the model that this project trained itself.
"""
