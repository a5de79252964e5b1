"""Puzzle 2 · Two devices, and one all-reduce."""
