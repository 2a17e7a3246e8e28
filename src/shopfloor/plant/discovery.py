"""Who finds whom: the discovery settings of a plant, what is wrong with them, their variables.

Sources: ROS 2 "Improved dynamic discovery" for the range and the static peers; Fast DDS, "Discovery
Server", for ROS_DISCOVERY_SERVER and ROS_SUPER_CLIENT.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from shopfloor.plant.plant_file import Plant
from shopfloor.plant.problems import Problem, listed

MAX_PARTICIPANTS = 64
"""Processes on a host that are found by address; maxInitialPeersRange of config/fastdds.xml."""

TOOLS = 8
"""Of those, what stays free for ros2, rviz and rqt."""

SUBNET_MAX_HOSTS = 4
"""Beyond, multicast reaches too many that it does not concern."""

_SEES_ALL = ("recorder",)
"""Types that look for topics; behind a discovery server others see what they share only."""


def discovery_environment(plant: Plant, types: frozenset[str], host: str) -> Mapping[str, str]:
    """The variables of a process with nodes of `types` on `host`."""
    if plant.discovery == "server":
        sees_all = bool(types & set(_SEES_ALL))
        return {
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT",
            "ROS_STATIC_PEERS": "",
            "ROS_DISCOVERY_SERVER": ";".join(plant.discovery_servers),
            "ROS_SUPER_CLIENT": "TRUE" if sees_all else "FALSE",
        }
    subnet = plant.discovery == "subnet"
    # LOCALHOST with peers: this machine, and the named ones; no multicast. Each peer costs packets,
    # so that a host need not be told of itself.
    own = plant.hosts[host].hostname
    peers = [peer for peer in plant.peers if own not in (peer, peer.partition(".")[0])]
    return {
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET" if subnet else "LOCALHOST",
        "ROS_STATIC_PEERS": ";".join(peers),
        # A shell for tools may have them: Fast DDS would make a client of each process.
        "ROS_DISCOVERY_SERVER": "",
        "ROS_SUPER_CLIENT": "FALSE",
    }


def discovery_problems(plant: Plant) -> list[Problem]:
    """Settings with which hosts would not find each other, or all would find everybody."""
    say = plant.lines.problem
    problems: list[Problem] = []
    processes: dict[str, int] = {}
    for process in plant.processes.values():
        processes[process.host] = processes.get(process.host, 0) + 1
    limit = MAX_PARTICIPANTS - TOOLS
    for host, count in processes.items():
        if plant.discovery in ("localhost", "static") and count > limit:
            message = (
                f"{count} processes, and only {limit} of a host are found by address; allowed: "
                "fewer (nodes can share one), or discovery: server"
            )
            problems.append(say(("hosts", host), message))
    for server in plant.discovery_servers:
        if not 1 <= int(server.rpartition(":")[2]) <= 65535:
            problems.append(say(("discovery_servers",), f"{server}: allowed: ports 1 to 65535"))
    if len(processes) < 2:
        return problems
    if plant.domain_id is None:
        message = (
            f"is missing: on each of {listed(processes)} another ROS_DOMAIN_ID could be set; "
            "allowed: 0 to 101, one that nobody else on this network uses"
        )
        problems.append(say(("domain_id",), message))
    if plant.discovery == "localhost":
        message = f"{listed(processes)} would not find each other; allowed: static, server, subnet"
        problems.append(say(("discovery",), message))
    if plant.discovery == "subnet" and len(processes) > SUBNET_MAX_HOSTS:
        message = (
            f"multicast between {len(processes)} hosts goes to everybody on the subnet; allowed: "
            f"subnet with up to {SUBNET_MAX_HOSTS} hosts, static, server"
        )
        problems.append(say(("discovery",), message))
    if plant.discovery == "static":
        problems += _peer_problems(plant, list(processes))
    return problems


def _peer_problems(plant: Plant, hosts: list[str]) -> list[Problem]:
    names = [peer for peer in plant.peers if not _is_address(peer)]
    if len(names) < len(plant.peers):  # addresses cannot be told apart from here
        if len(plant.peers) >= len(hosts):
            return []
        message = f"{len(plant.peers)} for {len(hosts)} hosts; allowed: one for each of them"
        return [plant.lines.problem(("peers",), message)]
    known = {name.partition(".")[0] for name in names} | set(names)
    problems = []
    for host in (plant.hosts[name] for name in hosts):
        plain = host.hostname and not set(host.hostname) & set("*?[")
        if plain and host.hostname not in known:
            message = f"'{host.hostname}' of the host '{host.name}' is missing; it is not found"
            problems.append(plant.lines.problem(("peers",), message))
    return problems


def _is_address(peer: str) -> bool:
    try:
        ipaddress.ip_address(peer)
    except ValueError:
        return False
    return True
