"""recorder: every topic of the interface table that this cell has, into MCAP bags."""

from __future__ import annotations

import re
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from shopfloor.plant.plant_file import load_plant
from shopfloor.plant.problems import PlantError
from shopfloor.replay.bag import Topic, WritingThread, typestore
from shopfloor.replay.files_of_plant import named_files, pack
from shopfloor.replay.parameters import RecorderParameters
from shopfloor.replay.recording import Plan, Recording
from shopfloor.replay.rolling import SplitLimits
from shopfloor.ros.diagnostics import Level, Status
from shopfloor.ros.interfaces import HIDDEN_TOPICS, INTERFACES, Interface, Qos
from shopfloor.ros.main import run_node
from shopfloor.ros.node import ShopfloorNode
from shopfloor.ros.paths import message_folder
from shopfloor.ros.recorded_topics import is_wanted, may_be_wanted, parse

_SEARCH_PERIOD_S = 0.5
_WORST_TOPICS = 10


class RecorderNode(ShopfloorNode[RecorderParameters]):
    """Finds the topics as they appear and records them as they come."""

    PARAMETERS = RecorderParameters

    def __init__(self, name: str = "recorder", **node_arguments: Any) -> None:
        self._recording: Recording | None = None
        self._writer: WritingThread | None = None
        self._subscribed: dict[str, Any] = {}
        super().__init__(name, **node_arguments)

    def setup(self) -> None:
        """Learn the types; look for topics twice a second."""
        self._types = typestore(
            [message_folder("shopfloor_msgs"), message_folder("std_srvs", "srv")]
        )
        rows = (*INTERFACES, *HIDDEN_TOPICS)
        self._patterns = [(row, self._pattern(row)) for row in rows if may_be_wanted(row)]
        self._policies = {
            self.resolve_topic_name(topic): policy
            for topic, policy in parse(self.params.topics).items()
        }
        self.steady_timer(_SEARCH_PERIOD_S, self._tick)
        self.service("cut_bag", self._cut, recorder=self.get_name())
        self.diagnostics.add("bag", self._bag_status)

    def start(self) -> None:
        """Begin to record, with a new bag."""
        now_ns = int(self.get_clock().now().nanoseconds)
        plan = _plan(self.params)
        self._recording = Recording(plan, self._types, self._about(), now_ns)
        self._writer = WritingThread(self._recording)
        self.get_logger().info(f"recording to {plan.folder} ({self.params.mode})")
        self._search()

    def stop(self) -> None:
        """Close the bags with their index."""
        for subscription in self._subscribed.values():
            self.release(subscription)
        self._subscribed.clear()
        if self._writer is not None:
            self._writer.close()
            if self._writer.error:
                self.fault("bag", self._writer.error)
        self._writer = self._recording = None

    def teardown(self) -> None:
        """No more reports."""
        self.diagnostics.remove("bag")

    def _about(self) -> dict[str, str]:
        plant_file = self.params.plant_file
        if not plant_file:
            return {}
        path = Path(plant_file).expanduser()
        try:
            about = {"plant": path.read_text(encoding="utf-8")}
        except (OSError, ValueError) as error:  # a bag without its plant is better than none
            self.fault("plant_file", f"{path} is not kept with the bag: {error}")
            return {}
        try:
            about["files"], problems = pack(named_files(load_plant(path)))
        except PlantError as error:
            problems = [f"no files of the plant are kept with the bag: {error}"]
        for problem in problems:
            self.get_logger().warning(problem)
        return about

    def _pattern(self, row: Interface) -> re.Pattern[str]:
        absolute = self.resolve_topic_name(row.resolve(**dict.fromkeys(row.placeholders, "PLACE")))
        return re.compile(re.escape(absolute).replace("PLACE", "[^/]+"))

    def _tick(self) -> None:
        if self._writer is not None and self._recording is not None:
            self._search()
            self._writer.tell(partial(self._recording.tick, self.now_ns()))

    def _search(self) -> None:
        for name, types in self.get_topic_names_and_types():
            if name in self._subscribed:
                continue
            for row, pattern in self._patterns:
                if row.type not in types or not pattern.fullmatch(name):
                    continue
                if is_wanted(row, name, self.params.images, self._policies):
                    topic = Topic(name, row.type, latched=row.qos is Qos.STATE)
                    self._subscribed[name] = self.raw_subscription(
                        row, name, partial(self._on_message, topic)
                    )

    def _on_message(self, topic: Topic, data: bytes) -> None:
        writer = self._writer
        if writer is not None and not writer.put(topic, self.now_ns(), data):
            cause = writer.error or "the disk is slower than the line"
            self.fault("dropped_message", f"{topic.name}: {cause}")

    def _cut(self, request: Any, response: Any) -> Any:
        if self._writer is None or self._recording is None:
            response.message = "the recorder is not active"
        elif self._recording.cuts is None:
            response.message = "mode is 'continuous'; allowed: 'events' or 'both'"
        elif self._recording.error:
            response.message = self._recording.error
        else:
            call = partial(self._recording.event, self.now_ns(), "asked for")
            self._writer.tell(call)
            response.success = True
            response.message = f"a bag is being written in {self.params.folder}"
        return response

    def _absent(self) -> list[str]:
        """Topics that parameters ask for by name, and that nobody has: not yet, or misspelt."""
        there = {name.removesuffix("/compressed") for name in self._subscribed}
        asked = [name for name, policy in self._policies.items() if policy != "none"]
        return [name for name in asked if name not in there]

    def _bag_status(self) -> Status:
        writer, recording = self._writer, self._recording
        if writer is None or recording is None:
            return Status(Level.STALE, "not recording")
        dropped = Counter(dict(writer.dropped)) + Counter(dict(recording.lost))
        quota, running, cuts = recording.quota, recording.running, recording.cuts
        values: dict[str, object] = {
            "folder": self.params.folder,
            "messages": recording.messages,
            "topics": len(self._subscribed),
            "dropped": dropped.total(),
            "folder_mb": quota.size_bytes / 1e6,
            "bags_deleted": len(quota.deleted),
        }
        if absent := self._absent():
            values["asked_for_but_absent"] = ", ".join(absent)
        if quota.deleted:
            values["last_deleted"] = quota.deleted[-1]
        if running is not None:
            values["path"] = running.path
        if cuts is not None:
            values |= {"cut": cuts.path or "none", "cuts": cuts.cuts, "events": cuts.events}
            values |= {"last_event": cuts.last_cause, "ring_mb": cuts.ring.size_bytes / 1e6}
            early = Counter(dict(cuts.ring.dropped))
            values["left_ring_early"] = early.total()
            values |= _by_topic("left_ring_early", early)
            values |= _by_topic("unreadable", Counter(dict(recording.unreadable)))
        values |= _by_topic("dropped", dropped)
        return Status(*_level(writer, recording, dropped.total()), values)


