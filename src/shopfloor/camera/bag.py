"""The images of a rosbag2 or MCAP bag as a camera, with the stamps and parts of the recording."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shopfloor.camera.bag_reader import BagError, BagReader
from shopfloor.camera.recorded import RecordedSource
from shopfloor.camera.source import AnyImage, BadFrame, Cause, Grab, SourceError, SourceInfo
from shopfloor.ros.images import ImageError, decode, from_message
from shopfloor.ros.interfaces import interface

_IMAGE = interface("image").type
_COMPRESSED = interface("image_compressed").type
_INFO = interface("frame_info").type
_AHEAD = 8
"""Images that wait for their FrameInfo, which is recorded just before or after them."""

_KNOWN_INFOS = 256


class BagSource(RecordedSource):
    """Images of one topic of a bag; compressed ones as bgr8.

    path: folder of a bag (rosbag2: MCAP or SQLite) or an .mcap file, whole or cut off.
    topic: sensor_msgs/Image or CompressedImage; empty: the only one in the bag.
    rate_hz: frames per second; 0: as they were recorded.
    loop: start again at the end; otherwise EndOfStream.

    `ros_stamp_ns` is the image's stamp. Where the bag has the camera's frame_info, part and
    sequence are the recorded ones, and a frame that the camera could not read is a bad one again.
    """

    def __init__(
        self, path: str | Path, topic: str = "", rate_hz: float = 0.0, loop: bool = False
    ) -> None:
        super().__init__(rate_hz, loop)
        self._path = Path(path).expanduser()
        self._topic = topic
        self._reader: BagReader | None = None
        self._messages: Iterator[tuple[str, int, Any]] = iter(())
        self._waiting: deque[tuple[int, Any]] = deque()
        self._infos: OrderedDict[int, Any] = OrderedDict()
        self._bad: deque[tuple[int, BadFrame]] = deque()
        self._first_ns: int | None = None
        self._item_ns = 0
        self._info_topic = ""
        self._in_this_pass = 0

    def describe(self) -> SourceInfo:
        """The bag and, once it is open, the topic."""
        return SourceInfo("bag", f"{self._path} {self._topic}".strip(), self._rate_hz)

    def open(self) -> None:
        """Open the bag; raises SourceError when it is absent, no bag, or the topic is not in it."""
        if not self._path.exists():
            raise SourceError(Cause.ABSENT, f"there is no bag {self._path}")
        if not self._begin():
            self.close()
            raise SourceError(Cause.EMPTY, f"{self._topic} of {self._path} holds no image")

    def close(self) -> None:
        """Close the bag."""
        super().close()
        if self._reader is not None:
            self._reader.close()
        self._reader = None

    def _rewind(self) -> None:
        self.close()
        try:
            self._reader = BagReader(self._path)
        except BagError as error:
            raise SourceError(Cause.FORMAT, f"{self._path} is no bag: {error}") from error
        except OSError as error:
            denied = isinstance(error, PermissionError)
            cause = Cause.DENIED if denied else Cause.UNKNOWN
            raise SourceError(cause, f"{self._path}: {error.strerror or error}") from error
        topics = self._reader.topics
        self._topic = _chosen(self._topic, topics, self._path)
        camera = self._topic.removesuffix("/compressed").rpartition("/")[0]
        self._info_topic = f"{camera}/frame_info"
        if topics.get(self._info_topic) != _INFO:
            self._info_topic = ""
        self._messages = self._reader.messages({self._topic, self._info_topic})
        self._waiting.clear()
        self._infos.clear()
        self._bad.clear()
        self._first_ns, self._in_this_pass = None, 0

    def _load(self) -> Grab | BadFrame | None:
        while len(self._waiting) < _AHEAD and self._take_one():
            pass
        if self._bad and (not self._waiting or self._bad[0][0] <= self._waiting[0][0]):
            stamp_ns, bad = self._bad.popleft()
            return self._timed(stamp_ns, bad)
        if not self._waiting:
            return None
        self._in_this_pass += 1
        logged_ns, message = self._waiting.popleft()
        return self._timed(logged_ns, self._frame(message))

    def _due_ns(self, item: Grab | BadFrame) -> int | None:
        return None if self._rate_hz else self._item_ns

    def _end(self) -> str:
        damage = self._reader.damage if self._reader is not None else ""
        return f"all {self._in_this_pass} images of {self._path} were read{damage}"

    def _timed(self, logged_ns: int, item: Grab | BadFrame) -> Grab | BadFrame:
        if self._first_ns is None:
            self._first_ns = logged_ns
        self._item_ns = max(0, logged_ns - self._first_ns)
        return item

    def _take_one(self) -> bool:
        """Read one more message of the bag; False at its end, or where it is cut off."""
        topic, logged_ns, message = next(self._messages, ("", 0, None))
        if message is None:
            return False
        if topic == self._topic:
            self._waiting.append((logged_ns, message))
            return True
        if message.width == 0:
            text = f"{self._path}: the camera could not read this frame"
            part_id = self._part_id(message.part_id)
            bad = BadFrame(text, message.sequence, part_id, ros_stamp_ns=_stamp_ns(message))
            self._bad.append((logged_ns, bad))
            return True
        self._infos[_stamp_ns(message)] = message
        if len(self._infos) > _KNOWN_INFOS:
            self._infos.popitem(last=False)
        return True

    def _frame(self, message: Any) -> Grab | BadFrame:
        stamp_ns = _stamp_ns(message)
        info = self._infos.pop(stamp_ns, None)
        sequence = info.sequence if info is not None else 0
        part_id = self._part_id(info.part_id) if info is not None else ""
        image: AnyImage
        try:
            if hasattr(message, "format"):
                image, encoding = decode(message.data), "bgr8"
            else:
                image, encoding = from_message(message), message.encoding
        except ImageError as error:
            text = f"{self._path} {self._topic}: {error}"
            return BadFrame(text, sequence, part_id, ros_stamp_ns=stamp_ns)
        device_ns = _time_ns(info.device_stamp) if info is not None else 0
        return Grab(
            image,
            encoding,
            device_ns or None,
            0,
            sequence,
            part_id,
            ros_stamp_ns=stamp_ns,
            stamp_error_ns=info.stamp_error_ms * 1e6 if info is not None else float("nan"),
            trigger=info.trigger_sequence if info is not None else 0,
            exposure_us=info.exposure_us if info is not None else float("nan"),
            gain_db=info.gain_db if info is not None else float("nan"),
        )


def _chosen(topic: str, topics: dict[str, str], path: Path) -> str:
    images = sorted(name for name, kind in topics.items() if kind in (_IMAGE, _COMPRESSED))
    there = ", ".join(images) or "none"
    if topic and topic not in images:
        text = f"{path} has no images on {topic}; image topics there: {there}"
        raise SourceError(Cause.CONFIGURATION, text)
    if not topic and len(images) != 1:
        cause = Cause.CONFIGURATION if images else Cause.EMPTY
        raise SourceError(cause, f"'topic' must name an image topic of {path}; there: {there}")
    return topic or images[0]


def _stamp_ns(message: Any) -> int:
    return _time_ns(message.header.stamp)


def _time_ns(stamp: Any) -> int:
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
