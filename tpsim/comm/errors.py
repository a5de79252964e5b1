"""What can go wrong between ranks. Every message says what was asked, why it can't be, what to do."""

from __future__ import annotations


class CommError(RuntimeError):
    """Communication went wrong."""


class CollectiveMismatchError(CommError):
    """The ranks of a group called different collectives, or one with different arguments."""


class DeadlockError(CommError):
    """Ranks wait, and none can go on."""


class UnfinishedError(CommError):
    """Every rank returned, and a message or a non-blocking call was left without its partner."""


class TruncationError(CommError):
    """A message is longer than the buffer that receives it, or of another type."""


class MPIUnavailableError(RuntimeError):
    """MPI was asked for, and mpi4py or an MPI library is missing."""


class RankStopped(BaseException):
    """Thrown into a virtual rank when another one failed: unwinds it, whatever it was doing.

    A BaseException, so that a rank's own `except Exception` does not keep it running.
    """
