"""How long an all-reduce takes, against its size: first latency, then bandwidth. Draws a picture."""

import time

import numpy as np

import tpsim

SIZES = [2**power for power in range(4, 21, 4)]  # bytes


def main(comm):
    group = tpsim.Group(comm, messages=True)
    seconds = []
    for nbytes in SIZES:
        x, times = np.ones(nbytes // 8), []
        for _ in range(5):
            group.barrier()  # all begin together
            began = time.perf_counter()
            group.all_reduce(x)
            times.append(time.perf_counter() - began)
        seconds.append(min(comm.allreduce(np.array(times)) / comm.size))
    if comm.rank == 0:
        for nbytes, best in zip(SIZES, seconds, strict=True):
            print(f"{nbytes:>8} bytes: {1e6 * best:8.0f} µs, {nbytes / best / 1e6:8.1f} MB/s")
        draw(seconds, comm.size)


def draw(seconds, ranks):
    from tpsim.plots.picture import save
    from tpsim.plots.style import line, new_figure, plain

    axes = (figure := new_figure()).subplots()
    axes.loglog(SIZES, [1e6 * best for best in seconds], **line(0))
    plain(axes, f"an all-reduce on {ranks} ranks of this machine: time by bytes", "µs")
    save(figure, "demo_message_sizes")


if __name__ == "__main__":
    tpsim.launch(main)
