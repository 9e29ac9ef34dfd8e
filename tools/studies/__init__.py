"""Studies whose tables and pictures are kept under ``docs/results``; each can be run as a command."""
