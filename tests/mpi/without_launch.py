"""A plain mpi4py script: rank 1 finishes it before the collective of its tensor-parallel group."""

import sys

import numpy as np
from mpi4py import MPI

import tpsim

mesh = tpsim.Mesh(MPI.COMM_WORLD, tp=2)
if MPI.COMM_WORLD.rank == 1:
    sys.exit()
mesh.tp.all_reduce(np.ones(3))
