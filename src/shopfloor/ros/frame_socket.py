"""Frames over a Unix stream socket: the wire between a simulated camera and whoever reads it.

The device listens and sends frames one after another; the reader only reads. A frame is a header of
fixed size, little-endian, and right after it `payload_bytes` of pixels, rows without padding:

| field | bytes | meaning |
|---|---|---|
| magic | 4 | `SFFR` |
| version | u16 | 1 |
| header_bytes | u16 | size of this header |
| width, height | u32, u32 | pixels, 1..16384 |
| payload_bytes | u32 | bytes that follow, at most 64 MiB |
| encoding | 24 | name from sensor_msgs/image_encodings, ASCII, filled up with zeros |
| sequence | u64 | the device's frame counter; a gap means lost frames |
| trigger | u64 | the device's trigger counter |
| device_stamp_ns | i64 | exposure by the device's own clock |
| host_stamp_ns | i64 | exposure in ROS time |
| steady_ns | i64 | exposure by CLOCK_MONOTONIC, which all processes of a host share |
| part_id | 64 | the part in view, UTF-8, filled up with zeros; empty: not known |

A payload whose length does not fit size and encoding is a damaged frame: the next header still
stands right behind it. Anything else that is wrong means that the two ends are out of step, and the
reader closes. Pure Python and numpy.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shopfloor.ros.paths import run_folder

MAGIC = b"SFFR"
VERSION = 1
MAX_SIDE_PX = 16384
MAX_PAYLOAD_BYTES = 64 * 1024 * 1024
MAX_PART_ID_BYTES = 64
MAX_PATH_BYTES = 107

_HEADER = struct.Struct("<4sHHIII24sQQqqq64s")
HEADER_BYTES = _HEADER.size

# encoding: (channels, dtype); what a camera may send
ENCODINGS: dict[str, tuple[int, type[np.generic]]] = {
    "mono8": (1, np.uint8),
    "mono16": (1, np.uint16),
    "bgr8": (3, np.uint8),
    "rgb8": (3, np.uint8),
    "bayer_rggb8": (1, np.uint8),
    "bayer_bggr8": (1, np.uint8),
    "bayer_gbrg8": (1, np.uint8),
    "bayer_grbg8": (1, np.uint8),
    "yuv422_yuy2": (2, np.uint8),
    "uyvy": (2, np.uint8),
}


class FrameSocketError(Exception):
    """Something is wrong with a frame socket; the message names the socket and what."""


class DeviceAbsent(FrameSocketError):
    """Nobody listens on that path."""


class DeviceDenied(FrameSocketError):
    """The path is there, but this user may not connect."""


class ConnectionLost(FrameSocketError):
    """The device went away."""


class ProtocolError(FrameSocketError):
    """What came is no frame of this protocol; the connection is of no more use."""


class DamagedFrame(FrameSocketError):
    """One frame's payload does not fit its header; the connection goes on behind it."""

    def __init__(self, message: str, header: FrameHeader) -> None:
        super().__init__(message)
        self.header = header


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """See the module's table."""

    width: int
    height: int
    encoding: str
    sequence: int
    trigger: int
    device_stamp_ns: int
    host_stamp_ns: int
    steady_ns: int
    part_id: str
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class WireFrame:
    """A frame as it came. image: (H, W) or (H, W, channels), uint8 or uint16, the reader's own."""

    header: FrameHeader
    image: npt.NDArray[np.generic]


def expected_bytes(width: int, height: int, encoding: str) -> int:
    """Bytes of pixels of such a frame. Raises ProtocolError on an unknown encoding."""
    if encoding not in ENCODINGS:
        raise ProtocolError(f"encoding {encoding!r} is not one of {', '.join(ENCODINGS)}")
    channels, dtype = ENCODINGS[encoding]
    return width * height * channels * np.dtype(dtype).itemsize


def pack_header(header: FrameHeader) -> bytes:
    """The header as HEADER_BYTES bytes. Raises ProtocolError where a field is beyond its limit."""
    _check_limits(header)
    part_id = header.part_id.encode()
    if len(part_id) > MAX_PART_ID_BYTES:
        raise ProtocolError(
            f"part_id {header.part_id!r} has {len(part_id)} bytes, at most {MAX_PART_ID_BYTES}"
        )
    return _HEADER.pack(
        MAGIC, VERSION, HEADER_BYTES, header.width, header.height, header.payload_bytes,
        header.encoding.encode("ascii"), header.sequence, header.trigger,
        header.device_stamp_ns, header.host_stamp_ns, header.steady_ns, part_id,
    )  # fmt: skip


def unpack_header(data: bytes | bytearray | memoryview) -> FrameHeader:
    """Read HEADER_BYTES bytes. Raises ProtocolError naming what is wrong."""
    if len(data) != HEADER_BYTES:
        raise ProtocolError(f"a header has {HEADER_BYTES} bytes, not {len(data)}")
    (
        magic, version, header_bytes, width, height, payload_bytes, encoding, sequence, trigger,
        device_stamp_ns, host_stamp_ns, steady_ns, part_id,
    ) = _HEADER.unpack(data)  # fmt: skip
    if magic != MAGIC:
        raise ProtocolError(f"bad magic {magic!r}, a frame starts with {MAGIC!r}")
    if version != VERSION or header_bytes != HEADER_BYTES:
        raise ProtocolError(
            f"version {version} with a header of {header_bytes} bytes; "
            f"this reader knows version {VERSION} with {HEADER_BYTES}"
        )
    try:
        encoding_name = encoding.rstrip(b"\0").decode("ascii")
        part = part_id.rstrip(b"\0").decode()
    except UnicodeDecodeError as error:
        raise ProtocolError(f"encoding or part_id is no text: {error}") from error
    header = FrameHeader(
        width, height, encoding_name, sequence, trigger,
        device_stamp_ns, host_stamp_ns, steady_ns, part, payload_bytes,
    )  # fmt: skip
    _check_limits(header)
    return header


