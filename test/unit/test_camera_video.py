"""A video file as a camera."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from camera_tools import read_all

from shopfloor.camera.source import Cause, SourceError
from shopfloor.camera.video import VideoSource


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "belt.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 50.0, (64, 48))
    assert writer.isOpened()
    for value in (40, 80, 120):
        writer.write(np.full((48, 64, 3), value, np.uint8))
    writer.release()
    return path


def test_video_gives_its_frames_and_ends(video: Path) -> None:
    source = VideoSource(video, rate_hz=1000.0)
    source.open()
    grabs, bad = read_all(source)
    assert [round(float(g.image.mean()), -1) for g in grabs] == [40, 80, 120]
    assert [g.sequence for g in grabs] == [1, 2, 3] and bad == []
    assert grabs[2].device_stamp_ns == pytest.approx(40e6, abs=25e6)


def test_video_takes_the_rate_of_the_file_when_none_is_given(video: Path) -> None:
    source = VideoSource(video)
    source.open()
    assert source.describe().rate_hz == pytest.approx(50.0)


def test_video_loops(video: Path) -> None:
    source = VideoSource(video, rate_hz=1000.0, loop=True)
    source.open()
    grabs = [g for g in (source.read(0.1) for _ in range(7)) if g]
    assert [g.sequence for g in grabs] == list(range(1, 8))
    assert grabs[3].image.mean() == pytest.approx(40, abs=3)


def test_video_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    for path, cause in (
        (tmp_path / "absent.mp4", Cause.ABSENT),
        (tmp_path, Cause.FORMAT),
        (text, Cause.FORMAT),
    ):
        with pytest.raises(SourceError) as caught:
            VideoSource(path).open()
        assert caught.value.cause is cause and str(path) in str(caught.value)


def test_video_cut_short_gives_what_it_has(video: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.avi"
    cut.write_bytes(video.read_bytes()[:-200])
    source = VideoSource(cut, rate_hz=1000.0)
    try:
        source.open()
    except SourceError as error:
        assert error.cause in (Cause.FORMAT, Cause.EMPTY)
    else:
        assert 1 <= len(read_all(source)[0]) <= 3
