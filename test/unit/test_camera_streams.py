"""RTSP against a real server over a real socket, and GStreamer as far as it goes without one."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
from rtsp_server import RtspServer, grey_of

from shopfloor.camera.capture import CaptureLoop, CaptureState
from shopfloor.camera.gstreamer import csi_pipeline, gstreamer_source
from shopfloor.camera.rtsp import rtsp_source
from shopfloor.camera.source import Cause, Grab, SourceError, SourceLost
from shopfloor.camera.stream import StreamSource, without_password

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@pytest.fixture
def serve() -> Iterator[Any]:
    servers: list[RtspServer] = []

    def make(*args: Any, **options: Any) -> RtspServer:
        servers.append(RtspServer(*args, **options))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def cause_of(source: StreamSource) -> tuple[Cause, str]:
    with pytest.raises(SourceError) as error:
        source.open()
    return error.value.cause, str(error.value)


def test_rtsp_frames_come_in_order_with_the_time_of_the_stream(serve: Any) -> None:
    source = rtsp_source(serve().url)
    source.open()
    grabs = [source.read(0.1) for _ in range(10)]
    source.close()
    assert all(g is not None for g in grabs)
    greys = [round((g.image.mean() - 20) / 30) for g in grabs if g]
    assert [(b - a) % 8 for a, b in pairwise(greys)] == [1] * 9
    assert {(g.encoding, g.image.shape) for g in grabs if g} == {("bgr8", (240, 320, 3))}
    stamps = [g.device_stamp_ns for g in grabs if g and g.device_stamp_ns is not None]
    assert np.diff(stamps) == pytest.approx([20e6] * 9, abs=1e3)
    assert source.describe().has_clock


def test_rtsp_begins_with_the_present(serve: Any) -> None:
    """FFmpeg looks at half a second of a stream before it opens, and keeps it."""
    source = rtsp_source(serve(rate_hz=25.0).url)
    source.open()
    start = time.monotonic()
    for _ in range(5):
        source.read(0.1)
    assert time.monotonic() - start > 0.1, "frames of the past would come at once"
    source.close()


def test_rtsp_server_that_goes_is_a_loss_and_comes_back(serve: Any) -> None:
    server = serve()
    source = rtsp_source(server.url)
    grabs: list[Grab] = []
    came, lost = threading.Semaphore(0), threading.Event()
    loop = CaptureLoop(
        source,
        lambda g: (grabs.append(g), came.release())[1],
        lambda h: lost.set() if h.cause is Cause.ABSENT else None,
    )
    loop.start()
    assert came.acquire(timeout=20)
    server.close()
    assert lost.wait(20)
    assert loop.health().state is CaptureState.LOST
    while came.acquire(blocking=False):
        pass
    serve(server.port)
    assert came.acquire(timeout=20)
    assert loop.stop(5.0) and loop.health().reconnects == 1


def test_rtsp_stream_that_stalls_is_lost_after_the_silence(serve: Any) -> None:
    source = rtsp_source(serve(stall_after=60).url, silence_s=0.3)
    source.open()
    with pytest.raises(SourceLost, match="gave no frame for 0") as error:
        while True:
            source.read(0.1)
    assert error.value.cause is Cause.NO_FRAMES
    source.close()


@pytest.mark.parametrize(
    ("status", "cause"), [(401, Cause.DENIED), (404, Cause.ABSENT), (453, Cause.BUSY)]
)
def test_rtsp_refusals_have_their_cause(serve: Any, status: int, cause: Cause) -> None:
    got, text = cause_of(rtsp_source(serve(status=status).url))
    assert got is cause and str(status) in text


def test_rtsp_password_that_is_not_taken_is_never_shown(serve: Any) -> None:
    server = serve(status=401)
    source = rtsp_source(f"rtsp://eve:s3cret@127.0.0.1:{server.port}/belt")
    cause, text = cause_of(source)
    assert cause is Cause.FORMAT and "eve:***@127.0.0.1" in text
    assert "s3cret" not in text + str(source.describe())


def test_rtsp_openings_are_bounded(serve: Any) -> None:
    start = time.monotonic()
    assert cause_of(rtsp_source(serve(mute=True).url, open_timeout_s=0.2))[0] is Cause.ABSENT
    assert time.monotonic() - start < 5.0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    cause, text = cause_of(rtsp_source(f"rtsp://127.0.0.1:{port}/belt"))
    assert cause is Cause.ABSENT and f"127.0.0.1:{port}: Connection refused" in text


def test_what_answers_but_is_no_rtsp_is_a_format() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            client, _ = listener.accept()
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            client.close()

        threading.Thread(target=answer, daemon=True).start()
        url = f"rtsp://127.0.0.1:{listener.getsockname()[1]}/belt"
        assert cause_of(rtsp_source(url)) == (
            Cause.FORMAT, f"what answers at {url[7:-5]} speaks no RTSP"
        )  # fmt: skip


@pytest.mark.parametrize(
    "url", ["camera.local/belt", "http://camera/belt", "rtsp:///belt", "rtsp://c:x/"]
)
def test_rtsp_address_that_is_no_stream_is_refused(url: str) -> None:
    with pytest.raises(SourceError) as error:
        rtsp_source(url)
    assert error.value.cause is Cause.CONFIGURATION


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://u:S3CRET@cam:554/1", "rtsp://u:***@cam:554/1"),
        ("rtsp://u:S3@CRET@cam/1", "rtsp://u:***@cam/1"),
        ("rtsp://u@plant:S3CRET@cam/1", "rtsp://u@plant:***@cam/1"),
        ("rtsp://u:S3/C?R#ET@cam/1", "rtsp://u:***@cam/1"),
        ("u:S3CRET@cam/1", "u:***@cam/1"),
        ("rtsp://cam/1?user=a&password=S3CRET&x=1", "rtsp://cam/1?user=a&password=***&x=1"),
        ("rtsp://cam/1?pwd=S3CRET!&user-pass=CRET", "rtsp://cam/1?pwd=***&user-pass=***"),
        ("rtsp://cam/user=a_password=S3CRET", "rtsp://cam/user=a_password=***"),
        (
            "rtspsrc user-id=a user-pw=S3&C!RET location=rtsp://u:p:CRET@cam/1 ! x ! appsink",
            "rtspsrc user-id=a user-pw=*** location=rtsp://u:***@cam/1 ! x ! appsink",
        ),
        (r'rtspsrc USER-PW = "S3 C\"RET" ! appsink', "rtspsrc USER-PW = *** ! appsink"),
        ("rtspsrc proxy-pw='S3 CRET' ! appsink", "rtspsrc proxy-pw=*** ! appsink"),
        (r"rtspsrc user-pw=S3\ CRET ! appsink", "rtspsrc user-pw=*** ! appsink"),
        ("srtsrc uri=srt://cam:9 passphrase=S3CRET", "srtsrc uri=srt://cam:9 passphrase=***"),
    ],
)
def test_passwords_are_cut_out_of_any_text(text: str, shown: str) -> None:
    assert without_password(text) == shown
    assert without_password(shown) == shown


@pytest.mark.parametrize(
    "text",
    ["rtsp://cam:554/1", "rtsp://cam:554/one@two", "rtsp://cam:554?stream=a@b", "/dev/video0",
     "videotestsrc bypass=true ! appsink", "rtsp://tok@cam:554/one@two"],
)  # fmt: skip
def test_text_without_a_password_is_left_as_it_is(text: str) -> None:
    assert without_password(text) == text


@pytest.mark.parametrize("address", ["rtsp://u:S3/CRET@cam/1", "http://u:S3CRET@cam", "u:S3CRET@c"])
def test_an_address_that_is_refused_keeps_its_password(address: str) -> None:
    with pytest.raises(SourceError) as error:
        rtsp_source(address)
    assert error.value.cause is Cause.CONFIGURATION
    assert "S3" not in str(error.value) and "CRET" not in str(error.value)


# GStreamer


def test_gstreamer_is_missed_by_name_where_opencv_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda backend: False)
    with pytest.raises(SourceError, match="JetPack, Debian or Ubuntu") as error:
        gstreamer_source("videotestsrc ! videoconvert ! appsink")
    assert error.value.cause is Cause.CONFIGURATION


def test_gstreamer_pipelines_are_checked_and_a_number_is_a_csi_sensor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[tuple[Any, ...]] = []

    class Capture:
        def __init__(self, *args: Any) -> None:
            opened.append(args)

        def isOpened(self) -> bool:
            return False

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda backend: True)
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    with pytest.raises(SourceError, match="does not end in an appsink"):
        gstreamer_source("videotestsrc ! fakesink")
    with pytest.raises(SourceError) as error:
        gstreamer_source("rtspsrc user-pw=S3CRET ! fakesink")
    assert "S3CRET" not in str(error.value)
    monkeypatch.setattr(cv2, "__version__", "4.6.0")
    assert cause_of(gstreamer_source("videotestsrc ! appsink"))[0] is Cause.FORMAT
    assert opened.pop() == ("videotestsrc ! appsink", cv2.CAP_GSTREAMER), "4.6 refuses limits"
    monkeypatch.setattr(cv2, "__version__", "4.10.0-pre")
    source = gstreamer_source("1", width=1920, height=1080, rate_hz=29.97, open_timeout_s=1.5)
    assert cause_of(source)[0] is Cause.FORMAT
    pipeline, backend, limits = opened[0]
    assert backend == cv2.CAP_GSTREAMER and limits[1] == 1500
    assert pipeline == csi_pipeline(1, 1920, 1080, 29.97) and "sensor-id=1" in pipeline
    assert "width=1920, height=1080, framerate=29970/1000" in pipeline
    assert "drop=true max-buffers=1" in pipeline and source.describe().kind == "gstreamer"


def test_grey_levels_of_the_test_server_tell_pictures_apart() -> None:
    assert len({grey_of(n) for n in range(8)}) == 8
