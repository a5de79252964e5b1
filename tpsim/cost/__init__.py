"""What a recorded run costs on given hardware: kernels, collectives, a timeline, memory.

It reads traces and knows no layer: `stacks` says what a software stack issues for each record, `Hardware`
how long each of those takes, `timeline` when.
"""
