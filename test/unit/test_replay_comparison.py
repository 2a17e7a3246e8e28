"""Comparing and hashing by fields: what counts is found and named, what does not is left out."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shopfloor.replay.bag import typestore
from shopfloor.replay.comparison import Comparison, compare
from shopfloor.replay.fields import OutputHash, flatten
from shopfloor.replay.rules import Tolerance, covers
from shopfloor.replay.topics import row_of
from shopfloor.ros.interfaces import INTERFACES, Kind
from shopfloor.ros.recorded import Recorded

MSGS = Path(__file__).resolve().parents[2] / "msgs" / "msg"
S = 1_000_000_000


@pytest.fixture(scope="module")
def types(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("types") / "shopfloor_msgs"
    folder.mkdir()
    (folder / "msg").symlink_to(MSGS)
    return typestore([folder / "msg"])


def empty(types: Any, name: str) -> Any:
    """A message with every field at zero."""
    cls = types.types[name]
    values = {}
    for field, kind in types.fielddefs[name][1]:
        code, what = kind
        code = int(code)
        if code == 1:
            values[field] = {"string": "", "bool": False}.get(
                what[0], 0.0 if "float" in what[0] else 0
            )
        elif code == 2:
            values[field] = empty(types, what)
        else:
            values[field] = []
    return cls(**values)


def result(types: Any, part: str, stamp_s: int, score: float = 0.5, verdict: int = 1) -> Any:
    message = empty(types, "shopfloor_msgs/msg/InspectionResult")
    message.part_id, message.score, message.verdict = part, score, verdict
    message.header.stamp.sec = stamp_s
    message.provenance.node = "/cell/inspector"
    message.frame_age_ms = 20.0
    return message


def run(
    before: Iterable[Any], now: Iterable[Any], topic: str = "/cell/inspection/result"
) -> Comparison:
    def recorded(messages: Iterable[Any]) -> tuple[list[Recorded], Any]:
        kept = list(messages)
        items = [Recorded(topic, (100 + i) * S, bytes([i])) for i in range(len(kept))]
        return items, lambda item: copy.deepcopy(kept[item.data[0]])

    old, decode_old = recorded(before)
    new, decode_new = recorded(now)
    return compare(old, new, decode_old, decode_new, (0, 1000 * S))


def test_equal_but_for_latency(types: Any) -> None:
    now = [result(types, "p1", 100)]
    now[0].frame_age_ms = 400.0
    now[0].provenance.configuration_sha256 = "other"
    found = run([result(types, "p1", 100)], now)
    assert found.is_equal and found.compared.total() == 1


def test_a_change_is_named_by_node_part_and_field(types: Any) -> None:
    found = run(
        [result(types, "p1", 100), result(types, "p2", 101)],
        [result(types, "p1", 100), result(types, "p2", 101, verdict=2)],
    )
    (d,) = found.differences
    assert (d.node, d.part, d.field, d.before, d.now) == ("/cell/inspector", "p2", "verdict", 1, 2)
    assert not found.is_equal


@pytest.mark.parametrize(("score", "count"), [(0.54, 0), (0.56, 1), (math.nan, 1)])
def test_scores_have_a_tolerance_and_nan_is_no_score(types: Any, score: float, count: int) -> None:
    assert len(run([result(types, "p", 9)], [result(types, "p", 9, score)]).differences) == count


def test_classes_of_a_crop_are_compared_by_name_not_by_their_order(types: Any) -> None:
    def answer(*scores: tuple[str, float]) -> Any:
        message = empty(types, "shopfloor_msgs/msg/DetailResult")
        message.class_names = [name for name, _ in scores]
        message.class_scores = [score for _, score in scores]
        return message

    topic = "/cell/inspection/detail"
    before = [answer(("short", 0.8), ("open", 0.011), ("spur", 0.01))]
    assert run(before, [answer(("short", 0.79), ("spur", 0.02), ("open", 0.01))], topic).is_equal
    (d,) = run(before, [answer(("short", 0.8), ("open", 0.2), ("spur", 0.01))], topic).differences
    assert d.field == "class_scores[0]" and (d.before, d.now) == (0.011, 0.2)
    swapped = [answer(("open", 0.8), ("short", 0.011), ("spur", 0.01))]
    assert len(run(before, swapped, topic).differences) == 2


def test_a_reject_window_is_compared_by_counts_within_one_or_by_its_exact_time(types: Any) -> None:
    def command(opens: int, action: int = 1, stamp_s: int = 0, by_encoder: bool = True) -> Any:
        message = empty(types, "shopfloor_msgs/msg/RejectCommand")
        message.part_id, message.action, message.by_encoder = "p", action, by_encoder
        message.encoder_open, message.encoder_close = opens, opens + 60
        message.window_open.sec = stamp_s
        return message

    topic = "/cell/parts/reject"
    assert run([command(1000)], [command(1001)], topic).is_equal
    assert len(run([command(1000)], [command(1002)], topic).differences) == 2
    assert [d.field for d in run([command(1)], [command(1, 2)], topic).differences] == ["action"]
    assert run([command(1, stamp_s=5)], [command(1, stamp_s=6)], topic).is_equal, "a forecast"
    found = run([command(0, 1, 5, False)], [command(0, 1, 6, False)], topic)
    assert [d.field for d in found.differences] == ["window_open"]


def test_missing_extra_and_double_messages_are_differences(types: Any) -> None:
    one, two = result(types, "p1", 100), result(types, "p2", 101)
    assert [d.part for d in run([one, two], [one]).differences] == ["p2"]
    assert [d.part for d in run([one], [one, two]).differences] == ["p2"]
    assert [d.field for d in run([one], [one, one]).differences] == ["message"]


def test_the_ends_of_a_bag_are_left_out(types: Any) -> None:
    late = result(types, "late", 999)
    found = run([result(types, "p", 100)], [result(types, "p", 100), late])
    assert found.is_equal and found.at_the_edges == 1


def test_order_does_not_matter_but_nothing_compared_is_not_equal(types: Any) -> None:
    one, two = result(types, "p1", 100), result(types, "p2", 101)
    assert run([one, two], [two, one]).is_equal
    assert not run([], []).is_equal
    assert not run([], [one]).is_equal


def test_of_periodic_states_the_changes_count(types: Any) -> None:
    def states(*rungs: int) -> list[Any]:
        messages = []
        for rung in rungs:
            message = empty(types, "shopfloor_msgs/msg/ThermalState")
            message.host, message.rung = "edge", rung
            messages.append(message)
        return messages

    topic = "/cell/hosts/edge/thermal"
    assert run(states(0, 0, 1, 1), states(0, 1), topic).is_equal
    found = run(states(0, 0, 1), states(0, 2), topic)
    assert [(d.field, d.before, d.now) for d in found.differences] == [("rung", 1, 2)]
    assert len(run(states(0, 1, 0), states(0), topic).differences) == 2


def test_what_a_node_goes_through_as_it_starts_is_left_out(types: Any) -> None:
    def states(*items: tuple[int, float]) -> list[Any]:
        messages = []
        for state, seconds in items:
            message = empty(types, "shopfloor_msgs/msg/LineState")
            message.line, message.state = "line_1", state
            message.header.stamp.sec, nanosec = divmod(round(seconds * S), S)
            message.header.stamp.nanosec = nanosec
            messages.append(message)
        return messages

    topic = "/cell/line/state"
    recorded = states((2, 100), (15, 100.1), (4, 100.2), (6, 101))
    found = run(recorded, states((4, 90), (6, 91)), topic)
    assert found.is_equal and found.at_the_edges == 2
    late = run(states((2, 100), (4, 103), (6, 104)), states((4, 90), (6, 91)), topic)
    assert [d.field for d in late.differences] == ["state", "state", "state, mode"]


def test_of_plan_events_those_that_topics_and_commands_cause_are_compared(types: Any) -> None:
    def event(kind: int, machine: str, sequence: int) -> Any:
        message = empty(types, "shopfloor_msgs/msg/PlanEvent")
        message.kind, message.machine_id, message.sequence = kind, machine, sequence
        return message

    topic = "/cell/plan_events"
    stop, made, by_hand = 4, 10, 1
    before = [event(made, "", 1), event(by_hand, "press", 2), event(stop, "press", 3)]
    now = [event(stop, "press", 1), event(made, "", 2), event(made, "", 3)]
    found = run(before, [*now, event(by_hand, "press", 4)], topic)
    assert found.is_equal and found.compared.total() == 2
    (d,) = run(before, now, topic).differences
    assert (d.part, d.field) == ("press", "message")
    assert len(run(before, [event(stop, "oven", 1)], topic).differences) == 3


def test_plans_of_a_search_by_the_clock_are_not_compared_and_named(types: Any) -> None:
    def plan(version: int, sha256: str, solve_ms: float) -> Any:
        message = empty(types, "shopfloor_msgs/msg/Plan")
        message.version, message.plan_sha256, message.solve_ms = version, sha256, solve_ms
        return message

    topic = "/cell/plan"
    in_moves = [plan(1, "a", 0.0), plan(2, "b", 0.0)]
    assert run(in_moves, in_moves, topic).is_equal
    (d,) = run(in_moves, [plan(1, "a", 0.0), plan(2, "c", 0.0)], topic).differences
    assert (d.part, d.field) == ("2", "plan_sha256")
    found = run([plan(1, "a", 800.0), plan(2, "b", 0.0)], in_moves, topic)
    assert not found.differences and not found.is_equal and list(found.skipped) == [topic]


def test_tolerance_is_absolute_or_relative() -> None:
    assert Tolerance(0.1).holds(1.0, 1.1 - 1e-9) and not Tolerance(0.1).holds(1.0, 1.2)
    assert Tolerance(0, 0.01).holds(1000.0, 1009.0) and not Tolerance(0, 0.01).holds(0.0, 0.1)
    assert Tolerance().holds(math.nan, math.nan) and not Tolerance(9.0).holds(math.nan, 1.0)
    assert Tolerance().holds(math.inf, math.inf)


def test_a_path_covers_what_lies_below_it_at_any_depth() -> None:
    assert covers(("provenance.stages",), "evidence.provenance.stages.duration_ms")
    assert not covers(("age_ms",), "frame_age_ms") and not covers(("a.b",), "a.c.b")


def test_the_hash_sees_every_field_and_not_the_load_of_the_host(types: Any) -> None:
    def of(message: Any, stamp_ns: int = 7) -> str:
        outputs = OutputHash()
        outputs.add("/x", stamp_ns, message)
        return outputs.total

    base = of(result(types, "p", 1))
    assert of(result(types, "p", 1)) == base
    for field in ("score", "frame_age_ms", "image_width", "reason"):
        other = result(types, "p", 1)
        setattr(other, field, "x" if field == "reason" else getattr(other, field) + 1)
        assert of(other) != base, field
    assert of(result(types, "p", 1), 8) != base
    assert of(result(types, "p", 1, score=-0.0)) != of(result(types, "p", 1, score=0.0))
    state = empty(types, "shopfloor_msgs/msg/ThermalState")
    before = of(state)
    state.load = copy.deepcopy(state.load)
    name = next(n for n, v in vars(state.load).items() if isinstance(v, float))
    setattr(state.load, name, 55.0)
    assert of(state) == before


def test_arrays_are_flattened_with_their_length(types: Any) -> None:
    block = empty(types, "shopfloor_msgs/msg/VibrationBlock")
    block.data = np.array([1.0, 2.0], np.float32)
    found = {exact: value for _, exact, value in flatten(block)}
    assert found["data[1]"] == 2.0 and found["data.length"] == 2
    assert "header.stamp" in found and not any("UNIT_" in key for key in found)


def test_every_topic_of_the_table_is_found_in_any_namespace() -> None:
    for row in INTERFACES:
        if row.kind is not Kind.TOPIC:
            continue
        name = row.resolve(**dict.fromkeys(row.placeholders, "thing")).lstrip("/")
        for topic in (f"/{name}", f"/cell_1/{name}", f"/plant/cell_1/{name}"):
            assert row_of(topic) is row, topic
    assert row_of("/nothing/of/ours") is None
