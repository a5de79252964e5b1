"""MPI's objects on virtual ranks: handles, groups, infos, error codes, attributes, and the module itself."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpsim.comm import run
from tpsim.comm.errors import TruncationError
from tpsim.comm.mpi_errors import ERROR_CLASSES, ErrorCodes, MPIException
from tpsim.comm.virtual.data.absent import LEFT_OUT
from tpsim.comm.virtual.data.constants import (
    ANY_SOURCE,
    IDENT,
    PROC_NULL,
    ROOT,
    SIMILAR,
    UNDEFINED,
    UNEQUAL,
    as_rank,
)
from tpsim.comm.virtual.data.datatypes import Datatype
from tpsim.comm.virtual.data.exceptions import error
from tpsim.comm.virtual.data.handles import MPIHandle, constants
from tpsim.comm.virtual.data.info import Info
from tpsim.comm.virtual.data.ops import Op
from tpsim.comm.virtual.data.pickling import Pickle
from tpsim.comm.virtual.data.process_group import ProcessGroup
from tpsim.comm.virtual.data.status import Status
from tpsim.comm.virtual.data.type_table import TYPES
from tpsim.comm.virtual.module import mpi_module


@pytest.fixture(scope="module")
def mpi() -> ModuleType:
    modules: list[ModuleType] = run(mpi_module, 1)
    return modules[0]


# -- handles -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(constants()))
def test_a_named_object_is_copied_and_sent_as_itself(name: str) -> None:
    named = constants()[name]
    assert pickle.loads(pickle.dumps(named)) is named
    assert copy.deepcopy(named) is named
    other = type(named)(named)
    assert other == named
    assert other is not named
    assert pickle.loads(pickle.dumps(other)) == named
    assert type(named).fromhandle(named.handle) == named
    named.free()
    assert bool(named) == (not name.endswith("_NULL"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: TYPES["INT"].Create_contiguous(2),
        lambda: Op.Create(lambda a, b, datatype: None),
        Info.Create,
        lambda: ProcessGroup.of([0, 1], 0),
    ],
)
def test_a_freed_handle_is_null_and_says_so(make: Callable[[], MPIHandle]) -> None:
    handle, kept = make(), make()
    assert handle != kept
    assert handle
    handle.Free()
    assert not handle
    assert handle == type(handle)()
    with pytest.raises(MPIException, match="was freed; pass"):
        handle.Free()
    kept.free()
    kept.free()


def test_handles_of_different_kinds_are_never_equal_and_never_converted() -> None:
    nulls = [Datatype(), Op(), Info(), ProcessGroup()]
    for i, one in enumerate(nulls):
        for j, other in enumerate(nulls):
            assert (one == other) == (i == j)
            if i != j:
                with pytest.raises(TypeError, match=r"pass a"):
                    type(one)(other)
        with pytest.raises(TypeError):
            hash(one)


# -- groups --------------------------------------------------------------------------------------------------

members = st.lists(st.integers(0, 9), unique=True, max_size=6)


@given(members, members, st.integers(0, 9))
def test_groups_are_ordered_sets(a: list[int], b: list[int], me: int) -> None:
    one, two = ProcessGroup.of(a, me), ProcessGroup.of(b, me)
    assert ProcessGroup.Union(one, two).members == tuple(a + [r for r in b if r not in a])
    assert ProcessGroup.Intersection(one, two).members == tuple(r for r in a if r in b)
    assert ProcessGroup.Difference(one, two).members == tuple(r for r in a if r not in b)
    assert one.Translate_ranks(group=two) == [b.index(r) if r in b else UNDEFINED for r in a]
    wanted = IDENT if a == b else SIMILAR if sorted(a) == sorted(b) else UNEQUAL
    assert one.Compare(two) == wanted
    assert one.rank == (a.index(me) if me in a else UNDEFINED)
    assert one.size == len(a)


@given(members, st.data())
def test_a_group_can_be_chosen_from(world: list[int], data: st.DataObject) -> None:
    group = ProcessGroup.of(world, None)
    chosen = data.draw(st.lists(st.sampled_from(range(len(world))), unique=True)) if world else []
    assert group.Incl(chosen).members == tuple(world[i] for i in chosen)
    assert group.Excl(chosen).members == tuple(r for i, r in enumerate(world) if i not in chosen)
    stride = data.draw(st.sampled_from([-2, -1, 1, 2]))
    first, last = (0, len(world) - 1) if stride > 0 else (len(world) - 1, 0)
    if world:
        assert group.Range_incl([(first, last, stride)]).members == tuple(world[::stride])


@pytest.mark.parametrize("ranks", [[0, 0], [3], [-1]])
def test_a_group_refuses_ranks_that_it_has_not(ranks: list[int]) -> None:
    with pytest.raises(MPIException) as caught:
        ProcessGroup.of([5, 6, 7], 5).Incl(ranks)
    assert caught.value.Get_error_class() == ERROR_CLASSES["ERR_RANK"]


# -- info, status, errors, pickles ---------------------------------------------------------------------------

keys = st.text("ab", max_size=2)


@given(st.lists(st.tuples(st.sampled_from(["set", "pop", "update", "popitem"]), keys, keys)))
def test_an_info_is_a_dict_of_strings(steps: list[tuple[str, str, str]]) -> None:
    info, wanted = Info.Create(), dict[str, str]()
    for step, key, value in steps:
        if step == "set":
            info[key] = wanted[key] = value
        elif step == "pop":
            assert info.pop(key, value) == wanted.pop(key, value)
        elif step == "update":
            info.update({key: value})
            wanted.update({key: value})
        elif wanted:
            assert info.popitem() == wanted.popitem()
    assert info.items() == list(wanted.items()) == info.Dup().items()
    assert list(info) == info.keys() == list(wanted)
    assert len(info) == info.Get_nkeys() == len(wanted)
    assert pickle.loads(pickle.dumps(info)).items() == info.items()


@given(*[st.integers(0, 2**31)] * 3)
def test_a_status_survives_copying_and_pickling(source: int, tag: int, nbytes: int) -> None:
    status = Status()
    status.fill(source, tag, nbytes, 7, cancelled=True)
    for twin in (Status(status), pickle.loads(pickle.dumps(status)), Status.f2py(status.py2f())):
        assert twin == status
        assert (twin.source, twin.tag, twin.error, twin.count) == (source, tag, 7, nbytes)
        assert twin.cancelled is True


def test_an_error_compares_like_its_code_and_speaks_for_itself() -> None:
    wrong = error("ERR_RANK", "Send: dest 7 is not a rank; pick 0 to 3")
    assert wrong == ERROR_CLASSES["ERR_RANK"]
    assert wrong != ERROR_CLASSES["ERR_TAG"]
    assert str(wrong).startswith("Send: dest 7")
    assert isinstance(wrong, ValueError)
    plain = MPIException(ERROR_CLASSES["ERR_TAG"])
    assert str(plain).startswith("MPI_ERR_TAG")
    assert {plain: 1}[MPIException(ERROR_CLASSES["ERR_TAG"])] == 1
    again = copy.copy(wrong)
    assert (type(again), str(again), again.Get_error_code()) == (
        type(wrong),
        str(wrong),
        wrong.Get_error_code(),
    )
    long = TruncationError("recv: too long; make it longer")
    assert long.Get_error_class() == ERROR_CLASSES["ERR_TRUNCATE"]
    assert str(copy.copy(long)) == str(long)


def test_error_codes_that_were_added_can_be_removed_in_reverse_only() -> None:
    codes = ErrorCodes()
    mine = codes.add_class()
    code = codes.add_code(mine)
    codes.set_string("Add_error_string", code, "mine")
    assert (codes.class_of(code), codes.string_of(code), codes.last) == (mine, "mine", code)
    with pytest.raises(MPIException, match="still has error codes; pass"):
        codes.remove("Remove_error_class", mine, is_class=True)
    with pytest.raises(MPIException, match="still has a string; pass"):
        codes.remove("Remove_error_code", code, is_class=False)
    codes.set_string("Remove_error_string", code, "")
    codes.remove("Remove_error_code", code, is_class=False)
    codes.remove("Remove_error_class", mine, is_class=True)
    with pytest.raises(MPIException, match="was not added by this program"):
        codes.set_string("Add_error_string", ERROR_CLASSES["ERR_RANK"], "no")


@given(st.recursive(st.integers() | st.binary(max_size=40), st.lists), st.integers(0, 30))
def test_pickles_hand_large_memory_out_and_take_it_back(obj: Any, threshold: int) -> None:
    pickles = Pickle(threshold=threshold)
    wrapped = pickle.PickleBuffer(bytearray(range(20)))
    data, buffers = pickles.dumps_oob([obj, wrapped])
    assert len(buffers) == (threshold <= 20)
    back, memory = pickles.loads_oob(data, buffers)
    assert back == obj
    assert bytes(memory) == bytes(range(20))
    assert pickles.loads(pickles.dumps(obj)) == obj


# -- attributes ----------------------------------------------------------------------------------------------


def test_attributes_are_copied_and_deleted_as_their_key_says() -> None:
    deleted: list[Any] = []
    keys = [
        Datatype.Create_keyval(copy_fn, lambda owner, keyval, value: deleted.append(value))
        for copy_fn in (None, True, lambda owner, keyval, value: value + 1, lambda *args: NotImplemented)
    ]
    original = TYPES["INT"].Dup()
    for key in keys:
        original.Set_attr(key, 10)
    twin = original.Dup()
    assert [twin.Get_attr(key) for key in keys] == [None, 10, 11, None]
    original.Set_attr(keys[0], 20)
    assert deleted == [10]
    twin.Free()
    assert sorted(deleted) == [10, 10, 11]
    for key in keys:
        assert Datatype.Free_keyval(key) == 0
    with pytest.raises(MPIException, match="is no key"):
        original.Set_attr(keys[1], 1)


# -- the module ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "name"), [(absence.owner, name) for absence in LEFT_OUT for name in absence.calls]
)
def test_what_is_left_out_says_so_by_name(mpi: ModuleType, owner: str, name: str) -> None:
    call = getattr(getattr(mpi, owner) if owner else mpi, name)
    with pytest.raises(NotImplementedError, match=rf"^{owner or 'MPI'}\.{name}: virtual ranks have no .*; "):
        call(1, info=None)


def test_each_rank_has_its_own_world_and_pickle_and_shares_the_rest() -> None:
    one, two = run(mpi_module, 2)
    own = {"COMM_WORLD", "COMM_SELF", "pickle", "_process"}
    for name in set(vars(one)) - {"__name__", "__loader__", "__spec__", "__package__"}:
        assert (vars(one)[name] is vars(two)[name]) == (name not in own), name
    assert (one.COMM_WORLD.rank, two.COMM_WORLD.rank) == (0, 1)
    assert one.COMM_SELF.size == 1


_ASK_MPI4PY = """
import json
from mpi4py import MPI
members = {n: [m for m in dir(v) if m[0] != "_"] for n, v in vars(MPI).items() if isinstance(v, type)}
types = {n: (v.Get_size(), v.Get_extent(), v.typechar) for n, v in vars(MPI).items()
         if isinstance(v, MPI.Datatype) and v != MPI.DATATYPE_NULL}
