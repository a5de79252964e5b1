"""A work queue: whoever is done asks rank 0 for more; results come in any order, and are printed in order."""

from mpi4py import MPI

comm = MPI.COMM_WORLD
rank, size = comm.Get_rank(), comm.Get_size()
READY, WORK, DONE, STOP = range(4)


def steps_of_collatz(n: int) -> int:
    steps = 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


if rank == 0:
    tasks = list(range(1, 31))
    results: dict[int, int] = {}
    working = size - 1
    status = MPI.Status()
    while working:
        answer = comm.recv(source=MPI.ANY_SOURCE, tag=MPI.ANY_TAG, status=status)
        if status.Get_tag() == DONE:
            number, steps = answer
            results[number] = steps
        elif tasks:
            comm.send(tasks.pop(), dest=status.Get_source(), tag=WORK)
        else:
            comm.send(None, dest=status.Get_source(), tag=STOP)
            working -= 1
    print(" ".join(str(results[number]) for number in sorted(results)))
else:
    status = MPI.Status()
    while True:
        comm.send(None, dest=0, tag=READY)
        task = comm.recv(source=0, tag=MPI.ANY_TAG, status=status)
        if status.Get_tag() == STOP:
            break
        comm.send((task, steps_of_collatz(task)), dest=0, tag=DONE)
