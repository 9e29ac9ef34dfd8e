"""How the starter motion model is made and measured: performances as feature vectors, training, export, and the classifier that
recognises what a motion shows. Torch lives here and in the backend; the finished model goes to ``backend/motion/starter``.
"""
