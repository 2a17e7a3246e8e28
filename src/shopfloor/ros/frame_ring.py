"""Frames in shared memory: one writer, any number of readers, on one host.

A ring is one file in /dev/shm, made by its writer and removed by it. The writer copies a frame into
the next slot and tells readers where (`FrameHandle`); readers look at the pixels where they lie.
Nobody waits for anybody and nobody is known to anybody: a slot has a generation, odd while it is
written and even when it is whole, that a reader compares with its handle's before and after it
reads (a sequence lock). A frame that was overwritten meanwhile is noticed, never used.

The writer holds a lock of the file (flock) as long as it lives, however it ends. A ring whose lock
can be had is nobody's: readers and the next writer remove it. One page of header, little-endian:

| offset | bytes | meaning |
|---|---|---|
| 0 | 8 | `SFRING01` |
| 8 | u32, u32 | number of slots, bytes before the first slot |
| 16 | u64 | bytes from one slot to the next |
| 64 + 8 slot | u64 | generation of that slot |

Nothing here needs ROS.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import re
import secrets
import struct
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

SHM_FOLDER = Path("/dev/shm")
MAX_SLOTS = 8
MIN_SLOTS = 3
RING_BYTES = 256 * 1024 * 1024
"""A ring has as many slots as fit, from MIN_SLOTS to MAX_SLOTS (0.27 s of frames at 30 Hz)."""

_MAGIC = b"SFRING01"
_HEADER = struct.Struct("<8sIIQ")
_HEADER_BYTES = mmap.PAGESIZE
_GENERATIONS = 64
_MAPPING = mmap.MAP_SHARED | mmap.MAP_POPULATE  # no page faults while frames flow
_NAME = re.compile(r"shopfloor-ring-[0-9a-f-]{36}-[0-9a-f]{16}")


class RingError(Exception):
    """A ring cannot be made or read; the message says which and why."""


class RingAbsent(RingError):
    """There is no such ring: its writer is gone, or has a /dev/shm of its own (a container)."""


class RingElsewhere(RingError):
    """The ring is another host's, or from before a restart of this one."""


def boot_id() -> str:
    """What tells this boot of this host from all others (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def remove_abandoned(folder: Path = SHM_FOLDER) -> list[str]:
    """Remove the rings whose writers are dead; returns their names."""
    removed = []
    for path in folder.glob("shopfloor-ring-*"):
        with contextlib.suppress(OSError):  # in use, somebody else's, or gone already
            fd = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path)
                removed.append(path.name)
            finally:
                os.close(fd)
    return removed


@dataclass(frozen=True, slots=True)
class Place:
    """Where a frame lies: what a `FrameHandle` carries."""

    ring: str
    slot: int
    generation: int
    offset_bytes: int
    size_bytes: int


class RingWriter:
    """Makes a ring whose slots hold `frame_bytes`, or raises RingError; belongs to one thread."""

    def __init__(self, frame_bytes: int, *, slots: int = 0, folder: Path = SHM_FOLDER) -> None:
        remove_abandoned(folder)
        self.frame_bytes = frame_bytes
        pitch = -(-frame_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self.slots = slots or min(max(RING_BYTES // pitch, MIN_SLOTS), MAX_SLOTS)
        size = _HEADER_BYTES + self.slots * pitch
        self._path, self._fd = _create(folder)
        try:
            # Takes the memory now: a page that is not there later would end the process by SIGBUS.
            os.posix_fallocate(self._fd, 0, size)
            self._map = mmap.mmap(self._fd, size, flags=_MAPPING)
        except OSError as error:
            self.close()
            raise RingError(f"no {size / 1e6:.0f} MB for a ring in {folder}: {error}") from error
        self._pitch = pitch
        self._generations = np.frombuffer(self._map, "<u8", self.slots, _GENERATIONS)
        self._next = 0
        _HEADER.pack_into(self._map, 0, _MAGIC, self.slots, _HEADER_BYTES, pitch)

    def write(self, image: npt.NDArray[np.generic]) -> Place:
        """Copy `image` into the next slot, rows without padding. Raises RingError if too large."""
        if image.nbytes > self.frame_bytes:
            raise RingError(f"a frame of {image.nbytes} bytes; the slots hold {self.frame_bytes}")
        slot, self._next = self._next, (self._next + 1) % self.slots
        offset = _HEADER_BYTES + slot * self._pitch
        generation = int(self._generations[slot]) + 2
        self._generations[slot] = generation - 1
        _fence()
        np.copyto(np.ndarray(image.shape, image.dtype, self._map, offset), image)
        _fence()
        self._generations[slot] = generation
        return Place(self._path.name, slot, generation, offset, image.nbytes)

    def close(self) -> None:
        """Remove the ring; a reader that still looks at a frame keeps its memory until then."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        os.close(self._fd)


