"""A machine gets worse, people hold and pin and plan: twice the same, and a change is found.

The bags are made here, of the health of one machine over twelve seconds, and of commands. Nothing
depends on time: a replay in lock-step takes as long as it takes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from replay_command import LIMIT_S, replay

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("shopfloor_msgs.msg", reason="the message types are not built")

from rclpy.serialization import serialize_message
from shopfloor_msgs.action import PlanSchedule
from shopfloor_msgs.msg import Command, MachineHealth, Plan, PlanEvent, ReplayMessage
from shopfloor_msgs.srv import HoldJob, PinOperation
from unique_identifier_msgs.msg import UUID

from shopfloor.replay.bag import BagWriter, Topic, read, typestore
from shopfloor.replay.bag_reader import BagReader
from shopfloor.replay.files_of_plant import pack
from shopfloor.ros.lock_step import fill
from shopfloor.ros.paths import message_folder
from shopfloor.ros.recorded import Recorded
from shopfloor.scheduling.problem_file import from_data
from shopfloor.scheduling.solver import solve
from shopfloor.sim.orders import factory

pytestmark = pytest.mark.timeout(LIMIT_S + 20.0)

START_NS = 1_760_000_000_000_000_000
SECONDS = 12
WELL_S: dict[int, int] = {}
WORSE_S = {3: MachineHealth.TIER_LOG, 5: MachineHealth.TIER_INSPECT,
           7: MachineHealth.TIER_WORK_ORDER}  # fmt: skip
HEALTH = "/cell/machines/press/health"
PLAN, EVENTS, COMMANDS = "/cell/plan", "/cell/plan_events", "/cell/commands"
MOVES = "local search, 300 moves"
ACTED_NS = 2_345_678_901
"""When the first command acted, since the bag's start: at no timer's and no message's time."""


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


