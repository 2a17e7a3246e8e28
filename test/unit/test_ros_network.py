"""The way to other hosts: what is in the way, how long a start waits, when it starts again."""

from __future__ import annotations

import socket
import threading

import pytest

from shopfloor.plant.plant_file import RestartPolicy
from shopfloor.plant.restart import RestartCounter
from shopfloor.ros.network import (
    EXIT_CODE,
    Network,
    expected_peers,
    known_peers,
    running_addresses,
)

LIMIT_S = 30.0
PLANT, CAMERAS, SERVER = "10.0.0.1", "192.168.1.1", "10.0.0.2"


class Host:
    """A computer whose interfaces come and go."""

    def __init__(self, *running: str) -> None:
        self.running = frozenset(running)
        self.ways = {SERVER: PLANT, "localhost": "127.0.0.1", PLANT: PLANT}

    def addresses(self) -> frozenset[str]:
        return self.running

    def towards(self, peer: str) -> str:
        if peer not in self.ways:
            raise OSError(101, "Network is unreachable")
        return self.ways[peer]

    def network(self, *peers: str) -> Network:
        return Network(peers, self.addresses, self.towards)


def join_watches() -> None:
    """Wait until nobody looks for a way any more."""
    for thread in threading.enumerate():
        if thread.name == "network":
            thread.join(LIMIT_S)


@pytest.mark.parametrize(
    ("variables", "peers"),
    [
        ({}, None),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_STATIC_PEERS": ""}, None),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}, []),
        ({"ROS_STATIC_PEERS": "a;10.0.0.2"}, ["a", "10.0.0.2"]),
        (
            {
                "ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT",
                "ROS_DISCOVERY_SERVER": ";10.0.0.2:11811",
            },
            ["10.0.0.2"],
        ),
    ],
)
def test_who_is_expected(variables: dict[str, str], peers: list[str] | None) -> None:
    assert expected_peers(variables) == peers


def test_what_is_in_the_way_is_named() -> None:
    host = Host()
    assert "no network interface is running" in host.network().missing()
    host.running = frozenset({CAMERAS})  # the plant's cable is out, the cameras' is not
    assert PLANT in host.network(SERVER).missing()
    assert host.network().missing() == ""
    host.running |= {PLANT}
    assert host.network(SERVER, PLANT, "localhost").missing() == ""
    assert "no way to elsewhere: Network is unreachable" in host.network("elsewhere").missing()
    assert Network(None, host.addresses, host.towards).missing() == ""


def test_a_start_waits_no_longer_than_it_was_told_and_no_longer_than_nothing_stops_it() -> None:
    host = Host()
    network = host.network(SERVER)
    assert network.wait(lambda: True, LIMIT_S)
    assert network.wait(lambda: False, 0.0)
    assert not network.opened
    host.running = frozenset({PLANT})
    join_watches()


def test_a_start_goes_on_when_the_way_opens() -> None:
    host = Host()
    looks: list[bool] = []

    def stop() -> bool:
        looks.append(True)
        if len(looks) == 2:
            host.running = frozenset({PLANT})
        return False

    network = host.network(SERVER)
    assert network.wait(stop, LIMIT_S) == ""
    assert len(looks) == 2 and not network.opened


def test_a_way_that_opens_later_is_seen() -> None:
    host = Host()
    seen = threading.Event()

    def towards(peer: str) -> str:
        seen.set()
        return host.towards(peer)

    network = Network([SERVER], host.addresses, towards)
    assert network.wait(lambda: False, 0.0)
    assert not network.opened
    host.running = frozenset({PLANT})
    assert seen.wait(LIMIT_S)
    join_watches()
    assert network.opened


def test_a_name_without_an_address_is_left_out_of_the_peers() -> None:
    addresses = {"server": "10.0.0.5", "10.0.0.6": "10.0.0.6"}

    def look_up(name: str) -> str:
        if name not in addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return addresses[name]

    assert known_peers(["nobody", "server", "10.0.0.6"], look_up) == ["server", "10.0.0.6"]


def test_the_loopback_is_no_way_out() -> None:
    assert not any(address.startswith("127.") for address in running_addresses())


@pytest.mark.parametrize("when", ["always", "on_failure", "never"])
def test_who_ended_to_meet_the_others_is_started_again(when: str) -> None:
    counter = RestartCounter(RestartPolicy(when, 3, 60.0, 0.1, 1.0))
    assert counter.wanted(EXIT_CODE)
    assert counter.wanted(1) == (when != "never")
