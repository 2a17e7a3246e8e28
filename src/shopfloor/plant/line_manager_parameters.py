"""Parameters of the line manager. The plant file's placement fills in the lists."""

from __future__ import annotations

from dataclasses import dataclass

from shopfloor.ros.commands import CommandParameters
from shopfloor.ros.parameters import param


@dataclass(frozen=True)
class LineManagerParameters(CommandParameters):
    """See `shopfloor.plant.line_manager`."""

    nodes: tuple[str, ...] = param(
        (), "Nodes to bring up, by full name, in the order in which they become active."
    )
    node_types: tuple[str, ...] = param((), "Executable of each of `nodes`, for the report.")
    groups: tuple[str, ...] = param((), "Process of each of `nodes`, for the report.")
    essential: tuple[bool, ...] = param(
        (), "For each of `nodes`: whether the line stops without it."
    )
    peers: tuple[str, ...] = param(
        (), "Line managers of the other hosts, by full name; their heartbeats are watched, too."
    )
    peer_hosts: tuple[str, ...] = param((), "Host of each of `peers`.")
    role: str = param("single", "What the host is for.", choices=("edge", "server", "single"))
    start_on_activate: bool = param(
        True, "Bring the nodes up at once; off: wait for the manage service."
    )
    order_wait_s: float = param(
        10.0,
        "How long a node waits for the ones before it to become active; then it goes on without.",
        unit="s",
        ge=0.0,
        le=600.0,
    )
    transition_timeout_s: float = param(
        60.0,
        "A transition without an answer counts as failed after this.",
        unit="s",
        ge=1.0,
        le=600.0,
    )
    retry_s: float = param(
        1.0, "Wait after a failed transition; doubled each time.", unit="s", ge=0.1, le=60.0
    )
    retry_max_s: float = param(
        10.0, "The longest wait between two tries.", unit="s", ge=0.1, le=600.0
    )
    silent_after_s: float = param(
        0.4,
        "A node whose heartbeat is older than this is reported STALE; time in which its process, "
        "or the line manager, found no free core is not counted.",
        unit="s",
        ge=0.2,
        le=60.0,
    )
