"""The device end of a frame socket: sends frames to every reader and waits for none of them.

See `shopfloor.ros.frame_socket` for the wire. Each reader has a short queue, as a camera has a few
buffers; where it is full the oldest frame that still waits is dropped and counted.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import stat
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shopfloor.ros.frame_socket import (
    FrameHeader,
    FrameSocketError,
    checked_path,
    pack_header,
)
from shopfloor.ros.paths import run_folder

MAX_READERS = 16
_SEND_BUFFER_BYTES = 1 << 20
_WAIT_S = 0.5


@dataclass(frozen=True)
class DeviceCounters:
    """Since the device was made. dropped: frames that slow readers did not get, all of them."""

    readers: int
    connections: int
    sent: int
    dropped: int


class _Reader:
    """One connection: the frame being sent and those that wait."""

    def __init__(self, connection: socket.socket, queue_frames: int) -> None:
        self.connection = connection
        self.waiting: deque[tuple[bytes, memoryview]] = deque()
        self.limit = queue_frames
        self.pending: list[memoryview] = []

    def offer(self, header: bytes, payload: memoryview) -> int:
        """Queue a frame; returns how many were dropped for it."""
        self.waiting.append((header, payload))
        dropped = 0
        while len(self.waiting) > self.limit:
            self.waiting.popleft()
            dropped += 1
        return dropped

    @property
    def has_work(self) -> bool:
        return bool(self.pending or self.waiting)

    def write(self) -> int:
        """Send as much as the socket takes; returns the frames completed. Raises OSError."""
        completed = 0
        while self.has_work:
            if not self.pending:
                header, payload = self.waiting.popleft()
                self.pending = [memoryview(header), payload]
            try:
                count = self.connection.sendmsg(self.pending)
            except BlockingIOError:
                break
            while self.pending and count >= len(self.pending[0]):
                count -= len(self.pending.pop(0))
            if self.pending:
                self.pending[0] = self.pending[0][count:]
            else:
                completed += 1
        return completed


class CameraDevice:
    """Listens on `path` (mode 0600) from `open` to `close` and sends to whoever connects.

    queue_frames: frames that wait for one reader beside the one being sent.
    """

    def __init__(self, path: str | Path, queue_frames: int = 2) -> None:
        self.path = checked_path(path)
        self._queue_frames = queue_frames
        self._lock = threading.Lock()
        self._readers: dict[int, _Reader] = {}
        self._connections = self._sent = self._dropped = 0
        self._listener: socket.socket | None = None
        self._inode = 0
        self._waker: socket.socket | None = None
        self._stopping = False
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Listen. A socket that a dead process left is replaced.

        Raises FrameSocketError where another device listens there, the path is something else, or
        its folder cannot be used.
        """
        if self._thread is not None:
            return
        _make_folder(self.path.parent)
        _remove_stale(self.path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(os.fspath(self.path))
            # before listen(), so that nobody gets in with wider rights
            os.chmod(self.path, 0o600)
            self._inode = self.path.stat().st_ino
            listener.listen(2 * MAX_READERS)
        except OSError as error:
            listener.close()
            raise FrameSocketError(f"cannot listen on {self.path}: {error}") from error
        listener.setblocking(False)
        wake_end, self._waker = socket.socketpair()
        wake_end.setblocking(False)
        self._waker.setblocking(False)
        self._listener = listener
        self._stopping = False
        self._thread = threading.Thread(
            target=self._serve, args=(listener, wake_end), name="camera device", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Hang up on every reader and remove the socket; harmless when it is not open."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stopping = True
        self._wake()
        thread.join()
        if self._waker is not None:
            self._waker.close()
            self._waker = None

    @property
    def is_open(self) -> bool:
        """Whether it listens."""
        return self._thread is not None

    def send(self, header: FrameHeader, payload: npt.NDArray[np.generic]) -> int:
        """Queue a frame for every reader; returns how many there are. Never blocks.

        payload: contiguous; must not be changed afterwards. Raises ProtocolError on a header that
        breaks the limits, ValueError where its payload_bytes is not the length of `payload`.
        """
        data = payload.data.cast("B")
        if len(data) != header.payload_bytes:
            raise ValueError(f"header says {header.payload_bytes} bytes, payload has {len(data)}")
        packed = pack_header(header)
        with self._lock:
            for reader in self._readers.values():
                self._dropped += reader.offer(packed, data)
            count = len(self._readers)
        if count:
            self._wake()
        return count

    def counters(self) -> DeviceCounters:
        """A snapshot; from any thread."""
        with self._lock:
            return DeviceCounters(len(self._readers), self._connections, self._sent, self._dropped)

    def _wake(self) -> None:
        if self._waker is not None:
            with contextlib.suppress(BlockingIOError):  # already told to wake up
                self._waker.send(b"x")

    # On the device's thread ---------------------------------------------------------------------

    def _serve(self, listener: socket.socket, wake_end: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(wake_end, selectors.EVENT_READ)
            try:
                while not self._stopping:
                    for key, events in selector.select(_WAIT_S):
                        if key.fileobj is listener:
                            self._accept(selector, listener)
                        elif key.fileobj is wake_end:
                            wake_end.recv(4096)
                        elif events & selectors.EVENT_READ:
                            self._on_readable(selector, key.fd)
                    self._write(selector)
            finally:
                for descriptor in list(self._readers):
                    self._drop(selector, descriptor)
                listener.close()
                wake_end.close()
                with contextlib.suppress(FileNotFoundError):
                    if self.path.stat().st_ino == self._inode:  # not somebody else's by now
                        self.path.unlink()

    def _accept(self, selector: selectors.BaseSelector, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:  # it hung up before we got to it
            return
        if len(self._readers) >= MAX_READERS:
            connection.close()
            return
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        selector.register(connection, selectors.EVENT_READ)
        with self._lock:
            self._connections += 1
            self._readers[connection.fileno()] = _Reader(connection, self._queue_frames)

    def _on_readable(self, selector: selectors.BaseSelector, descriptor: int) -> None:
        """A reader has nothing to say: what it sends is thrown away, an end is an end."""
        reader = self._readers.get(descriptor)
        if reader is None:
            return
        try:
            if reader.connection.recv(4096):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._drop(selector, descriptor)

    def _write(self, selector: selectors.BaseSelector) -> None:
        for descriptor, reader in list(self._readers.items()):
            try:
                with self._lock:
                    self._sent += reader.write()
                    has_work = reader.has_work
            except OSError:
                self._drop(selector, descriptor)
                continue
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if has_work else 0)
            if selector.get_key(reader.connection).events != wanted:
                selector.modify(reader.connection, wanted)

    def _drop(self, selector: selectors.BaseSelector, descriptor: int) -> None:
        with self._lock:
            reader = self._readers.pop(descriptor)
        selector.unregister(reader.connection)
        reader.connection.close()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise FrameSocketError(f"cannot use the folder {folder} for a socket: {error}") from error
    # a folder among temporary files that somebody else made in advance is a trap
    if folder == run_folder() and status.st_uid != os.getuid():
        raise FrameSocketError(f"{folder} belongs to user {status.st_uid}, not to this one")


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on; refuse anything else that is there."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FrameSocketError(f"{path} is in the way and is no socket; remove it or name another")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise FrameSocketError(f"cannot tell who listens on {path}: {error}") from error
    raise FrameSocketError(
        f"another camera device listens on {path}; give this one another address or ROS_DOMAIN_ID"
    )