def _check_limits(header: FrameHeader) -> None:
    if not (1 <= header.width <= MAX_SIDE_PX and 1 <= header.height <= MAX_SIDE_PX):
        raise ProtocolError(
            f"size {header.width} x {header.height} px, each side must be 1..{MAX_SIDE_PX}"
        )
    if header.payload_bytes > MAX_PAYLOAD_BYTES:
        raise ProtocolError(f"payload of {header.payload_bytes} bytes, at most {MAX_PAYLOAD_BYTES}")
    expected_bytes(header.width, header.height, header.encoding)


def usual_path(name: str = "simulated_camera") -> Path:
    """Where a simulated camera listens when nobody says otherwise; one a ROS domain and user."""
    return run_folder() / f"{os.environ.get('ROS_DOMAIN_ID') or '0'}-{name}.sock"


def checked_path(path: str | Path) -> Path:
    """`path`, unless it is too long for a socket; raises FrameSocketError."""
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise FrameSocketError(f"socket path {path} is too long, at most {MAX_PATH_BYTES} bytes")
    return Path(path)


class FrameReader:
    """The reading end. Belongs to one thread; `connect` may be called again after `close`."""

    def __init__(self, path: str | Path) -> None:
        self.path = checked_path(path)
        self._socket: socket.socket | None = None
        self._header_buffer = bytearray(HEADER_BYTES)
        self._header: FrameHeader | None = None
        self._payload: npt.NDArray[np.uint8] | None = None
        self._filled = 0

    def connect(self, timeout_s: float = 1.0) -> None:
        """Connect; raises DeviceAbsent, DeviceDenied or FrameSocketError."""
        self.close()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout_s)
            connection.connect(os.fspath(self.path))
        except OSError as error:
            connection.close()
            raise self._connect_error(error) from error
        self._socket = connection
        self._start_frame()

    def _connect_error(self, error: OSError) -> FrameSocketError:
        if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
            return DeviceAbsent(f"no camera listens on {self.path}")
        if error.errno in (errno.EACCES, errno.EPERM):
            return DeviceDenied(f"no permission to connect to {self.path}")
        if isinstance(error, BlockingIOError):  # a Unix socket whose backlog is full says EAGAIN
            return FrameSocketError(f"the camera at {self.path} is too busy to connect; try again")
        if self.path.exists() and not stat.S_ISSOCK(self.path.stat().st_mode):
            return DeviceAbsent(f"{self.path} is no socket")
        return FrameSocketError(f"cannot connect to {self.path}: {error}")

    def read(self, timeout_s: float) -> WireFrame | None:
        """The next frame, None when it was not complete within `timeout_s`; what came is kept.

        Raises ConnectionLost, ProtocolError (both close the connection) or DamagedFrame (the next
        `read` goes on behind it).
        """
        deadline = time.monotonic() + timeout_s
        if self._header is None:
            if not self._fill(memoryview(self._header_buffer), deadline):
                return None
            try:
                self._header = unpack_header(self._header_buffer)
            except ProtocolError as error:
                self.close()
                raise ProtocolError(f"{self.path}: {error}") from error
            # A buffer of its own for each frame: it is handed on without a copy.
            self._payload = np.empty(self._header.payload_bytes, np.uint8)
            self._filled = 0
        payload = self._payload
        assert payload is not None
        if not self._fill(payload.data, deadline):
            return None
        header = self._header
        self._start_frame()
        wanted = expected_bytes(header.width, header.height, header.encoding)
        if header.payload_bytes != wanted:
            raise DamagedFrame(
                f"{self.path}: frame {header.sequence} has {header.payload_bytes} bytes, "
                f"{header.width} x {header.height} {header.encoding} needs {wanted}",
                header,
            )
        channels, dtype = ENCODINGS[header.encoding]
        shape = (header.height, header.width, channels)
        image = payload.view(np.dtype(dtype).newbyteorder("<")).reshape(shape[: 2 + (channels > 1)])
        return WireFrame(header, image)

    def close(self) -> None:
        """Close the connection; harmless when there is none."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()
        self._start_frame()

    def _start_frame(self) -> None:
        self._header = None
        self._payload = None
        self._filled = 0

    def _fill(self, buffer: memoryview, deadline: float) -> bool:
        """Receive until `buffer` is full; False when time is up first."""
        connection = self._socket
        if connection is None:
            raise ConnectionLost(f"{self.path} is not connected")
        while self._filled < len(buffer):
            # what already waits in the socket is taken even when time is up
            connection.settimeout(max(deadline - time.monotonic(), 0.0))
            try:
                count = connection.recv_into(buffer[self._filled :])
            except (BlockingIOError, TimeoutError):
                return False
            except OSError as error:
                self.close()
                raise ConnectionLost(f"{self.path}: {error}") from error
            if count == 0:
                self.close()
                raise ConnectionLost(f"the camera at {self.path} closed the connection")
            self._filled += count
        return True
