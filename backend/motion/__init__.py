"""Motion from text: MDM (Tevet et al. 2022), so that its official checkpoints load unchanged.

``network`` is the model, ``diffusion`` samples it, ``text`` encodes the sentence, ``checkpoints`` reads files, ``generate``
composes them. A sentence goes in, HumanML3D feature vectors come out; ``shared.motion`` and the add-on take it from there.
"""
