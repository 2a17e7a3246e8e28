"""recorder: what the graph said stands in the bag, byte for byte, and the bag opens elsewhere."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import yaml
from diagnostic_msgs.msg import DiagnosticStatus
from harness import ACTIVE, Graph, statuses
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.highlevel import AnyReader
from scheduler_shop import NODE, Shop
from sensor_msgs.msg import Image
from service_msgs.msg import ServiceEventInfo
from shopfloor_msgs.action import PlanSchedule
from shopfloor_msgs.msg import (
    CommandResult,
    Detection,
    InspectionResult,
    MachineHealth,
    PartVerdict,
)
from shopfloor_msgs.srv import HoldJob
from std_srvs.srv import Trigger

from shopfloor.replay.bag import read, typestore
from shopfloor.replay.repair import repair
from shopfloor.ros.endpoint_node import message_type
from shopfloor.ros.interfaces import interface
from shopfloor.ros.paths import message_folder
from shopfloor.ros.qos import publisher_qos

RECORDER = "/recorder"


def start(graph: Graph, folder: Path, name: str = "bag") -> None:
    graph.start("recorder:recorder", parameters={"folder": str(folder), "name": name})


def test_messages_come_back_as_they_were_sent(graph: Graph, tmp_path: Path) -> None:
    row = interface("inspection_result")
    publisher = graph.node.create_publisher(
        message_type(row.type), row.name, publisher_qos(row.qos)
    )
    start(graph, tmp_path)
    graph.until(publisher.get_subscription_count, "the recorder to listen")
    for i in range(50):
        publisher.publish(InspectionResult(part_id=f"p{i}", frame_sequence=i, score=i / 50))
    child = graph._children[0]
    diagnostics = graph.collect("diagnostics")

    def recorded() -> bool:
        values = {v.key: v.value for v in statuses(diagnostics, RECORDER)["bag"].values}
        return int(values.get("messages", 0)) >= 50

    graph.until(recorded, "50 messages in the bag")
    child.signal(signal.SIGINT)
    assert child.wait() == 0
    bag = tmp_path / "bag"
    types = typestore([message_folder("shopfloor_msgs")])
    results = [m for topic, _, m in read(bag, types) if topic == "/inspection/result"]
    assert [m.part_id for m in results] == [f"p{i}" for i in range(50)]
    # The bag describes its own types: a reader that never heard of ours reads it too.
    with AnyReader([bag]) as reader:
        topics = {connection.topic for connection in reader.connections}
        first = next(
            reader.deserialize(data, connection.msgtype)
            for connection, _, data in reader.messages()
            if connection.topic == "/inspection/result"
        )
    assert first.part_id == "p0"
    assert {"/inspection/result", "/diagnostics", "/heartbeat"} <= topics
    info = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert info["storage_identifier"] == "mcap"


def test_a_bag_that_exists_is_never_written_over(graph: Graph, tmp_path: Path) -> None:
    (tmp_path / "bag").mkdir()
    start(graph, tmp_path)
    line = graph._children[0].wait_line("activate failed")
    assert "exists already" in line
    assert graph.set(RECORDER, "name", "other")[0] is False
    assert graph.state(RECORDER) != ACTIVE


def recorder_status(diagnostics: list[Any], check: str = "bag") -> dict[str, str]:
    return {v.key: v.value for v in statuses(diagnostics, RECORDER)[check].values}


def results_in(bag: Path) -> list[str]:
    types = typestore([message_folder("shopfloor_msgs")])
    return [m.part_id for topic, _, m in read(bag, types) if topic == "/inspection/result"]


def test_a_fail_makes_a_bag_that_begins_before_it(graph: Graph, tmp_path: Path) -> None:
    folder = tmp_path / "bags"
    result, verdict, machine = (
        interface(key) for key in ("inspection_result", "part_verdict", "machine_health")
    )
    results, verdicts, machines = (
        graph.node.create_publisher(
            message_type(row.type), row.resolve(**names), publisher_qos(row.qos)
        )
        for row, names in ((result, {}), (verdict, {}), (machine, {"machine": "press"}))
    )
    machines.publish(MachineHealth(machine_id="press", tier=MachineHealth.TIER_NORMAL))
    child = graph.start(
        "recorder:recorder",
        parameters={"folder": str(folder), "name": "x", "mode": "events", "after_s": 1.0},
    )
    for publisher in (results, verdicts, machines):
        graph.until(publisher.get_subscription_count, "the recorder to listen")
    diagnostics = graph.collect("diagnostics")
    sent = [InspectionResult(part_id=f"p{i}", detections=[Detection()] * 300) for i in range(20)]
    for message in sent:
        results.publish(message)
    # Heartbeats would need minutes to fill as much.
    sent_mb = sum(len(serialize_message(message)) for message in sent) / 1e6

    def recorded() -> bool:
        return float(recorder_status(diagnostics).get("ring_mb", 0)) >= sent_mb

    graph.until(recorded, "the results in the ring")
    assert not list(folder.iterdir())  # nothing happened so far
    verdicts.publish(PartVerdict(part_id="p7", verdict=PartVerdict.VERDICT_FAIL))
    graph.until(lambda: recorder_status(diagnostics).get("cuts") == "1", "the cut to begin")
    graph.until(lambda: recorder_status(diagnostics).get("cut") == "none", "the cut to end")
    (cut,) = folder.iterdir()
    assert cut.name.startswith("x_event_")
    assert results_in(cut) == [f"p{i}" for i in range(20)]
    with AnyReader([cut]) as reader:
        topics = {connection.topic for connection in reader.connections}
    assert {"/parts/verdict", "/machines/press/health", "/heartbeat"} <= topics
    info = yaml.safe_load((cut / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert info["custom_data"]["events"].endswith("part p7: FAIL")
    answer = graph.call(Trigger, f"{RECORDER}/cut_bag", Trigger.Request())
    assert answer.success, answer.message
    graph.until(lambda: recorder_status(diagnostics).get("cuts") == "2", "the second cut")
    child.signal(signal.SIGINT)  # while it is written: it is closed with its index
    assert child.wait() == 0
    assert all((bag / "metadata.yaml").exists() for bag in folder.iterdir())
    assert len(list(folder.iterdir())) == 2


def test_a_running_bag_is_no_cut_and_says_so(graph: Graph, tmp_path: Path) -> None:
    start(graph, tmp_path)
    answer = graph.call(Trigger, f"{RECORDER}/cut_bag", Trigger.Request())
    assert not answer.success
    assert "allowed: 'events' or 'both'" in answer.message


def test_topics_go_in_by_name(graph: Graph, tmp_path: Path) -> None:
    diagnostics = graph.collect("diagnostics")
    suspects, image = (interface(key) for key in ("suspect_crop", "image"))
    crops, raw = (
        graph.node.create_publisher(message_type(row.type), name, publisher_qos(row.qos))
        for row, name in ((suspects, suspects.name), (image, image.resolve(camera="eye")))
    )
    graph.start(
        "recorder:recorder",
        parameters={
            "folder": str(tmp_path),
            "name": "bag",
            "topics": "[inspection/suspects=none, eye/image_raw=raw, ear/image_raw=jpeg]",
        },
    )
    graph.until(raw.get_subscription_count, "the recorder to hear the raw image")
    assert not crops.get_subscription_count()
    absent = "asked_for_but_absent"
    graph.until(
        lambda: recorder_status(diagnostics).get(absent) == "/ear/image_raw", "what nobody has"
    )

    def recorded() -> bool:
        # Frames are best effort: the first may go past.
        raw.publish(Image(encoding="mono8", height=1, width=9, step=9, data=b"a picture"))
        return b"a picture" in (tmp_path / "bag" / "bag.mcap").read_bytes()

    graph.until(recorded, "a raw image on the disk")


def test_a_disk_without_room_is_an_error_and_the_node_stays(graph: Graph, tmp_path: Path) -> None:
    diagnostics = graph.collect("diagnostics")
    graph.start(
        "recorder:recorder",
        parameters={"folder": str(tmp_path), "name": "bag", "min_free_mb": 1_000_000_000_000},
    )

    def said() -> bool:
        status = statuses(diagnostics, RECORDER)["bag"]
        return status.level == DiagnosticStatus.ERROR and "MB free, needed" in status.message

    graph.until(said, "the error in /diagnostics")
    dropped = "dropped /diagnostics"
    graph.until(lambda: dropped in recorder_status(diagnostics), "what is lost, by topic")
    assert graph.state(RECORDER) == ACTIVE
    assert not list(tmp_path.glob("bag*"))


def test_a_killed_recorder_leaves_a_bag_to_be_repaired(graph: Graph, tmp_path: Path) -> None:
    row = interface("inspection_result")
    publisher = graph.node.create_publisher(
        message_type(row.type), row.name, publisher_qos(row.qos)
    )
    start(graph, tmp_path)
    graph.until(publisher.get_subscription_count, "the recorder to listen")
    for i in range(20):
        publisher.publish(InspectionResult(part_id=f"p{i}"))
    file = tmp_path / "bag" / "bag.mcap"
    graph.until(lambda: b"p19\0" in file.read_bytes(), "the results on the disk")
    child = graph._children[0]
    child.signal(signal.SIGKILL)
    child.wait()
    repair(tmp_path / "bag", tmp_path / "whole")
    assert results_in(tmp_path / "whole") == [f"p{i}" for i in range(20)]


CALLS, OWN = "/hold_job/_service_event", f"{RECORDER}/cut_bag/_service_event"
FEEDBACK, STATUS = "/plan_schedule/_action/feedback", "/plan_schedule/_action/status"
COMMANDS, SEND_GOAL = "/commands", "/plan_schedule/_action/send_goal"


def test_calls_and_goals_go_in(graph: Graph, tmp_path: Path) -> None:
    shop = Shop(graph, tmp_path)
    parameters = {"folder": str(tmp_path), "name": "bag", "service_events": "metadata"}
    child = graph.start("recorder:recorder", parameters=parameters)
    refused, why = graph.set(NODE, "service_events", "loud")
    assert not refused and "'metadata'" in why
    assert graph.set(NODE, "service_events", "contents") == (True, "")
    file = tmp_path / "bag" / "bag.mcap"
    goals: set[bytes] = set()

    def recorded() -> bool:
        # What is said before the recorder listens goes past: it is said again.
        goal = shop.send(shop.plan_client, shop.goal(time_budget_s=0.1))
        shop.result(goal)
        goals.add(bytes(goal.goal_id.uuid))
        shop.call("hold_job", HoldJob.Request(command=shop.command(), job_id="nobody's"))
        graph.call(Trigger, f"{RECORDER}/cut_bag", Trigger.Request())
        content = file.read_bytes()
        names = (CALLS, OWN, FEEDBACK, STATUS, SEND_GOAL)
        return all(name.encode() in content for name in names)

    graph.until(recorded, "calls and goals on the disk")
    last = HoldJob.Request(command=shop.command(command_id="the last call"), job_id="nobody's")
    shop.call("hold_job", last)
    told = "both events of a call, and the call for a replay"
    graph.until(lambda: file.read_bytes().count(b"the last call") == 3, told)
    child.signal(signal.SIGINT)
    assert child.wait() == 0
    found: dict[str, list[Any]] = {CALLS: [], OWN: [], FEEDBACK: [], STATUS: [], COMMANDS: []}
    with AnyReader([tmp_path / "bag"]) as reader:
        wanted = [c for c in reader.connections if c.topic in found]
        for connection, _, data in reader.messages(wanted):
            found[connection.topic].append(reader.deserialize(data, connection.msgtype))
    asked, answered = found[CALLS][-2:]
    assert asked.info.event_type == ServiceEventInfo.REQUEST_RECEIVED
    assert answered.info.event_type == ServiceEventInfo.RESPONSE_SENT
    assert asked.info.sequence_number == answered.info.sequence_number
    assert asked.request[0].job_id == "nobody's" and not asked.response
    result = answered.response[0].result
    assert result.command_id == asked.request[0].command.command_id == "the last call"
    assert result.reason == CommandResult.REASON_UNKNOWN_TARGET
    assert found[OWN] and not any(m.request or m.response for m in found[OWN])
    assert {bytes(m.goal_id.uuid) for m in found[FEEDBACK]} <= goals
    assert any(m.feedback.stage for m in found[FEEDBACK])
    status = {bytes(s.goal_info.goal_id.uuid) for m in found[STATUS] for s in m.status_list}
    assert status & goals
    assert found[COMMANDS][-1].topic == "/hold_job"
    again = deserialize_message(bytes(found[COMMANDS][-1].data), HoldJob.Request)
    assert again == last
    asked_for = [m for m in found[COMMANDS] if m.topic == SEND_GOAL]
    send_goal = PlanSchedule.Impl.SendGoalService.Request
    planned = [deserialize_message(bytes(m.data), send_goal) for m in asked_for]
    assert {bytes(p.goal_id.uuid) for p in planned} <= goals
    assert all(p.goal.command.caller == "test" for p in planned)
