"""Jobs on disk and their execution.

``requests`` reads stored requests; ``store`` keeps requests, passes, latents, looks and frames, each written and then renamed;
``runner`` turns a job into frames and tells what happens through callbacks; ``reuse`` says which frames of an earlier job still
hold; ``motions`` makes motions.
"""
