"""What a submission may use up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one exercise of one submission may use up.

    Attributes
    ----------
    cpu : int
        Seconds of processor time of each rank.
    answer : float
        Seconds that the grader waits for one answer.
    wall : float
        Seconds that it waits altogether: generous, for the machine may have other things to do.
    memory : int
        Bytes of memory of each rank, beyond Python and NumPy.
    file_size : int
        Bytes that it may print.
    open_files : int
    messages : int
        Requests and results of one rank in one case.
    received : int
        Bytes of arrays that one rank may send to the grader in one case.
    """

    cpu: int = 10
    answer: float = 15.0
    wall: float = 60.0
    memory: int = 512 << 20
    file_size: int = 1 << 20
    open_files: int = 64
    messages: int = 2000
    received: int = 1 << 26