print(json.dumps([[n for n in dir(MPI) if n[0] != "_"], members, types]))
"""


@pytest.fixture(scope="module")
def real() -> Any:
    """What real mpi4py has, where there is one. It runs in a process of its own, as MPI starts with it."""
    asked = subprocess.run([sys.executable, "-c", _ASK_MPI4PY], capture_output=True, text=True, check=False)
    if asked.returncode:
        pytest.skip("no mpi4py that works")
    return json.loads(asked.stdout.splitlines()[-1])


def test_the_module_has_every_name_of_mpi4py(mpi: ModuleType, real: Any) -> None:
    names, members, _ = real
    assert [name for name in names if not hasattr(mpi, name)] == []
    windows_and_files = {"Win", "File"}  # whose objects there are none of
    missing = [
        f"{kind}.{member}"
        for kind, own in members.items()
        for member in own
        if kind not in windows_and_files and hasattr(mpi, kind) and not hasattr(getattr(mpi, kind), member)
    ]
    assert missing == []


def test_mpis_own_types_are_laid_out_as_in_real_mpi(mpi: ModuleType, real: Any) -> None:
    for name, (size, extent, char) in real[2].items():
        ours = getattr(mpi, name)
        if ours:
            assert (ours.Get_size(), list(ours.Get_extent()), ours.typechar) == (size, extent, char), name


# -- ranks that are none -------------------------------------------------------------------------------------


def test_a_constant_from_an_array_is_the_constant_and_a_plain_negative_number_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(
        sys.modules, "mpi4py.MPI", raising=False
    )  # of another test: there -1 may be a constant
    neighbours = np.array([PROC_NULL, ANY_SOURCE, 3])
    assert [as_rank(rank) for rank in neighbours] == [PROC_NULL, ANY_SOURCE, 3]
    assert as_rank(neighbours[0]) is PROC_NULL
    assert as_rank(0 - 1) is not PROC_NULL


def test_real_mpi4pys_constants_are_taken_for_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", SimpleNamespace(ANY_SOURCE=-1, PROC_NULL=-2, ROOT=-4))
    assert [as_rank(rank) for rank in (-1, -2, -4)] == [ANY_SOURCE, PROC_NULL, ROOT]
    assert as_rank(-3) == -3
