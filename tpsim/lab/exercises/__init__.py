"""The exercises of `tpsim lab`, one a folder.

How to write one is said in `tpsim.lab.checking`; `e02_row_bias` is one to copy.
"""
