"""What a process tells systemd: that it is ready, that it still moves, that it ends.

The protocol of sd_notify(3): a datagram of `KEY=VALUE` lines to the socket in NOTIFY_SOCKET.
Without that variable, as in every other way of starting a node, all of this does nothing.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_S = 600.0
"""How long `patience` lets a step take: building an engine on a Jetson takes minutes."""


def notify(*states: str) -> bool:
    """Send states such as `READY=1`; whether somebody was told. Never raises, never waits."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.connect(address)
            sender.sendall("\n".join(states).encode())
    except OSError:
        return False
    return True


def watchdog_s() -> float:
    """Seconds within which systemd wants a sign of life from this process; 0: it does not."""
    pid = os.environ.get("WATCHDOG_PID", "")
    text = os.environ.get("WATCHDOG_USEC", "")
    if not text.isdecimal() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(text) / 1e6


class Watchdog:
    """Signs of life at a third of the asked period; call `alive` only where work goes on.

    A process that is stuck must fall silent, so nothing here runs on a thread or timer of its own.
    """

    def __init__(self) -> None:
        self._period_s = watchdog_s() / 3.0
        self._sent_s = self._said_s = float("-inf")

    def alive(self) -> bool:
        """Something was done; whether a sign of life went out now."""
        now = time.monotonic()
        if self._period_s <= 0.0 or now - self._sent_s < self._period_s:
            return False
        self._sent_s = now
        return notify("WATCHDOG=1")

    def withhold(self, why: str) -> None:
        """Work does not go on: say why, and give no sign of life."""
        now = time.monotonic()
        if self._period_s > 0.0 and now - self._said_s >= self._period_s:
            self._said_s = now
            notify(f"STATUS={why}")


@contextmanager
def patience(limit_s: float = PATIENCE_S) -> Iterator[None]:
    """Around a step that may rightly take long: systemd waits `limit_s` for it, once."""
    usual_s = watchdog_s()
    if not usual_s:
        yield
        return
    notify(f"WATCHDOG_USEC={int(limit_s * 1e6)}", "WATCHDOG=1")
    try:
        yield
    finally:
        notify(f"WATCHDOG_USEC={int(usual_s * 1e6)}", "WATCHDOG=1")
