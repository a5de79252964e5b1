"""Errors of MPI calls on virtual ranks: each has an error class, and a sentence that says what to do."""

from __future__ import annotations

from tpsim.comm.mpi_errors import ERROR_CLASSES, MPIException

__all__ = ["ArgumentError", "BadBufferError", "MPIException", "ReductionError", "error"]


class ArgumentError(MPIException, ValueError):
    """A call has an argument that can't be: a rank, tag, count, root, handle …"""


class ReductionError(MPIException, TypeError):
    """Elements are of a type that a reduction can't take."""

    def __init__(self, text: str) -> None:
        MPIException.__init__(self, ERROR_CLASSES["ERR_OP"], text)


def error(name: str, text: str) -> ArgumentError:
    """Return the error of class `name`, such as "ERR_RANK".

    Examples
    --------
    >>> error("ERR_TAG", "Send: tag -5 is negative; pick 0 or more").Get_error_class()
    4
    """
    return ArgumentError(ERROR_CLASSES[name], text)


class BadBufferError(BufferError, ValueError):
    """Memory is not what a buffer must be: writable, contiguous, in this machine's byte order."""
