"""Commands that turn saved passes and finished frames into files for other tools: control images, cut-outs, composites and
passes with DensePose's parts. The pictures themselves are drawn by ``backend/maps/``."""
