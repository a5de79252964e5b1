"""PyTorch's workers, in whichever environment has it: see `crew.in_another_python`."""

from __future__ import annotations

import os
import time
from typing import Any

from tpsim.studies.bench.torch_block import PROGRAMS, sent
from tpsim.studies.bench.worker import Order, connect, serve, telling


def main(threads: str) -> None:
    """Serve as one process; as a rank of gloo's if the environment has torch's variables for that."""
    connection = connect()

    def take() -> Order:
        order: Order = connection.recv()
        return order

    def answer(result: Any) -> None:
        plain = tuple(map(sent, result)) if isinstance(result, tuple) else result
        connection.send(("done", [plain], time.process_time()))

    with telling(connection):
        import torch
        import torch.distributed as dist

        if threads != "all":
            torch.set_num_threads(int(threads))
        several = "WORLD_SIZE" in os.environ
        if several:
            dist.init_process_group("gloo")
        serve(take, answer, PROGRAMS, dist.barrier if several else lambda: None)
        if several:
            dist.destroy_process_group()
