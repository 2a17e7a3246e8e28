"""Whether the way to other hosts is open: Fast DDS looks once, when a process starts.

A participant tells the others the addresses that its host had when it was made, and takes no later
ones (rmw_fastrtps offers no way). One that starts before its cable, its switch or DHCP tells them
127.0.0.1, and no other host ever finds it. So a process that expects other hosts waits a little for
the way, starts in any case since its line has work, and starts again once the way opens.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence

WAIT_S = 5.0
"""How long a start waits: a link is said to run about a second after it is up."""

PERIOD_S = 0.2

EXIT_CODE = 75
"""Of a process that has to start again because of this; EX_TEMPFAIL of sysexits.h."""

_ANY_PORT = 9  # nothing is sent


def running_addresses() -> frozenset[str]:
    """IPv4 addresses of the interfaces that Fast DDS would use: up, running, not the loopback."""
    import psutil  # 2 MB, for the processes that expect other hosts only

    running = {name for name, state in psutil.net_if_stats().items() if state.isup}
    return frozenset(
        entry.address
        for name, entries in psutil.net_if_addrs().items()
        if name in running
        for entry in entries
        if entry.family == socket.AF_INET and not ipaddress.ip_address(entry.address).is_loopback
    )


def address_towards(peer: str) -> str:
    """Our address on the way to `peer`, a name or an IPv4 address. Raises OSError: no such way."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect((peer, _ANY_PORT))
        return str(way.getsockname()[0])


def expected_peers(environment: Mapping[str, str]) -> Sequence[str] | None:
    """Whom a process with these variables wants to reach; empty: anybody, None: nobody outside.

    Stock ROS without any of the variables also looks outside; whoever sets none of them is not made
    to wait.
    """
    servers = environment.get("ROS_DISCOVERY_SERVER", "")
    peers = environment.get("ROS_STATIC_PEERS", "")
    if servers:
        return [server.rpartition(":")[0] for server in servers.split(";") if server]
    if peers:
        return [peer for peer in peers.split(";") if peer]
    return [] if environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE") == "SUBNET" else None


def known_peers(
    peers: Sequence[str], look_up: Callable[[str], object] = socket.gethostbyname
) -> list[str]:
    """Those of `peers` whose address can be found: with another one Fast DDS does not start."""
    known = []
    for peer in peers:
        with contextlib.suppress(OSError):
            look_up(peer)
            known.append(peer)
    return known


class Network:
    """The way to other hosts, as it was when the process started and as it is.

    peers: as `expected_peers` gives them. addresses, towards: in place of the computer's own.
    """

    def __init__(
        self,
        peers: Sequence[str] | None,
        addresses: Callable[[], frozenset[str]] = running_addresses,
        towards: Callable[[str], str] = address_towards,
    ) -> None:
        self._peers = peers
        self._addresses = addresses
        self._towards = towards
        self._opened = threading.Event()

    def missing(self) -> str:
        """What is in the way; empty when nothing is."""
        if self._peers is None:
            return ""
        own = self._addresses()
        if not own:
            return "no network interface is running with an IPv4 address"
        for peer in self._peers:
            try:
                ours = self._towards(peer)
            except OSError as error:
                return f"no way to {peer}: {error.strerror or error}"
            if ours not in own and not ipaddress.ip_address(ours).is_loopback:
                return f"the interface with {ours}, on the way to {peer}, is not running"
        return ""

    def wait(self, stop: Callable[[], object], timeout_s: float = WAIT_S) -> str:
        """Wait for the way, at most until `stop()`; returns what is still in the way.

        What opens only later sets `opened`.
        """
        deadline_s = time.monotonic() + timeout_s
        while (missing := self.missing()) and time.monotonic() < deadline_s and not stop():
            time.sleep(PERIOD_S)
        if missing:
            # A name that nobody resolves blocks for seconds: not on the executor's thread.
            threading.Thread(target=self._watch, name="network", daemon=True).start()
        return missing

    @property
    def opened(self) -> bool:
        """Whether the way has opened after `wait` gave up: the process has to start again."""
        return self._opened.is_set()

    def _watch(self) -> None:
        while self.missing():
            time.sleep(PERIOD_S)
        self._opened.set()


def network_of_this_process() -> Network:
    """The way to those whom this process's variables name."""
    return Network(expected_peers(os.environ))
