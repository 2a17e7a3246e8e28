"""A GStreamer pipeline, or a Jetson's CSI camera by its number, through OpenCV's GStreamer."""

from __future__ import annotations

from typing import Any

import cv2

from shopfloor.camera.source import Cause, SourceError
from shopfloor.camera.stream import StreamSource, without_password

FIRST_WITH_LIMITS = (4, 8)
"""Before it, OpenCV refuses GStreamer pipelines with time limits; a silent one then holds the
capture thread, and the node reports it."""


def csi_pipeline(sensor: int, width: int, height: int, rate_hz: float) -> str:
    """The pipeline of a Jetson's CSI camera through its image processor, as bgr8.

    The appsink keeps one frame and drops older ones: latest wins.
    """
    caps = "video/x-raw(memory:NVMM)"
    if width and height:
        caps += f", width={width}, height={height}"
    if rate_hz:
        caps += f", framerate={round(rate_hz * 1000)}/1000"
    return (
        f"nvarguscamerasrc sensor-id={sensor} ! {caps} ! nvvidconv ! video/x-raw, format=BGRx ! "
        "videoconvert ! video/x-raw, format=BGR ! appsink drop=true max-buffers=1 sync=false"
    )


def gstreamer_source(
    address: str,
    *,
    width: int = 0,
    height: int = 0,
    rate_hz: float = 0.0,
    open_timeout_s: float = 2.0,
    silence_s: float = 2.0,
) -> StreamSource:
    """The stream of a pipeline that ends in an appsink, or of the CSI camera of that number.

    width, height, rate_hz: for a CSI camera; a pipeline says such things itself.
    Raises SourceError where OpenCV has no GStreamer (its packages from PyPI have none).
    """
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        text = "source gstreamer needs an OpenCV with GStreamer: that of JetPack, Debian or Ubuntu"
        raise SourceError(Cause.CONFIGURATION, f"{text}; the one from PyPI has none")
    pipeline = address.strip()
    if pipeline.isdigit():
        pipeline = csi_pipeline(int(pipeline), width, height, rate_hz)
    if "appsink" not in pipeline:
        text = f"pipeline {without_password(pipeline)!r}"
        raise SourceError(Cause.CONFIGURATION, f"{text} does not end in an appsink")

    def open_capture(open_ms: int, read_ms: int) -> Any:
        if _version() < FIRST_WITH_LIMITS:
            return cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_ms]
        return cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER, limits)

    # OpenCV tells the pipeline's position at the time of asking, which is not the frame's stamp.
    return StreamSource(
        "gstreamer",
        pipeline,
        open_capture,
        has_clock=False,
        open_timeout_s=open_timeout_s,
        silence_s=silence_s,
    )


def _version() -> tuple[int, ...]:
    return tuple(int(part) for part in cv2.__version__.split(".")[:2])
