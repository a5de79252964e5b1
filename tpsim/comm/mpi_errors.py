"""MPI's error classes, and the exception that carries one (mpi4py's `MPI.Exception`)."""

from __future__ import annotations

import sys
from typing import Any

SUCCESS = 0

# Numbered as in the application binary interface of MPI 5.0 (chapter 20).
_CLASSES = {
    "BUFFER": "invalid buffer",
    "COUNT": "invalid count",
    "TYPE": "invalid datatype",
    "TAG": "invalid tag",
    "COMM": "invalid communicator",
    "RANK": "invalid rank",
    "REQUEST": "invalid request",
    "ROOT": "invalid root",
    "GROUP": "invalid group",
    "OP": "invalid reduction operation",
    "TOPOLOGY": "invalid topology",
    "DIMS": "invalid dimensions",
    "ARG": "invalid argument",
    "UNKNOWN": "unknown error",
    "TRUNCATE": "message truncated",
    "OTHER": "other error",
    "INTERN": "internal error",
    "PENDING": "pending request",
    "IN_STATUS": "see the error codes in the statuses",
    "ACCESS": "permission denied",
    "AMODE": "invalid access mode",
    "ASSERT": "invalid assertion",
    "BAD_FILE": "invalid file name",
    "BASE": "invalid base address",
    "CONVERSION": "error in a data conversion function",
    "DISP": "invalid displacement",
    "DUP_DATAREP": "data representation already defined",
    "FILE_EXISTS": "file exists",
    "FILE_IN_USE": "file in use",
    "FILE": "invalid file handle",
    "INFO_KEY": "invalid info key",
    "INFO_NOKEY": "no such info key",
    "INFO_VALUE": "invalid info value",
    "INFO": "invalid info object",
    "IO": "input/output error",
    "KEYVAL": "invalid key of an attribute",
    "LOCKTYPE": "invalid lock type",
    "NAME": "service name not published",
    "NO_MEM": "out of memory",
    "NOT_SAME": "argument differs between ranks",
    "NO_SPACE": "not enough space",
    "NO_SUCH_FILE": "file does not exist",
    "PORT": "invalid port name",
    "PROC_ABORTED": "peer process aborted",
    "QUOTA": "quota exceeded",
    "READ_ONLY": "read-only file or file system",
    "RMA_ATTACH": "memory cannot be attached",
    "RMA_CONFLICT": "conflicting accesses to a window",
    "RMA_RANGE": "memory outside the window",
    "RMA_SHARED": "memory cannot be shared",
    "RMA_SYNC": "wrong synchronisation of window accesses",
    "SERVICE": "invalid service name",
    "SIZE": "invalid size",
    "SPAWN": "cannot spawn processes",
    "UNSUPPORTED_DATAREP": "unsupported data representation",
    "UNSUPPORTED_OPERATION": "unsupported operation",
    "VALUE_TOO_LARGE": "value too large",
    "WIN": "invalid window",
    "RMA_FLAVOR": "wrong flavor of window",
    "ERRHANDLER": "invalid error handler",
    "SESSION": "invalid session",
    "PROC_FAILED": "process failed",
    "PROC_FAILED_PENDING": "pending because a process failed",
    "REVOKED": "communication object revoked",
    "ABI": "mismatch of binary interfaces",
}

ERROR_CLASSES: dict[str, int] = {
    "SUCCESS": SUCCESS,
    **{f"ERR_{name}": number for number, name in enumerate(_CLASSES, 1)},
    "ERR_LASTCODE": 0x3FFF,
}
"""Every error class by its name in mpi4py, such as "ERR_RANK"."""

_STRINGS: dict[int, str] = {
    SUCCESS: "MPI_SUCCESS: no errors",
    **{number: f"MPI_ERR_{name}: {_CLASSES[name]}" for number, name in enumerate(_CLASSES, 1)},
    ERROR_CLASSES["ERR_LASTCODE"]: "MPI_ERR_LASTCODE: last error code",
}


