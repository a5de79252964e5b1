"""What the watchdog says of a call that hangs, from what the ranks wrote on the board."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tpsim.comm.board import RUNNING, UNKNOWN, Row
from tpsim.comm.signature import POINT_TO_POINT, Standing, absence, name_ranks, report, struck
from tpsim.comm.stacks import where


def explanation(operation: str, rows: Mapping[int, Row], timeout: float) -> str:
    """Return what the watchdog prints: that a call hangs, where every rank stands, and what to do.

    Parameters
    ----------
    operation : str
        The call that did not complete.
    rows : mapping from int to Row
        Where each world rank stands; every one of them.
    timeout : float
        Seconds after which a call counts as hanging.
    """
    return (
        f"tpsim: {operation} has not completed in {timeout:g} s; the job is ended\n"
        f"{report({rank: _standing(row, timeout) for rank, row in rows.items()})}\n"
        f"{_remedy(rows)}\n{_stacks(rows)}"
        "(if a rank is only slow, set --timeout, or the environment's TPSIM_TIMEOUT, to more seconds; 0: no "
        "limit)\n"
    )


def _stacks(rows: Mapping[int, Row]) -> str:
    text = where({rank: tuple(row.stack) for rank, row in rows.items()})
    return f"{text}\n" if text else ""


def _standing(row: Row, timeout: float) -> Standing:
    if row.seconds is None:
        return Standing(row.doing, row.line)
    long = f"over {timeout:g}" if row.seconds > timeout else f"{row.seconds:.0f}"  # the same words, one line
    return Standing(f"{row.doing}, for {long} s", row.line)


def _remedy(rows: Mapping[int, Row]) -> str:
    """Return the most telling sentence: who is in no call and waited for, or that all wait for each other."""
    stricken = [rank for rank, row in rows.items() if row.struck]
    if stricken:
        return struck(stricken)
    waiting = {rank: row for rank, row in rows.items() if row.seconds is not None}
    still = {rank for rank, row in rows.items() if row.doing == RUNNING}
    ended = {rank for rank, row in rows.items() if row != UNKNOWN} - set(waiting) - still
    for lost in (ended, still):
        for row in waiting.values():
            absent = sorted(lost.intersection(rows if row.needs is None else row.needs))
            if absent:
                return _blame(absent, rows[absent[0]].doing if lost is ended else "", row.operation)
    if UNKNOWN in rows.values():
        return "every rank that is known here waits: look at the others"
    if any(row.operation in POINT_TO_POINT for row in waiting.values()):
        return "every rank waits: match every send with a recv (rank and tag), made before what waits for it"
    return (
        "ranks wait in different collectives, for each other: call the collectives of different groups in "
        "the same order on every rank, or begin them all (the forms with i) before waiting for any"
    )


def _blame(ranks: Sequence[int], end: str, operation: str) -> str:
    if operation not in POINT_TO_POINT:
        return absence(ranks, end, operation)
    what = "received" if operation == "send" else "sent"
    return (
        f"{name_ranks(ranks)} {end or 'is still running'} and never {what} it: match every send with a recv "
        "(rank and tag), and look for an early return, or a branch that depends on the rank"
    )
