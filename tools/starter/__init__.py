"""Training of the starter image model: synthetic captioned renders, the networks, their export and their evaluation.

``wardrobe`` and ``scenery`` make pictures of the mannequin, ``captions`` describes them, ``dataset`` stores them. ``networks``,
``text_pretraining``, ``optimiser`` and ``training`` are the training, ``export`` writes a diffusers folder, and ``judge`` is the
network that scores its pictures.
"""