class ErrorCodes:
    """Error codes with their classes and sentences, to which a program may add its own.

    Attributes
    ----------
    last : int
        The greatest code so far.
    """

    def __init__(self) -> None:
        self._strings = dict(_STRINGS)
        self._class_of = {code: code for code in _STRINGS}
        self.last = ERROR_CLASSES["ERR_LASTCODE"]

    def class_of(self, code: int) -> int:
        """Return the class of a code."""
        return self._class_of.get(code, ERROR_CLASSES["ERR_UNKNOWN"])

    def string_of(self, code: int) -> str:
        """Return the sentence of a code."""
        return self._strings.get(code, _STRINGS[ERROR_CLASSES["ERR_UNKNOWN"]])

    def add_class(self) -> int:
        """Return a new error class."""
        self.last += 1
        self._class_of[self.last], self._strings[self.last] = self.last, ""
        return self.last

    def add_code(self, errorclass: int) -> int:
        """Return a new error code of a class."""
        if errorclass not in self._class_of:
            raise self._wrong("Add_error_code", errorclass, "is no error class")
        self.last += 1
        self._class_of[self.last], self._strings[self.last] = errorclass, ""
        return self.last

    def set_string(self, call: str, code: int, string: str) -> None:
        """Give a code, or a class, that the program added its sentence; "" takes it away."""
        self._own(call, code)
        self._strings[code] = string

    def remove(self, call: str, code: int, *, is_class: bool) -> None:
        """Forget a code or a class that the program added."""
        self._own(call, code)
        if (self._class_of[code] == code) != is_class:
            raise self._wrong(call, code, f"is {'no' if is_class else 'an'} error class")
        if self._strings[code]:
            raise self._wrong(call, code, "still has a string")
        if list(self._class_of.values()).count(code) > is_class:
            raise self._wrong(call, code, "still has error codes")
        del self._class_of[code], self._strings[code]

    def _own(self, call: str, code: int) -> None:
        if code <= ERROR_CLASSES["ERR_LASTCODE"] or code not in self._class_of:
            raise self._wrong(call, code, "was not added by this program")

    @staticmethod
    def _wrong(call: str, code: int, why: str) -> MPIException:
        return MPIException(
            ERROR_CLASSES["ERR_ARG"],
            f"{call}: error code {code} {why}; pass one from MPI.Add_error_class or _code",
        )


_CODES = ErrorCodes()


def error_codes() -> ErrorCodes:
    """Return the error codes of the rank that runs."""
    process = getattr(sys.modules.get("mpi4py.MPI"), "_process", None)
    codes: ErrorCodes = _CODES if process is None else process.codes
    return codes


class MPIException(RuntimeError):
    """What went wrong in an MPI call: mpi4py's `MPI.Exception`. It compares like its error code.

    Parameters
    ----------
    ierr : int
        The error code.
    text : str
        What happened, in full; by default the sentence of the error code.
    """

    def __init__(self, ierr: int = SUCCESS, text: str = "") -> None:
        ierr = int(ierr)
        self.ob_mpi = ierr if ierr >= SUCCESS else ERROR_CLASSES["ERR_UNKNOWN"]
        super().__init__(self.ob_mpi)
        self.text = text

    def __eq__(self, other: object) -> bool:
        return self.ob_mpi == _code(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: Any) -> bool:
        return self.ob_mpi < int(other)

    def __le__(self, other: Any) -> bool:
        return self.ob_mpi <= int(other)

    def __gt__(self, other: Any) -> bool:
        return self.ob_mpi > int(other)

    def __ge__(self, other: Any) -> bool:
        return self.ob_mpi >= int(other)

    def __hash__(self) -> int:
        return hash(self.ob_mpi)

    def __bool__(self) -> bool:
        return self.ob_mpi != SUCCESS

    def __int__(self) -> int:
        return self.ob_mpi

    def __repr__(self) -> str:
        return f"MPI.Exception({self.ob_mpi})"

    def __str__(self) -> str:
        return self.text or self.Get_error_string()

    def Get_error_code(self) -> int:
        """Return the error code."""
        return self.ob_mpi

    def Get_error_class(self) -> int:
        """Return the error class, such as `MPI.ERR_RANK`."""
        return error_codes().class_of(self.ob_mpi)

    def Get_error_string(self) -> str:
        """Return the sentence of the error code."""
        return error_codes().string_of(self.ob_mpi)

    error_code = property(Get_error_code)
    error_class = property(Get_error_class)
    error_string = property(Get_error_string)


def _code(other: object) -> int | None:
    if isinstance(other, MPIException | int):
        return int(other)
    return None