def health(tiers: Mapping[int, int]) -> Iterator[Recorded]:
    """The machine's health as vibration_monitor says it, twice a second."""
    tier = MachineHealth.TIER_NORMAL
    for number in range(2 * SECONDS):
        tier = tiers.get(number // 2, tier)
        stamp_ns = START_NS + number * 500_000_000
        message = MachineHealth(machine_id="press", component="bearing", tier=tier)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
        if tier == MachineHealth.TIER_WORK_ORDER:
            message.alert_id, message.reason = "alert 7", "outer race"
        yield Recorded(HEALTH, stamp_ns, bytes(serialize_message(message)))


def commands(held: str) -> Iterator[Recorded]:
    """What people asked for; the recorder hears each 30 ms after it acted."""
    pinned = factory(1, jobs=12)["jobs"][4]
    operation = pinned["operations"][-1]
    goal = PlanSchedule.Goal(
        command=Command(caller="mes", command_id="3"), mode=PlanSchedule.Goal.MODE_PLAN,
        time_budget_s=0.3, freeze_horizon_s=60.0, commit=True,
    )  # fmt: skip
    requests = {
        "hold_job": HoldJob.Request(
            command=Command(caller="hmi", command_id="1"), job_id=held, hold=True
        ),
        "pin_operation": PinOperation.Request(
            command=Command(caller="hmi", command_id="2"), job_id=pinned["id"], pin=True,
            operation_id=operation["id"], machine_id=max(operation["machines"]),
        ),
        "plan_schedule/_action/send_goal": PlanSchedule.Impl.SendGoalService.Request(
            goal_id=UUID(uuid=list(range(16))), goal=goal
        ),
    }  # fmt: skip
    for number, (name, request) in enumerate(requests.items()):
        acted_ns = START_NS + ACTED_NS + number * 3_000_000_000
        item = Recorded(f"/cell/{name}", acted_ns, bytes(serialize_message(request)))
        told = bytes(serialize_message(fill(ReplayMessage(), item)))
        yield Recorded(COMMANDS, acted_ns + 30_000_000, told)


def write(path: Path, text: str, *sources: Iterator[Recorded], files: str = "") -> None:
    """A bag of this plant with these messages."""
    topics = {
        HEALTH: Topic(HEALTH, "shopfloor_msgs/msg/MachineHealth", latched=True),
        PLAN: Topic(PLAN, "shopfloor_msgs/msg/Plan", latched=True),
        EVENTS: Topic(EVENTS, "shopfloor_msgs/msg/PlanEvent"),
        COMMANDS: Topic(COMMANDS, "shopfloor_msgs/msg/ReplayMessage"),
    }
    about = {"plant": text, "files": files}
    bag = BagWriter(path, typestore([message_folder("shopfloor_msgs")]), about)
    for item in sorted((i for source in sources for i in source), key=lambda i: i.stamp_ns):
        assert bag.put(topics[item.topic], item.stamp_ns, item.data)
    bag.close()
    assert not bag.error


def test_a_repair_is_the_same_at_each_replay_and_another_stability_weight_is_found(
    tmp_path: Path,
) -> None:
    text = plant(tmp_path)
    write(tmp_path / "health", text, health(WORSE_S))
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
        write(golden, text, health(WORSE_S), reader.messages())
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


def test_commands_and_goals_of_the_day_come_again_and_another_one_is_found(tmp_path: Path) -> None:
    text = plant(tmp_path)
    problem = tmp_path / "factory.json"
    files, problems = pack([str(problem)])
    assert not problems
    problem.write_text("of another day", encoding="utf-8")
    write(tmp_path / "asked", text, health(WELL_S), commands("job03"), files=files)
    said = tmp_path / "said"
    one = replay(tmp_path / "asked", tmp_path, "--output", str(said))
    assert one.code == 0, one.output
    assert one.data["inputs"] == {HEALTH: 2 * SECONDS, COMMANDS: 3}

    messages = list(read(said, typestore([message_folder("shopfloor_msgs")])))
    events = [m for topic, _, m in messages if topic == EVENTS]
    plans = [m for topic, _, m in messages if topic == PLAN]
    (held,) = [e for e in events if e.kind == PlanEvent.KIND_JOB_HELD]
    (pinned,) = [e for e in events if e.kind == PlanEvent.KIND_PINNED]
    (asked,) = [e for e in events if e.kind == PlanEvent.KIND_PLAN_COMMITTED and e.command_id]
    assert [(e.caller, e.command_id) for e in (held, pinned, asked)] == [
        ("hmi", "1"), ("hmi", "2"), ("mes", "3"),
    ]  # fmt: skip
    stamps = [e.header.stamp for e in (held, pinned, asked)]
    acted_ns = [s.sec * 1_000_000_000 + s.nanosec - START_NS - ACTED_NS for s in stamps]
    assert acted_ns == [0, 3_000_000_000, 6_000_000_000]
    stages = [p.solver_stage for p in plans]
    assert (stages[0], stages[1], stages[-1]) == (MOVES, "repair", MOVES)
    assert plans[-1].version == asked.plan_version
    assert all(a.job_id != "job03" for a in plans[-1].assignments)
    (there,) = [a for a in plans[-1].assignments
                if (a.job_id, a.operation_id) == (pinned.job_id, pinned.operation_id)]  # fmt: skip
    assert there.machine_id == pinned.machine_id

    with BagReader(said) as reader:
        outputs = list(reader.messages())
    golden = tmp_path / "golden"
    write(golden, text, health(WELL_S), commands("job03"), iter(outputs), files=files)
    two = replay(golden, tmp_path, "--compare")
    assert two.code == 0, two.output
    assert two.data["hashes"] == one.data["hashes"]
    assert two.data["compared"] == {PLAN: len(plans), EVENTS: 2}

    other = tmp_path / "other"
    write(other, text, health(WELL_S), commands("job04"), iter(outputs), files=files)
    changed = replay(other, tmp_path, "--compare")
    assert changed.code == 1, changed.output
    parts = {part for node, part, field in changed.differences() if field == "plan_sha256"}
    assert "1" not in parts, "the first plan knew of nothing held"
    assert "2" in parts, "the repair knows of the other job"
