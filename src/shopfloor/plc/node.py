"""plc_bridge: the line for a PLC, over OPC UA and Modbus TCP, and the PLC's commands for the line.

The picture is rebuilt every cycle from the latest messages; commands go to the services of the
graph with the PLC's own ids, so that what a PLC repeats acts once wherever it ends up.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rclpy.client import Client
from rclpy.guard_condition import GuardCondition
from rclpy.task import Future
from rclpy.timer import Timer
from shopfloor_msgs.msg import LineState, MachineHealth, PlcPicture, ThermalState

from shopfloor.plant.paths import config_folder
from shopfloor.plant.problems import PlantError
from shopfloor.plc.conditions import Conditions, Known
from shopfloor.plc.links import PlcLinks
from shopfloor.plc.mapping import PlcMapping
from shopfloor.plc.mapping_file import load_mapping
from shopfloor.plc.parameters import PlcBridgeParameters
from shopfloor.plc.picture import HEARTBEAT_WRAP, Bridge, HeartbeatWatch, Link, Picture, Verdicts
from shopfloor.plc.port import Call, Port, Reply, unanswered
from shopfloor.ros.commands import Reason
from shopfloor.ros.diagnostics import Level, Status
from shopfloor.ros.interfaces import INTERFACES, Kind, interface
from shopfloor.ros.line_hold import CHECK as LINE_HOLD_CHECK
from shopfloor.ros.line_hold import ON_THE_WAY, LineHold
from shopfloor.ros.main import run_node
from shopfloor.ros.node import NodeError, ShopfloorNode

_TOPICS = {row.key: row.kind is Kind.TOPIC for row in INTERFACES}
_AGAIN_NS = 500_000_000
_LOOK_NS = 100_000_000
"""How often the rungs and tiers are summed up; they change slowly, and cycles may be short."""
_HELD_UP_S = 1.0
"""A call that the executor's thread leaves lying is answered so long after its time is over."""
_RUNS = ON_THE_WAY | {LineState.STATE_EXECUTE}


@dataclass(eq=False)
class _Pending:
    """A call on its way through the graph; asked again at `again_ns`, given up at `due_ns`.

    asked: the service's answers, one for each try.
    """

    call: Call
    reply: asyncio.Future[Reply]
    due_ns: int
    again_ns: int = 0
    request: Any = None
    asked: list[Future] = field(default_factory=list)


