"""Signs of life for systemd, against a real datagram socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shopfloor.ros.notify import Watchdog, notify, patience, watchdog_s

LIMIT_S = 60.0


class Manager:
    """What systemd is to a service: the socket that it listens on."""

    def __init__(self, address: str) -> None:
        self.environment_address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(LIMIT_S)

    def next(self) -> list[str]:
        """The lines of the next datagram."""
        return self._socket.recv(4096).decode().split("\n")

    def drain(self) -> int:
        """Forget what has come; how many it were."""
        self._socket.setblocking(False)
        count = 0
        try:
            while self._socket.recv(4096):
                count += 1
        except BlockingIOError:
            return count
        finally:
            self._socket.settimeout(LIMIT_S)
        return count

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Manager]:
    address = str(tmp_path / "notify")
    if request.param == "abstract":
        address = f"@shopfloor-test-{os.getpid()}-{time.monotonic_ns()}"
    made = Manager(address)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    yield made
    made.close()


def test_states_arrive_as_they_are(manager: Manager) -> None:
    assert notify("READY=1", "STATUS=all fine")
    assert manager.next() == ["READY=1", "STATUS=all fine"]


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all", "@nobody-listens"])
def test_without_a_listener_nothing_happens(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert notify("READY=1") is False


def test_a_full_socket_does_not_hold_the_node_up(manager: Manager) -> None:
    while notify("WATCHDOG=1"):
        pass  # ends only where a full queue is an answer, and not a wait


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "15000000"}, 15.0),
        ({"WATCHDOG_USEC": "15000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({"WATCHDOG_USEC": "-5"}, 0.0),
    ],
)
def test_the_asked_period(
    variables: dict[str, str], expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert watchdog_s() == expected


def test_signs_of_life_at_a_third_of_the_period(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    watchdog = Watchdog()
    sent = []
    for tick in range(17):
        now[0] = 100.0 + 0.25 * tick
        sent.append(watchdog.alive())
    assert [index for index, went in enumerate(sent) if went] == [0, 4, 8, 12, 16]
    assert manager.drain() == 5


def test_nobody_asks_nothing_is_sent(manager: Manager) -> None:
    assert Watchdog().alive() is False
    with patience():
        pass
    assert manager.drain() == 0


def test_patience_for_a_long_step_ends_with_it_even_if_it_fails(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    with pytest.raises(RuntimeError), patience(120.0):
        assert manager.next() == ["WATCHDOG_USEC=120000000", "WATCHDOG=1"]
        raise RuntimeError
    assert manager.next() == ["WATCHDOG_USEC=10000000", "WATCHDOG=1"]


def until(manager: Manager, wanted: Callable[[list[str]], bool]) -> list[str]:
    """The next datagram that is wanted."""
    while True:
        lines = manager.next()
        if wanted(lines):
            return lines


@pytest.mark.parametrize("manager", ["path"], indirect=True)
def test_a_real_node_is_ready_lives_falls_silent_when_stuck_and_says_goodbye(
    manager: Manager, tmp_path: Path
) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not there")
    pytest.importorskip("shopfloor_msgs.msg", reason="the message types are not built")
    environment = {
        **os.environ,
        "WATCHDOG_USEC": "300000",
        "ROS_LOG_DIR": str(tmp_path),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF",
    }
    command = [sys.executable, "-m", "shopfloor.plant.group", "--node", "quality_gate:gate"]
    node = subprocess.Popen(command, env=environment, cwd=tmp_path)
    try:
        until(manager, lambda lines: lines == ["READY=1"])
        for _ in range(3):
            until(manager, lambda lines: lines == ["WATCHDOG=1"])
        node.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, node.pid, os.WSTOPPED)
        manager.drain()
        time.sleep(0.4)  # longer than the period: a silence cannot be waited for otherwise
        assert manager.drain() == 0
        node.send_signal(signal.SIGCONT)
        until(manager, lambda lines: lines == ["WATCHDOG=1"])
        node.send_signal(signal.SIGTERM)
        until(manager, lambda lines: lines == ["STOPPING=1"])
        assert node.wait(LIMIT_S) == 0
    finally:
        node.kill()
        node.wait()
