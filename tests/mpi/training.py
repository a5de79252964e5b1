"""A few steps on a 2 × 2 mesh; prints what the first rank found."""

import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from test_train import BASE, SHORT

from tpsim import launch
from tpsim.comm import mpi
from tpsim.train import train

metrics = launch(train, 4, replace(BASE, tp=2, dp=2, steps=5), SHORT)[0]
if mpi.rank_of_job() == 0:
    print(json.dumps([[m.loss, m.grad_norm, m.held_out] for m in metrics]))
