"""Puzzle 4 · Hide f's all-reduce."""
