"""The demo as its user runs it: the whole graph, the answer at the end, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import cv2
import psutil
import pytest
from harness import Child, Graph
from shopfloor_msgs.msg import PartVerdict

from shopfloor.replay.bag import read, typestore
from shopfloor.ros.paths import message_folder
from shopfloor.sim.parts import render

LIMIT_S = 120.0


def demo(graph: Graph, output: Path, *arguments: str) -> Child:
    return graph.python("-m", "shopfloor.demo", "--output", str(output), *arguments)


def heard_verdicts(graph: Graph) -> list[PartVerdict]:
    verdicts: list[PartVerdict] = []
    graph.node.create_subscription(PartVerdict, "/line_1/parts/verdict", verdicts.append, 10)
    return verdicts


def left_over(graph: Graph) -> list[str]:
    """Processes of the graph's domain that still run."""
    found = []
    for process in psutil.process_iter():
        try:
            same = process.environ().get("ROS_DOMAIN_ID") == str(graph.domain_id)
            if same and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def segments() -> set[str]:
    """Fast DDS data segments in shared memory; the test's own node holds port files open."""
    names = (path.name for path in Path("/dev/shm").iterdir())
    return {name for name in names if re.fullmatch("fastrtps_[0-9a-f]{16}", name)}


def test_the_simulated_line_is_inspected_and_reported(graph: Graph, tmp_path: Path) -> None:
    before = segments()
    output = tmp_path / "out"
    child = demo(graph, output, "--seconds", "10", "--json", str(tmp_path / "deep" / "s.json"))
    assert child.wait(LIMIT_S) == 0, child.output
    summary = json.loads((tmp_path / "deep" / "s.json").read_text())
    assert summary["parts"] >= 5
    assert summary["started_to_first_verdict_s"] < 60
    truth = summary["truth"]
    assert truth["parts_with_truth"] == summary["parts"]
    assert truth["caught"] + truth["escaped"] == truth["defective"]
    assert summary["alarms"] == {}
    (heat,) = summary["thermal"].values()
    assert heat["celsius"] > 40.0 and heat["rung_name"] in ("full", "careful")
    log = (output / "graph.log").read_text()
    assert "[ERROR]" not in log and "Traceback" not in log
    assert "data:image/jpeg" in (output / "report.html").read_text()
    types = typestore([message_folder("shopfloor_msgs")])
    topics = {topic for topic, _, _ in read(output / "bag", types)}
    assert {"/line_1/parts/verdict", "/line_1/inspection/result", "/diagnostics"} <= topics
    assert left_over(graph) == []
    assert segments() <= before


def test_control_c_ends_everything(graph: Graph, tmp_path: Path) -> None:
    before = segments()
    output = tmp_path / "out"
    child = demo(graph, output, "--seconds", "600", "--keep")
    verdicts = heard_verdicts(graph)
    graph.until(lambda: verdicts, "a verdict", LIMIT_S)
    child.signal(signal.SIGINT)
    assert child.wait(LIMIT_S) == 0, child.output
    assert left_over(graph) == []
    assert segments() <= before


def test_own_pictures_are_each_inspected_once(graph: Graph, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for seed in range(6):
        cv2.imwrite(str(pictures / f"board {seed}.png"), render("board", seed).image)
    (pictures / "broken.jpg").write_bytes(b"\xff\xd8 nothing more")
    (pictures / "notes.txt").write_text("not a picture")
    output = tmp_path / "out"
    child = demo(graph, output, "--images", str(pictures), "--seconds", "60")
    assert child.wait(LIMIT_S) == 0, child.output
    summary = json.loads((output / "summary.json").read_text())
    assert summary["parts"] == 7
    assert summary["review"] >= 1, "the broken picture must not pass"
    assert summary["truth"] is None


@pytest.mark.parametrize("kind", ["absent", "empty", "file"])
def test_a_folder_without_pictures_is_refused_at_once(
    graph: Graph, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "pictures"
    if kind == "empty":
        folder.mkdir()
    elif kind == "file":
        folder.write_text("x")
    child = demo(graph, tmp_path / "out", "--images", str(folder))
    assert child.wait() == 2
    assert str(folder) in child.output and "Traceback" not in child.output


def test_a_second_demo_on_the_same_domain_is_refused(graph: Graph, tmp_path: Path) -> None:
    first = demo(graph, tmp_path / "one", "--seconds", "600")
    verdicts = heard_verdicts(graph)
    graph.until(lambda: verdicts, "a verdict", LIMIT_S)
    second = demo(graph, tmp_path / "two", "--seconds", "5")
    assert second.wait(LIMIT_S) == 2
    assert "domain" in second.output and "Traceback" not in second.output
    first.signal(signal.SIGINT)
    assert first.wait(LIMIT_S) == 0
