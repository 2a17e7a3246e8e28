"""`replay play`: a graph hears a bag at another pace, in the bag's time, again and again."""

from __future__ import annotations

import signal
from collections import Counter

import pytest
from harness import ACTIVE, ROOT, Child, Graph

from shopfloor.replay.bag_reader import BagReader
from shopfloor.ros.interfaces import interface
from shopfloor.ros.node import message_type
from shopfloor.ros.qos import publisher_qos

BAG = ROOT / "test" / "replay" / "golden" / "line"
INFO = "/line_1/station_camera/frame_info"
INSPECTOR = "/station_inspector"


def play(graph: Graph, *arguments: str) -> Child:
    remap = []
    for name in (INFO, INFO.replace("frame_info", "image_raw/compressed")):
        remap += ["--remap", f"{name}:={name.removeprefix('/line_1')}"]
    return graph.python("-m", "shopfloor.replay", "play", str(BAG), *remap, *arguments)


def recorded_stamps() -> dict[str, tuple[int, int]]:
    with BagReader(BAG) as reader:
        decode = reader.decoder()
        messages = [decode(item) for item in reader.messages([INFO])]
    return {m.part_id: (m.header.stamp.sec, m.header.stamp.nanosec) for m in messages}


def test_an_inspector_in_the_bags_time_hears_it_again_and_again(graph: Graph) -> None:
    graph.start(
        "inspector:station_inspector",
        parameters={"use_sim_time": True, "camera": "station_camera", "road": "compressed"},
    )
    results = graph.collect("inspection_result")
    graph.until_state(INSPECTOR, ACTIVE)
    child = play(graph, "--rate", "20", "--loop")
    graph.until(
        lambda: any(count > 1 for count in Counter(r.part_id for r in results).values()),
        "a part for the second time",
    )
    child.signal(signal.SIGINT)
    assert child.wait() == 0, child.output
    assert "messages, the latest" in child.output
    known = recorded_stamps()
    for result in results:
        stamp = result.header.stamp
        assert (stamp.sec, stamp.nanosec) == known[result.part_id]


def test_a_bag_is_not_played_over_a_camera_that_runs(graph: Graph) -> None:
    row = interface("frame_info")
    graph.node.create_publisher(
        message_type(row.type), row.resolve(camera="station_camera"), publisher_qos(row.qos)
    )
    child = play(graph, "--loop", "--topics", INFO.removeprefix("/line_1"))
    assert child.wait() == 2
    assert "is published on this domain already" in child.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rate", "0"], "--rate is above 0"),
        (["--start", "9999"], "allowed: 0 to below"),
        (["--topics", "/nothing"], "the bag has no /nothing; it has: /line_1"),
        (["--topics", "x", "--remap", "a:=b"], "allowed: /OLD:=/NEW"),
    ],
)
def test_wrong_arguments_are_named(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    from shopfloor.replay.cli import main

    assert main(["play", str(BAG), *arguments]) == 2
    assert words in capsys.readouterr().err
