"""Where a profile's fitted numbers come from: each module fits one section to measured operators.

`python -m tpsim.cost.fit.attention` reads the measurements, rewrites its own section of `profiles/h200.json`
and prints how far the rows are off.
"""
