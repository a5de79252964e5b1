"""mpi4py's lower-case collectives on virtual ranks: of any Python object, pickled as under MPI."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

from tpsim.comm.signature import Signature
from tpsim.comm.virtual.collectives import reduce_objects
from tpsim.comm.virtual.constants import SUM, as_op
from tpsim.comm.virtual.endpoint import Endpoint


class ObjectCollectives(Endpoint):
    """Every rank gets copies of its own: changing one changes nobody else's."""

    def barrier(self) -> None:
        """Return when every rank has called."""
        self.together(Signature("Barrier"), None, lambda values: values)

    def bcast(self, obj: Any, root: int = 0) -> Any:
        """Return the root's object."""
        self._check_rank("bcast", "root", root)
        value = pickle.dumps(obj) if self.rank == root else b""
        own = self.together(Signature("bcast", place=root), value, lambda all_: [all_[root]] * self.size)
        return pickle.loads(own)

    def allgather(self, sendobj: Any) -> list[Any]:
        """Return every rank's object, in rank order."""
        return self._gather(Signature("allgather"), sendobj)

    def gather(self, sendobj: Any, root: int = 0) -> list[Any] | None:
        """Return every rank's object on the root, None elsewhere."""
        self._check_rank("gather", "root", root)
        objects = self._gather(Signature("gather", place=root), sendobj, only=root)
        return objects if self.rank == root else None

    def scatter(self, sendobj: Sequence[Any] | None, root: int = 0) -> Any:
        """Return this rank's item of the root's sequence."""
        self._check_rank("scatter", "root", root)
        value = self._one_each("scatter", sendobj) if self.rank == root else []
        return pickle.loads(self.together(Signature("scatter", place=root), value, lambda all_: all_[root]))

    def alltoall(self, sendobj: Sequence[Any]) -> list[Any]:
        """Return item `rank` of every rank's sequence."""
        value = self._one_each("alltoall", sendobj)
        mine = self.together(Signature("alltoall"), value, lambda all_: list(zip(*all_, strict=True)))
        return [pickle.loads(item) for item in mine]

    def allreduce(self, sendobj: Any, op: Any = SUM) -> Any:
        """Return all ranks' objects reduced in rank order."""
        op = as_op(op, objects=True)
        return reduce_objects(self._gather(Signature("allreduce", reduction=op.name), sendobj), op)

    def reduce(self, sendobj: Any, op: Any = SUM, root: int = 0) -> Any:
        """Return all ranks' objects reduced in rank order on the root, None elsewhere."""
        self._check_rank("reduce", "root", root)
        op = as_op(op, objects=True)
        objects = self._gather(Signature("reduce", reduction=op.name, place=root), sendobj, only=root)
        return reduce_objects(objects, op) if self.rank == root else None

    def _gather(self, signature: Signature, value: Any, only: int | None = None) -> list[Any]:
        pickles = self.together(signature, pickle.dumps(value), lambda all_: [tuple(all_)] * self.size)
        return [pickle.loads(item) for item in pickles] if only in (None, self.rank) else []

    def _one_each(self, call: str, items: Sequence[Any] | None) -> list[bytes]:
        if items is None or len(items) != self.size:
            given = "None" if items is None else f"{len(items)} objects"
            raise ValueError(f"{call}: {given} for {self.size} ranks; pass a sequence of {self.size}")
        return [pickle.dumps(item) for item in items]
