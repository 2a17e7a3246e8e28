"""What makes a cut, and what does not: each alarm once, when things become worse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shopfloor.replay.bag import Topic, typestore
from shopfloor.replay.bag_reader import BagReader
from shopfloor.replay.events import EventDetector
from shopfloor.replay.recording import Plan, Recording
from shopfloor.ros.paths import message_folder

msg = pytest.importorskip("shopfloor_msgs.msg", reason="the message types are not built")
serialization = pytest.importorskip("rclpy.serialization")

S = 1_000_000_000


def data_of(message: Any) -> bytes:
    return bytes(serialization.serialize_message(message))


def topic_of(message: Any, name: str = "/x") -> Topic:
    return Topic(name, f"shopfloor_msgs/msg/{type(message).__name__}")


@pytest.fixture(scope="module")
def types() -> Any:
    return typestore([message_folder("shopfloor_msgs")])


def causes(types: Any, messages: list[Any], name: str = "/x") -> list[str]:
    detector = EventDetector(types)
    return [detector.look(topic_of(m, name), data_of(m)) for m in messages]


def test_a_part_fails_once_however_often_it_is_said(types: Any) -> None:
    def verdict(part: str, value: int) -> Any:
        return msg.PartVerdict(part_id=part, verdict=value)

    good, bad = msg.PartVerdict.VERDICT_PASS, msg.PartVerdict.VERDICT_FAIL
    story = [("1", good), ("2", bad), ("2", bad), ("3", bad), ("1", bad), ("2", good), ("2", bad)]
    found = causes(types, [verdict(*step) for step in story])
    assert [bool(cause) for cause in found] == [False, True, False, True, True, False, True]
    assert found[1] == "part 2: FAIL"


def test_a_host_that_steps_down_but_not_by_a_person(types: Any) -> None:
    state = msg.ThermalState
    hot, person = state.CAUSE_THERMAL, state.CAUSE_OVERRIDE
    steps = [(1, hot), (1, hot), (2, hot), (0, state.CAUSE_NONE), (2, person), (3, hot)]
    found = causes(
        types, [state(host="jetson", rung=r, cause=c, cause_text="too hot") for r, c in steps]
    )
    assert found == [
        "", "", "host jetson: rung 1 to 2: too hot", "", "", "host jetson: rung 2 to 3: too hot",
    ]  # fmt: skip


def test_a_machine_that_needs_a_person(types: Any) -> None:
    tiers = [0, 1, 2, 3, 3, 4, 1, 3]
    health = [msg.MachineHealth(machine_id="press", tier=t, reason="outer race") for t in tiers]
    found = [bool(cause) for cause in causes(types, health)]
    assert found == [False, False, False, True, False, True, False, True]


def test_a_line_that_aborts(types: Any) -> None:
    line = msg.LineState
    states = [line.STATE_ABORTED, line.STATE_EXECUTE, line.STATE_ABORTING, line.STATE_ABORTED]
    found = causes(types, [line(line="l", state=s, stop_text="light curtain") for s in states])
    assert found == ["", "", "line l aborted: light curtain", ""]


def test_a_node_that_crashes_and_a_host_that_fails(types: Any) -> None:
    host, node = msg.HostState, msg.NodeStatus

    def report(state: int, *nodes: tuple[str, int, int]) -> Any:
        rows = [node(node=n, health=h, restarts=r, cause="killed") for n, h, r in nodes]
        return host(host="h", state=state, cause="gate is down", nodes=rows)

    ok, stale, starting = node.HEALTH_OK, node.HEALTH_STALE, node.HEALTH_STARTING
    found = causes(types, [
        report(host.STATE_RUNNING, ("gate", ok, 0)),
        report(host.STATE_RUNNING, ("gate", ok, 0), ("late", starting, 0)),
        report(host.STATE_DEGRADED, ("gate", stale, 0), ("late", ok, 0)),
        report(host.STATE_DEGRADED, ("gate", stale, 0), ("late", ok, 0)),
        report(host.STATE_DEGRADED, ("gate", starting, 1), ("late", ok, 0)),
        report(host.STATE_RUNNING, ("gate", ok, 1), ("late", ok, 0)),
        report(host.STATE_FAILED, ("gate", ok, 1), ("late", ok, 0)),
    ])  # fmt: skip
    down = "node gate on h went down: killed"
    assert found == ["", "", down, "", down, "", "host h failed: gate is down"]


def test_each_topic_is_of_its_own(types: Any) -> None:
    detector = EventDetector(types)
    calm, worse = (msg.MachineHealth(machine_id="m", tier=t) for t in (1, 4))
    assert not detector.look(topic_of(calm, "/a"), data_of(calm))
    assert not detector.look(topic_of(worse, "/b"), data_of(worse))
    assert detector.look(topic_of(worse, "/a"), data_of(worse))


def test_what_cannot_be_read_is_recorded_and_counted(types: Any, tmp_path: Path) -> None:
    topic = Topic("/parts/verdict", "shopfloor_msgs/msg/PartVerdict")
    work = Recording(Plan(tmp_path, "bag", events=True), types, {}, 0)
    work.write(topic, 1 * S, b"\0\1\0\0half")
    fail = msg.PartVerdict(part_id="7", verdict=msg.PartVerdict.VERDICT_FAIL)
    data = data_of(fail)  # once: what lies between its fields is whatever the memory held
    work.write(topic, 2 * S, data)
    work.close()
    assert work.unreadable == {"/parts/verdict": 1}
    for path in tmp_path.iterdir():
        with BagReader(path) as reader:
            assert [m.data for m in reader.messages()] == [b"\0\1\0\0half", data]
    assert len(list(tmp_path.iterdir())) == 2