class PlcBridgeNode(ShopfloorNode[PlcBridgeParameters]):
    """The executor's side: messages in, calls out. The links run on a thread of their own."""

    PARAMETERS = PlcBridgeParameters

    def __init__(self, name: str = "plc_bridge", **node_arguments: Any) -> None:
        self._links: PlcLinks | None = None
        self._wake: GuardCondition | None = None
        self._timer: Timer | None = None
        super().__init__(name, **node_arguments)

    def setup(self) -> None:
        """Read the mapping, subscribe to what its points read."""
        self._mapping = mapping = self._load()
        self._picture = Picture(mapping)
        self._watch = HeartbeatWatch(mapping.heartbeat_timeout_ms)
        self._latest: dict[str, Any] = {}
        self._cycle = 0
        self._safe = False
        self._link = Link.UNKNOWN
        self._asked: queue.SimpleQueue[_Pending] = queue.SimpleQueue()
        self._heard: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._brought: queue.SimpleQueue[Mapping[str, float]] = queue.SimpleQueue()
        self._inputs = {item.name: float("nan") for item in mapping.inputs}
        self._verdicts = Verdicts()
        self._refusals: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._pending: list[_Pending] = []
        for key in {*mapping.keys, "line_state", "part_verdict"}:
            self.subscription(key, partial(self._on_message, key))
        self._follow_conditions()
        services = {command.service for command in mapping.commands}
        self._callers = {service: self.client(service) for service in services}
        self._hold = LineHold(self, "a lost PLC", lambda: self.params.hold_on_lost_plc)
        self._pictures = self.publisher("plc_picture", plc=mapping.plc)
        self._wake = self.guard(self._take, "plc")
        self.diagnostics.add("plc", self._plc_status)

    def start(self) -> None:
        """Open the ports, and begin to connect."""
        port = Port(self._ask, self._heard_beat, self._brought.put, self._on_refused)
        self._links = PlcLinks(self._mapping, port)
        self._links.start()
        self._timer = self.steady_timer(self._mapping.cycle_ms / 1e3, self._tick)

    def stop(self) -> None:
        """Close the connections: a PLC sees them go."""
        if self._links is not None:
            self._links.stop()
            self._links = None
        if self._timer is not None:
            self.release(self._timer)
            self._timer = None
        # Those who asked are gone; nothing of it may act when the node is activated again.
        while not self._asked.empty():
            self._asked.get()
        for pending in list(self._pending):
            self._forget(pending)

    def teardown(self) -> None:
        """Forget the PLC."""
        self.diagnostics.remove("plc")
        self.diagnostics.remove(LINE_HOLD_CHECK)
        self._wake = None

    def _follow_conditions(self) -> None:
        params = self.params
        self._conditions = Conditions(
            params.hosts,
            params.machines,
            thermal_silent_s=params.thermal_silent_s,
            health_silent_s=params.health_silent_s,
        )
        for host in params.hosts:
            self.subscription("thermal_state", partial(self._on_thermal, host), host=host)
        for machine in params.machines:
            self.subscription("machine_health", partial(self._on_health, machine), machine=machine)
        row = interface("plan")
        self._plans = self.raw_subscription(row, row.resolve(), self._conditions.plan)
        self._known, self._looked_ns = Known(), 0

    def _load(self) -> PlcMapping:
        path = Path(self.params.mapping).expanduser()
        if not path.is_absolute() and not path.exists():
            path = config_folder() / path
        try:
            mapping = load_mapping(path, _TOPICS)
        except PlantError as error:
            raise NodeError(str(error)) from None
        links = (mapping.opcua, mapping.modbus, mapping.opcua_client, mapping.modbus_client)
        if not any(links):
            raise NodeError(f"{path}: no 'opcua', 'modbus' or their '_client': no way to a PLC")
        return mapping

    # On the links' thread ------------------------------------------------------------------------

    async def _ask(self, call: Call) -> Reply:
        limit_s = self.params.answer_timeout_s
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._asked.put(_Pending(call, reply, self.steady_ns() + int(limit_s * 1e9)))
        self._trigger()
        try:
            return await asyncio.wait_for(reply, limit_s + _HELD_UP_S)
        except asyncio.TimeoutError:
            text = "no answer in time: the bridge itself is held up"
            self._on_refused("plc command", f"'{call.command_id}': {text}")
            return unanswered(text)

    def _heard_beat(self, value: int) -> None:
        self._heard.put(value)
        self._trigger()

    def _on_refused(self, what: str, why: str) -> None:
        self._refusals.put((what, why))

    def _trigger(self) -> None:
        if self._wake is not None:
            self._wake.trigger()

    # On the executor's thread --------------------------------------------------------------------

    def _on_message(self, key: str, message: Any) -> None:
        self._latest[key] = message
        if key == "part_verdict":
            self._verdicts.add(message.part_id, message)

    def _on_thermal(self, host: str, message: ThermalState) -> None:
        self._conditions.thermal(host, message.rung, self.steady_ns())

    def _on_health(self, machine: str, message: MachineHealth) -> None:
        self._conditions.health(machine, message.tier, self.steady_ns())

    def _take(self) -> None:
        while not self._heard.empty():
            self._watch.seen(self._heard.get(), self.steady_ns())
        while not self._asked.empty():
            pending = self._asked.get()
            # One that waited here for too long was given up: it must not act any more.
            if not pending.reply.done() and self.steady_ns() < pending.due_ns:
                self._pending.append(pending)
                self._send(pending)

    def _send(self, pending: _Pending) -> None:
        """Ask, or ask again: a request may get lost while nodes find each other."""
        pending.again_ns = self.steady_ns() + _AGAIN_NS
        command = pending.call.command
        try:
            client = self._callers[command.service]
            if pending.request is None:
                if not client.service_is_ready():
                    self._settle(pending, unanswered(f"no node serves {client.srv_name}"))
                    return
                pending.request = self._request(client, pending.call)
            future = client.call_async(pending.request)
        except Exception as error:  # what the message cannot hold, or the middleware's own
            self.fault("plc command", f"{command.name}: {error}")
            self._settle(pending, unanswered(f"{command.name}: {error}"))
            return
        pending.asked.append(future)
        future.add_done_callback(partial(self._on_answer, pending))

    def _request(self, client: Client, call: Call) -> Any:
        request = client.srv_type.Request()
        request.command.caller = self._mapping.plc
        request.command.command_id = call.command_id
        request.command.person = call.person
        request.command.reason = call.reason
        request.command.expected_state = call.expected_state
        for name, value in call.values.items():
            setattr(request, name, value)
        return request

    def _on_answer(self, pending: _Pending, future: Future) -> None:
        if pending not in self._pending:
            return
        if future.cancelled() or future.exception() is not None:
            self._settle(pending, unanswered("the service's node went away"))
            return
        result = future.result().result
        if len(pending.asked) > 1 and result.reason == Reason.BUSY:
            return  # the first try is still being carried out
        self._settle(
            pending,
            Reply(
                result.outcome,
                result.first_outcome,
                result.reason,
                result.text,
                result.state,
                settled=True,
            ),
        )

    def _settle(self, pending: _Pending, reply: Reply) -> None:
        def answer() -> None:
            if not pending.reply.done():
                pending.reply.set_result(reply)

        self._forget(pending)
        if self._links is not None:
            self._links.loop.call_soon_threadsafe(answer)

    def _forget(self, pending: _Pending) -> None:
        """rclpy keeps a request for ever that nobody answers."""
        self._pending.remove(pending)
        for future in pending.asked:
            self._callers[pending.call.command.service].remove_pending_request(future)

    def _tick(self) -> None:
        if self._links is None:
            return
        self._take()  # a signal from another thread that got lost costs a cycle, no more
        now = self.steady_ns()
        self._cycle = (self._cycle + 1) % HEARTBEAT_WRAP
        self._watch.connected(self._links.connections > 0)
        for pending in [p for p in self._pending if p.due_ns < now]:
            self.fault("plc command", f"no answer to '{pending.call.command_id}' in time")
            self._settle(pending, unanswered("no answer in time"))
        for pending in [p for p in self._pending if p.again_ns < now]:
            self._send(pending)
        while not self._brought.empty():
            self._inputs.update(self._brought.get())
        while not self._refusals.empty():
            what, why = self._refusals.get()
            self.fault(what, why)
        self._judge(self._watch.link(now))
        if now - self._looked_ns >= _LOOK_NS:
            self._looked_ns = now
            self._known = self._conditions.known(now, self._plans.get_publisher_count)
        bridge = Bridge(self._cycle, self._safe, int(self._link), self._cycle, **vars(self._known))
        self._links.update(self._picture.values(self._latest, bridge))
        for name, why in self._picture.broken.items():
            self.fault("plc point", f"{name}: {why}")
        self._publish(now)

    def _judge(self, link: Link) -> None:
        """A PLC that was there and is gone brings the safe state; its return ends it."""
        if link is not self._link:
            self.get_logger().info(f"{self._mapping.plc}: {link.name}")
        lost = self._link is Link.OK and link in (Link.STALLED, Link.DOWN)
        self._link = link
        if link is Link.OK:
            self._safe = False
        if lost:
            self._safe = True
            line: LineState | None = self._latest.get("line_state")
            if self.params.hold_on_lost_plc and line is not None and line.state in _RUNS:
                plc = self._mapping.plc
                self._hold.ask(f"{plc}-lost-{self.now_ns()}", plc, f"{plc} {link.name.lower()}")

    def _publish(self, now: int) -> None:
        line = self._latest.get("line_state") or LineState()
        message = PlcPicture(
            plc=self._mapping.plc,
            cycle=self._cycle,
            graph_heartbeat=self._cycle,
            plc_heartbeat=self._watch.value,
            plc_heartbeat_age_ms=self._watch.age_ms(now),
            link=int(self._link),
            safe_state=self._safe,
            cause="" if self._link is Link.OK else f"the PLC's link is {self._link.name}",
            line_state=line.state,
            line_mode=line.mode,
            stop_reason=line.stop_reason,
            rung=self._known.rung,
            maintenance_tier=self._known.maintenance_tier,
            plan_version=self._known.plan_version,
        )
        # What a PLC that stalls brought last is no longer true.
        alive = self._link is Link.OK
        message.input_names = list(self._inputs)
        message.inputs = [value if alive else float("nan") for value in self._inputs.values()]
        verdicts = self._verdicts.latest
        message.verdict_count = self._verdicts.count
        message.part_ids = [v.part_id for v in verdicts]
        message.verdicts = [v.verdict for v in verdicts]
        message.refinements = [v.refinement for v in verdicts]
        message.revisions = [v.revision for v in verdicts]
        message.rejects = [v.reject for v in verdicts]
        message.header.stamp = self.stamp(self.now_ns())
        message.header.frame_id = self._mapping.plc
        self._pictures.publish(message)

    def _plc_status(self) -> Status:
        connections = 0 if self._links is None else self._links.connections
        values: dict[str, object] = {
            "link": self._link.name,
            "connections": connections,
            "cycle": self._cycle,
            "safe state": self._safe,
            **vars(self._known),
        }
        if self._link is Link.OK:
            return Status(Level.OK, "the PLC's heartbeat moves", values)
        level = Level.ERROR if self._safe else Level.STALE
        return Status(level, f"the PLC's link is {self._link.name}", values)


def main() -> None:
    """`ros2 run shopfloor plc_bridge`."""
    raise SystemExit(run_node(PlcBridgeNode))


if __name__ == "__main__":
    main()
