"""What a datatype was made from (MPI 4.1, section 5.1.13)."""

from __future__ import annotations

from itertools import chain
from typing import Any, Self

from tpsim.comm.virtual.data import constants
from tpsim.comm.virtual.data.exceptions import error
from tpsim.comm.virtual.data.type_state import TypeHandle

_COUNTS_LENGTHS = frozenset({"INDEXED", "HINDEXED", "INDEXED_BLOCK", "HINDEXED_BLOCK", "STRUCT"})
_INTEGERS = frozenset({"order", "size", "rank", "distribs", "dargs", "psizes", "p", "r"})
_TYPES = frozenset({"datatypes", "value", "index"})


class Decoding(TypeHandle):
    """Envelope and contents, in MPI's terms and in Python's."""

    __slots__ = ()

    def Get_envelope(self) -> tuple[int, int, int, int, int]:
        """Return how many ints, addresses, counts and types `Get_contents` gives, and the combiner."""
        integers, addresses, counts, types = self._contents()
        combiner: int = getattr(constants, f"COMBINER_{self.state.combiner}")
        return len(integers), len(addresses), len(counts), len(types), combiner

    def Get_contents(self) -> tuple[list[int], list[int], list[int], list[Self]]:
        """Return the constructor's arguments: ints, addresses, counts, types."""
        if self.is_named:
            raise error(
                "ERR_TYPE",
                f"Get_contents: {self.state.name} is MPI's own, made from no other; look at `is_named` first",
            )
        return self._contents()

    def decode(self) -> tuple[Self, str, dict[str, Any]]:
        """Return the type that this one was made from, by which constructor, and with which arguments.

        For `Create_struct` and its like, which are not called on a type, the first is null.
        """
        state = self.state
        if state.combiner == "NAMED":
            return self, "NAMED", {}
        base = type(self)() if state.base is None else type(self)._of(state.base.state)
        return base, state.combiner, {key: self._handed_out(value) for key, value in state.params.items()}

    @property
    def envelope(self) -> tuple[int, int, int, int, int]:
        """What `Get_envelope` returns."""
        return self.Get_envelope()

    @property
    def contents(self) -> tuple[list[int], list[int], list[int], list[Self]]:
        """What `Get_contents` returns."""
        return self.Get_contents()

    @property
    def combiner(self) -> int:
        """The constructor that made the type."""
        return self.Get_envelope()[-1]

    @property
    def is_named(self) -> bool:
        """Whether the type is one of MPI's own."""
        return self._state is not None and self._state.combiner == "NAMED"

    def _handed_out(self, value: Any) -> Any:
        if isinstance(value, TypeHandle):
            return type(self)._of(value.state)
        return [self._handed_out(item) for item in value] if isinstance(value, list) else value

    def _contents(self) -> tuple[list[int], list[int], list[int], list[Self]]:
        state = self.state
        params = state.params
        integers = _flat(value for key, value in params.items() if key in _INTEGERS)
        counts = _flat(value for key, value in params.items() if key not in _INTEGERS | _TYPES)
        types = _flat(value for key, value in params.items() if key in _TYPES)
        if state.base is not None:
            types.append(state.base)
        if state.combiner in _COUNTS_LENGTHS:
            counts.insert(0, len(params["displacements"]))
        if state.combiner == "SUBARRAY":
            integers.insert(0, len(params["sizes"]))
        if state.combiner == "DARRAY":
            integers.insert(2, len(params["gsizes"]))
        return integers, [], counts, [type(self)._of(datatype.state) for datatype in types]


def _flat(values: Any) -> list[Any]:
    return list(chain.from_iterable(value if isinstance(value, list) else [value] for value in values))
