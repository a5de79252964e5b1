"""Puzzles: place the shards and order compute and collectives, to meet a target of time and memory.

A schedule is a function of a `Device`; it is run on devices that hold no numbers but know what each block
means, so a wrong order is found with its reason (after Sasha Rush, "LLM Training Puzzles").
"""

from tpsim.lab.puzzles.device import Block, Device, Pending

__all__ = ["Block", "Device", "Pending"]
