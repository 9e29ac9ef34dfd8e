"""What the method is compared with: other people's ways to a clip, made with the same model, passes, prompt, seed and steps.

A rival is a struct of its settings in ``settings``; ``making.make_frames`` runs it. Only evaluations use them: no shot is generated
with one.
"""
