"""What must be the same on virtual ranks and under mpiexec: each function returns it for one rank, as JSON.

Run under mpiexec, the script prints every rank's answers.
"""

import hashlib
import itertools
import json
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

import tpsim
from tpsim.comm import CollectiveMismatchError, TruncationError
from tpsim.comm.algorithms import ALGORITHMS

Array = NDArray[Any]


def bits(x: Array) -> str:
    return hashlib.blake2b(x.tobytes(), digest_size=8).hexdigest() + f" {x.shape} {x.dtype}"


def drawn(group: tpsim.Group, seed: int, shape: tuple[int, ...], dtype: str) -> Array:
    """Return this rank's part of what all ranks draw alike."""
    whole = np.random.default_rng(seed).standard_normal((group.size, *shape)) * 1e3
    return cast(Array, whole[group.rank].astype(dtype))


def collectives(comm: Any, messages: bool | None = None) -> dict[str, list[Any]]:
    """Every collective of every hand-written algorithm: bits, messages, bytes."""
    answers: dict[str, list[Any]] = {}
    lengths = [0, 1, 2, *map(int, np.random.default_rng(7).integers(3, 70, 2))]
    for algorithm, dtype, length in itertools.product(ALGORITHMS, ("float32", "float64"), lengths):
        for name, call in calls(tpsim.Group(comm, algorithm, messages=messages), dtype, length).items():
            with tpsim.Trace() as trace:
                result = call()
            (event,) = trace.collectives
            answers[f"{algorithm} {dtype} {length} {name}"] = [bits(result), event.messages, event.bytes_sent]
    return answers


def calls(group: tpsim.Group, dtype: str, length: int) -> dict[str, Callable[[], Array]]:
    x = drawn(group, 1, (length,), dtype)
    blocks = drawn(group, 2, (2, group.size * length), dtype)
    return {
        "all_reduce": lambda: group.all_reduce(x),
        "all_reduce max": lambda: group.all_reduce(x, "max"),
        "reduce_scatter": lambda: group.reduce_scatter(blocks, axis=1),
        "reduce_scatter max": lambda: group.reduce_scatter(blocks, axis=1, op="max"),
        "all_gather": lambda: group.all_gather(x),
        "broadcast": lambda: group.broadcast(x, root=group.size - 1),
        "all_to_all": lambda: group.all_to_all(blocks, split_axis=1),
    }


def the_librarys_own(comm: Any) -> dict[str, str]:
    """MPI's collectives on integers, whose sums are exact in any order; and on what MPI has no type for."""
    group = tpsim.Group(comm, "mpi")
    answers = {}
    for dtype, length in itertools.product(("int16", "int64"), (0, 5)):
        for name, call in calls(group, dtype, length).items():
            answers[f"{dtype} {length} {name}"] = bits(call())
    days = np.array([group.rank, 7], "datetime64[D]")
    answers["days gathered"] = bits(group.iall_gather(days).wait())
    answers["days broadcast"] = bits(group.broadcast(days, root=1))
    group.barrier()
    return answers


def two_at_once(comm: Any) -> list[str]:
    """Non-blocking calls under way together, waited for in another order; one of them polled."""
    answers = []
    for algorithm in ALGORITHMS:
        group = tpsim.Group(comm, algorithm)
        x, y = drawn(group, 1, (group.size, 9), "float64"), drawn(group, 2, (5,), "float32")
        first, second, third = group.iall_reduce(x), group.iall_gather(y), group.ireduce_scatter(x)
        fourth, fifth = group.iall_to_all(x), group.ibroadcast(y)
        while not second.test():
            pass
        answers += [bits(handle.wait()) for handle in (fifth, third, second, first, fourth)]
    return answers


