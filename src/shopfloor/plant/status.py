"""`python -m shopfloor.plant status`: how every host and node of a plant is, live.

It listens to the host states of the line managers and to the heartbeats; it asks nobody, so it can
watch a line that is in trouble. A host whose line manager is silent is UNKNOWN, never OK.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

FRESH_S = 2.0
"""A host state comes at 2 Hz; one that is older says nothing about now."""
REFRESH_HZ = 4.0
_HEALTH_STYLES = {"OK": "green", "STARTING": "cyan", "DEGRADED": "yellow", "STOPPED": "dim"}
_STATE_STYLES = {"RUNNING": "green", "STARTING": "cyan", "STOPPING": "cyan", "STOPPED": "dim"}


@dataclass(frozen=True)
class Progress:
    """The work of a node by its heartbeats: jobs done, by worker, and the job under way."""

    beat_hz: float
    done: int
    busy_worker: str
    busy_for_ms: float


@dataclass(frozen=True)
class NodeRow:
    """One node. NaN and None: not known."""

    node: str
    process: str
    pid: int
    state: str
    health: str
    essential: bool
    heartbeat_age_ms: float
    progress: Progress | None
    restarts: int
    uptime_s: float
    cpu_percent: float
    memory_mb: float
    cause: str


@dataclass(frozen=True)
class HostRow:
    """One host; UNKNOWN where its line manager is not heard."""

    host: str
    role: str
    state: str
    age_s: float
    cpu_percent: float
    memory_used_percent: float
    cause: str
    nodes: list[NodeRow] = field(default_factory=list)


@dataclass(frozen=True)
class PlantStatus:
    """All hosts at one moment."""

    plant: str
    hosts: list[HostRow]

    @property
    def is_running(self) -> bool:
        """Every host is RUNNING."""
        return all(host.state == "RUNNING" for host in self.hosts)

    @property
    def is_known(self) -> bool:
        """Every host was heard."""
        return all(host.state != "UNKNOWN" for host in self.hosts)

    def as_json(self) -> str:
        """For programs; what is not known is null."""
        return json.dumps(_finite(asdict(self)), indent=2)

    def as_table(self) -> Group:
        """For people."""
        table = Table(title=f"plant '{self.plant}'", expand=True)
        for name in ("host", "node", "state", "health"):
            table.add_column(name, no_wrap=True)
        for name in ("beat ms", "done", "restarts", "CPU %", "MB"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("cause", ratio=1)
        for host in self.hosts:
            style = _STATE_STYLES.get(host.state, "yellow" if host.state == "DEGRADED" else "red")
            table.add_row(
                f"[bold]{host.host}[/]", host.role, "", f"[{style}]{host.state}[/]",
                _number(host.age_s * 1e3), "", "", _number(host.cpu_percent), "",
                "" if any(node.cause for node in host.nodes) else host.cause,
            )  # fmt: skip
            for node in host.nodes:
                table.add_row(*_cells(node))
            table.add_section()
        return Group(table)


def _cells(node: NodeRow) -> Sequence[str]:
    style = _HEALTH_STYLES.get(node.health, "red" if node.essential else "yellow")
    progress = node.progress
    done = str(progress.done) if progress is not None and progress.done >= 0 else ""
    if progress is not None and progress.busy_for_ms >= 1e3:
        done += f" ({progress.busy_worker} {progress.busy_for_ms / 1e3:.0f} s)"
    return (
        "", node.node, node.state, f"[{style}]{node.health}[/]", _number(node.heartbeat_age_ms),
        done, str(node.restarts), _number(node.cpu_percent), _number(node.memory_mb), node.cause,
    )  # fmt: skip


def _number(value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) else ""


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show(
    look: Callable[[float], PlantStatus],
    *,
    once: bool,
    as_json: bool,
    wait_s: float,
    stopped: Callable[[], bool],
    console: Console | None = None,
) -> int:
    """Print the status, once or until `stopped`; 0 if all hosts are RUNNING at the end, else 1.

    look(seconds): listen for so long and say how the plant is. Once: as soon as every host was
    heard, or after `wait_s`.
    """
    console = console or Console()
    status = look(1.0 / REFRESH_HZ)
    if once:
        deadline = time.monotonic() + wait_s
        while not status.is_known and time.monotonic() < deadline and not stopped():
            status = look(1.0 / REFRESH_HZ)
        _print(status, as_json, console)
        return 0 if status.is_running else 1
    if as_json:
        while not stopped():
            print(json.dumps(json.loads(status.as_json())), flush=True)
            status = look(1.0)
        return 0 if status.is_running else 1
    with Live(status.as_table(), console=console, refresh_per_second=REFRESH_HZ) as live:
        while not stopped():
            status = look(1.0 / REFRESH_HZ)
            live.update(status.as_table())
    return 0 if status.is_running else 1


def _print(status: PlantStatus, as_json: bool, console: Console) -> None:
    if as_json:
        print(status.as_json())
    else:
        console.print(status.as_table())