def _create(folder: Path) -> tuple[Path, int]:
    """A new, locked file."""
    while True:
        path = folder / f"shopfloor-ring-{boot_id()}-{secrets.token_hex(8)}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise RingError(f"{path}: {error.strerror}") from error
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:  # else somebody took it for abandoned before it was locked
            return path, fd
        os.close(fd)


class RingFrame:
    """One frame in a ring. pixels: its bytes, read-only, (size_bytes,) uint8."""

    def __init__(self, ring: _OpenRing, place: Place) -> None:
        self._ring = ring
        self._place = place
        self.pixels: npt.NDArray[np.uint8] = np.frombuffer(
            ring.map, np.uint8, place.size_bytes, place.offset_bytes
        )

    def intact(self) -> bool:
        """Whether all that was read of `pixels` so far was this frame. Ask after reading."""
        _fence()
        return int(self._ring.generations[self._place.slot]) == self._place.generation


class _OpenRing:
    """A ring as a reader sees it."""

    def __init__(self, path: Path) -> None:
        try:
            self.fd = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise RingAbsent(f"no ring {path}: {error.strerror}") from error
        try:
            self.map = mmap.mmap(self.fd, 0, flags=_MAPPING, prot=mmap.PROT_READ)
            magic, self.slots, self.first, self.pitch = _HEADER.unpack_from(self.map)
            if magic != _MAGIC or len(self.map) < self.first + self.slots * self.pitch:
                raise ValueError("it is not a ring of this version")
            self.generations = np.frombuffer(self.map, "<u8", self.slots, _GENERATIONS)
        except (OSError, ValueError, struct.error) as error:
            os.close(self.fd)
            raise RingError(f"{path}: {error}") from error

    def abandoned(self) -> bool:
        """Whether the writer is dead."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        return True


class RingReader:
    """Opens rings by their names, one at a time; belongs to one thread."""

    def __init__(self, folder: Path = SHM_FOLDER) -> None:
        self._folder = folder
        self._name = ""
        self._ring: _OpenRing | None = None

    def frame(self, place: Place) -> RingFrame | None:
        """The frame at `place`; None: overwritten already. Raises RingError, or which one it is."""
        if self._ring is None or place.ring != self._name:
            self.close()
            if not _NAME.fullmatch(place.ring):
                raise RingError(f"'{place.ring}' is no name of a ring")
            if boot_id() not in place.ring:
                raise RingElsewhere(f"ring {place.ring} is not of this boot of this host")
            self._ring, self._name = _OpenRing(self._folder / place.ring), place.ring
        ring = self._ring
        in_ring = place.slot < ring.slots and place.size_bytes <= ring.pitch
        start = ring.first + place.slot * ring.pitch
        if not in_ring or place.offset_bytes != start or place.generation % 2:
            raise RingError(f"{place} is outside of its ring")
        frame = RingFrame(ring, place)
        return frame if frame.intact() else None

    def close_abandoned(self) -> bool:
        """Close and remove the ring if its writer is dead; whether it was."""
        abandoned = self._ring is not None and self._ring.abandoned()
        if abandoned:
            self.close()
            remove_abandoned(self._folder)
        return abandoned

    def close(self) -> None:
        """Close the ring; its memory goes with the last frame that is looked at."""
        if self._ring is not None:
            os.close(self._ring.fd)
        self._ring, self._name = None, ""


_lock = threading.Lock()


def _fence() -> None:
    """Memory accesses before it happen before those after it, for whoever looks from outside.

    x86-64 orders stores with stores and loads with loads anyway. On arm64 the release of a lock and
    its next acquisition are not reordered, and what stands around them is not either.
    """
    for _ in range(2):
        with _lock:
            pass
