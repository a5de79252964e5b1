"""What can go wrong between ranks. Every message says what was asked, why it can't be, what to do."""

from __future__ import annotations

from tpsim.comm.mpi_errors import ERROR_CLASSES, MPIException


class CommError(RuntimeError):
    """Communication went wrong."""


class CollectiveMismatchError(CommError):
    """The ranks of a group called different collectives, or one with different arguments."""


class DeadlockError(CommError):
    """Ranks wait, and none can go on."""


class UnfinishedError(CommError):
    """Every rank returned, and a message or a non-blocking call was left without its partner."""


class TruncationError(CommError, MPIException):
    """A message is longer than the buffer that receives it, or of another type."""

    def __init__(self, text: str) -> None:
        MPIException.__init__(self, ERROR_CLASSES["ERR_TRUNCATE"], text)


class InFlightError(CommError):
    """A program touched memory that a call which it had begun was still using."""


class CorruptionError(CommError):
    """What reached a rank is not what was sent."""


class MPIUnavailableError(RuntimeError):
    """MPI was asked for, and mpi4py or an MPI library is missing."""


class JobAborted(SystemExit):
    """A rank called `Abort`: the whole job ends with this exit code, unlike a `sys.exit` of one rank."""


class Crash(BaseException):
    """A rank crashed, because a fault was asked for.

    A BaseException: no `except Exception` of a program saves a process that is gone.
    """


class RankStopped(BaseException):
    """Thrown into a virtual rank when another one failed: unwinds it, whatever it was doing.

    A BaseException, so that a rank's own `except Exception` does not keep it running.
    """
