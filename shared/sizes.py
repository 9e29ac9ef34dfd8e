"""Bytes in words. Needs only the standard library."""

from __future__ import annotations


def write_size(count: int, decimals: int = 2) -> str:
    """Bytes as people read them: ``2.84 GB``, ``357 MB`` or ``12 kB``; ``decimals`` are those of gigabytes."""
    if count >= 1e9:
        return f"{count / 1e9:.{decimals}f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
