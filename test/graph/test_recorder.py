"""recorder: what the graph said stands in the bag, byte for byte, and the bag opens elsewhere."""

from __future__ import annotations

import signal
from pathlib import Path

import yaml
from harness import ACTIVE, Graph, statuses
from rosbags.highlevel import AnyReader
from shopfloor_msgs.msg import InspectionResult

from shopfloor.replay.bag import read, typestore
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
