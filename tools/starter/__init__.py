"""Training of the starter image model: synthetic captioned renders, the networks, their export and their exam.

``rasteriser``, ``wardrobe`` and ``scenery`` make pictures of the mannequin, ``captions`` describes them, ``dataset`` writes
shards, ``networks``, ``words``, ``optimiser`` and ``training`` learn from them, ``export`` writes a diffusers folder, ``judge``
looks at its pictures.
"""
