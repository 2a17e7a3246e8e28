"""Two hosts on one machine: network namespaces with a cable between them, each its own /dev/shm.

Needs root (or CAP_SYS_ADMIN and CAP_NET_ADMIN) and iproute2; `why_not()` says what is missing.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness import LIMIT_S, Child

JETSON, SERVER = "jetson", "server"
ADDRESSES = {JETSON: "10.77.0.1", SERVER: "10.77.0.2"}
_CLONE_NEWNET = 0x40000000
_ETH_P_ALL = 3
_IPV4, _IGMP, _UDP = 0x0800, 2, 17
_OWN_SHM = 'mount --bind "$0" /dev/shm && exec "$@"'


def why_not() -> str:
    """Why no hosts can be made here; empty where they can."""
    if shutil.which("ip") is None:
        return "iproute2 (`ip`) is not installed"
    name = f"sf-try-{os.getpid()}"
    tried = _ip("netns", "add", name, check=False)
    if tried.returncode:
        return f"network namespaces are not allowed here: {tried.stderr.strip()}"
    try:
        steps = (
            ("netns", "exec", name, "sh", "-c", _OWN_SHM, "/dev/shm", "true"),
            ("-n", name, "link", "add", "sf-a", "type", "veth", "peer", "name", "sf-b"),
        )
        for step in steps:
            tried = _ip(*step, check=False)
            if tried.returncode:
                return f"`ip {' '.join(step)}` is not allowed here: {tried.stderr.strip()}"
    finally:
        _ip("netns", "del", name)
    return ""


class TwoHosts:
    """`run` starts processes on a host, `cut` and `mend` are the cable."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names = {host: f"sf-{host}-{os.getpid()}" for host in ADDRESSES}
        self._children: list[Child] = []
        for host, name in self._names.items():
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
            (folder / host).mkdir(exist_ok=True)
            self._shm(host).mkdir()
        _ip("-n", self._names[JETSON], "link", "add", "cable", "type", "veth",
            "peer", "name", "cable", "netns", self._names[SERVER])  # fmt: skip
        for host, address in ADDRESSES.items():
            _ip("-n", self._names[host], "address", "add", f"{address}/24", "dev", "cable")
            _ip("-n", self._names[host], "link", "set", "cable", "up")

    def run(self, host: str, *arguments: str, env: Mapping[str, str] | None = None) -> Child:
        """Start `python ARGUMENTS` on a host."""
        return self.run_program(host, sys.executable, *arguments, env=env)

    def run_program(self, host: str, *program: str, env: Mapping[str, str] | None = None) -> Child:
        """Start a program with its arguments on a host."""
        shm = str(self._shm(host))
        command = ["ip", "netns", "exec", self._names[host], "sh", "-c", _OWN_SHM, shm]
        own = self.folder / host
        environment = {
            "SHOPFLOOR_RUN_DIR": str(own / "run"),
            "SHOPFLOOR_STATE_DIR": str(own / "state"),
            "ROS_LOG_DIR": str(own / "log"),
            "PYTHONUNBUFFERED": "1",
            "NO_COLOR": "1",
            **(env or {}),
        }
        child = Child([*command, *program], environment, own)
        self._children.append(child)
        return child

    def cut(self) -> float:
        """Pull the cable; returns the steady time in seconds, right before."""
        now_s = time.monotonic()
        _ip("-n", self._names[SERVER], "link", "set", "cable", "down")
        return now_s

    def mend(self) -> float:
        """Plug it in again; returns the steady time in seconds, right before."""
        now_s = time.monotonic()
        _ip("-n", self._names[SERVER], "link", "set", "cable", "up")
        return now_s

    @contextlib.contextmanager
    def tap(self, host: str = JETSON) -> Iterator[Counter[tuple[int, str]]]:
        """Counts packets on the cable as (IP protocol, destination), with IPv4 only."""
        counts: Counter[tuple[int, str]] = Counter()
        ears = self._in(host, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, _all()))
        ears.bind(("cable", 0))
        ears.settimeout(0.1)
        done = threading.Event()

        def listen() -> None:
            while not done.is_set():
                try:
                    frame = ears.recv(65535)
                except (TimeoutError, OSError):
                    continue
                if len(frame) >= 34 and struct.unpack("!H", frame[12:14])[0] == _IPV4:
                    counts[frame[23], socket.inet_ntoa(frame[30:34])] += 1

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield counts
        finally:
            done.set()
            thread.join()
            ears.close()

    def close(self) -> None:
        """End all processes and take the hosts away."""
        for child in self._children:
            child.end()
        for name in self._names.values():
            _ip("netns", "del", name, check=False)
        for host in ADDRESSES:
            shutil.rmtree(self._shm(host), ignore_errors=True)

    @property
    def output(self) -> str:
        """What all processes printed."""
        return "\n".join(f"--- {child.command[-6:]}\n{child.output}" for child in self._children)

    def _shm(self, host: str) -> Path:
        """Of the machine's shared memory, the part that is all of the host's."""
        return Path("/dev/shm") / self._names[host]

    def _in(self, host: str, make: Callable[[], Any]) -> Any:
        """What `make` returns when a thread calls it that is on the host."""
        made: list[Any] = []

        def work() -> None:
            with open(f"/run/netns/{self._names[host]}", "rb") as name:
                if ctypes.CDLL(None, use_errno=True).setns(name.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            made.append(make())

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return made[0]


def astray(counts: Counter[tuple[int, str]]) -> dict[str, int]:
    """UDP and IGMP packets to anybody but the two hosts."""
    return {
        f"{'UDP' if protocol == _UDP else 'IGMP'} to {address}": count
        for (protocol, address), count in counts.items()
        if protocol in (_UDP, _IGMP) and address not in ADDRESSES.values()
    }


class Verdicts:
    """Verdicts that `verdict_watch.py` sees on a host, as dictionaries in the order they came."""

    def __init__(self, hosts: TwoHosts, child: Child) -> None:
        self._hosts = hosts
        self._child = child
        self.seen: list[dict[str, Any]] = []

    def until(
        self, wanted: Callable[[dict[str, Any]], bool], what: str, timeout_s: float = 2 * LIMIT_S
    ) -> dict[str, Any]:
        """The next verdict that is wanted."""
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                line = self._child.wait_line(r"^\{", left_s)
            except AssertionError:
                break
            self.seen.append(json.loads(line))
            if wanted(self.seen[-1]):
                return self.seen[-1]
        raise AssertionError(f"not within {timeout_s:g} s: {what}\n{self._hosts.output}")


def _all() -> int:
    return socket.htons(_ETH_P_ALL)


def _ip(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done
