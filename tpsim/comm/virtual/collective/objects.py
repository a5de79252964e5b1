"""mpi4py's lower-case collectives: of any Python object, pickled as under MPI."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

from tpsim.comm.virtual.collective.exchange import routes
from tpsim.comm.virtual.collective.part import Addressed, Block, Part
from tpsim.comm.virtual.collective.roles import Roles
from tpsim.comm.virtual.data.ops import SUM, Op, as_op
from tpsim.comm.virtual.data.process import current_process

Pickles = Sequence[bytes]


class Objects(Roles):
    """What carries objects: every rank gets copies of its own, changing one changes nobody else's."""

    def _swap(
        self,
        call: str,
        objects: Iterable[Any],
        out: Addressed,
        into: Addressed,
        places: int,
        root: int | None = None,
    ) -> list[Any]:
        """Send some objects to others, and return what comes into each place: None where nothing does.

        `out` and `into` say, by seats, which object goes to whom, and whose object comes to which place.
        """
        part = Part(self._me, [current_process().pickle.dumps(obj) for obj in objects], out=out, into=into)
        got = self.together(self._signature(call, root=root), part, partial(_swap, call))
        return [
            current_process().pickle.loads(got[place]) if place in got else None for place in range(places)
        ]

    def _fold(
        self, call: str, sendobj: Any, op: Any, fold: Any, takes: bool = True, root: int | None = None
    ) -> Any:
        op = as_op(op, objects=True)
        hears = self._others if takes else range(0)
        part = Part(self._me, current_process().pickle.dumps(sendobj), hears=hears)
        got = self.together(self._signature(call, reduction=op.name, root=root), part, partial(fold, op))
        return None if got is None else current_process().pickle.loads(got)


class ObjectCollectives(Objects):
    """Between two groups (in an intercommunicator) objects go from each to the other, as arrays do."""

    def barrier(self) -> None:
        """Return when every rank has called."""
        self.together(self._signature("Barrier"), None, lambda parts: parts)

    def bcast(self, obj: Any, root: int = 0) -> Any:
        """Return the root's object."""
        role = self._role("bcast", root)
        objects, out = ([obj], [(seat, 0) for seat in self._others]) if role.is_root else ([], [])
        return self._swap("bcast", objects, out, role.with_root(0), 1, root)[0]

    def gather(self, sendobj: Any, root: int = 0) -> list[Any] | None:
        """Return every rank's object on the root, None elsewhere."""
        role = self._role("gather", root)
        into = [(seat, i) for i, seat in enumerate(self._others)] if role.is_root else []
        got = self._swap(
            "gather", [sendobj] if role.is_peer else [], role.with_root(0), into, len(into), root
        )
        return got if role.is_root else None

    def scatter(self, sendobj: Sequence[Any] | None, root: int = 0) -> Any:
        """Return this rank's item of the root's sequence. (None stands for a sequence of None.)"""
        role = self._role("scatter", root)
        out = [(seat, i) for i, seat in enumerate(self._others)] if role.is_root else []
        objects = one_each("scatter", sendobj, len(out)) if role.is_root else []
        return self._swap("scatter", objects, out, role.with_root(0), 1, root)[0]

    def allgather(self, sendobj: Any) -> list[Any]:
        """Return every rank's object, in rank order."""
        part = Part(self._me, current_process().pickle.dumps(sendobj), hears=self._others)
        got = self.together(self._signature("allgather"), part, _share)
        return [current_process().pickle.loads(item) for item in got]

    def alltoall(self, sendobj: Sequence[Any] | None) -> list[Any]:
        """Return item `rank` of every rank's sequence. (None stands for a sequence of None.)"""
        everybody = [(seat, i) for i, seat in enumerate(self._others)]
        objects = one_each("alltoall", sendobj, len(everybody))
        return self._swap("alltoall", objects, everybody, everybody, len(everybody))

    def reduce(self, sendobj: Any, op: Any = SUM, root: int = 0) -> Any:
        """Return all ranks' objects reduced in rank order on the root, None elsewhere."""
        role = self._role("reduce", root)
        return self._fold("reduce", sendobj if role.is_peer else None, op, _reduce, role.is_root, root)

    def allreduce(self, sendobj: Any, op: Any = SUM) -> Any:
        """Return all ranks' objects reduced in rank order."""
        return self._fold("allreduce", sendobj, op, _reduce)


class ObjectScans(Objects):
    """Sums of a rank and those before it: within one group only."""

    def scan(self, sendobj: Any, op: Any = SUM) -> Any:
        """Return the objects of ranks 0 to this one, reduced in rank order."""
        return self._fold("scan", sendobj, op, _scan)

    def exscan(self, sendobj: Any, op: Any = SUM) -> Any:
        """Return the objects of ranks 0 to the one before this, reduced in rank order; None on rank 0."""
        return self._fold("exscan", sendobj, op, _exscan)


def one_each(call: str, items: Iterable[Any] | None, count: int) -> list[Any]:
    """Return `count` items; None stands for as many None, as in mpi4py."""
    objects = [None] * count if items is None else list(items)
    if len(objects) != count:
        raise ValueError(f"{call}: {len(objects)} objects for {count} ranks; pass a sequence of {count}")
    return objects


def _swap(call: str, parts: Sequence[Part]) -> list[dict[Block, bytes]]:
    got: dict[Part, dict[Block, bytes]] = {part: {} for part in parts}
    for sender, item, receiver, place in routes(call, parts):
        got[receiver][place] = sender.send[item]
    return list(got.values())


def _share(parts: Sequence[Part]) -> list[Pickles]:
    heard = {hears: [parts[seat].send for seat in hears] for hears in {part.hears for part in parts}}
    return [heard[part.hears] for part in parts]


# What is reduced is unpickled, reduced and pickled once, by the last rank to come, with its own function: so
# each rank gets a copy of its own in a number of steps that grows with the ranks and not with their square.


def _reduce(op: Op, parts: Sequence[Part]) -> list[bytes | None]:
    totals: dict[range, bytes | None] = {range(0): None}
    for part in parts:
        if part.hears not in totals:
            *_, total = _partial_sums(op, [parts[seat] for seat in part.hears])
            totals[part.hears] = total
    return [totals[part.hears] for part in parts]


def _scan(op: Op, parts: Sequence[Part]) -> list[bytes]:
    return list(_partial_sums(op, parts))


def _exscan(op: Op, parts: Sequence[Part]) -> list[bytes | None]:
    return [None, *_partial_sums(op, parts[:-1])] if len(parts) > 1 else [None]


def _partial_sums(op: Op, parts: Sequence[Part]) -> Iterator[bytes]:
    return map(
        current_process().pickle.dumps,
        accumulate((current_process().pickle.loads(part.send) for part in parts), op),
    )
