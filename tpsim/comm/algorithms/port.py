"""The one thing an algorithm talks through: a port that starts sends and receives, and nothing else.

An algorithm is a generator. Read its ``yield`` as "wait here"::

    yield recv(port, inbox, left) + send(port, chunk, right)    # both under way; go on when both are done

Whoever drives the generator decides what waiting is: block, hand over to another rank, or poll now and then.
"""

from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]


class Request(Protocol):
    """A send or a receive under way. Only the driver looks inside."""


class Port(Protocol):
    """One rank's way to its peers.

    Buffers are contiguous 1-D arrays or views, used in place: leave them alone until the request is complete.
    Messages between the same two ranks arrive in the order in which they were sent. A send may need its
    receive to be posted before it completes: no algorithm here counts on buffering.

    Attributes
    ----------
    rank, size : int
        This rank, and how many there are.
    """

    @property
    def rank(self) -> int:
        """This rank, 0 … size−1."""

    @property
    def size(self) -> int:
        """How many ranks there are."""

    def send(self, buffer: Array, to: int) -> Request:
        """Start to send ``buffer`` to rank ``to``."""

    def recv(self, buffer: Array, source: int) -> Request:
        """Start to fill ``buffer`` with the next message from rank ``source``."""


Steps: TypeAlias = Iterator[tuple[Request, ...]]
"""What an algorithm yields: the requests to wait for, possibly none."""


def send(port: Port, buffer: Array, to: int) -> tuple[Request, ...]:
    """Start a send, unless there is nothing to send: the receiver knows the length, and expects nothing."""
    return (port.send(buffer, to),) if buffer.size else ()


def recv(port: Port, buffer: Array, source: int) -> tuple[Request, ...]:
    """Start a receive, unless nothing will come."""
    return (port.recv(buffer, source),) if buffer.size else ()
