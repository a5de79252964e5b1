"""A few fully sharded steps on a 2 × 2 mesh; prints the losses and norms that the first rank found."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from test_fsdp import few_steps

from tpsim import launch
from tpsim.comm import mpi

found = launch(few_steps, 4)[0]
if mpi.rank_of_job() == 0:
    print(json.dumps(found))
