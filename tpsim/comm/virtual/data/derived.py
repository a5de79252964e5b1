"""Making datatypes from others."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from operator import index
from typing import Any, Self

from tpsim.comm.virtual.data import layouts
from tpsim.comm.virtual.data.constants import (
    DISTRIBUTE_BLOCK,
    DISTRIBUTE_CYCLIC,
    DISTRIBUTE_DFLT_DARG,
    DISTRIBUTE_NONE,
    ORDER_C,
    ORDER_FORTRAN,
)
from tpsim.comm.virtual.data.exceptions import error
from tpsim.comm.virtual.data.layout import Block, Layout, compound
from tpsim.comm.virtual.data.type_state import TypeHandle, TypeState

_DISTRIBUTIONS = {DISTRIBUTE_BLOCK: "BLOCK", DISTRIBUTE_CYCLIC: "CYCLIC", DISTRIBUTE_NONE: "NONE"}


class DerivedTypes(TypeHandle):
    """The constructors. Displacements and strides are in elements, or in bytes in the h forms."""

    __slots__ = ()

    def Create_contiguous(self, count: int) -> Self:
        """Return the type of `count` elements, one behind another."""
        _check("Create_contiguous", "count", count)
        return self._derive(compound([Block(0, count, self.layout)]), "CONTIGUOUS", count=count)

    def Create_vector(self, count: int, blocklength: int, stride: int) -> Self:
        """Return the type of `count` blocks, `stride` elements apart: a column of a matrix, say."""
        layout = self._strided("Create_vector", count, blocklength, stride * self.layout.extent)
        return self._derive(layout, "VECTOR", count=count, blocklength=blocklength, stride=stride)

    def Create_hvector(self, count: int, blocklength: int, stride: int) -> Self:
        """Return the type of `count` blocks, `stride` bytes apart."""
        layout = self._strided("Create_hvector", count, blocklength, stride)
        return self._derive(layout, "HVECTOR", count=count, blocklength=blocklength, stride=stride)

    def Create_indexed(self, blocklengths: Sequence[int], displacements: Sequence[int]) -> Self:
        """Return the type of blocks of several lengths, at displacements in elements."""
        lengths, displs = _integers(blocklengths), _integers(displacements)
        layout = self._at("Create_indexed", lengths, [d * self.layout.extent for d in displs])
        return self._derive(layout, "INDEXED", blocklengths=lengths, displacements=displs)

    def Create_hindexed(self, blocklengths: Sequence[int], displacements: Sequence[int]) -> Self:
        """Return the type of blocks of several lengths, at displacements in bytes."""
        lengths, displs = _integers(blocklengths), _integers(displacements)
        layout = self._at("Create_hindexed", lengths, displs)
        return self._derive(layout, "HINDEXED", blocklengths=lengths, displacements=displs)

    def Create_indexed_block(self, blocklength: int, displacements: Sequence[int]) -> Self:
        """Return the type of blocks of one length, at displacements in elements."""
        displs = _integers(displacements)
        places = [d * self.layout.extent for d in displs]
        layout = self._at("Create_indexed_block", [blocklength] * len(displs), places)
        return self._derive(layout, "INDEXED_BLOCK", blocklength=blocklength, displacements=displs)

    def Create_hindexed_block(self, blocklength: int, displacements: Sequence[int]) -> Self:
        """Return the type of blocks of one length, at displacements in bytes."""
        displs = _integers(displacements)
        layout = self._at("Create_hindexed_block", [blocklength] * len(displs), displs)
        return self._derive(layout, "HINDEXED_BLOCK", blocklength=blocklength, displacements=displs)

    @classmethod
    def Create_struct(
        cls, blocklengths: Sequence[int], displacements: Sequence[int], datatypes: Sequence[TypeHandle]
    ) -> Self:
        """Return the type of blocks of several types, at displacements in bytes: a C struct, say."""
        lengths, displs = _integers(blocklengths), _integers(displacements)
        if not len(lengths) == len(displs) == len(datatypes):
            raise ValueError(
                f"Create_struct: {len(lengths)} lengths, {len(displs)} displacements, {len(datatypes)} types;"
                " pass as many of each"
            )
        for length in lengths:
            _check("Create_struct", "block length", length)
        blocks = [Block(*block) for block in zip(displs, lengths, (d.layout for d in datatypes), strict=True)]
        params = {
            "blocklengths": lengths,
            "displacements": displs,
            "datatypes": [_kept(d) for d in datatypes],
        }
        return cls._of(TypeState(compound(blocks, padded=True), "STRUCT", params))

    def Create_subarray(
        self, sizes: Sequence[int], subsizes: Sequence[int], starts: Sequence[int], order: int = ORDER_C
    ) -> Self:
        """Return the type of a rectangular part of an array, from `starts` on."""
        sizes, subsizes, starts = _integers(sizes), _integers(subsizes), _integers(starts)
        for size, subsize, start in zip(sizes, subsizes, starts, strict=True):
            if subsize < 1 or start < 0 or start + subsize > size:
                raise error(
                    "ERR_ARG",
                    f"Create_subarray: {subsize} from {start} on is no part of {size}; "
                    "pass 1 or more that lie within the array",
                )
        fortran = order == ORDER_FORTRAN
        layout = layouts.subarray(self.layout, sizes, subsizes, starts, fortran=fortran)
        return self._derive(layout, "SUBARRAY", sizes=sizes, subsizes=subsizes, starts=starts, order=order)

    def Create_darray(
        self,
        size: int,
        rank: int,
        gsizes: Sequence[int],
        distribs: Sequence[int],
        dargs: Sequence[int],
        psizes: Sequence[int],
        order: int = ORDER_C,
    ) -> Self:
        """Return the type of the part of an array that one of `size` ranks has, in a grid of ranks."""
        gsizes, distribs, dargs, psizes = map(_integers, (gsizes, distribs, dargs, psizes))
        if prod(psizes) != size or not 0 <= rank < size:
            raise error(
                "ERR_ARG",
                f"Create_darray: rank {rank} of {size} has no place in a grid of {psizes}; "
                "pass a grid with as many places as ranks",
            )
        owned: list[list[int]] = []
        rest = rank
        for extent, kind, block, places in reversed(list(zip(gsizes, distribs, dargs, psizes, strict=True))):
            rest, place = divmod(rest, places)  # the grid is in C order, whatever the array's
            length = None if block == DISTRIBUTE_DFLT_DARG else block
            owned.insert(0, layouts.owned_indices(extent, _DISTRIBUTIONS[kind], length, places, place))
        layout = layouts.box(self.layout, gsizes, owned, fortran=order == ORDER_FORTRAN)
        params = {"size": size, "rank": rank, "gsizes": gsizes, "distribs": distribs}
        return self._derive(layout, "DARRAY", **params, dargs=dargs, psizes=psizes, order=order)

    def Create_resized(self, lb: int, extent: int) -> Self:
        """Return the type with other bounds, so that elements lie `extent` bytes apart."""
        return self._derive(layouts.resized(self.layout, lb, extent), "RESIZED", lb=lb, extent=extent)

    Resized = Create_resized

    def _strided(self, call: str, count: int, blocklength: int, stride: int) -> Layout:
        _check(call, "count", count)
        _check(call, "block length", blocklength)
        return layouts.strided(self.layout, count, blocklength, stride)

    def _at(self, call: str, lengths: list[int], displacements: list[int]) -> Layout:
        if len(lengths) != len(displacements):
            raise ValueError(
                f"{call}: {len(lengths)} lengths for {len(displacements)} displacements; pass as many of each"
            )
        for length in lengths:
            _check(call, "block length", length)
        base = self.layout
        return compound([Block(d, n, base) for d, n in zip(displacements, lengths, strict=True)])

    def _derive(self, layout: Layout, combiner: str, /, **params: Any) -> Self:
        return self._of(TypeState(layout, combiner, params, base=_kept(self)))


def _kept(datatype: TypeHandle) -> TypeHandle:
    """Return a handle that stays when the caller's is freed."""
    return type(datatype)._of(datatype.state)


def _integers(values: Sequence[int]) -> list[int]:
    return [index(value) for value in values]


def _check(call: str, what: str, number: int) -> None:
    if number < 0:
        raise error("ERR_ARG", f"{call}: {what} {number} is negative; pass 0 or more")
