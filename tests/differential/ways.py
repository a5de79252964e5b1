"""The ways to complete several receives, and to receive one message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from differential.programs import Rank


def _one_by_one(rank: Rank, requests: list[Any], statuses: list[Any]) -> None:
    for request, status in zip(requests, statuses, strict=True):
        request.Wait(status)


def _tested(rank: Rank, requests: list[Any], statuses: list[Any]) -> None:
    for request, status in zip(requests, statuses, strict=True):
        while not request.Test(status):
            pass


def _all(rank: Rank, requests: list[Any], statuses: list[Any]) -> None:
    rank.MPI.Request.Waitall(requests, statuses)


def _all_tested(rank: Rank, requests: list[Any], statuses: list[Any]) -> None:
    while not rank.MPI.Request.Testall(requests, statuses):
        pass


def _any(rank: Rank, requests: list[Any], statuses: list[Any]) -> None:
    status = rank.MPI.Status()
    while (place := rank.MPI.Request.Waitany(requests, status)) != rank.MPI.UNDEFINED:
        statuses[place] = status
        status = rank.MPI.Status()


def _any_tested(rank: Rank, requests: list[Any], statuses: list[Any]) -> None:
    left = len(requests)
    while left:
        status = rank.MPI.Status()
        place, done = rank.MPI.Request.Testany(requests, status)
        if done and place != rank.MPI.UNDEFINED:
            statuses[place] = status
            left -= 1


def _some(rank: Rank, requests: list[Any], statuses: list[Any]) -> None:
    _by_handfuls(rank.MPI.Request.Waitsome, rank, requests, statuses)


def _some_tested(rank: Rank, requests: list[Any], statuses: list[Any]) -> None:
    _by_handfuls(rank.MPI.Request.Testsome, rank, requests, statuses)


def _by_handfuls(get: Any, rank: Rank, requests: list[Any], statuses: list[Any]) -> None:
    found = [rank.MPI.Status() for _ in requests]
    while (places := get(requests, found)) is not None:
        for place, status in zip(places, found, strict=False):
            statuses[place] = status
        found = [rank.MPI.Status() for _ in requests]


Complete = Callable[[Rank, list[Any], list[Any]], None]
COMPLETE: dict[str, Complete] = {
    function.__name__: function
    for function in (_one_by_one, _tested, _all, _all_tested, _any, _any_tested, _some, _some_tested)
}


def _recv(rank: Rank, x: Any, source: int, tag: int, status: Any) -> None:
    rank.comm.Recv(x, source, tag, status)


def _irecv(rank: Rank, x: Any, source: int, tag: int, status: Any) -> None:
    rank.comm.Irecv(x, source, tag).Wait(status)


def _probe(rank: Rank, x: Any, source: int, tag: int, status: Any) -> None:
    rank.comm.Probe(source, tag, status)
    rank.comm.Recv(x, status.source, status.tag, status)


def _iprobe(rank: Rank, x: Any, source: int, tag: int, status: Any) -> None:
    while not rank.comm.Iprobe(source, tag, status):
        pass
    rank.comm.Recv(x, status.source, status.tag, status)


def _mprobe(rank: Rank, x: Any, source: int, tag: int, status: Any) -> None:
    rank.comm.Mprobe(source, tag).Recv(x, status)


def _improbe(rank: Rank, x: Any, source: int, tag: int, status: Any) -> None:
    while (message := rank.comm.Improbe(source, tag)) is None:
        pass
    message.Irecv(x).Wait(status)


Receive = Callable[[Rank, Any, int, int, Any], None]
RECEIVE: dict[str, Receive] = {
    function.__name__: function for function in (_recv, _irecv, _probe, _iprobe, _mprobe, _improbe)
}
