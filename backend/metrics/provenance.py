"""The columns that every run carries beside its figures, see ``run_identity``."""

from __future__ import annotations

PROVENANCE = (
    *("key", "version", "code", "torch", "device", "dtype", "model", "model_fingerprint", "steps", "guidance_scale", "scheduler"),
    *("size", "passes", "source"),
)
