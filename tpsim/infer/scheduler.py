"""Continuous batching: requests join and leave between steps, and nobody waits for the longest.

A step decodes one token of every running request and, beside them, puts one chunk of one prompt into the
cache. Running requests lie in the first rows of the cache, the one whose prompt is going in behind them::

    row 0   decoding          step:  decode rows 0 to 1, prefill a chunk of row 2
    row 1   decoding
    row 2   prefilling
    row 3   free

The scheduler knows no arrays: what runs its steps is an `Engine`, or a clock with prices. Every rank has its
own, and as all see the same tokens, all take the same decisions without a word.

References
----------
Yu et al. (2022), "Orca: a distributed serving system for transformer-based generative models", section 3.1;
Agrawal et al. (2023), "SARATHI: efficient LLM inference by piggybacking decodes with chunked prefills".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Parameters
    ----------
    number : int
        Tells requests apart; the noise of sampling depends on it.
    prompt : sequence of int
        Its tokens, 1 or more.
    most : int
        New tokens at most.
    stops : tuple of int
        Tokens after which nothing more is asked for.
    """

    number: int
    prompt: Sequence[int]
    most: int
    stops: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        """Positions that it may fill: its last token is never put into the cache."""
        return len(self.prompt) + self.most - 1


@dataclass(eq=False)
class Running:
    """A request with a row of the cache.

    Attributes
    ----------
    request : Request
    filled : int
        Tokens of its prompt that are in the cache.
    tokens : list of int
        New ones so far.
    """

    request: Request
    filled: int = 0
    tokens: list[int] = field(default_factory=list)

    @property
    def prefilling(self) -> bool:
        """Whether some of its prompt is still to go in."""
        return self.filled < len(self.request.prompt)

    @property
    def ended(self) -> bool:
        """Whether nothing more is asked for."""
        return len(self.tokens) == self.request.most or self.tokens[-1] in self.request.stops

    @property
    def position(self) -> int:
        """Where its next token will stand."""
        return len(self.request.prompt) + len(self.tokens)


@dataclass(frozen=True)
class Work:
    """One step.

    Attributes
    ----------
    decode : list of Running
        In rows 0, 1, … of the cache: one more token each.
    prefill : Running or None
        In the row after those.
    count : int
        Tokens of its prompt that go in now.
    """

    decode: list[Running]
    prefill: Running | None
    count: int


class Scheduler:
    """Decides who runs; first come, first served.

    Parameters
    ----------
    rows, length : int
        Of the cache.
    chunk : int, optional
        Tokens of a prompt that one step takes; by default all at once, which holds the others up.
    """

    def __init__(self, rows: int, length: int, chunk: int | None = None) -> None:
        if min(rows, length, chunk or 1) < 1 or chunk == 0:
            raise ValueError(f"Scheduler: {rows} rows of {length}, chunks of {chunk}; pick 1 or more of each")
        self.rows, self.length, self.chunk = rows, length, chunk
        self.waiting: deque[Request] = deque()
        self.running: list[Running] = []

    def add(self, request: Request) -> None:
        """Put a request at the end of the queue.

        Raises
        ------
        ValueError
            If a row has no room for it, or it asks for nothing.
        """
        if not request.prompt or request.most < 1 or request.length > self.length:
            raise ValueError(
                f"request {request.number}: {len(request.prompt)} tokens of prompt and {request.most} new "
                f"ones don't go into a row of {self.length}; shorten it, or make a longer cache (1 token or "
                "more of each)"
            )
        self.waiting.append(request)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.waiting or self.running)

    def plan(self) -> Work:
        """Return the next step, letting in a request if there is room and no prompt is under way."""
        under_way = self.running[-1:] and self.running[-1].prefilling
        if not under_way and self.waiting and len(self.running) < self.rows:
            self.running.append(Running(self.waiting.popleft()))
        decode = [one for one in self.running if not one.prefilling]
        prefill = self.running[-1] if len(decode) < len(self.running) else None
        left = len(prefill.request.prompt) - prefill.filled if prefill else 0
        return Work(decode, prefill, min(left, self.chunk or left))

    def leave(self) -> list[tuple[int, int]]:
        """Let requests go that have ended; return which rows move where, one after the other."""
        moves = []
        for row in reversed(range(len(self.running))):
            if self.running[row].prefilling or not self.running[row].ended:
                continue
            for source in self._followers(row):
                moves.append((source, row))
                self.running[row] = self.running[source]
                row = source
            del self.running[row]
        return moves

    def _followers(self, row: int) -> list[int]:
        """Return who moves up when a row falls free: the last that decodes, and the one that prefills."""
        decoding = sum(not one.prefilling for one in self.running)
        return [other for other in (decoding - 1, len(self.running) - 1) if other > row]
