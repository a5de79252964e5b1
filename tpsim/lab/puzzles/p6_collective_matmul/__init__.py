"""Puzzle 6 · Hide the all-gather: the collective matmul."""