def _level(writer: WritingThread, recording: Recording, dropped: int) -> tuple[Level, str]:
    if error := writer.error or recording.error:
        return Level.ERROR, error
    if recording.quota.is_over:
        why = recording.quota.problem or "none of them may go"
        return Level.WARN, f"the bags take more than the quota: {why}"
    if dropped:
        return Level.WARN, f"recording; {dropped} messages were dropped"
    return Level.OK, "recording"


def _by_topic(what: str, counts: Counter[str]) -> dict[str, object]:
    return {f"{what} {topic}": count for topic, count in counts.most_common(_WORST_TOPICS)}


def _plan(params: RecorderParameters) -> Plan:
    return Plan(
        folder=Path(params.folder).expanduser(),
        name=params.name,
        continuous=params.mode != "events",
        events=params.mode != "continuous",
        before_ns=int(params.before_s * 1e9),
        after_ns=int(params.after_s * 1e9),
        ring_bytes=params.ring_mb * 1_000_000,
        limits=SplitLimits(params.split_mb * 1_000_000, int(params.split_s * 1e9)),
        quota_bytes=params.quota_mb * 1_000_000,
        min_free_bytes=params.min_free_mb * 1_000_000,
    )


def main() -> int:
    """`ros2 run shopfloor recorder`."""
    return run_node(RecorderNode)


if __name__ == "__main__":
    raise SystemExit(main())
