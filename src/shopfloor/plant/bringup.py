"""Brings managed nodes up and down in order, and judges how they are. Pure: no ROS, no clock.

Order: a node becomes active only after all before it in the list, so that consumers listen before
producers speak; down it goes the other way round. A node that keeps the others waiting longer than
`order_wait_s` is left behind: a recorder with a full disk must not stop a line.

Times are seconds of one steady clock, given by the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum

# A heartbeat sent before an answer may be read after it; so long, the answer counts.
SETTLE_S = 0.3

PROGRESS = "progress"
"""The check with which a node says that a callback or worker of it broke, or hangs."""

ERROR_STANDS_S = 2.5
"""So long an error counts after a check told of it: checks report at 1 Hz, and flicker."""


class State(IntEnum):
    """Primary lifecycle states, with the ids of lifecycle_msgs/State."""

    UNKNOWN = 0
    UNCONFIGURED = 1
    INACTIVE = 2
    ACTIVE = 3
    FINALIZED = 4


class Transition(Enum):
    """A step to ask of a node; the value is its id in lifecycle_msgs/Transition."""

    CONFIGURE = 1
    CLEANUP = 2
    ACTIVATE = 3
    DEACTIVATE = 4


class Action(IntEnum):
    """What a person or a PLC asks of the nodes, with the numbers of ManageLine.ACTION_*."""

    UNKNOWN = 0
    START = 1
    STOP = 2
    RESET = 3


_LEADS_TO = {
    Transition.CONFIGURE: State.INACTIVE,
    Transition.CLEANUP: State.UNCONFIGURED,
    Transition.ACTIVATE: State.ACTIVE,
    Transition.DEACTIVATE: State.INACTIVE,
}


class Health(IntEnum):
    """How a node is, with the numbers of NodeStatus.HEALTH_*."""

    UNKNOWN = 0
    OK = 1
    DEGRADED = 2
    STALE = 3
    FAILED = 4
    STARTING = 5
    STOPPED = 6


class HostHealth(IntEnum):
    """How a host's nodes are together, with the numbers of HostState.STATE_*."""

    UNKNOWN = 0
    STARTING = 1
    RUNNING = 2
    DEGRADED = 3
    FAILED = 4
    STOPPING = 5
    STOPPED = 6


@dataclass(frozen=True)
class Timing:
    """See the parameters of the line manager, which have the same names."""

    order_wait_s: float = 10.0
    transition_timeout_s: float = 60.0
    retry_s: float = 1.0
    retry_max_s: float = 10.0
    silent_after_s: float = 0.4


@dataclass
class ManagedNode:
    """What is known of one node. `goal` is ACTIVE or UNCONFIGURED.

    beat_s: last heartbeat, put off by the time that its process was held up; held_up_s: so long
    since that heartbeat. runs: its process is known to run. down: why it does not, and whether that
    is for good.
    errors: what its checks complain about, and when they did so last.

    source: host and process id that its heartbeats come from. rival: another such, whose
    heartbeats come at the same time. held: somebody else took the active node down, and it stays
    down until it is asked for again here, or there.
    """

    name: str
    essential: bool = True
    goal: State = State.UNCONFIGURED
    state: State = State.UNKNOWN
    source: tuple[str, int] = ("", 0)
    restarts: int = 0
    held: bool = False
    beat_s: float | None = None
    held_up_s: float = 0.0
    rival: tuple[str, int] = ("", 0)
    rival_beat_s: float = float("-inf")
    asked: Transition | None = None
    asked_s: float = 0.0
    answered_s: float = float("-inf")
    waiting_since_s: float | None = None
    failures: int = 0
    retry_at_s: float = 0.0
    cause: str = ""
    runs: bool = False
    down: tuple[str, bool] | None = None
    errors: dict[str, tuple[str, float]] = field(default_factory=dict)


