"""A network camera's RTSP stream, read by OpenCV's FFmpeg over TCP."""

from __future__ import annotations

import os
import socket
from typing import Any
from urllib.parse import urlsplit

import cv2

from shopfloor.camera.source import Cause, SourceError
from shopfloor.camera.stream import StreamSource, without_password

FFMPEG_OPTIONS = "rtsp_transport;tcp|analyzeduration;200000|fpsprobesize;0"
"""FFmpeg's own way is to look at a stream for up to 5 s before it opens: measured 0.7 s of MJPEG
and 2.0 s of H.264, with this 0.06 s and the 1.1 s until the next key frame."""

_PORTS = {"rtsp": 554, "rtsps": 322}
_CAUSES = {
    401: Cause.DENIED,
    403: Cause.DENIED,
    404: Cause.ABSENT,
    453: Cause.BUSY,
    503: Cause.BUSY,
}


def rtsp_source(url: str, *, open_timeout_s: float = 2.0, silence_s: float = 2.0) -> StreamSource:
    """The stream at `url` (rtsp://USER:PASSWORD@HOST:PORT/PATH); raises SourceError if it is none.

    OPENCV_FFMPEG_CAPTURE_OPTIONS of the environment, for UDP for example, takes the place of
    FFMPEG_OPTIONS: OpenCV knows no other way to hand them on.
    """
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", FFMPEG_OPTIONS)
    # What FFmpeg prints of a stream repeats our errors without naming the camera.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    name = without_password(url)
    text = f"address {name!r} is no URL of a stream; allowed: rtsp://HOST[:PORT]/PATH"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:  # whose text may have the password in it
        hint = "with / ? # and @ of a password as %2F %3F %23 and %40"
        raise SourceError(Cause.CONFIGURATION, f"{text}, {hint}") from None
    if parts.scheme not in _PORTS or not host:
        raise SourceError(Cause.CONFIGURATION, text)

    def open_capture(open_ms: int, read_ms: int) -> Any:
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_ms]
        # More threads decode more frames at once, and each is late by as many.
        return cv2.VideoCapture(url, cv2.CAP_FFMPEG, [*limits, cv2.CAP_PROP_N_THREADS, 1])

    def check(timeout_s: float) -> None:
        status = _describe(host, port, url if parts.scheme == "rtsp" else "", timeout_s)
        # Whether user and password are right, only the digest that FFmpeg sends tells.
        if status is None or status == 200 or (status == 401 and parts.username):
            return
        cause = _CAUSES.get(status, Cause.FORMAT)
        hint = "; the URL may carry USER:PASSWORD@" if cause is Cause.DENIED else ""
        raise SourceError(cause, f"{name} answers {status} to RTSP DESCRIBE{hint}")

    return StreamSource(
        "rtsp", url, open_capture, check, open_timeout_s=open_timeout_s, silence_s=silence_s
    )


def _describe(host: str, port: int, url: str, timeout_s: float) -> int | None:
    """What the server answers when it is asked for the stream, as FFmpeg tells no reasons.

    None where only the connection could be tried (`url` empty). Raises SourceError.
    """
    where = f"{host}:{port}"
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            if not url:
                return None
            parts = urlsplit(url)
            plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
            request = f"DESCRIBE {plain} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n"
            connection.sendall(request.encode())
            version, status = connection.recv(64).decode("latin-1").split()[:2]
            if not version.startswith("RTSP/"):
                raise ValueError(version)
            return int(status)
    except TimeoutError as error:
        text = f"{where} does not answer within {timeout_s:g} s"
        raise SourceError(Cause.ABSENT, text) from error
    except OSError as error:
        raise SourceError(Cause.ABSENT, f"{where}: {error.strerror or error}") from error
    except ValueError as error:
        raise SourceError(Cause.FORMAT, f"what answers at {where} speaks no RTSP") from error
