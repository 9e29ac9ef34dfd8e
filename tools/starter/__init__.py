"""Training of the starter image model: synthetic captioned renders, the networks, their export and their exam.

``rasteriser`` and ``look`` make pictures of the mannequin, ``captions`` describes them, ``dataset`` writes shards,
``networks`` and ``training`` learn from them, ``export`` writes a diffusers folder.
"""
