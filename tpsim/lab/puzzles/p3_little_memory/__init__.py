"""Puzzle 3 · The same in two thirds of the memory."""
