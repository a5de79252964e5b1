"""What a submission's process may do: as little as the system can hold it to.

Limits hold on every Unix. Linux adds two filters that need no privileges: Landlock (files: read Python, NumPy
and the scratch folder, write nowhere) and seccomp (no processes, sockets, signals, changes of modes).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_NO_NEW_PRIVILEGES, _SECCOMP, _PARENT_DEATH_SIGNAL = 38, 22, 1  # prctl's options
_NEW_USER, _NEW_NETWORK, _NEW_IPC = 0x10000000, 0x40000000, 0x08000000  # unshare's flags
_SIGKILL = 9


def limit(*, cpu: int, memory: int, file_size: int, open_files: int) -> None:
    """Set this process's limits.

    Parameters
    ----------
    cpu : int
        Seconds of processor time.
    memory : int
        Bytes of address space beyond what is used now (macOS doesn't hold to it).
    file_size : int
        Bytes of any file it writes: also of what it prints.
    open_files : int
        How many.
    """
    limits = {
        resource.RLIMIT_CPU: (cpu, cpu + 1),
        resource.RLIMIT_AS: (memory, memory),
        resource.RLIMIT_FSIZE: (file_size, file_size),
        resource.RLIMIT_NOFILE: (open_files, open_files),
        resource.RLIMIT_CORE: (0, 0),
    }
    if hasattr(resource, "RLIMIT_NPROC"):
        limits[resource.RLIMIT_NPROC] = (1, 1)
    for which, (soft, hard) in limits.items():
        with contextlib.suppress(
            ValueError, OSError
        ):  # a stricter one is already set, or the system has none
            resource.setrlimit(which, (soft, hard))


def address_space() -> int:
    """Return the bytes of address space in use, or 0 where the system doesn't tell."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def die_with_parent() -> None:
    """Have the system kill this process when its parent ends."""
    if sys.platform == "linux":
        _libc().prctl(_PARENT_DEATH_SIGNAL, _SIGKILL, 0, 0, 0)


def leave_network() -> bool:
    """Move to a network (and shared memory) of this process's own, with nobody else in it; return whether."""
    if sys.platform != "linux":
        return False
    return bool(_libc().unshare(_NEW_USER | _NEW_NETWORK | _NEW_IPC) == 0)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


# -- Landlock: which files ---------------------------------------------------------------------------------

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # system calls, the same on every architecture
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_RIGHTS_BY_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}


def confine_files(readable: Iterable[Path]) -> bool:
    """Let this process and its children read `readable` and what is below, and no other file; return whether.

    Also cuts off TCP and signals to the outside, where the kernel's Landlock knows of them.

    References
    ----------
    The Linux kernel's documentation, "Landlock: unprivileged access control".
    """
    if sys.platform != "linux":
        return False
    libc = _libc()
    version = libc.syscall(_CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    rights = max(mask for since, mask in _RIGHTS_BY_VERSION.items() if since <= version)
    handled = struct.pack("<QQQ", rights, 3, 3)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    ruleset = libc.syscall(_CREATE_RULESET, handled, len(handled), 0)
    if ruleset < 0:
        return False
    for path in readable:
        allowed = _READ_FILE | (_READ_FOLDER if path.is_dir() else 0)
        with contextlib.suppress(OSError):  # one that isn't there needs no rule
            file = os.open(path, os.O_PATH | os.O_CLOEXEC)
            libc.syscall(_ADD_RULE, ruleset, 1, struct.pack("<Qi", allowed, file), 0)
            os.close(file)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    confined = libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return bool(confined)


# -- seccomp: which system calls ---------------------------------------------------------------------------

_DENIED = {
    "x86_64": (
        *(56, 57, 58, 59, 322, 435),  # clone, fork, vfork, execve, execveat, clone3
        *(62, 200, 234, 129, 297),  # kill, tkill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo
        *(101, 310, 311),  # ptrace, process_vm_readv, process_vm_writev
        *(434, 424, 438),  # pidfd_open, pidfd_send_signal, pidfd_getfd
        *(
            160,
            302,
            141,
            203,
            109,
            112,
        ),  # setrlimit, prlimit64, setpriority, sched_setaffinity, setpgid, setsid
        *(41, 53, 42, 49, 50, 43, 288),  # socket, socketpair, connect, bind, listen, accept, accept4
        *(29, 30, 31, 64, 68, 240),  # shmget, shmat, shmctl, semget, msgget, mq_open
        *(272, 308, 165, 166, 155, 161),  # unshare, setns, mount, umount2, pivot_root, chroot
        *(321, 298, 323, 425),  # bpf, perf_event_open, userfaultfd, io_uring_setup
        *(248, 249, 250),  # add_key, request_key, keyctl
        *(90, 91, 268, 452),  # chmod, fchmod, fchmodat, fchmodat2: Landlock leaves these and the next alone
        *(92, 93, 94, 260),  # chown, fchown, lchown, fchownat
        *(132, 235, 261, 280),  # utime, utimes, futimesat, utimensat
        *(188, 189, 190, 197, 198, 199),  # setxattr, removexattr, and those with l and f
    ),
    "aarch64": (  # in the same order; some of them only x86_64 has
        *(220, 221, 281, 435),
        *(129, 130, 131, 138, 240),
        *(117, 270, 271),
        *(434, 424, 438),
        *(164, 261, 140, 122, 154, 157),
        *(198, 199, 203, 200, 201, 202, 242),
        *(194, 196, 195, 190, 186, 180),
        *(97, 268, 40, 39, 41, 51),
        *(280, 241, 282, 425),
        *(217, 218, 219),
        *(52, 53, 452),
        *(54, 55),
        *(88,),
        *(5, 6, 7, 14, 15, 16),
    ),
}
"""Numbers of system calls that no exercise needs, by machine."""
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000  # x86_64's second numbering of the same calls
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _NOT_PERMITTED, _KILL = 0x7FFF0000, 0x00050001, 0x80000000


def can_filter_calls() -> bool:
    """Return whether `filter_calls` knows this system."""
    return sys.platform == "linux" and platform.machine() in _DENIED and _libc().prctl(21, 0, 0, 0, 0) == 0


def filter_calls() -> None:
    """Refuse this process the calls of `_DENIED`, for good: they fail with EPERM."""
    machine = platform.machine()
    denied = _DENIED[machine]
    program = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, _ARCHITECTURE[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
        (_AT_LEAST, len(denied) + 1, 0, _X32),
        *((_EQUAL, len(denied) - place, 0, number) for place, number in enumerate(denied)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _NOT_PERMITTED),
    ]
    code = b"".join(struct.pack("<HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code)
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(buffer)))
    libc = _libc()
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if libc.prctl(_SECCOMP, 2, ctypes.byref(header), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the system refuses a filter of system calls")
