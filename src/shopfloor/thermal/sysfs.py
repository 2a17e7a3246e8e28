"""Reading attributes of sysfs: what cannot be read has a fault with a name, never a number."""

from __future__ import annotations

import errno
import math
import os
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path


class Fault(IntEnum):
    """Why a sensor's value is not to be trusted: ThermalZone.FAULT_*."""

    UNKNOWN = 0
    NONE = 1
    MISSING = 2
    OFFLINE = 3
    ABSURD = 4
    FROZEN = 5
    STALE = 6
    DENIED = 7


_BY_ERRNO = {
    errno.ENOENT: Fault.MISSING,
    errno.ENODEV: Fault.MISSING,
    errno.ENXIO: Fault.MISSING,
    errno.ENOTDIR: Fault.MISSING,
    errno.EACCES: Fault.DENIED,
    errno.EPERM: Fault.DENIED,
}
"""Every other error (EAGAIN, EIO, ENODATA, ETIMEDOUT ...) is a device that does not answer."""


@dataclass(frozen=True, slots=True)
class Value:
    """A number, or NaN and why there is none."""

    number: float
    fault: Fault = Fault.NONE


def read_number(path: str | Path) -> Value:
    """The attribute's whole number. Opened anew each time, as devices come and go."""
    try:
        fd = os.open(path, os.O_RDONLY)
        try:
            content = os.read(fd, 64)
        finally:
            os.close(fd)
        return Value(float(int(content)))
    except OSError as error:
        return Value(math.nan, _BY_ERRNO.get(error.errno or 0, Fault.OFFLINE))
    except ValueError:
        return Value(math.nan, Fault.ABSURD)


def read_text(path: str | Path) -> str:
    """The attribute's text without white space around it; empty where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(65_536).strip()
    except OSError:
        return ""


def numbered(folder: Path, pattern: str) -> list[Path]:
    """What fits `pattern` in `folder`, by the numbers in its names; empty where it is not there."""
    found = folder.glob(pattern)
    return sorted(found, key=lambda path: [int(n) for n in _digits(path.name)])


def _digits(text: str) -> list[str]:
    return "".join(c if c.isdigit() else " " for c in text).split()
