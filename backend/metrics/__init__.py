"""What is measured of finished frames, and evaluations that compare variants of the method. Figures are computed in floats, from
exact correspondences, where a point is visible in both frames."""