class BringUp:
    """The nodes of one host, in the order in which they become active."""

    def __init__(self, nodes: Sequence[tuple[str, bool]], timing: Timing, now_s: float) -> None:
        """`nodes`: full names, and whether each is essential."""
        self.nodes = {name: ManagedNode(name, essential) for name, essential in nodes}
        self.goal = State.UNCONFIGURED
        self._timing = timing
        self._goal_s = now_s
        self._resetting: set[str] = set()

    # What is asked of it -------------------------------------------------------------------------

    def set_goal(self, goal: State, now_s: float, name: str = "") -> None:
        """Aim at ACTIVE or UNCONFIGURED, for one node or (without a name) for all."""
        self._goal_s = now_s
        if not name:
            self.goal = goal
        for node in self._chosen(name):
            self._resetting.discard(node.name)
            node.goal, node.waiting_since_s, node.retry_at_s = goal, None, 0.0
            node.held = False

    def reset(self, now_s: float, name: str = "") -> None:
        """Down, forget failures and restart counters, and up again."""
        self.set_goal(State.UNCONFIGURED, now_s, name)
        if not name:
            self.goal = State.ACTIVE
        for node in self._chosen(name):
            node.failures, node.restarts, node.cause = 0, 0, ""
            self._resetting.add(node.name)

    # What it hears -------------------------------------------------------------------------------

    def beat(self, name: str, state: int, source: tuple[str, int], now_s: float) -> None:
        """A heartbeat of a node; `source`: host and process id.

        A new source is a restart if the old one has fallen silent, otherwise a second node of the
        same name. Of nodes that are not managed, nothing is kept.
        """
        node = self.nodes.get(name)
        if node is None:
            return
        if node.beat_s is not None and source != node.source:
            if now_s - node.beat_s <= self._timing.silent_after_s and node.down is None:
                node.rival, node.rival_beat_s = source, now_s
                return
            node.restarts += 1
            node.asked, node.held, node.state = None, False, State.UNKNOWN
            node.failures, node.retry_at_s, node.cause = 0, 0.0, ""
            node.answered_s = float("-inf")
            node.down = None
            node.errors.clear()
        node.source, node.beat_s, node.held_up_s = source, now_s, 0.0
        if node.asked is None and now_s - node.answered_s >= SETTLE_S:
            seen = State(state) if state in State._value2member_map_ else State.UNKNOWN
            if node.goal is State.ACTIVE and node.state is State.ACTIVE:
                # The same process, and not by our request: a person wants it down.
                node.held = seen in (State.INACTIVE, State.UNCONFIGURED)
            elif seen is State.ACTIVE:
                node.held = False
            self._enter(node, seen)

    def answered(self, name: str, transition: Transition, success: bool, now_s: float) -> None:
        """The answer to a request; one that is not waited for any more is ignored."""
        node = self.nodes[name]
        if node.asked is not transition:
            return
        node.asked, node.answered_s = None, now_s
        if success:
            node.failures = 0
            node.cause = ""
            self._enter(node, _LEADS_TO[transition])
        else:
            self._failed(node, f"{transition.name.lower()} was refused; see its log", now_s)

    def explain(self, name: str, cause: str) -> None:
        """The node's own word on why it failed; kept while it has failed and is not up again."""
        node = self.nodes.get(name)
        if node is not None and node.failures and cause:
            node.cause = cause

    def complain(self, name: str, check: str, text: str, now_s: float) -> None:
        """A check of the node says ERROR."""
        node = self.nodes.get(name)
        if node is not None:
            node.errors[check] = (text, now_s)

    def process_seen(
        self, name: str, down: tuple[str, bool] | None, held_up_s: float, now_s: float
    ) -> None:
        """What was seen of a node's process from outside.

        down: why it is down and whether for good, None while it runs. held_up_s: time since the
        last call in which it could not have sent a heartbeat, or nobody here could have read it.
        """
        node = self.nodes[name]
        node.runs, node.down = down is None, down
        if node.beat_s is not None:
            node.beat_s = min(now_s, node.beat_s + held_up_s)
            node.held_up_s += held_up_s

    # What it wants -------------------------------------------------------------------------------

    def requests(
        self, now_s: float, ready: Callable[[str], bool] = lambda name: True
    ) -> list[tuple[str, Transition]]:
        """The transitions to ask for now; they count as asked. `ready`: can the node be asked?"""
        self._finish_reset(now_s)
        wanted: list[tuple[str, Transition]] = []
        ordered = list(self.nodes.values())
        for index, node in enumerate(ordered):
            if node.asked is not None:
                if now_s - node.asked_s > self._timing.transition_timeout_s:
                    word = node.asked.name.lower()
                    node.asked = None
                    limit = self._timing.transition_timeout_s
                    self._failed(node, f"{word}: no answer within {limit:g} s", now_s)
                continue
            transition = self._next(node, ordered[:index], ordered[index + 1 :], now_s)
            if transition is None or now_s < node.retry_at_s:
                continue
            if self.is_silent(node, now_s) or self._has_rival(node, now_s):
                continue
            if ready(node.name):
                node.asked, node.asked_s, node.waiting_since_s = transition, now_s, None
                wanted.append((node.name, transition))
        return wanted

    def is_silent(self, node: ManagedNode, now_s: float) -> bool:
        """No heartbeat for too long, or none ever.

        A process that carries out a transition may be busy with it: so long it need not beat.
        """
        if node.beat_s is None:
            return True
        if node.down is not None:
            return True
        if any(other.asked and other.source == node.source for other in self.nodes.values()):
            return False
        return now_s - node.beat_s > self._patience_s(node)

    def health(self, name: str, now_s: float) -> tuple[Health, str]:
        """How a node is, and why if it is not OK."""
        node = self.nodes[name]
        waited_s = now_s - self._goal_s
        is_wanted = node.goal is State.ACTIVE or name in self._resetting
        if node.down is not None and (is_wanted or node.beat_s is not None):
            cause, for_good = node.down
            return (Health.FAILED if for_good else Health.STALE), cause
        if node.beat_s is None:
            if not is_wanted:
                return Health.STOPPED, "not running"
            if waited_s <= self._timing.order_wait_s:
                return Health.STARTING, "waiting for its first heartbeat"
            return Health.UNKNOWN, "never seen since it was to start"
        if self.is_silent(node, now_s):
            why = "; its process runs, and a callback in it does not end" if node.runs else ""
            return Health.STALE, f"no heartbeat for {self._patience_s(node):.2g} s{why}"
        if self._has_rival(node, now_s):
            where = " and ".join(
                f"process {pid} on {host}" for host, pid in (node.source, node.rival)
            )
            return Health.FAILED, f"two nodes of this name run on the domain: {where}; stop one"
        if node.state is State.FINALIZED:
            return Health.FAILED, "finalized; only a restart of its process brings it back"
        if node.failures:
            return Health.FAILED, node.cause
        if name in self._resetting:
            return Health.STARTING, "being reset"
        if node.held:
            return Health.STOPPED, f"{node.state.name.lower()} by hand; START brings it back"
        if node.state is node.goal:
            if node.goal is not State.ACTIVE:
                return Health.STOPPED, "as asked"
            broken = self.errors(name, now_s).get(PROGRESS, "")
            return (Health.DEGRADED, broken) if broken else (Health.OK, "")
        return Health.STARTING, f"{node.state.name.lower()}, on its way to {node.goal.name.lower()}"

    def errors(self, name: str, now_s: float) -> dict[str, str]:
        """What the node's checks complain about, by check.

        Only the check of its progress makes a node DEGRADED: an empty camera folder or a hot
        machine is what the node is there to tell, and no fault of the node.
        """
        rows = self.nodes[name].errors.items()
        return {check: text for check, (text, at_s) in rows if now_s - at_s < ERROR_STANDS_S}

    def host_health(self, now_s: float) -> tuple[HostHealth, str]:
        """How the host's nodes are together, and why if they are not RUNNING."""
        down = (Health.STALE, Health.FAILED, Health.UNKNOWN)
        healths = {name: self.health(name, now_s) for name in self.nodes}
        if self.goal is State.UNCONFIGURED:
            left = [n for n in self.nodes if healths[n][0] is not Health.STOPPED]
            left = [n for n in left if healths[n][0] is not Health.STALE]
            return (HostHealth.STOPPING, _names(left)) if left else (HostHealth.STOPPED, "as asked")
        bad = [n for n, (health, _) in healths.items() if health in down]
        essential = [n for n in bad if self.nodes[n].essential]
        if bad:
            cause = "; ".join(f"{n}: {healths[n][1]}" for n in essential or bad)
            return (HostHealth.FAILED if essential else HostHealth.DEGRADED), cause
        degraded = [n for n, (health, _) in healths.items() if health is Health.DEGRADED]
        starting = [n for n, (health, _) in healths.items() if health is Health.STARTING]
        if starting:
            return HostHealth.STARTING, _names(starting)
        stopped = [n for n, (health, _) in healths.items() if health is Health.STOPPED]
        if stopped or degraded:
            why = (f"{n}: {healths[n][1]}" for n in stopped + degraded)
            return HostHealth.DEGRADED, "; ".join(why)
        return HostHealth.RUNNING, ""

    # Inside --------------------------------------------------------------------------------------

    def _patience_s(self, node: ManagedNode) -> float:
        """How long it may be silent; what piled up while it was held up takes some time, too."""
        limit_s = self._timing.silent_after_s
        return limit_s + min(node.held_up_s, limit_s)

    def _has_rival(self, node: ManagedNode, now_s: float) -> bool:
        return now_s - node.rival_beat_s <= self._timing.silent_after_s

    def _chosen(self, name: str) -> list[ManagedNode]:
        return [self.nodes[name]] if name else list(self.nodes.values())

    def _finish_reset(self, now_s: float) -> None:
        """Once all nodes to be reset are down (or silent), they go up again."""
        nodes = [self.nodes[name] for name in self._resetting]
        up = [node for node in nodes if node.state in (State.INACTIVE, State.ACTIVE)]
        if nodes and not any(node.asked or not self.is_silent(node, now_s) for node in up):
            self._resetting.clear()
            self._goal_s = now_s
            for node in nodes:
                node.goal, node.waiting_since_s = State.ACTIVE, None

    def _enter(self, node: ManagedNode, state: State) -> None:
        if state is not node.state:
            node.state, node.waiting_since_s = state, None
        if state is node.goal:
            node.failures, node.cause = 0, ""

    def _failed(self, node: ManagedNode, cause: str, now_s: float) -> None:
        node.failures += 1
        node.cause = cause
        wait_s = self._timing.retry_s * 2.0 ** min(node.failures - 1, 16)
        node.retry_at_s = now_s + min(wait_s, self._timing.retry_max_s)

    def _next(
        self,
        node: ManagedNode,
        before: Sequence[ManagedNode],
        after: Sequence[ManagedNode],
        now_s: float,
    ) -> Transition | None:
        """The step from where the node is towards its goal, if it is its turn."""
        if node.held:
            return None
        if node.goal is State.ACTIVE:
            if node.state is State.UNCONFIGURED:
                return Transition.CONFIGURE
            if node.state is State.INACTIVE:
                waits = any(_is_on_its_way_up(n) for n in before)
                return None if self._must_wait(node, waits, now_s) else Transition.ACTIVATE
        elif node.state is State.ACTIVE:
            waits = any(n.goal is not State.ACTIVE and n.state is State.ACTIVE for n in after)
            return None if self._must_wait(node, waits, now_s) else Transition.DEACTIVATE
        elif node.state is State.INACTIVE:
            return Transition.CLEANUP
        return None

    def _must_wait(self, node: ManagedNode, others_not_there: bool, now_s: float) -> bool:
        if not others_not_there:
            return False
        if node.waiting_since_s is None:
            node.waiting_since_s = now_s
        return now_s - node.waiting_since_s < self._timing.order_wait_s


def _is_on_its_way_up(node: ManagedNode) -> bool:
    return node.goal is State.ACTIVE and node.state is not State.ACTIVE and not node.held


def _names(names: Sequence[str]) -> str:
    return "waiting for " + ", ".join(names) if names else ""
