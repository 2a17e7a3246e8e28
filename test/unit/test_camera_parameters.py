"""A setting that its source would leave unheard is refused, with the sources that take it."""

from __future__ import annotations

from typing import Any

import pytest

from shopfloor.camera.parameters import SOURCES, CameraParameters


@pytest.mark.parametrize(
    ("asked", "takes"),
    [
        ({"exposure_us": 2000.0}, {"v4l2", "genicam"}),
        ({"gain_db": 0.0}, {"genicam"}),
        ({"trigger": "line"}, {"genicam"}),
        ({"trigger_line": "Line3"}, {"genicam"}),
        ({"pixel_format": "MJPG"}, {"v4l2", "genicam"}),
        ({"topic": "/camera/image_raw"}, {"bag"}),
        ({"loop": True}, {"folder", "video", "bag"}),
    ],
)
def test_a_setting_without_effect_is_refused(asked: dict[str, Any], takes: set[str]) -> None:
    (key,) = asked
    for source in SOURCES:
        problems = CameraParameters(source=source, **asked).problems()
        if source in takes:
            assert problems == []
        else:
            (problem,) = problems
            assert problem.key == key and f"source {source}; allowed with: " in problem.message
            assert all(name in problem.message for name in takes)


def test_a_camera_whose_frames_name_no_part_says_what_would() -> None:
    named = {source for source in SOURCES if not CameraParameters(source=source).nameless}
    assert named == {"folder", "bag", "simulated"}
    for source in SOURCES:
        assert not CameraParameters(source=source, part_template="{series}-{frame}").nameless
    trigger = {"part_template": "{series}-{trigger}"}
    assert not CameraParameters(source="genicam", trigger="line", **trigger).nameless
    for source in ("genicam", "v4l2", "rtsp", "gstreamer", "video", "folder", "bag"):
        said = CameraParameters(source=source, **trigger).nameless
        assert said.startswith(f"source {source} with trigger free_run and part_template")
        assert "allowed: genicam with trigger line or software" in said


@pytest.mark.parametrize("source", SOURCES)
def test_size_and_rate_are_told_of_any_camera(source: str) -> None:
    told = CameraParameters(source=source, rate_hz=30.0, width=1920, height=1080)
    assert told.problems() == []
