"""Honest figures about finished frames: float arithmetic, exact correspondences, visible in both frames."""
