"""Confines the calling process with Linux namespaces, Landlock, seccomp and resource limits, called through ctypes.

Neither the process nor its children can undo any of this. Sources: landlock(7), seccomp(2), namespaces(7), and the
kernel's headers for the numbers.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
from collections.abc import Iterable

_LIBC = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 1, 38, 22
_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWNET = (
    0x20000, 0x4000000, 0x8000000, 0x10000000, 0x40000000,
)  # fmt: skip
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_REC, _MS_PRIVATE = 1, 2, 4, 8, 32, 0x4000, 0x40000
_MNT_DETACH = 2
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446  # the same on every architecture
_READ_FILE, _READ_DIR, _IOCTL_DEV = 1 << 2, 1 << 3, 1 << 15
_ADDR_NO_RANDOMIZE = 0x40000

# The system calls that a Python program needs to compute, print and use files that it may open. All others fail with
# EACCES. That excludes new processes or threads, programs, sockets, signals to other processes, mounts, tracing, limits
# and devices. It also excludes calls that change files by name and are not covered by Landlock: chmod, chown, utime,
# xattr; truncate in old kernels.
_ALLOWED = {
    "x86_64": (  # asm/unistd_64.h
        *range(0, 16),  # read write open close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sig*
        17, 18, 19, 20, 21, 22, 23, 24, 25, 28,  # pread pwrite readv writev access pipe select yield mremap madvise
        32, 33, 35, 36, 37, 38, 39, 60, 63, 73, 74, 75, 77, 78, 79, 80,  # dup .. getpid exit uname flock .. chdir
        82, 83, 84, 85, 87, 88, 89, 95, 96, 97, 98, 99, 100,  # rename mkdir rmdir creat unlink symlink .. times
        102, 104, 107, 108, 110, 131, 186, 201, 202, 204, 217, 219,  # getuid .. gettid time futex getdents64
        228, 229, 230, 231, 257, 258, 262, 263, 264, 266, 267, 269, 270, 271, 273,  # clock .. openat .. robust_list
        292, 293, 316, 318, 332, 334, 439,  # dup3 pipe2 renameat2 getrandom statx rseq faccessat2
    ),
    "aarch64": (  # asm-generic/unistd.h
        17, 23, 24, 34, 35, 36, 38, 46, 48, 49, 56, 57, 59, 61, 62, 63, 64, 65, 66, 67, 68,
        72, 73, 78, 79, 80, 82, 83, 93, 94, 98, 99, 101, 102, 103, 113, 114, 115, 123, 124, 128, 132,
        134, 135, 139, 153, 160, 163, 165, 166, 169, 172, 173, 174, 175, 176, 177, 178, 179,
        214, 215, 216, 222, 226, 233, 276, 278, 291, 293, 439,
    ),
}  # fmt: skip
# fcntl is allowed with these commands only: F_SETOWN and F_SETSIG would make the kernel send signals to others.
_FCNTL = {"x86_64": 72, "aarch64": 25}
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 5, 6, 7, 1030)  # F_DUPFD .. F_SETFL, locks, F_DUPFD_CLOEXEC
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SECCOMP_ALLOW, _SECCOMP_KILL, _SECCOMP_EACCES = 0x7FFF0000, 0x80000000, 0x00050000 | 13


class Unavailable(RuntimeError):
    """The kernel does not offer a protection that is needed."""


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise Unavailable(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def own_namespaces() -> None:
    """Moves the process into new user, mount, network, IPC and host-name namespaces; it then has no network.

    Raises Unavailable if unprivileged user namespaces are not allowed.
    """
    user, group = os.getuid(), os.getgid()
    flags = _CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWNET | _CLONE_NEWIPC | _CLONE_NEWUTS
    _checked(_LIBC.unshare(flags), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        try:
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
        except OSError as error:
            raise Unavailable(f"{name}: {error.strerror}") from error
    _checked(_LIBC.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "mount")  # ours stay private


def mount_memory(path: str, size: int, files: int) -> None:
    """Mounts an empty file system in memory at `path`, with at most `size` bytes and `files` files and folders.

    Raises Unavailable.
    """
    options = f"size={size},nr_inodes={files},mode=0700".encode()
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _checked(_LIBC.mount(b"scratch", path.encode(), b"tmpfs", flags, options), "mount tmpfs")


def make_read_only(path: str) -> None:
    """Makes a mount of `mount_memory` read-only; mounts within it stay writable. Raises Unavailable."""
    flags = _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _checked(_LIBC.mount(None, path.encode(), None, flags, None), "remount")


def unmount(path: str) -> None:
    """Removes a mount of `mount_memory`, even if files in it are open. Raises Unavailable."""
    _checked(_LIBC.umount2(path.encode(), _MNT_DETACH), "umount")


def fix_addresses() -> bool:
    """Turns off address randomisation for programs that this process executes from now on.

    Returns True if that changed something; False if it was off already or the machine does not allow it (some
    containers).
    """
    before = _LIBC.personality(0xFFFFFFFF)
    return before >= 0 and not before & _ADDR_NO_RANDOMIZE and _LIBC.personality(before | _ADDR_NO_RANDOMIZE) >= 0


def die_with_parent(signal: int) -> None:
    """Makes the kernel send this process `signal` when its parent ends. Raises Unavailable."""
    _checked(_LIBC.prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0), "prctl")


def limit(limits: dict[int, int]) -> None:
    """Sets soft and hard resource limits {resource.RLIMIT_...: value}. The hard CPU limit is one second longer."""
    for kind, value in limits.items():
        resource.setrlimit(kind, (value, value + (kind == resource.RLIMIT_CPU)))


def ruleset(readable: Iterable[str], listable: Iterable[str], writable: Iterable[str]) -> int:
    """Makes a Landlock ruleset of files and folders, with all that is below them; returns a descriptor of it.

    readable: may be read and listed. listable: may be listed. writable: may be read, listed and written. Missing paths
    are skipped. Raises Unavailable.
    """
    version = _checked(_LIBC.syscall(_LANDLOCK_CREATE, None, 0, 1), "Landlock")
    rights = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1  # each version of the ABI has more rights
    attributes = struct.pack("Q", rights)
    descriptor = _checked(_LIBC.syscall(_LANDLOCK_CREATE, attributes, len(attributes), 0), "Landlock")
    granted = [(path, _READ_FILE | _READ_DIR) for path in readable]
    granted += [(path, _READ_DIR) for path in listable]
    granted += [(path, rights & ~_IOCTL_DEV) for path in writable]
    for path, allowed in granted:
        try:
            parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        if not os.path.isdir(path):
            allowed &= ~_READ_DIR
        rule = struct.pack("=Qi", allowed, parent)
        _checked(_LIBC.syscall(_LANDLOCK_ADD, descriptor, 1, rule, 0), f"Landlock {path}")
        os.close(parent)
    return descriptor


def restrict_files(descriptor: int) -> None:
    """Allows only the files of a ruleset (from `ruleset`) to be opened from now on.

    Names and sizes of other files remain visible through stat(2), which Landlock does not cover. Raises Unavailable.
    """
    no_new_privileges()
    _checked(_LIBC.syscall(_LANDLOCK_RESTRICT, descriptor, 0), "Landlock")


def no_new_privileges() -> None:
    """Executed programs cannot gain privileges from now on; Landlock and seccomp require it. Raises Unavailable."""
    _checked(_LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def seccomp() -> None:
    """Makes system calls that are not in this architecture's table fail with EACCES. Raises Unavailable."""
    machine = platform.machine()
    if machine not in _ALLOWED:
        raise Unavailable(f"seccomp: no table of system calls for {machine}")

    def instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("HBBI", code, if_true, if_false, value)

    load, equal, give = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
    numbers, commands = _ALLOWED[machine], _FCNTL_COMMANDS
    program = [
        instruction(load, 4),  # seccomp_data.arch
        instruction(equal, _AUDIT_ARCH[machine], 1, 0),
        instruction(give, _SECCOMP_KILL),
        instruction(load, 0),  # seccomp_data.nr
        *(instruction(equal, n, len(numbers) - i + 2 + len(commands), 0) for i, n in enumerate(numbers)),
        instruction(equal, _FCNTL[machine], 0, 1 + len(commands)),
        instruction(load, 24),  # the low half of seccomp_data.args[1]
        *(instruction(equal, n, len(commands) - i, 0) for i, n in enumerate(commands)),
        instruction(give, _SECCOMP_EACCES),
        instruction(give, _SECCOMP_ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(program))
    filters = struct.pack("HP", len(program), ctypes.addressof(code))
    no_new_privileges()
    _checked(_LIBC.prctl(_PR_SET_SECCOMP, 2, ctypes.c_char_p(filters), 0, 0), "seccomp")
