"""Measuring this machine: products, a block, training steps, collectives and memory, and PyTorch beside it.

Each contender has worker processes (`worker`, `ranks`, `torch_ranks`) that sleep until the crew (`crew`)
tells them that it is their turn (`rounds`). `study` puts it together. Workers may run in an environment that
has torch and little else, so this file imports nothing.
"""
