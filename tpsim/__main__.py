"""`python -m tpsim`: the same as `tpsim`."""

from tpsim.cli import main

main()
