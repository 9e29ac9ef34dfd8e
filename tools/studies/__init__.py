"""Studies whose tables and pictures are kept under ``docs/results``; each is a command of its own."""
