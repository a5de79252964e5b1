"""What a fault is, and how it is asked for: "rank=2 at=collective:17 kind=crash"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["crash", "stall", "corrupt", "drop", "slow"]
Event = Literal["collective", "message", "step"]

FORM = '"rank=2 at=collective:17 kind=crash"'
_KINDS, _EVENTS = get_args(Kind), get_args(Event)
_OPTIONS = {"seconds": "slow", "seed": "corrupt"}
_AT = re.compile(rf"({'|'.join(_EVENTS)}):(\d+)(\+?)")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault.

    Attributes
    ----------
    rank : int
        Whom it strikes, by rank in the whole world.
    event : {"collective", "message", "step"}
        What is counted: the rank's collectives, the messages it sends, or the trainer's steps.
    number : int
        Which of them, from 1.
    onwards : bool
        Also at all later ones (written 17+).
    kind : {"crash", "stall", "corrupt", "drop", "slow"}
        crash: the rank raises `Crash`. stall: it never comes back. corrupt: one bit of what it sends
        is turned over on the way. drop: what it sends never arrives. slow: it comes later.
    seconds : float
        How much later.
    seed : int
        Which bit is turned over.
    """

    rank: int
    event: Event
    number: int
    kind: Kind
    onwards: bool = False
    seconds: float = 0.1
    seed: int = 0

    def strikes(self, event: str, number: int) -> bool:
        """Tell whether it strikes at the `number`-th of these events."""
        return event == self.event and (number == self.number or (self.onwards and number > self.number))

    def __str__(self) -> str:
        """Return the words that ask for it."""
        option = {"slow": f" seconds={self.seconds:g}", "corrupt": f" seed={self.seed}"}.get(self.kind, "")
        at = f"{self.event}:{self.number}{'+' if self.onwards else ''}"
        return f"rank={self.rank} at={at} kind={self.kind}{option}"


def parse(text: str, ranks: int | None = None, events: Sequence[Event] = _EVENTS) -> Fault:
    """Return the fault that `text` asks for.

    Parameters
    ----------
    text : str
        Words in any order: rank=, at=, kind=, and where the kind has them seconds= or seed=.
    ranks : int, optional
        How many ranks there are.
    events : sequence of {"collective", "message", "step"}
        Those that there are where it shall strike.

    Raises
    ------
    ValueError
        If it asks for something that can't be: what, why, and what to write.

    Examples
    --------
    >>> parse("rank=2 at=collective:17 kind=slow seconds=0.5")
    Fault(rank=2, event='collective', number=17, kind='slow', onwards=False, seconds=0.5, seed=0)
    """
    words: dict[str, str] = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if not equals or key not in ("rank", "at", "kind", *_OPTIONS):
            raise _wrong(text, f"{word!r} is not one of its words", f"write it like {FORM}")
        if key in words:
            raise _wrong(text, f"{key} is given twice", "leave one out, or pass several faults")
        words[key] = value
    missing = [key for key in ("rank", "at", "kind") if key not in words]
    if missing:
        raise _wrong(text, f"{' and '.join(missing)} {_is(missing)} missing", f"write it like {FORM}")
    kind, at = words["kind"], _AT.fullmatch(words["at"])
    if kind not in _KINDS:
        raise _wrong(text, f"kind {kind!r} is not known", f"pick one of {', '.join(_KINDS)}")
    if at is None or at[2].strip("0") == "":
        remedy = "write collective:17, message:3 or step:5, counted from 1; 17+ is from there on"
        raise _wrong(text, f"at={words['at']} names no event", remedy)
    if at[1] not in events:
        counted = " and ".join(f"{event}s" for event in events)
        raise _wrong(text, f"no {at[1]}s are counted here, but {counted}", f"write at={events[0]}:{at[2]}")
    for option, only in _OPTIONS.items():
        if option in words and kind != only:
            raise _wrong(text, f"{option} goes with kind={only} and not with {kind}", "leave it out")
    rank = int(_number(text, words, "rank", "0"))
    if ranks is not None and rank >= ranks:
        raise _wrong(text, f"there is no rank {rank} among {ranks}", f"pick 0 to {ranks - 1}")
    return Fault(
        rank=rank,
        event=at[1],  # type: ignore[arg-type]  # the pattern has only these
        number=int(at[2]),
        onwards=bool(at[3]),
        kind=kind,  # type: ignore[arg-type]  # it is one of them
        seconds=_number(text, words, "seconds", "0.1"),
        seed=int(_number(text, words, "seed", "0")),
    )


def _number(text: str, words: dict[str, str], key: str, default: str) -> float:
    value = words.get(key, default)
    pattern = r"\d+(\.\d*)?|\.\d+" if key == "seconds" else r"\d+"
    if not re.fullmatch(pattern, value, re.ASCII):
        what = "number of seconds" if key == "seconds" else "whole number"
        raise _wrong(text, f"{key}={value} is not a {what}", f"write it like {key}={default}")
    return float(value) if key == "seconds" else int(value)


def _wrong(text: str, why: str, remedy: str) -> ValueError:
    return ValueError(f"fault {text!r}: {why}; {remedy}")


def _is(words: list[str]) -> str:
    return "is" if len(words) == 1 else "are"
