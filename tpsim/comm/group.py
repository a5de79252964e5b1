"""`Group`: the collectives as layers see them, on any communicator."""

from __future__ import annotations

import os
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import faults, watch
from tpsim.comm.algorithms import ALGORITHMS
from tpsim.comm.backend import UFUNCS, Array, Backend, Pending, Reduction
from tpsim.comm.call_marker import CallMarker
from tpsim.comm.dry_backend import DryBackend, DryComm
from tpsim.comm.faults.faulty_backend import FaultyBackend
from tpsim.comm.handle import Handle, joined_shape
from tpsim.comm.meeting_backend import MeetingBackend
from tpsim.comm.message_backend import MessageBackend
from tpsim.comm.mpi_backend import MPIBackend
from tpsim.comm.point_to_point import recv, send
from tpsim.comm.signature import Signature, signature
from tpsim.comm.virtual import VirtualComm
from tpsim.comm.wire import Check

_NARROW = frozenset({"bfloat16", "float16"})


class Group:
    """Ranks that compute together. All of them make one, at the same place in the program.

    Arrays may have any memory layout; results are fresh arrays in C order, or `out`. Each call writes
    one event to the current trace. Every blocking call has a non-blocking twin, `i` + its name, which
    returns a `Handle`; its input must not change until the handle's `wait` has returned the result.

    Parameters
    ----------
    comm : VirtualComm or mpi4py.MPI.Comm
        Duplicated, so that the group's messages never meet other ones.
    algorithm : {"ring", "recursive_doubling", "rabenseifner", "tree", "rank_order", "mpi"}
        How collectives are carried out, which fixes the order of every sum: with any but "mpi" the
        bits are the same on virtual ranks and under mpiexec.
    name : str, optional
        The group's name in traces and messages.
    check : bool or "data", optional
        Ranks compare what they call before each collective, so that a difference is an error on every
        rank; under mpiexec, a collective that hangs is reported and the job ended. "data": also, every
        message's checksum follows it, so that data damaged on the way is an error (`CorruptionError`);
        it costs a pass over each array that is sent or received, and twice the messages. Default: True,
        or the environment's TPSIM_CHECK (0, 1 or data).
    messages : bool, optional
        Whether to send the algorithm's messages. Default: only where ranks can't see each other's
        arrays. On virtual ranks the same bits are otherwise computed at once, and a trace shows the
        algorithm's closed form of bytes.
    accumulate : {"storage", "float32"}
        In what sums of bfloat16 and float16 arrays are added up. "storage": each addition is rounded to
        the arrays' dtype, as NCCL's ring does. "float32": they travel as float32, twice the bytes, and
        the sum is rounded once.
    private : bool
        Nobody else sends on `comm`, so that it need not be duplicated: for one that was just split off.

    Attributes
    ----------
    rank, size : int
        This rank within the group, and how many ranks there are.

    Examples
    --------
    >>> from tpsim import run
    >>> def main(comm):
    ...     group = Group(comm)
    ...     return group.all_reduce(np.array([1.0, group.rank]))
    >>> run(main, ranks=4)[0]
    array([4., 6.])
    """

    def __init__(
        self,
        comm: Any,
        algorithm: str = "ring",
        *,
        name: str = "tp",
        check: Check | None = None,
        messages: bool | None = None,
        accumulate: Literal["storage", "float32"] = "storage",
        private: bool = False,
    ) -> None:
        if algorithm not in {*ALGORITHMS, "mpi"}:
            raise ValueError(
                f"Group: algorithm {algorithm!r} is not known; pick one of {', '.join([*ALGORITHMS, 'mpi'])}"
            )
        if accumulate not in ("storage", "float32"):
            raise ValueError(
                f"Group: accumulate {accumulate!r} is not known; pick 'storage' or 'float32', whichever sums "
                "of narrow floats are added up in"
            )
        if check is None:
            check = _default_check()
        if check == "data" and algorithm == "mpi" and not isinstance(comm, VirtualComm):
            raise ValueError(
                'Group: check="data" compares the messages of an algorithm, and those of "mpi" are the '
                'library\'s own; pick a hand-written algorithm, such as "ring", or check=True'
            )
        if not hasattr(comm, "Get_rank"):
            raise TypeError(
                f"Group: a {type(comm).__name__} is not a communicator; pass the one that main got from run "
                "or launch"
            )
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self.algorithm = algorithm
        self.name = name
        self.check = check
        self.accumulate = accumulate
        self._messages = messages
        with watch.making(f"Group {name!r}", comm):
            self._comm = comm if private else comm.Dup()
            self._backend = self._choose_backend()
            self._marker = self._choose_marker()
        self._meets = isinstance(self._backend, MeetingBackend)
        self._faults = faults.active()
        if self._faults is not None:
            self._backend = FaultyBackend(self._backend, self._faults)
        self._parts: dict[int, Group] = {}
        self.begun = self._comm.begun if isinstance(self._comm, VirtualComm) else {}

    def _choose_backend(self) -> Backend:
        if isinstance(self._comm, DryComm):
            return DryBackend(self._comm)
        if isinstance(self._comm, VirtualComm) and (self.algorithm == "mpi" or not self._messages):
            return MeetingBackend(self._comm, self.algorithm, checksums=self.check == "data")
        if self.algorithm == "mpi":
            return MPIBackend(self._comm, check=bool(self.check))
        return MessageBackend(
            self._comm, self.algorithm, check=bool(self.check), checksums=self.check == "data"
        )

    def _choose_marker(self) -> CallMarker | None:
        if isinstance(self._comm, VirtualComm):
            self._comm.Set_name(self.name)
            return self._comm.call_marker()
        return watch.marker_of(self._comm, self.name) if self.check else None

    def joined(self, blocks: Array, axis: int, shape: tuple[int, ...]) -> Array:
        """Return [ranks, *block] joined along the blocks' `axis`, which gives `shape`."""
        return self._backend.joined(blocks, axis, shape)

    @property
    def counted(self) -> bool:
        """Whether the bytes in this group's events were counted while sending."""
        return self._backend.counted

    def __repr__(self) -> str:
        return f"Group({self.name!r}, rank {self.rank} of {self.size}, {self.algorithm})"

    # -- collectives --------------------------------------------------------------------------------------

    def all_reduce(self, x: NDArray[Any], op: Reduction = "sum", *, out: Array | None = None) -> Array:
        """Return the element-wise reduction of every rank's `x`, on every rank.

        Parameters
        ----------
        x : array
            Of the same shape and dtype on every rank.
        op : {"sum", "max", "min"}
            The reduction.
        out : array, optional
            Where to put the result (it may be `x` itself).

        Raises
        ------
        CollectiveMismatchError
            On every rank, if the ranks' calls differ.
        """
        return self._prepare_all_reduce(x, op, out).wait()

    def iall_reduce(self, x: NDArray[Any], op: Reduction = "sum", *, out: Array | None = None) -> Handle:
        """Begin `all_reduce`."""
        return self._prepare_all_reduce(x, op, out).start()

    def _prepare_all_reduce(self, x: Array, op: Reduction, out: Array | None) -> Handle:
        x, rounded = self._to_accumulate(x)
        call = self._call("all_reduce", x, self._reduction("all_reduce", op))
        pending = self._backend.all_reduce(call, self._backend.flat(x))
        return self._handle(call, pending, x.shape, out=out, rounded=rounded)

    def all_gather(self, x: NDArray[Any], axis: int = 0, *, out: Array | None = None) -> Array:
        """Return every rank's `x` joined along `axis`, in rank order, on every rank."""
        return self._prepare_all_gather(x, axis, out).wait()

    def iall_gather(self, x: NDArray[Any], axis: int = 0, *, out: Array | None = None) -> Handle:
        """Begin `all_gather`."""
        return self._prepare_all_gather(x, axis, out).start()

    def _prepare_all_gather(self, x: Array, axis: int, out: Array | None) -> Handle:
        axis = self._axis("all_gather", x, axis)
        call = self._call("all_gather", x, "", axis)
        pending = self._backend.all_gather(call, self._backend.flat(x))
        return self._handle(call, pending, (self.size, *x.shape), join=axis, out=out)

    def reduce_scatter(
        self, x: NDArray[Any], axis: int = 0, op: Reduction = "sum", *, out: Array | None = None
    ) -> Array:
        """Reduce every rank's `x`; return this rank's block of the result, cut along `axis`.

        Raises
        ------
        ValueError
            If `x.shape[axis]` is not divisible by the number of ranks.
        """
        return self._prepare_reduce_scatter(x, axis, op, out).wait()

    def ireduce_scatter(
        self, x: NDArray[Any], axis: int = 0, op: Reduction = "sum", *, out: Array | None = None
    ) -> Handle:
        """Begin `reduce_scatter`."""
        return self._prepare_reduce_scatter(x, axis, op, out).start()

    def _prepare_reduce_scatter(self, x: Array, axis: int, op: Reduction, out: Array | None) -> Handle:
        axis = self._axis("reduce_scatter", x, axis)
        x, rounded = self._to_accumulate(x)
        blocks = self._cut("reduce_scatter", x, axis)  # [ranks, *block]
        call = self._call("reduce_scatter", x, self._reduction("reduce_scatter", op), axis)
        pending = self._backend.reduce_scatter(call, self._backend.flat(blocks))
        return self._handle(call, pending, blocks.shape[1:], out=out, rounded=rounded)

    def broadcast(self, x: NDArray[Any], root: int = 0, *, out: Array | None = None) -> Array:
        """Return the root's `x` on every rank; the others' `x` says only its shape and dtype."""
        return self._prepare_broadcast(x, root, out).wait()

    def ibroadcast(self, x: NDArray[Any], root: int = 0, *, out: Array | None = None) -> Handle:
        """Begin `broadcast`."""
        return self._prepare_broadcast(x, root, out).start()

    def _prepare_broadcast(self, x: Array, root: int, out: Array | None) -> Handle:
        self._check_rank("broadcast", "root", root)
        call = self._call("broadcast", x, "", root)
        return self._handle(call, self._backend.broadcast(call, self._backend.flat(x)), x.shape, out=out)

    def all_to_all(
        self, x: NDArray[Any], split_axis: int = 0, join_axis: int = 0, *, out: Array | None = None
    ) -> Array:
        """Cut `x` along `split_axis`; return every rank's block for this rank, joined along `join_axis`."""
        return self._prepare_all_to_all(x, split_axis, join_axis, out).wait()

    def iall_to_all(
        self, x: NDArray[Any], split_axis: int = 0, join_axis: int = 0, *, out: Array | None = None
    ) -> Handle:
        """Begin `all_to_all`."""
        return self._prepare_all_to_all(x, split_axis, join_axis, out).start()

    def _prepare_all_to_all(self, x: Array, split_axis: int, join_axis: int, out: Array | None) -> Handle:
        split_axis = self._axis("all_to_all", x, split_axis)
        join_axis = self._axis("all_to_all", x, join_axis)
        blocks = self._cut("all_to_all", x, split_axis)  # [ranks, *block]
        algorithm = "mpi" if self.algorithm == "mpi" else "pairwise"
        call = self._call("all_to_all", x, "", split_axis, algorithm)
        pending = self._backend.all_to_all(call, self._backend.flat(blocks))
        return self._handle(call, pending, blocks.shape, join=join_axis, out=out)

    def barrier(self) -> None:
        """Return when every rank has called."""
        call = Signature("barrier", algorithm=self.algorithm)
        self._handle(call, self._backend.barrier(call), (-1,)).wait()

    # -- point to point -----------------------------------------------------------------------------------

    def send(self, x: NDArray[Any], to: int, *, tag: int = 0) -> None:
        """Send `x` to one rank."""
        self._prepare_send(x, to, tag).wait()

    def isend(self, x: NDArray[Any], to: int, *, tag: int = 0) -> Handle:
        """Begin `send`."""
        return self._prepare_send(x, to, tag).start()

    def recv(self, like: NDArray[Any], source: int, *, tag: int = 0, out: Array | None = None) -> Array:
        """Return the array that rank `source` sent; `like` says its shape and dtype."""
        return self._prepare_recv(like, source, tag, out).wait()

    def irecv(self, like: NDArray[Any], source: int, *, tag: int = 0, out: Array | None = None) -> Handle:
        """Begin `recv`."""
        return self._prepare_recv(like, source, tag, out).start()

    def _prepare_send(self, x: Array, to: int, tag: int) -> Handle:
        self._check_rank("send", "to", to)
        call = self._call("send", x, "", to, "")
        fault = None if self._faults is None else self._faults.count("message", call)
        pending = send(self._comm, x, to, tag, check=self.check, fault=fault)
        return self._handle(call, pending, x.shape, talks=True)

    def _prepare_recv(self, like: Array, source: int, tag: int, out: Array | None) -> Handle:
        self._check_rank("recv", "source", source)
        call = self._call("recv", like, "", source, "")
        pending = recv(self._comm, like, source, tag, check=self.check)
        return self._handle(call, pending, like.shape, out=out, talks=True)

    # -- parts of the group ---------------------------------------------------------------------------------

    def neighbours(self, count: int) -> Group:
        """Return the group of the `count` adjacent ranks that this rank is among.

        Ranks 0 to count−1 are one such group, the next `count` another. Made once, then remembered.

        Raises
        ------
        ValueError
            If the group's size is not divisible by `count`.
        """
        if count < 1 or self.size % count:
            raise ValueError(
                f"neighbours: {self.size} ranks can't be cut into groups of {count}; pick a divisor"
            )
        if count == self.size:
            return self
        if count not in self._parts:
            name = f"{self.name}/{count}"
            if isinstance(self._comm, DryComm):
                self._parts[count] = self._part(self._comm.neighbours(count), name)
            else:
                self._parts[count] = self.split(self.rank // count, name)
        return self._parts[count]

    def split(self, color: int, name: str) -> Group:
        """Return the group of the ranks that call with the same `color`, in rank order."""
        if color < 0:
            raise ValueError(f"split: color {color} is negative; pick 0 or more")
        with watch.making("split", self._comm):
            part = self._comm.Split(color, self.rank)
        return self._part(part, name)

    def _part(self, comm: Any, name: str) -> Group:
        """Return a group like this one on another communicator, which nobody else sends on."""
        return Group(
            comm,
            self.algorithm,
            name=name,
            check=self.check,
            messages=self._messages,
            accumulate=self.accumulate,
            private=True,
        )

    def free(self) -> None:
        """Give the communicator back, and those of the group's parts; all ranks call it, and none after.

        MPI libraries have some 2,000 of them. A program that makes its groups once need not care.
        """
        for part in self._parts.values():
            part.free()
        self._comm.Free()

    # -- what all calls share -------------------------------------------------------------------------------

    def _call(
        self, operation: str, x: Array, reduction: str, place: int | None = None, algorithm: str | None = None
    ) -> Signature:
        try:
            return signature(
                operation,
                x.shape,
                x.dtype,
                reduction,
                place,
                self.algorithm if algorithm is None else algorithm,
            )
        except AttributeError:
            raise _not_an_array(operation, x) from None

    def _to_accumulate(self, x: Array) -> tuple[Array, np.dtype[Any] | None]:
        """Return x as it is summed, and the dtype that the sum is rounded to, if that is another."""
        if self.accumulate == "storage" or not hasattr(x, "dtype") or x.dtype.name not in _NARROW:
            return x, None
        return x.astype(np.float32), x.dtype

    def _handle(
        self,
        call: Signature,
        pending: Pending,
        shape: tuple[int, ...],
        *,
        join: int | None = None,
        out: Array | None = None,
        rounded: np.dtype[Any] | None = None,
        talks: bool = False,
    ) -> Handle:
        """Return a call's handle; `shape` is its result's, or [ranks, *block] where blocks are joined."""
        if out is not None:
            _check_out(out, call, shape if join is None else joined_shape(shape, join), rounded or call.dtype)
        elif rounded is not None:
            out = self._backend.empty(shape, rounded)  # copying into it rounds
        marker = self._marker if talks or not self._meets else None  # a meeting itself knows who has come
        return Handle(self, call, pending, shape, join, out, marker)

    def _reduction(self, operation: str, op: str) -> str:
        if op not in UFUNCS:
            raise ValueError(f"{operation}: reduction {op!r} is not known; pick one of {', '.join(UFUNCS)}")
        return op

    def _axis(self, operation: str, x: Array, axis: int) -> int:
        try:
            ndim = x.ndim
        except AttributeError:
            raise _not_an_array(operation, x) from None
        if ndim == 0:
            raise ValueError(f"{operation}: a 0-d array has no axis; pass x.reshape(1)")
        if not -ndim <= axis < ndim:
            raise ValueError(
                f"{operation}: axis {axis} is not an axis of shape {x.shape}; pick {-ndim} to {ndim - 1}"
            )
        return axis % ndim

    def _check_rank(self, operation: str, role: str, rank: int) -> None:
        if not 0 <= rank < self.size:
            raise ValueError(
                f"{operation}: {role} {rank} is not a rank of {self!r}; pick 0 to {self.size - 1}"
            )

    def _cut(self, operation: str, x: Array, axis: int) -> Array:
        """Return the equal blocks of `x` along `axis`, stacked in front: [ranks, *block]."""
        length = x.shape[axis]
        if length % self.size:
            raise ValueError(
                f"{operation}: axis {axis} of shape {x.shape} has length {length}, not divisible by "
                f"{self.size} ranks; pad it to {-(-length // self.size) * self.size}"
            )
        blocks = x.reshape(*x.shape[:axis], self.size, length // self.size, *x.shape[axis + 1 :])
        return np.moveaxis(blocks, axis, 0)


def _default_check() -> Check:
    """Return what the environment says of checks."""
    text = os.environ.get("TPSIM_CHECK", "1")
    return "data" if text == "data" else text != "0"


def _not_an_array(operation: str, x: object) -> TypeError:
    return TypeError(
        f"{operation}: a {type(x).__name__} is not an array, and ranks exchange arrays; "
        "pass a NumPy array, such as np.array(x)"
    )


def _check_out(out: object, call: Signature, shape: tuple[int, ...], dtype: np.dtype[Any] | None) -> None:
    given = (getattr(out, "shape", None), getattr(out, "dtype", None))
    if given != (shape, dtype):
        what = f"a {type(out).__name__}" if None in given else f"shape {given[0]}, {given[1]}"
        raise ValueError(
            f"{call.operation}: out is {what}, and the result has shape {shape}, {dtype}; "
            "make out an array like that, or leave it out"
        )
