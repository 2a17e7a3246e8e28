"""Shared-memory files that Fast DDS leaves behind when a process is killed.

Fast DDS makes `fastrtps_<16 hex digits>` for each segment and `fastrtps_port<N>` with
`sem.fastrtps_port<N>_mutex` for each listening port. Beside each lies a lock file, `..._el` or
`..._sl`, that its owner keeps flock()ed while it lives (Fast DDS, tools/fastdds/shm/clean.py).
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable
from pathlib import Path

SHM_FOLDER = Path("/dev/shm")
_LOCK_FILE = re.compile(r"fastrtps_(?:[0-9a-f]{16}|port\d{1,5})_[es]l")


def lock_files_of(pid: int, folder: Path = SHM_FOLDER) -> set[str]:
    """Names of the lock files that a live process has open; empty once it is gone."""
    found: set[str] = set()
    try:
        entries = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return found
    for entry in entries:
        try:
            target = Path(os.readlink(f"/proc/{pid}/fd/{entry}"))
        except OSError:
            continue  # closed in between
        if target.parent == folder and _LOCK_FILE.fullmatch(target.name):
            found.add(target.name)
    return found


def remove_orphans(lock_files: Iterable[str], folder: Path = SHM_FOLDER) -> list[str]:
    """Remove the segments and ports of `lock_files` that nobody holds; returns what was removed.

    A lock that can be had belongs to nobody alive. It is kept until the files are gone, so that a
    process that starts in this moment does not get half of them. The lock file is made where it is
    missing: of processes that end at the same time, one may make another's port anew on its way.
    """
    removed: list[str] = []
    for name in sorted(lock_files):
        if not _LOCK_FILE.fullmatch(name):
            raise ValueError(f"'{name}' is no lock file of Fast DDS")
        base = name[:-3]
        if not ((folder / name).exists() or (folder / base).exists()):
            continue
        try:
            fd = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            continue  # somebody else's
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for file in (base, f"sem.{base}_mutex", name):
                try:
                    os.unlink(folder / file)
                except FileNotFoundError:
                    continue
                removed.append(file)
        except BlockingIOError:
            continue  # in use by a live process
        finally:
            os.close(fd)
    return removed
