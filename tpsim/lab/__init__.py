"""What layers must hold to, as properties of drawn cases; and the bug zoo, which proves that they can fail.

`tests/` and `tpsim verify` draw from the same strategies and check the same properties.
"""
