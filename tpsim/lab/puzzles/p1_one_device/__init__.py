"""Puzzle 1 · One device: let go in time."""
