"""A serial port as a stream of bytes, 8N1 and raw: opened, read, and told when it is gone.

Only the standard library (termios), so Linux and other POSIX systems.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import termios

BAUD_RATES = tuple(
    rate
    for rate in (9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600, 1000000, 1500000,
                 2000000, 3000000, 4000000)
    if hasattr(termios, f"B{rate}")
)  # fmt: skip
"""Rates that this system's termios knows, bit/s."""

_READ_BYTES = 65_536


class SerialPort:
    """An open port. Raises OSError where it cannot be opened, is no port, or another has it."""

    def __init__(self, path: str, baud: int) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not os.isatty(self._fd):
                raise OSError(errno.ENOTTY, "not a serial port", path)
            # Two readers would get every other byte each.
            fcntl.ioctl(self._fd, termios.TIOCEXCL)
            _make_raw(self._fd, baud)
            termios.tcflush(self._fd, termios.TCIFLUSH)
        except termios.error as error:  # is no OSError
            self.close()
            raise OSError(error.args[0], error.args[-1], path) from error
        except OSError:
            self.close()
            raise

    def read(self, timeout_s: float) -> bytes:
        """What has come, empty after `timeout_s` without a byte. Raises OSError once it is gone."""
        ready, _, _ = select.select([self._fd], [], [], timeout_s)
        if not ready:
            return b""
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return b""
        if not data:  # readable without a byte: hung up
            raise OSError(errno.EIO, "the port hung up")
        return data

    def close(self) -> None:
        """Give the port back; safe to call twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)

    def __enter__(self) -> SerialPort:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _make_raw(fd: int, baud: int) -> None:
    """8 data bits, no parity, one stop bit, no flow control, nothing translated or echoed."""
    speed = getattr(termios, f"B{baud}")
    control = list(termios.tcgetattr(fd)[6])
    control[termios.VMIN], control[termios.VTIME] = 1, 0
    mode = termios.CS8 | termios.CREAD | termios.CLOCAL
    termios.tcsetattr(fd, termios.TCSANOW, [0, 0, mode, 0, speed, speed, control])
