"""A machine gets worse, the scheduler plans around its stop: twice the same, and a change is found.

The bag is made here, of the health of one machine over twelve seconds. Nothing depends on time: a
replay in lock-step takes as long as it takes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from replay_command import LIMIT_S, replay

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("shopfloor_msgs.msg", reason="the message types are not built")

from rclpy.serialization import serialize_message
from shopfloor_msgs.msg import MachineHealth, Plan, PlanEvent

from shopfloor.replay.bag import BagWriter, Topic, read, typestore
from shopfloor.replay.bag_reader import BagReader
from shopfloor.ros.paths import message_folder
from shopfloor.ros.recorded import Recorded
from shopfloor.scheduling.problem_file import from_data
from shopfloor.scheduling.solver import solve
from shopfloor.sim.orders import factory

pytestmark = pytest.mark.timeout(LIMIT_S + 20.0)

START_NS = 1_760_000_000_000_000_000
SECONDS = 12
WORSE_S = {3: MachineHealth.TIER_LOG, 5: MachineHealth.TIER_INSPECT,
           7: MachineHealth.TIER_WORK_ORDER}  # fmt: skip
HEALTH = "/cell/machines/press/health"
PLAN, EVENTS = "/cell/plan", "/cell/plan_events"
MOVES = "local search, 300 moves"


def busiest() -> str:
    """The machine that does most in a plan of the shop."""
    best = solve(from_data(factory(1, jobs=12)), 0.0, moves=0).best
    assert best is not None
    return Counter(a.machine_id for a in best.assignments).most_common(1)[0][0]


def plant(folder: Path) -> str:
    """A cell with a scheduler alone; the bag brings what it hears."""
    problem = folder / "factory.json"
    problem.write_text(json.dumps(factory(1, jobs=12)), encoding="utf-8")
    scheduler = {
        "host_name": "golden",
        "problem_file": str(problem),
        "journal": str(folder / "of_the_plant.sqlite"),
        "first_plan_s": 0.3,
        "repair_s": 0.3,
        "freeze_horizon_s": 60.0,
        "health_machines": [f"press={busiest()}"],
    }
    return yaml.safe_dump({
        "plant": "golden",
        "discovery": "localhost",
        "hosts": {"this_machine": {"hostname": "*", "role": "single"}},
        "cells": {"cell": {"nodes": {"scheduler": {"type": "scheduler", "parameters": scheduler}}}},
        "processes": {"planning": {"host": "this_machine", "nodes": ["scheduler"]}},
    })  # fmt: skip


def health() -> Iterator[Recorded]:
    """The machine's health as vibration_monitor says it, twice a second."""
    tier = MachineHealth.TIER_NORMAL
    for number in range(2 * SECONDS):
        tier = WORSE_S.get(number // 2, tier)
        stamp_ns = START_NS + number * 500_000_000
        message = MachineHealth(machine_id="press", component="bearing", tier=tier)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
        if tier == MachineHealth.TIER_WORK_ORDER:
            message.alert_id, message.reason = "alert 7", "outer race"
        yield Recorded(HEALTH, stamp_ns, bytes(serialize_message(message)))


def write(path: Path, text: str, *sources: Iterator[Recorded]) -> None:
    """A bag of this plant with these messages."""
    topics = {
        HEALTH: Topic(HEALTH, "shopfloor_msgs/msg/MachineHealth", latched=True),
        PLAN: Topic(PLAN, "shopfloor_msgs/msg/Plan", latched=True),
        EVENTS: Topic(EVENTS, "shopfloor_msgs/msg/PlanEvent"),
    }
    bag = BagWriter(path, typestore([message_folder("shopfloor_msgs")]), {"plant": text})
    for item in sorted((i for source in sources for i in source), key=lambda i: i.stamp_ns):
        assert bag.put(topics[item.topic], item.stamp_ns, item.data)
    bag.close()
    assert not bag.error


def test_a_repair_is_the_same_at_each_replay_and_another_stability_weight_is_found(
    tmp_path: Path,
) -> None:
    text = plant(tmp_path)
    write(tmp_path / "health", text, health())
    said = tmp_path / "said"
    one = replay(tmp_path / "health", tmp_path, "--output", str(said))
    assert one.code == 0, one.output
    assert one.data["inputs"] == {HEALTH: 2 * SECONDS}
    assert not (tmp_path / "of_the_plant.sqlite").exists(), "a replay wrote the plant's journal"

    types = typestore([message_folder("shopfloor_msgs")])
    messages = list(read(said, types))
    plans = [m for topic, _, m in messages if topic == PLAN]
    events = [m for topic, _, m in messages if topic == EVENTS]
    assert [e.sequence for e in events] == list(range(1, len(events) + 1))
    first, repaired, better = plans
    assert [p.solver_stage for p in plans] == [MOVES, "repair", MOVES]
    assert all(p.solve_ms == 0.0 and p.state == Plan.STATE_COMMITTED for p in plans)
    assert first.header.stamp.sec == START_NS // 1_000_000_000
    (stop,) = [e for e in events if e.kind == PlanEvent.KIND_MAINTENANCE]
    assert stop.machine_id == busiest() and "alert 7" in stop.text
    assert repaired.header.stamp == stop.header.stamp
    assert stop.header.stamp.sec == START_NS // 1_000_000_000 + 7
    assert better.base_version == repaired.version
    assert better.plan_sha256 != repaired.plan_sha256 != first.plan_sha256

    # What was said becomes the outputs of the day, of which a second run says the same.
    golden = tmp_path / "golden"
    with BagReader(said) as reader:
        write(golden, text, health(), reader.messages())
    two = replay(golden, tmp_path, "--compare")
    assert two.code == 0, two.output
    assert set(two.data["hashes"]) == {PLAN, EVENTS}
    assert two.data["hashes"] == one.data["hashes"]
    assert two.data["differences"] == []
    assert two.data["compared"] == {PLAN: 3, EVENTS: 1}

    change = ("--set", "scheduler.stability_weight=0.0")
    changed = replay(golden, tmp_path, "--compare", *change)
    assert changed.code == 1, changed.output
    found = {(node, part) for node, part, _ in changed.differences()}
    assert found == {("scheduler", str(better.version))}, "the first plan and the stop are the same"
    fields = {field for _, _, field in changed.differences()}
    assert {"plan_sha256", "score.changed_fraction"} <= fields
