"""line_manager: brings the nodes of a host up in order, keeps trying, reports how they are.

It never touches a process: the runner ends and restarts those, and a node that comes back is
brought up again. Services are only called asynchronously.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import asdict
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import ChangeState
from rclpy.client import Client
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from rclpy.task import Future
from shopfloor_msgs.msg import Heartbeat, HostLoad, HostState, NodeStatus
from shopfloor_msgs.srv import ManageLine

from shopfloor.plant.backlog import MAX_S, Backlog
from shopfloor.plant.bringup import Action, BringUp, Health, HostHealth, State, Timing, Transition
from shopfloor.plant.host_load import UNKNOWN_PROCESS, ProcessMeter, host_usage
from shopfloor.plant.line_manager_parameters import LineManagerParameters
from shopfloor.plant.peers import Peers
from shopfloor.plant.problems import counted
from shopfloor.plant.process_signs import Down, ProcessSigns
from shopfloor.plant.runner_state import RunnerStateReader
from shopfloor.ros.command_service import Commands
from shopfloor.ros.commands import Reason, Refused
from shopfloor.ros.diagnostics import Level, Status
from shopfloor.ros.endpoint_node import message_type
from shopfloor.ros.interfaces import interface
from shopfloor.ros.main import run_node
from shopfloor.ros.node import NodeError, ShopfloorNode
from shopfloor.ros.qos import subscription_qos

TICK_S = 0.1
MAX_NODES = 64
REPORT_PERIOD_S = 0.5
LOG_PERIOD_S = 5.0
"""A state is logged at once, another cause for the same state so often."""

SUSPICIOUS_S = 0.2
"""A process whose heartbeat is older than two periods is looked at from outside."""
_TEXT_MAX = 254
_HEARD_DEPTH = 100
"""One topic carries the heartbeats of many nodes, and a queue of one would keep the last alone."""

_NODE_LEVELS = {
    Health.OK: Level.OK,
    Health.STOPPED: Level.OK,
    Health.UNKNOWN: Level.STALE,
    Health.STALE: Level.ERROR,
    Health.FAILED: Level.ERROR,
}
_LEVELS = {
    HostHealth.RUNNING: Level.OK,
    HostHealth.STOPPED: Level.OK,
    HostHealth.FAILED: Level.ERROR,
    HostHealth.UNKNOWN: Level.STALE,
}


class LineManagerNode(ShopfloorNode[LineManagerParameters]):
    """Carries the requests of `BringUp` to the nodes, and its findings to the outside."""

    PARAMETERS = LineManagerParameters

    def __init__(self, name: str = "line_manager", **node_arguments: Any) -> None:
        self._bringup: BringUp | None = None
        self._commands: Commands | None = None
        self._askers: dict[str, Client] = {}
        self._heard: list[Subscription] = []
        self._reported: tuple[HostHealth, str] | None = None
        self._reported_s = self._logged_s = 0.0
        self._ticked_s = 0.0
        self._backlog = Backlog()
        self._peers = Peers({})
        self._signs = ProcessSigns(RunnerStateReader())
        self._twin_s = -math.inf
        self._meter = ProcessMeter()
        super().__init__(name, **node_arguments)

    # Hooks ---------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Check the lists and listen; the nodes themselves are touched from `start` on."""
        p = self.params
        for key in ("node_types", "groups", "essential"):
            if len(getattr(p, key)) not in (0, len(p.nodes)):
                raise NodeError(f"{key}: allowed: one entry for each of the {len(p.nodes)} nodes")
        if len(p.peers) != len(p.peer_hosts):
            raise NodeError(f"peer_hosts: allowed: one entry for each of the {len(p.peers)} peers")
        if len(set(p.nodes)) != len(p.nodes) or not all(n.startswith("/") for n in p.nodes):
            raise NodeError(f"nodes: {list(p.nodes)}; allowed: full names (/cell/node), each once")
        if len(p.nodes) > MAX_NODES:
            raise NodeError(f"nodes: {len(p.nodes)} of them; allowed: up to {MAX_NODES} on a host")
        essential = p.essential or (True,) * len(p.nodes)
        timing = Timing(
            p.order_wait_s, p.transition_timeout_s, p.retry_s, p.retry_max_s, p.silent_after_s
        )
        self._bringup = BringUp(list(zip(p.nodes, essential, strict=True)), timing, self._now_s())
        self._askers = {
            name: self.create_client(ChangeState, f"{name}/change_state") for name in p.nodes
        }
        self._peers = Peers(dict(zip(p.peers, p.peer_hosts, strict=True)))
        self._ticked_s = self.steady_ns() / 1e9
        self._listen()
        self._states = self.publisher("host_state", host=self.host)
        self._commands = Commands(self)
        self._commands.serve(
            "manage_line", self._manage, state=self._state, report=self._describe, host=self.host
        )
        self.steady_timer(TICK_S, self._tick)
        self.diagnostics.add("line", self._line_status)
        self.diagnostics.add("hosts", self._hosts_status)
        for name in p.nodes:
            self.diagnostics.add(name, partial(self._node_check, name))

    def start(self) -> None:
        """Bring the nodes up, unless told to wait."""
        if self.params.start_on_activate:
            self._core.set_goal(State.ACTIVE, self._now_s())

    def teardown(self) -> None:
        """Forget the nodes; they stay as they are."""
        for check in ("line", "hosts", *self.params.nodes):
            self.diagnostics.remove(check)
        for client in self._askers.values():
            self.destroy_client(client)
        for subscription in self._heard:
            self.destroy_subscription(subscription)
        self._askers.clear()
        self._heard.clear()
        if self._commands is not None:
            self._commands.close()
        self._commands = None
        self._bringup = None
        self._reported = None

    # Hearing -------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Heartbeats of every cell that has a managed node, and what nodes say of themselves."""
        names = (*self.params.nodes, *self.params.peers)
        own = self.get_namespace().rstrip("/")
        namespaces = {own, *(name.rpartition("/")[0] for name in names)}
        for namespace in sorted(namespaces):
            topic = f"{namespace}/{interface('heartbeat').name}"
            self._hear("heartbeat", topic, self._on_heartbeat)
        self._hear("diagnostics", interface("diagnostics").name, self._on_diagnostics)

    def _hear(self, key: str, topic: str, callback: Any) -> None:
        row = interface(key)
        qos: QoSProfile = subscription_qos(row.qos)
        qos.depth = _HEARD_DEPTH
        guarded = self._guarded(callback, key)
        self._heard.append(self.create_subscription(message_type(row.type), topic, guarded, qos))

    def _on_heartbeat(self, beat: Heartbeat) -> None:
        source = (beat.host, beat.pid)
        if beat.node == self.get_fully_qualified_name():
            if source != (self.host, os.getpid()):
                self._twin_s = self._now_s()
                self.fault("second line manager", f"{beat.node} runs in process {beat.pid}, too")
            return
        sent_s = self._sent_s(beat)
        self._peers.beat(beat.node, sent_s)
        self._core.beat(beat.node, beat.lifecycle_state, source, sent_s)

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            name, _, check = status.name.partition(": ")
            if status.level != DiagnosticStatus.ERROR:
                continue
            if check == "state":
                self._core.explain(name, status.message.partition(": ")[2])
            else:
                self._core.complain(name, check, status.message, self._now_s())

    # Doing ---------------------------------------------------------------------------------------

    def _tick(self) -> None:
        now = self._now_s()
        self._look_at_processes(now)
        if self.is_active and not self._has_twin(now):
            for name, transition in self._core.requests(now, self._can_be_asked):
                request = ChangeState.Request()
                request.transition.id = transition.value
                future = self._askers[name].call_async(request)
                future.add_done_callback(partial(self._on_answer, name, transition))
        health = self._host_health(now)
        if health != self._reported or now - self._reported_s >= REPORT_PERIOD_S:
            self._report(health, now)

    def _look_at_processes(self, now_s: float) -> None:
        """Of those whose heartbeat is late: are they gone, stopped, or only starved?

        What this process itself missed is nobody's fault either.
        """
        steady_s = self.steady_ns() / 1e9
        late_s = max(0.0, steady_s - self._ticked_s - 1.5 * TICK_S)
        self._ticked_s = steady_s
        self._peers.held_up(late_s, now_s)
        self._signs.refresh()
        waits_s: dict[int, float] = {}
        groups = self.params.groups or ("",) * len(self.params.nodes)
        for group, node in zip(groups, self._core.nodes.values(), strict=True):
            host, pid = node.source
            if node.beat_s is None:
                self._saw(node.name, self._signs.never_up(group), 0.0, now_s)
            elif host != self.host or now_s - node.beat_s - late_s <= SUSPICIOUS_S:
                self._saw(node.name, None, late_s, now_s)
            else:
                if pid not in waits_s:
                    waits_s[pid] = self._signs.held_up_s(pid, self.steady_ns())
                down = self._signs.down(group, pid)
                self._saw(node.name, down, max(late_s, waits_s[pid]), now_s)
        self._signs.keep_only(waits_s)

    def _saw(self, name: str, down: Down | None, held_up_s: float, now_s: float) -> None:
        outcome = None if down is None else (down.cause, down.for_good)
        self._core.process_seen(name, outcome, held_up_s, now_s)

    def _can_be_asked(self, name: str) -> bool:
        return bool(self._askers[name].service_is_ready())

    def _on_answer(self, name: str, transition: Transition, future: Future) -> None:
        if self._bringup is None or future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self.fault("lifecycle service", f"{name}: {error}")
        success = error is None and future.result().success
        self._bringup.answered(name, transition, success, self._now_s())
        if success:
            self.get_logger().info(f"{name}: {transition.name.lower()} done")

    def _manage(self, request: ManageLine.Request, response: ManageLine.Response) -> None:
        now = self._now_s()
        nodes = self.params.nodes
        if request.action not in (Action.START, Action.STOP, Action.RESET):
            text = f"action {request.action}; allowed: 1 start, 2 stop, 3 reset"
            raise Refused(Reason.INVALID_ARGUMENT, text)
        if request.host not in ("", self.host):
            text = f"host '{request.host}'; this line manager is for '{self.host}'"
            raise Refused(Reason.UNKNOWN_TARGET, text)
        if request.node and request.node not in nodes:
            text = f"node '{request.node}'; known: {', '.join(sorted(nodes)) or 'none'}"
            raise Refused(Reason.UNKNOWN_TARGET, text)
        if not self.is_active:
            raise Refused(Reason.NOT_READY, "the line manager is not active")
        if request.action == Action.RESET:
            self._core.reset(now, request.node)
        else:
            goal = State.ACTIVE if request.action == Action.START else State.UNCONFIGURED
            self._core.set_goal(goal, now, request.node)
        self._describe(response)

    def _state(self) -> int:
        return int(self._host_health(self._now_s())[0])

    def _describe(self, response: ManageLine.Response) -> None:
        now = self._now_s()
        response.host_state = self._message(self._host_health(now), now)

    # Reporting -----------------------------------------------------------------------------------

    def _host_health(self, now_s: float) -> tuple[HostHealth, str]:
        if self._has_twin(now_s):
            cause = f"a second {self.get_fully_qualified_name()} runs on this domain; stop one"
            return HostHealth.FAILED, cause
        if not self.is_active:
            return HostHealth.UNKNOWN, "the line manager is not active"
        return self._core.host_health(now_s)

    def _report(self, health: tuple[HostHealth, str], now_s: float) -> None:
        is_news = self._reported is None or health[0] is not self._reported[0]
        if is_news or (health != self._reported and now_s - self._logged_s >= LOG_PERIOD_S):
            self._logged_s = now_s
            bad = health[0] in (HostHealth.FAILED, HostHealth.DEGRADED)
            text = f"{self.host}: {health[0].name}" + (f": {health[1]}" if health[1] else "")
            # Two lines: rclpy refuses another severity from the same one.
            if bad:
                self.get_logger().warning(text)
            else:
                self.get_logger().info(text)
        self._reported, self._reported_s = health, now_s
        self._states.publish(self._message(health, now_s))

    def _message(self, health: tuple[HostHealth, str], now_s: float) -> HostState:
        message = HostState(
            host=self.host[:64],
            role=self.params.role,
            state=int(health[0]),
            cause=_clip(health[1]),
            load=HostLoad(**asdict(host_usage())),
            nodes=[self._node_status(i, name, now_s) for i, name in enumerate(self._core.nodes)],
        )
        message.header.stamp = self.get_clock().now().to_msg()
        message.header.frame_id = self.host
        self._meter.keep_only({node.pid for node in message.nodes})
        return message

    def _node_status(self, index: int, name: str, now_s: float) -> NodeStatus:
        p, node = self.params, self._core.nodes[name]
        health, cause = self._core.health(name, now_s)
        host, pid = node.source
        here = host == self.host
        usage = self._meter.usage(pid, time.time()) if here else UNKNOWN_PROCESS
        return NodeStatus(
            node=name,
            executable=p.node_types[index] if p.node_types else "",
            group=p.groups[index] if p.groups else "",
            pid=pid,
            lifecycle_state=int(node.state),
            health=int(health),
            cause=_clip(cause),
            essential=node.essential,
            restarts=node.restarts,
            heartbeat_age_ms=(now_s - node.beat_s) * 1e3 if node.beat_s is not None else math.nan,
            uptime_s=usage.uptime_s,
            cpu_percent=usage.cpu_percent,
            memory_mb=usage.memory_mb,
        )

    def _line_status(self) -> Status:
        health, cause = self._host_health(self._now_s())
        level = _LEVELS.get(health, Level.WARN)
        return Status(level, f"{health.name}: {cause}" if cause else health.name)

    def _node_check(self, name: str) -> Status:
        """One managed node, for those who look at the line manager alone."""
        health, cause = self._core.health(name, self._now_s())
        node = self._core.nodes[name]
        values: dict[str, object] = {"restarts": node.restarts, "essential": node.essential}
        if self.params.groups:
            group = self.params.groups[self.params.nodes.index(name)]
            values["last end"] = self._signs.last_end(group) or "none"
        level = _NODE_LEVELS.get(health, Level.WARN)
        errors = self._core.errors(name, self._now_s())
        if health is Health.OK and errors:
            level = Level.WARN
            cause = "; ".join(f"{check}: {text}" for check, text in errors.items())
        return Status(level, f"{health.name}: {cause}" if cause else health.name, values)

    def _hosts_status(self) -> Status:
        silent, unheard = self._peers.silent(self._now_s()), self._peers.unheard()
        if silent:
            return Status(Level.ERROR, f"no sign of life of host {', '.join(sorted(silent))}")
        if unheard:
            return Status(Level.STALE, f"not heard yet: host {', '.join(sorted(unheard))}")
        return Status(Level.OK, f"{counted(len(self._peers), 'other host')} alive")

    # Small things --------------------------------------------------------------------------------

    @property
    def _core(self) -> BringUp:
        if self._bringup is None:
            raise NodeError("the line manager is not configured")
        return self._bringup

    def _has_twin(self, now_s: float) -> bool:
        return now_s - self._twin_s <= self.params.silent_after_s

    def _sent_s(self, beat: Heartbeat) -> float:
        """Steady time at which a heartbeat was sent; another computer's clock may differ."""
        steady_s = self.steady_ns() / 1e9
        if beat.host != self.host:
            return steady_s - self._backlog.behind_s(steady_s)
        age_s = float(time.time() - beat.stamp.sec - beat.stamp.nanosec / 1e9)
        self._backlog.read(age_s, steady_s)
        return float(steady_s - min(max(age_s, 0.0), MAX_S))

    def _now_s(self) -> float:
        """Steady time up to which everything was read."""
        steady_s = self.steady_ns() / 1e9
        return steady_s - self._backlog.behind_s(steady_s)


def _clip(text: str) -> str:
    """As much of `text` as fits into a bounded string of the messages; its bound is in bytes."""
    return text.encode()[:_TEXT_MAX].decode(errors="ignore")


def main() -> None:
    """`ros2 run shopfloor line_manager`."""
    raise SystemExit(run_node(LineManagerNode))


if __name__ == "__main__":
    main()
