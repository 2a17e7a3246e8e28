"""The camera node on devices: the SDK's emulator, an RTSP server that dies, a bag, simulator."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from harness import ACTIVATE, CONFIGURE, DEACTIVATE, LIMIT_S, ROOT, Child, Graph, statuses
from rclpy.time import Time
from shopfloor_msgs.msg import CameraState
from std_srvs.srv import Trigger
from test_camera_simulated import Wire


def stamp_ns(message: Any) -> int:
    return int(Time.from_msg(message.header.stamp).nanoseconds)


def camera(graph: Graph, env: dict[str, str] | None = None, **parameters: object) -> Child:
    arguments = ["-m", "shopfloor.plant.group", "--node", "camera:camera", "--ros-args"]
    for key, value in parameters.items():
        text = str(value).lower() if isinstance(value, bool) else value
        arguments += ["-p", f"{key}:={text}"]
    return graph.python(*arguments, env=env or {})


def calibration(folder: Path, width: int, height: int) -> Path:
    def matrix(rows: int, data: list[float]) -> dict[str, object]:
        return {"rows": rows, "cols": len(data) // rows, "data": data}

    path = folder / "camera.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "image_width": width,
                "image_height": height,
                "distortion_model": "plumb_bob",
                "camera_matrix": matrix(3, [400.0, 0, 160, 0, 400, 120, 0, 0, 1]),
                "distortion_coefficients": matrix(1, [0.1, 0, 0, 0, 0]),
                "rectification_matrix": matrix(3, [1.0, 0, 0, 0, 1, 0, 0, 0, 1]),
                "projection_matrix": matrix(3, [400.0, 0, 160, 0, 0, 400, 120, 0, 0, 0, 1, 0]),
            }
        ),
        "utf-8",
    )
    return path


def test_a_triggered_camera_names_parts_and_reads_its_settings_back(
    graph: Graph, tmp_path: Path
) -> None:
    pytest.importorskip("pypylon", reason="pypylon is not installed")
    infos = graph.collect("frame_info", camera="camera")
    states = graph.collect("camera_state", camera="camera")
    lenses = graph.collect("camera_info", camera="camera")
    diagnostics = graph.collect("diagnostics")
    camera(
        graph,
        {"PYLON_CAMEMU": "1"},
        source="genicam",
        trigger="software",
        width=320,
        height=240,
        exposure_us=1500.0,
        gain_db=3.0,
        calibration=calibration(tmp_path, 320, 240),
        part_template="belt-{series}-{trigger:04d}",
    )
    graph.until(
        lambda: (
            "pixel_format" in {v.key for v in statuses(diagnostics, "/camera")["settings"].values}
        ),
        "the camera is set up",
    )
    graph.until(
        lambda: statuses(diagnostics, "/camera")["source"].message.endswith("first trigger"),
        "it waits",
    )
    assert statuses(diagnostics, "/camera")["source"].level == b"\x00", "silence is no fault"
    for _ in range(3):
        answer = graph.call(Trigger, "camera/trigger", Trigger.Request())
        assert answer.success, answer.message
    graph.until(lambda: len(infos) >= 3 and len(lenses) >= 3, "three pictures")
    graph.until(lambda: states[-1].frames == 3, "the count")
    ids = [i.part_id for i in infos]
    assert [i.rsplit("-", 1)[1] for i in ids] == ["0001", "0002", "0003"]
    assert ids[0].startswith("belt-20") and len({i.rsplit("-", 1)[0] for i in ids}) == 1
    assert [i.trigger_sequence for i in infos] == [1, 2, 3]
    assert infos[0].exposure_us == pytest.approx(1500.0, rel=0.01)
    assert infos[0].gain_db == pytest.approx(3.0, abs=0.1)
    assert infos[0].stamp_error_ms < 1000.0
    assert infos[0].source == "0815-0000" == states[-1].device_id
    assert [stamp_ns(m) for m in lenses] == [stamp_ns(i) for i in infos]
    assert lenses[0].k[0] == 400.0 and lenses[0].width == 320
    settings = {v.key: v.value for v in statuses(diagnostics, "/camera")["settings"].values}
    assert settings["trigger"] == "Software" and settings["pixel_format"] == "Mono8"
    assert float(settings["exposure_us"]) == pytest.approx(1500.0, rel=0.01)


def test_a_triggered_camera_that_was_pulled_is_well_again_and_names_parts_when_it_is_activated(
    graph: Graph,
) -> None:
    """Its part ids have no series, so that none may be given once the count began anew."""
    states = graph.collect("camera_state", camera="camera")
    infos = graph.collect("frame_info", camera="camera")
    diagnostics = graph.collect("diagnostics")
    wire = Wire(graph.folder / "camera.sock")
    wire.listener.settimeout(LIMIT_S)
    graph.start(
        "camera:camera",
        parameters={
            "address": graph.folder / "camera.sock",
            "part_template": "belt-{trigger}",
            "autostart": False,
            "listener_wait_s": 60.0,
        },
    )

    def info(trigger: int, **frame: Any) -> Any:
        """What is told of the next frame."""
        count = len(infos)
        frame.setdefault("steady_ns", time.monotonic_ns())
        wire.send(trigger, trigger=trigger, **frame)
        graph.until(lambda: len(infos) > count, f"frame {trigger}")
        return infos[-1]

    assert graph.change("camera", CONFIGURE) and graph.change("camera", ACTIVATE)
    wire.accept()
    good = info(7)
    bad = info(8, short_by=1, steady_ns=time.monotonic_ns() - 60 * 10**9)
    assert [good.part_id, bad.part_id] == ["belt-7", "belt-8"] and bad.width == 0
    assert stamp_ns(good) - stamp_ns(bad) > 30e9, "where a part is follows from its exposure"
    graph.until(
        lambda: states and states[-1].state == CameraState.STATE_STREAMING, "the state of now"
    )
    wire.peer.close()
    wire.accept()
    graph.until(lambda: states[-1].state == CameraState.STATE_OPENING, "it waits for a trigger")
    assert states[-1].cause == CameraState.CAUSE_NONE
    graph.until(
        lambda: statuses(diagnostics, "/camera")["source"].message.endswith("first trigger"),
        "no error in /diagnostics",
    )
    assert info(1).part_id == ""
    graph.until(
        lambda: "until activated again" in statuses(diagnostics, "/camera")["settings"].message,
        "the error",
    )
    assert graph.change("camera", DEACTIVATE) and graph.change("camera", ACTIVATE)
    wire.accept()
    assert info(2).part_id == "belt-2"
    graph.until(
        lambda: statuses(diagnostics, "/camera")["settings"].level == b"\x00", "no error any more"
    )
    wire.close()


def test_a_calibration_of_another_size_is_an_error_and_is_not_published(
    graph: Graph, tmp_path: Path
) -> None:
    (tmp_path / "belt").mkdir()
    cv2.imwrite(str(tmp_path / "belt" / "a.png"), np.zeros((8, 8), np.uint8))
    lenses = graph.collect("camera_info", camera="camera")
    diagnostics = graph.collect("diagnostics")
    camera(
        graph,
        source="folder",
        address=tmp_path / "belt",
        loop=True,
        rate_hz=20.0,
        calibration=calibration(tmp_path, 320, 240),
    )
    graph.until(
        lambda: "320 x 240 pixels" in statuses(diagnostics, "/camera")["settings"].message,
        "the error",
    )
    assert statuses(diagnostics, "/camera")["settings"].level == b"\x02" and lenses == []


def test_an_rtsp_server_that_is_killed_is_lost_and_comes_back(graph: Graph) -> None:
    states = graph.collect("camera_state", camera="camera")
    infos = graph.collect("frame_info", camera="camera")
    server = [str(ROOT / "test" / "unit" / "rtsp_server.py"), "--rate", "25", "--port"]
    first = graph.python(*server, "0")
    url = first.wait_line("rtsp://")
    camera(graph, source="rtsp", address=url)
    graph.until(lambda: len(infos) > 5, "frames")
    first.signal(signal.SIGKILL)
    graph.until(lambda: states[-1].cause == CameraState.CAUSE_ABSENT, "the loss")
    assert states[-1].state == CameraState.STATE_LOST
    count = len(infos)
    graph.python(*server, url.rsplit(":", 1)[1].split("/")[0])
    graph.until(lambda: len(infos) > count + 5, "frames again")
    graph.until(lambda: states[-1].reconnects == 1, "the count")
    stamps = [stamp_ns(i) for i in infos]
    assert stamps == sorted(stamps) and infos[-1].source == url


def test_a_bag_gives_the_recorded_stamps_and_parts(graph: Graph, tmp_path: Path) -> None:
    pytest.importorskip("rosbags", reason="rosbags is not installed")
    from test_camera_bag import BEGIN, PERIOD, write

    infos = graph.collect("frame_info", camera="camera")
    states = graph.collect("camera_state", camera="camera")
    camera(graph, source="bag", address=write(tmp_path / "bag"), listener_wait_s=30.0)
    graph.until(lambda: states and states[-1].state == CameraState.STATE_ENDED, "the end")
    graph.until(lambda: len(infos) == 6, "all infos")
    read = [i for i in infos if i.width]
    assert [i.part_id for i in read] == ["p0", "p1", "p2", "p4"]
    assert sorted(map(stamp_ns, infos)) == [BEGIN + n * PERIOD for n in range(6)]
    assert [stamp_ns(i) for i in read] == [BEGIN + n * PERIOD for n in (0, 1, 2, 4)]
    assert states[-1].bad_frames == 2 and states[-1].dropped_device == 0


def test_the_first_frames_wait_for_who_listens(graph: Graph, tmp_path: Path) -> None:
    folder = tmp_path / "belt"
    folder.mkdir()
    for n in range(12):
        cv2.imwrite(str(folder / f"p{n}.png"), np.full((8, 8), n, np.uint8))
    infos = graph.collect("frame_info", camera="camera")
    template = "belt-{series}-{frame:03d}"
    camera(graph, source="folder", address=folder, listener_wait_s=30.0, part_template=template)
    graph.until(lambda: len(infos) == 12, "every picture's info, from the first on")
    assert [i.part_id[-4:] for i in infos] == [f"-{n:03d}" for n in range(1, 13)]
    assert len({i.part_id[:-4] for i in infos}) == 1


def test_a_sensor_that_freezes_is_seen_though_its_counters_run_on(graph: Graph) -> None:
    states = graph.collect("camera_state", camera="camera")
    infos = graph.collect("frame_info", camera="camera")
    graph.start("line_simulator:line", parameters={"parts_per_minute": 600, "camera": "camera",
                "faults": "[freeze@1+600]"})  # fmt: skip
    camera(graph, source="simulated", part_template="belt1-{trigger}")
    graph.until(lambda: states and states[-1].cause == CameraState.CAUSE_BAD_FRAMES, "the freeze")
    assert "frozen" in states[-1].cause_text
    graph.until(lambda: sum(i.width == 0 for i in infos) >= 2, "parts that nobody saw")
    ids = [i.part_id for i in infos]
    assert all(i.startswith("belt1-") for i in ids) and len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("parameters", "needle"),
    [
        ({"source": "folder", "address": "x", "part_template": "b{trigger}"}, "counts triggers"),
        ({"source": "simulated", "part_template": "part"}, r"has no \{trigger\}"),
        ({"source": "simulated", "calibration": "/absent.yaml"}, "/absent.yaml: No such file"),
        ({"source": "gstreamer", "address": "videotestsrc ! appsink"}, "OpenCV with GStreamer"),
        ({"source": "rtsp", "address": "camera.local"}, "allowed: rtsp://"),
    ],
)
def test_what_could_never_work_is_refused_at_configure(
    graph: Graph, parameters: dict[str, object], needle: str
) -> None:
    if parameters["source"] == "gstreamer" and cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        pytest.skip("this OpenCV has GStreamer")
    child = camera(graph, **parameters)
    child.wait_line(f"configure failed.*{needle}")
    assert child.process.poll() is None and "Traceback" not in child.output
