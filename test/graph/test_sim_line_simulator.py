"""line_simulator in a graph: truth and frames agree, faults are seen, nothing is left behind."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from harness import ACTIVATE, ACTIVE, CLEANUP, CONFIGURE, DEACTIVATE, Graph, statuses
from shopfloor_msgs.msg import CameraState

SIMULATOR, CAMERA = "/line_simulator", "/camera"


def parameters(folder: Path, **more: object) -> dict[str, object]:
    return {
        "address": folder / "camera.sock",
        "parts_per_minute": 1200.0,
        "batch": "t",
        "width": 320,
        "height": 320,
        "listener_wait_s": 20.0,
        **more,
    }


def by_part(messages: list[Any]) -> dict[str, Any]:
    return {message.part_id: message for message in messages}


def test_truth_and_frames_agree(graph: Graph) -> None:
    truths, infos = graph.collect("part_truth"), graph.collect("frame_info", camera="camera")
    states = graph.collect("camera_state", camera="camera")
    graph.start("camera:camera", parameters={"address": graph.folder / "camera.sock"})
    graph.until(lambda: states, "the camera's first word")  # its endpoints are found by then
    graph.start("line_simulator:line_simulator", parameters=parameters(graph.folder, parts=12))
    graph.until(lambda: len(truths) >= 12 and len(infos) >= 12, "12 parts")
    assert set(by_part(truths)) == set(by_part(infos)) == {f"t-{n:06d}" for n in range(1, 13)}
    for part_id, truth in by_part(truths).items():
        info = by_part(infos)[part_id]
        assert truth.frame_sequence == info.sequence
        assert truth.header.frame_id == "camera"
        assert truth.defective == bool(truth.defects)
        apart_s = truth.header.stamp.sec - info.header.stamp.sec
        apart_ns = apart_s * 10**9 + truth.header.stamp.nanosec - info.header.stamp.nanosec
        assert abs(apart_ns) < 5e6
        for defect in truth.defects:
            assert defect.x_px >= 0 and defect.x_px + defect.width_px <= 320
            assert defect.y_px >= 0 and defect.y_px + defect.height_px <= 320
    assert any(truth.defective for truth in truths)
    assert not all(truth.defective for truth in truths)


def test_a_killed_simulator_leaves_a_camera_that_comes_back(graph: Graph) -> None:
    states = graph.collect("camera_state", camera="camera")
    infos = graph.collect("frame_info", camera="camera")
    graph.start("camera:camera", parameters={"address": graph.folder / "camera.sock"})
    first = graph.start(
        "line_simulator:line_simulator", parameters=parameters(graph.folder, listener_wait_s=0.0)
    )
    graph.until(lambda: infos, "a frame")
    first.signal(signal.SIGKILL)
    first.wait()
    graph.until(lambda: states and states[-1].state == CameraState.STATE_LOST, "a lost camera")
    assert (graph.folder / "camera.sock").exists()  # SIGKILL leaves it; the next one replaces it
    second = graph.start(
        "line_simulator:line_simulator",
        parameters=parameters(graph.folder, batch="second", listener_wait_s=0.0),
    )
    graph.until(lambda: any(i.part_id.startswith("second") for i in infos), "parts again")
    second.signal(signal.SIGINT)
    assert second.wait() == 0
    assert not (graph.folder / "camera.sock").exists()


def test_an_unplugged_camera_is_said_and_parts_go_by_unseen(graph: Graph) -> None:
    truths = graph.collect("part_truth")
    states = graph.collect("camera_state", camera="camera")
    diagnostics = graph.collect("diagnostics")
    graph.start("camera:camera", parameters={"address": graph.folder / "camera.sock"})
    graph.start("line_simulator:line_simulator", parameters=parameters(graph.folder))
    graph.until(lambda: truths and states, "a part")
    before = states[-1].reconnects
    done, reason = graph.set(SIMULATOR, "faults", ["melt@0+1"])
    assert not done and "kinds are unplug, freeze, corrupt, gap" in reason
    # Longer than a busy machine takes to tell; another timetable ends it.
    assert graph.set(SIMULATOR, "faults", ["unplug@0+3600"])[0]
    graph.until(lambda: states and states[-1].state == CameraState.STATE_LOST, "a lost camera")
    graph.until(
        lambda: statuses(diagnostics, SIMULATOR)["belt"].message == "simulated fault: unplug",
        "the fault in /diagnostics",
    )
    graph.until(lambda: any(t.frame_sequence == 0 for t in truths), "truth of an unseen part")
    assert graph.set(SIMULATOR, "faults", ["unplug@3600+1"])[0]
    graph.until(lambda: states[-1].state == CameraState.STATE_STREAMING, "the camera again")
    assert states[-1].reconnects > before


def test_a_second_simulator_on_the_same_socket_is_refused(graph: Graph) -> None:
    graph.start("line_simulator:line_simulator", parameters=parameters(graph.folder))
    graph.until_state(SIMULATOR, ACTIVE)
    second = graph.start("line_simulator:other", parameters=parameters(graph.folder))
    line = second.wait_line("activate failed")
    assert "another camera device listens on" in line


def test_it_can_be_stopped_and_started(graph: Graph) -> None:
    truths = graph.collect("part_truth")
    graph.start(
        "line_simulator:line_simulator",
        parameters=parameters(
            graph.folder, autostart=False, wait_for_camera=False, listener_wait_s=0.0
        ),
    )
    for _ in range(2):
        assert graph.change(SIMULATOR, CONFIGURE) and graph.change(SIMULATOR, ACTIVATE)
        seen = len(truths)
        graph.until(lambda seen=seen: len(truths) > seen + 3, "parts")
        assert graph.change(SIMULATOR, DEACTIVATE)
        assert not (graph.folder / "camera.sock").exists()
        assert graph.change(SIMULATOR, CLEANUP)
