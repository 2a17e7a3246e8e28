"""What is worth a cut: a FAIL, an alarm, a crash, as messages of the graph say it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from rosbags.typesys.store import Typestore

from shopfloor.replay.bag import Topic

_PARTS_KNOWN = 1000


class EventDetector:
    """Looks at serialised messages and says what has just become worse.

    Only a change is an event: the first message of a topic tells how things were.
    """

    def __init__(self, types: Typestore) -> None:
        self._types = types
        self._failed: OrderedDict[str, None] = OrderedDict()
        self._before: dict[str, Any] = {}
        self._checks: dict[str, Callable[[Any, Any], str]] = {
            "shopfloor_msgs/msg/PartVerdict": self._verdict,
            "shopfloor_msgs/msg/ThermalState": _thermal,
            "shopfloor_msgs/msg/MachineHealth": _machine,
            "shopfloor_msgs/msg/LineState": _line,
            "shopfloor_msgs/msg/HostState": _host,
        }

    def look(self, topic: Topic, data: bytes) -> str:
        """The event in words; empty: none. Raises what a message that cannot be read raises."""
        check = self._checks.get(topic.type)
        if check is None:
            return ""
        message = self._types.deserialize_cdr(data, topic.type)
        before = self._before.get(topic.name)
        self._before[topic.name] = message
        return check(message, before)

    def _verdict(self, now: Any, _: Any) -> str:
        if now.verdict != now.VERDICT_FAIL:
            self._failed.pop(now.part_id, None)
            return ""
        if now.part_id in self._failed:
            return ""
        self._failed[now.part_id] = None
        if len(self._failed) > _PARTS_KNOWN:
            self._failed.popitem(last=False)
        return f"part {now.part_id}: FAIL"


def _thermal(now: Any, before: Any) -> str:
    if before is None or now.rung <= before.rung or now.cause == now.CAUSE_OVERRIDE:
        return ""
    return f"host {now.host}: rung {before.rung} to {now.rung}: {now.cause_text}"


def _machine(now: Any, before: Any) -> str:
    if before is None or now.tier <= before.tier or now.tier < now.TIER_INSPECT:
        return ""
    return f"machine {now.machine_id}: {now.reason}"


def _line(now: Any, before: Any) -> str:
    aborted = (now.STATE_ABORTING, now.STATE_ABORTED)
    if before is None or now.state not in aborted or before.state in aborted:
        return ""
    return f"line {now.line} aborted: {now.stop_text}"


def _host(now: Any, before: Any) -> str:
    if before is None:
        return ""
    known = {node.node: node for node in before.nodes}
    for node in now.nodes:
        old = known.get(node.node)
        if old is None:
            continue
        down = (node.HEALTH_STALE, node.HEALTH_FAILED)
        if node.restarts > old.restarts or (node.health in down and old.health not in down):
            return f"node {node.node} on {now.host} went down: {node.cause or 'restarted'}"
    if now.state == now.STATE_FAILED != before.state:
        return f"host {now.host} failed: {now.cause}"
    return ""
