"""Every rank says who it is; rank 0 prints for all, since only then is the order the same each time."""

import tpsim


def main(comm):
    words = f"hello from rank {comm.rank} of {comm.size}"
    everything = comm.gather(words, root=0)  # a list on rank 0, None elsewhere
    if comm.rank == 0:
        print(*everything, sep="\n")


if __name__ == "__main__":
    tpsim.launch(main)
