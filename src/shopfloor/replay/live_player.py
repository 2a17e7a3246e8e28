"""A bag into a running graph: its inputs at their pace or another, with /clock.

For what is not in lock-step: a dashboard, a node of another package, ours with `use_sim_time`.
Nothing waits for the nodes here, so what they say depends on the machine; `player.py` gives equal
outputs.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.time import Time
from rclpy.time_source import CLOCK_TOPIC
from rosgraph_msgs.msg import Clock

from shopfloor.replay.bag import typestore
from shopfloor.replay.bag_reader import BagReader
from shopfloor.replay.plant_of_bag import DRIVEN, ReplayError
from shopfloor.replay.topics import row_of
from shopfloor.ros.endpoint_node import message_type
from shopfloor.ros.interfaces import Qos
from shopfloor.ros.paths import message_folder
from shopfloor.ros.qos import publisher_qos
from shopfloor.ros.recorded import Recorded

CLOCK_PERIOD_S = 0.01
LISTENER_WAIT_S = 5.0
"""The first message waits this long at most for a listener of every topic."""

_CHECK_PERIOD_S = 1.0


@dataclass(frozen=True)
class LiveRequest:
    """What to play, how.

    topics: empty: what the nodes of a replay hear and none of them says. rate: seconds of the bag
    a second, above 0. loop: at the end from the beginning; ROS time jumps back.
    """

    bag: Path
    topics: Sequence[str] = ()
    remap: Mapping[str, str] = field(default_factory=dict)
    start_s: float = 0.0
    duration_s: float = 0.0
    rate: float = 1.0
    loop: bool = False


@dataclass
class PlayedLive:
    """What was published. late_ms: of the message that was published the latest, steady time."""

    messages: int = 0
    turns: int = 0
    late_ms: float = 0.0


def play_live(request: LiveRequest, stopped: Callable[[], bool]) -> PlayedLive:
    """Play until the end, or until `stopped()`. Raises ReplayError and BagError."""
    if not request.rate > 0.0 or request.start_s < 0.0 or request.duration_s < 0.0:
        raise ReplayError("--rate is above 0, --start and --duration at least 0")
    with BagReader(request.bag, dict(request.remap)) as reader:
        start_ns = reader.start_ns + int(request.start_s * 1e9)
        end_ns = reader.end_ns
        if request.duration_s:
            end_ns = min(end_ns, start_ns + int(request.duration_s * 1e9))
        topics = _topics(reader.types, request.topics)
        reader.check_types(topics, typestore([message_folder("shopfloor_msgs")]))
        context = Context()
        rclpy.init(context=context)
        node = Node("replay", context=context, start_parameter_services=False)
        try:
            if start_ns >= end_ns:
                seconds = (reader.end_ns - reader.start_ns) / 1e9
                raise ReplayError(f"--start: allowed: 0 to below {seconds:.1f} s")
            stage = _Stage(node, {topic: reader.types[topic] for topic in topics})
            stage.wait_for_listeners(start_ns, stopped)
            played = PlayedLive()
            states = [t for t in topics if (row := row_of(t)) and row.qos is Qos.STATE]
            known = [replace(item, stamp_ns=start_ns) for item in reader.latest(states, start_ns)]
            while not stopped():
                stage.play(
                    itertools.chain(known, reader.messages(topics, start_ns, end_ns)),
                    start_ns,
                    request.rate,
                    stopped,
                    played,
                )
                played.turns += 1
                if not request.loop:
                    break
            return played
        finally:
            node.destroy_node()
            rclpy.shutdown(context=context)


def _topics(types: Mapping[str, str], asked: Collection[str]) -> set[str]:
    missing = sorted(set(asked) - set(types))
    if missing:
        raise ReplayError(f"the bag has no {missing[0]}; it has: {', '.join(sorted(types))}")
    known = {topic: row for topic, kind in types.items() if (row := row_of(topic, kind))}
    if asked:
        for topic in asked:
            if topic not in known:
                raise ReplayError(f"{topic} ({types[topic]}) is not of the interface table")
        return set(asked)
    driven = set(DRIVEN)
    found = {
        topic
        for topic, row in known.items()
        if driven & set(row.clients) and not driven & set(row.servers)
    }
    if not found:
        raise ReplayError(f"the bag has no inputs of nodes; it has: {', '.join(sorted(types))}")
    return found


class _Stage:
    """The publishers."""

    def __init__(self, node: Node, types: Mapping[str, str]) -> None:
        self._node = node
        self._checked_s = 0.0
        self._clock = node.create_publisher(Clock, CLOCK_TOPIC, 10)
        self._publishers: dict[str, Any] = {}
        for topic, kind in types.items():
            row = row_of(topic, kind)
            assert row is not None
            self._publishers[topic] = node.create_publisher(
                message_type(kind), topic, publisher_qos(row.qos)
            )

    def wait_for_listeners(self, start_ns: int, stopped: Callable[[], bool]) -> None:
        """Until each topic has one."""
        deadline_s = time.monotonic() + LISTENER_WAIT_S
        while time.monotonic() < deadline_s and not stopped():
            self._tell(start_ns)
            if all(p.get_subscription_count() for p in self._publishers.values()):
                break
            time.sleep(CLOCK_PERIOD_S)
        self._check_alone()

    def _check_alone(self) -> None:
        self._checked_s = time.monotonic()
        for topic in self._publishers:
            if self._node.count_publishers(topic) > 1:
                raise ReplayError(
                    f"{topic} is published on this domain already; play in a domain of your own: "
                    "ROS_DOMAIN_ID"
                )

    def play(
        self,
        messages: Iterable[Recorded],
        start_ns: int,
        rate: float,
        stopped: Callable[[], bool],
        played: PlayedLive,
    ) -> None:
        """Each message at its time. Raises ReplayError where a topic has another publisher."""
        began_ns = time.monotonic_ns()

        def now_ns() -> int:
            return start_ns + int((time.monotonic_ns() - began_ns) * rate)

        for item in messages:
            while (left_ns := item.stamp_ns - now_ns()) > 0 and not stopped():
                self._tell(item.stamp_ns - left_ns)
                time.sleep(min(CLOCK_PERIOD_S, left_ns / rate / 1e9))
            if stopped():
                return
            if time.monotonic() - self._checked_s > _CHECK_PERIOD_S:
                self._check_alone()
            self._tell(item.stamp_ns)
            self._publishers[item.topic].publish(item.data)
            played.messages += 1
            played.late_ms = max(played.late_ms, (now_ns() - item.stamp_ns) / rate / 1e6)

    def _tell(self, now_ns: int) -> None:
        self._clock.publish(Clock(clock=Time(nanoseconds=now_ns).to_msg()))
