"""`mpiexec -n 4 python -m mpi4py on_mpi.py BATCH RESULTS [-v]`: run pickled programs, pickle all results.

With -v each is printed before it runs.
"""

import pickle
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from mpi4py import MPI

from differential import programs

world = MPI.COMM_WORLD
results = []
for program in pickle.loads(Path(sys.argv[1]).read_bytes()):
    comm = world.Split(0 if world.rank < program.ranks else MPI.UNDEFINED)
    if "-v" in sys.argv and world.rank == 0:
        print(program, flush=True)
    found = None
    if comm != MPI.COMM_NULL:
        found = programs.run(program, MPI, comm)
        comm.Free()
    everybody = world.gather(found)
    if everybody is not None:
        results.append(everybody[: program.ranks])
if world.rank == 0:
    Path(sys.argv[2]).write_bytes(pickle.dumps(results))
