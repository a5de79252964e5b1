"""New communicators, groups, attributes, and errors."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from differential.programs import Rank, Run, few, step, untouched, values

four = st.lists(st.integers(-1, 2), min_size=4, max_size=4)


def makes_one(function: Run) -> Run:
    """Say that a step makes a communicator, null on ranks that are left out."""
    vars(function)["makes"] = 1
    return function


def comparison(rank: Rank, code: int) -> str:
    names = ("IDENT", "CONGRUENT", "SIMILAR", "UNEQUAL")
    return next(name for name in names if getattr(rank.MPI, name) == code)


def facts(rank: Rank, new: Any) -> Any:
    """Return where this rank is in a new communicator, and how that compares with the old."""
    if new == rank.MPI.COMM_NULL:
        return None
    group, old = new.Get_group(), rank.comm.Get_group()
    places = group.Translate_ranks(list(range(group.size)), old)
    compared = comparison(rank, rank.MPI.Comm.Compare(rank.comm, new))
    groups = comparison(rank, rank.MPI.Group.Compare(old, group))
    group.Free()
    old.Free()
    return new.rank, new.size, places, compared, groups, new.Get_topology() == rank.MPI.UNDEFINED


@step(form=st.sampled_from(["Dup", "Clone", "Idup", "Dup_with_info", "Split_type"]))
@makes_one
def dup(rank: Rank, seed: int, form: str) -> Any:
    if form == "Idup":
        new, request = rank.comm.Idup()
        request.Wait()
    else:
        given = {"Dup_with_info": [rank.MPI.INFO_NULL], "Split_type": [rank.MPI.COMM_TYPE_SHARED]}
        new = getattr(rank.comm, form)(*given.get(form, []))
    rank.made.append(new)
    return facts(rank, new)


@step(colors=four, keys=four)
@makes_one
def split(rank: Rank, seed: int, colors: list[int], keys: list[int]) -> Any:
    color = colors[rank.comm.rank]
    new = rank.comm.Split(rank.MPI.UNDEFINED if color < 0 else color, keys[rank.comm.rank])
    rank.made.append(new)
    return facts(rank, new)


def drawn_group(rank: Rank, world: Any, how: str, wanted: list[int]) -> Any:
    ranks = sorted({n % world.size for n in wanted})
    first, last = ranks[0], ranks[-1]
    return {
        "Incl": lambda: world.Incl(ranks[::-1]),
        "Excl": lambda: world.Excl(ranks),
        "Range_incl": lambda: world.Range_incl([(last, first, -1)]),
        "Range_excl": lambda: world.Range_excl([(first, last, 2)]),
        "Union": lambda: rank.MPI.Group.Union(world.Incl([last]), world.Excl([last])),
        "Intersection": lambda: rank.MPI.Group.Intersection(world.Excl([first]), world.Incl(ranks)),
        "Difference": lambda: rank.MPI.Group.Difference(world, world.Incl([first])),
    }[how]()


GROUPS = st.sampled_from(["Incl", "Excl", "Range_incl", "Range_excl", "Union", "Intersection", "Difference"])


@step(how=GROUPS, wanted=st.lists(few, min_size=1, max_size=4), by_members=st.booleans())
@makes_one
def create(rank: Rank, seed: int, how: str, wanted: list[int], by_members: bool) -> Any:
    """Make a communicator of a group: all ranks call, or its members alone."""
    MPI = rank.MPI
    world = rank.comm.Get_group()
    group = drawn_group(rank, world, how, wanted)
    if not by_members:
        new = rank.comm.Create(group)
    else:
        new = rank.comm.Create_group(group, 7) if group.rank != MPI.UNDEFINED else MPI.COMM_NULL
    known = [group.size, None if group.rank == MPI.UNDEFINED else group.rank, group == MPI.GROUP_EMPTY]
    rank.made.append(new)
    return facts(rank, new), known


@step(value=few)
def names_and_attributes(rank: Rank, seed: int, value: int) -> Any:
    """A name and an attribute; a copy of the communicator inherits one of them."""
    MPI, comm = rank.MPI, rank.comm
    keep = MPI.Comm.Create_keyval(copy_fn=lambda old, key, kept: kept + 1)
    drop = MPI.Comm.Create_keyval()
    new = comm.Dup()
    new.Set_name(f"number {value}")
    new.Set_attr(keep, value)
    new.Set_attr(drop, value)
    copy = new.Dup()
    found = [new.Get_name(), new.Get_attr(keep), copy.Get_attr(keep), copy.Get_attr(drop)]
    new.Delete_attr(keep)
    found.append(new.Get_attr(keep))
    for each in (copy, new):
        each.Free()
    for key in (keep, drop):
        MPI.Comm.Free_keyval(key)
    return found, comm.Get_attr(MPI.TAG_UB) >= 32767


MISTAKES: dict[str, Any] = {
    "rank too large": lambda c, MPI, x: c.Send(x, c.size),
    "rank below": lambda c, MPI, x: c.Isend(x, -77),
    "source too large": lambda c, MPI, x: c.Irecv(x, c.size + 3),
    "tag below": lambda c, MPI, x: c.Send(x, 0, -9),
    "tag below, received": lambda c, MPI, x: c.Recv(x, 0, -9),
    "root too large": lambda c, MPI, x: c.Bcast(x, c.size),
    "root below": lambda c, MPI, x: c.Reduce(x, x.copy(), MPI.SUM, -9),
    "no type": lambda c, MPI, x: c.Send([x, 2, MPI.DATATYPE_NULL], 0),
    "no operation": lambda c, MPI, x: c.Allreduce(x, x.copy(), MPI.OP_NULL),
    "an operation that floats lack": lambda c, MPI, x: c.Allreduce(x, x.copy(), MPI.BAND),
    "no communicator": lambda c, MPI, x: MPI.COMM_NULL.Get_size(),
    "a group of strangers": lambda c, MPI, x: c.Get_group().Incl([c.size]),
    "a grid too large": lambda c, MPI, x: c.Create_cart([c.size + 1]),
    "no color": lambda c, MPI, x: c.Split(-7),
}


@step(what=st.sampled_from(sorted(MISTAKES)))
def mistake(rank: Rank, seed: int, what: str) -> Any:
    """Return the class of error that a wrong call raises on every rank."""
    MPI = rank.MPI
    try:
        MISTAKES[what](rank.comm, MPI, values(seed, 0, 2, "f8"))
    except MPI.Exception as error:
        code = error.Get_error_class()
        return next(name for name in dir(MPI) if name.startswith("ERR_") and getattr(MPI, name) == code)
    return "nothing"


@step(longer=few)
def cut_off(rank: Rank, seed: int, longer: int) -> Any:
    """A message longer than its buffer raises an error."""
    MPI, comm = rank.MPI, rank.comm
    request = comm.Isend(values(seed, comm.rank, 2 + longer, "f8"), (comm.rank + 1) % comm.size, 6)
    y = untouched(2, "f8")
    try:
        comm.Recv(y, (comm.rank - 1) % comm.size, 6)
        said = "nothing"
    except MPI.Exception as error:
        said = "truncated" if error.Get_error_class() == MPI.ERR_TRUNCATE else str(error)
    request.Wait()
    return said
