"""The camera node when its source is missing, broken, empty, or goes away."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from harness import ACTIVATE, CONFIGURE, DEACTIVATE, Graph, statuses
from shopfloor_msgs.msg import CameraState


def write_pictures(folder: Path, count: int = 3) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        cv2.imwrite(str(folder / f"p{number}.png"), np.full((8, 8, 3), number * 20, np.uint8))
    return folder


def start(graph: Graph, **parameters: object) -> Any:
    return graph.start("camera:camera", parameters={"rate_hz": 20.0, **parameters})


def until_cause(graph: Graph, states: list[Any], cause: int, needle: str) -> None:
    graph.until(
        lambda: states and states[-1].cause == cause and needle in states[-1].cause_text,
        f"cause {cause} with {needle!r}",
    )


def test_an_absent_folder_is_an_error_that_ends_when_it_comes(graph: Graph, tmp_path: Path) -> None:
    folder = tmp_path / "belt"
    states = graph.collect("camera_state", camera="camera")
    diagnostics = graph.collect("diagnostics")
    child = start(graph, source="folder", address=folder, loop=True)
    child.wait_line(f"no folder {folder}")
    until_cause(graph, states, CameraState.CAUSE_ABSENT, str(folder))
    assert states[-1].state == CameraState.STATE_OPENING
    graph.until(
        lambda: (
            (s := statuses(diagnostics, "/camera").get("source"))
            and s.level == b"\x02"
            and s.message.startswith("absent: ")
        ),
        "ERROR in /diagnostics",
    )
    folder.mkdir()
    until_cause(graph, states, CameraState.CAUSE_EMPTY, "is empty")
    write_pictures(folder)
    graph.until(lambda: states[-1].state == CameraState.STATE_STREAMING, "frames")
    graph.until(
        lambda: statuses(diagnostics, "/camera")["source"].level == b"\x00", "OK in /diagnostics"
    )
    assert states[-1].cause == CameraState.CAUSE_NONE and states[-1].width == 8
    assert "Traceback" not in child.output


def test_a_source_that_goes_away_is_lost_and_comes_back(graph: Graph, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "belt")
    states = graph.collect("camera_state", camera="camera")
    start(graph, source="folder", address=folder, loop=True)
    graph.until(lambda: states and states[-1].frames > 3, "frames")
    shutil.rmtree(folder)
    graph.until(lambda: states[-1].state == CameraState.STATE_LOST, "the loss")
    write_pictures(folder)
    graph.until(lambda: states[-1].state == CameraState.STATE_STREAMING, "frames again")
    graph.until(lambda: states[-1].reconnects == 1, "the count")
    assert states[-1].last_outage_s > 0


def test_a_camera_that_nobody_hears_begins_each_time_it_is_activated(
    graph: Graph, tmp_path: Path
) -> None:
    folder = write_pictures(tmp_path / "belt")
    states = graph.collect("camera_state", camera="camera")
    start(graph, source="folder", address=folder, loop=True, autostart=False, listener_wait_s=0.5)
    assert graph.change("camera", CONFIGURE)
    for _ in range(3):
        assert graph.change("camera", ACTIVATE)
        states.clear()
        graph.until(lambda: states and states[-1].frames > 2, "frames")
        assert graph.change("camera", DEACTIVATE)


def test_a_state_that_was_published_before_is_known_to_who_comes_late(
    graph: Graph, tmp_path: Path
) -> None:
    child = start(graph, source="video", address=tmp_path / "absent.mp4")
    child.wait_line("no video")
    states = graph.collect("camera_state", camera="camera")
    until_cause(graph, states, CameraState.CAUSE_ABSENT, "absent.mp4")


def test_the_end_of_a_folder_is_told_and_is_no_error(graph: Graph, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "belt")
    states = graph.collect("camera_state", camera="camera")
    infos = graph.collect("frame_info", camera="camera")
    diagnostics = graph.collect("diagnostics")
    start(graph, source="folder", address=folder)
    graph.until(lambda: states and states[-1].state == CameraState.STATE_ENDED, "the end")
    assert states[-1].frames == 3 and states[-1].cause == CameraState.CAUSE_NONE
    graph.until(
        lambda: (s := statuses(diagnostics, "/camera").get("source")) and "3 pictures" in s.message,
        "the end in /diagnostics",
    )
    assert statuses(diagnostics, "/camera")["source"].level == b"\x01"
    assert len(infos) <= 3


def test_corrupt_pictures_are_counted_and_the_others_come(graph: Graph, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "belt")
    (folder / "p0a.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (folder / "p1a.jpg").write_bytes(b"")
    states = graph.collect("camera_state", camera="camera")
    infos = graph.collect("frame_info", camera="camera")
    child = start(graph, source="folder", address=folder, loop=True)
    graph.until(lambda: states and states[-1].bad_frames >= 4, "bad frames")
    graph.until(
        lambda: {"p0", "p1", "p2"} <= {i.part_id.split("#")[0] for i in infos if i.width},
        "good frames",
    )
    assert states[-1].state == CameraState.STATE_STREAMING
    assert states[-1].dropped_device == 0, "a bad frame is no lost frame"
    child.wait_line("bad_frame .*p0a.png")


@pytest.mark.parametrize(
    ("parameters", "needle"),
    [
        ({"source": "folder"}, "source folder needs the parameter 'address'"),
        ({"source": "v4l2", "address": "/dev/video9", "pixel_format": "MJPEG"}, "four-character"),
        ({"source": "webcam"}, "'webcam' is not allowed; allowed: one of 'folder'"),
        ({"source": "folder", "address": "x", "rate_hz": -1.0}, "rate_hz: -1.0 is not allowed"),
    ],
)
def test_parameters_that_could_never_work_are_refused_at_configure(
    graph: Graph, parameters: dict[str, object], needle: str
) -> None:
    child = start(graph, **parameters)
    assert needle in child.wait_line("configure failed")
    assert child.process.poll() is None and "Traceback" not in child.output


def test_an_absent_device_is_diagnosed(graph: Graph) -> None:
    states = graph.collect("camera_state", camera="camera")
    child = start(graph, source="v4l2", address="/dev/video_absent")
    until_cause(graph, states, CameraState.CAUSE_ABSENT, "/dev/video_absent")
    assert "Traceback" not in child.output


def test_a_part_id_that_is_too_long_for_a_plc_is_cut_and_still_its_own(
    graph: Graph, tmp_path: Path
) -> None:
    folder = tmp_path / "belt"
    folder.mkdir()
    stem = "n\u00e4me" * 25
    for ending in "ab":
        cv2.imwrite(str(folder / f"{stem}{ending}.png"), np.zeros((8, 8), np.uint8))
    infos = graph.collect("frame_info", camera="camera")
    start(graph, source="folder", address=folder, loop=True)
    graph.until(lambda: len(infos) >= 4, "frames")
    ids = [i.part_id for i in infos]
    assert all(len(i.encode()) <= 64 for i in ids) and len(set(ids[-2:])) == 2
