"""Puzzle 5 · Cut the sequence too, keep what backward needs."""