def layouts(comm: Any) -> list[str]:
    """C order on one rank, Fortran order on another, a slice on a third: the sum is that of the elements."""
    answers = []
    for algorithm in ("ring", "mpi"):
        group = tpsim.Group(comm, algorithm)
        x = np.arange(12.0).reshape(3, 4) + 100 * group.rank
        mine = [x, np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2]][group.rank % 3]
        expected = group.size * np.arange(12.0).reshape(3, 4) + 100 * sum(range(group.size))
        for result in (group.all_reduce(mine), group.iall_reduce(mine).wait()):
            np.testing.assert_array_equal(result, expected)
            answers.append(bits(result))
        np.testing.assert_array_equal(group.all_gather(mine, axis=1)[:, :4], np.arange(12.0).reshape(3, 4))
    return answers


def mismatches(comm: Any) -> list[str]:
    """What every rank is told when rank 1 calls something else."""
    group = tpsim.Group(comm)
    part = group if group.size % 2 else group.neighbours(2)
    odd = group.rank == 1
    x = np.ones((2, 2))
    calls: list[Callable[[], Array]] = [
        lambda: group.all_gather(x) if odd else group.all_reduce(x),
        lambda: group.all_reduce(x[:1] if odd else x),
        lambda: group.all_reduce(x.astype("float32") if odd else x),
        lambda: group.all_reduce(x, "max" if odd else "sum"),
        lambda: group.all_gather(x, axis=1 if odd else 0),
        lambda: group.broadcast(x, root=1 if odd else 0),
        lambda: group.iall_reduce(x[:1] if odd else x).wait(),
        lambda: part.all_reduce(np.ones(1 + part.rank)),
    ]
    answers = []
    for call in calls:
        try:
            call()
        except CollectiveMismatchError as error:
            answers.append(str(error))
        group.barrier()  # the group can go on
    return answers


def meshes(comm: Any) -> list[Any]:
    """The groups of a mesh, and what they compute."""
    answers: list[Any] = []
    for tp in (1, comm.Get_size()) if comm.Get_size() % 2 else (1, 2, comm.Get_size()):
        mesh = tpsim.Mesh(comm, tp=tp)
        me = np.array([comm.Get_rank()])
        answers.append([mesh.tp.all_gather(me).tolist(), mesh.dp.all_gather(me).tolist()])
        answers.append(bits(mesh.dp.all_reduce(mesh.tp.all_reduce(drawn(mesh.tp, 3, (6,), "float64")))))
    return answers


def messages(comm: Any) -> list[Any]:
    """Sends and receives: receives asked for first, two under way on one tag, a wrong `like`."""
    group = tpsim.Group(comm)
    left, right = (group.rank - 1) % group.size, (group.rank + 1) % group.size
    x, y = drawn(group, 4, (3, 2), "float64"), drawn(group, 5, (100,), "float64")
    first, second = group.irecv(x, left), group.irecv(y, left)
    sends = [group.isend(x, right), group.isend(y, right)]
    answers = [bits(second.wait()), bits(first.wait())]  # each its own, whichever is waited for first
    for send in sends:
        send.wait()
    if group.rank == 0:
        group.send(np.asfortranarray(x), 1, tag=7)
        group.send(x, 1)
    elif group.rank == 1:
        answers.append(bits(group.recv(x, 0, tag=7)))
        try:
            group.recv(x.astype("float32"), 0)
        except TruncationError as error:
            answers.append(str(error))
    group.barrier()
    return answers


def blas(comm: Any) -> list[int]:
    """How many threads BLAS has on a rank."""
    from threadpoolctl import threadpool_info

    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


PROPERTIES: list[Callable[..., Any]] = [
    collectives,
    the_librarys_own,
    two_at_once,
    layouts,
    mismatches,
    meshes,
    messages,
    blas,
]


def main(comm: Any) -> dict[str, Any]:
    return {check.__name__: check(comm) for check in PROPERTIES}


if __name__ == "__main__":
    answers = tpsim.launch(main)
    from mpi4py import MPI

    assert len(answers) == MPI.COMM_WORLD.size  # on every rank
    if MPI.COMM_WORLD.rank == 0:
        print(json.dumps(answers))
