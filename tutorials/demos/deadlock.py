"""Everybody sends first, and receives afterwards: all wait for each other. The error says who stands where.

`Group.send` waits for its receiver, so the mistake shows at once. MPI's own `Send` waits only if the message
is long: there it sleeps until the arrays grow.
"""

import os

import numpy as np

import tpsim

os.environ.setdefault("TPSIM_TIMEOUT", "3")  # under mpiexec: seconds until a call is said to hang


def begin_to_send_then_receive(group, x, right, left):
    sending = group.isend(x, to=right)
    got = group.recv(x, source=left)
    sending.wait()
    return got


def send_then_receive(group, x, right, left):
    group.send(x, to=right)
    return group.recv(x, source=left)


def main(comm):
    group = tpsim.Group(comm)
    right, left = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
    for pass_on in (begin_to_send_then_receive, send_then_receive):
        got = pass_on(group, np.array([comm.rank]), right, left)
        everything = comm.gather(int(got[0]))
        if comm.rank == 0:
            print(f"{pass_on.__name__}: ranks 0 to {comm.size - 1} got {everything}", flush=True)


if __name__ == "__main__":
    tpsim.launch(main)
