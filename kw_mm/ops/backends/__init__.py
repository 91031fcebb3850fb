"""Ways to compute the per-image operators."""
