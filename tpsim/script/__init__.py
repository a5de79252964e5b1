"""Running whole mpi4py programs on virtual ranks: scripts, modules, notebook cells, tests.

Ranks of one process share one interpreter; here each gets what it would have of its own under
mpiexec: `__main__`, its own copies of the program's modules, `sys.argv`, random states, output.
"""
