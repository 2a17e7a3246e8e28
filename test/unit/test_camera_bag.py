"""A bag as a camera: stamps, parts and gaps of the recording, and bags that are not whole."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from camera_tools import read_all

pytest.importorskip("rosbags", reason="rosbags is not installed")

from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from shopfloor.camera.bag import BagSource
from shopfloor.camera.source import Cause, SourceError

ROOT = Path(__file__).resolve().parents[2]
BEGIN = 1_700_000_000_000_000_000
PERIOD = 20_000_000
STORE = get_typestore(Stores.ROS2_JAZZY)
STORE.register(
    get_types_from_msg(
        (ROOT / "msgs/msg/FrameInfo.msg").read_text("utf-8"), "shopfloor_msgs/msg/FrameInfo"
    )
)


def make(name: str, **fields: Any) -> Any:
    return STORE.types[name](**fields)


def header(stamp_ns: int) -> Any:
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    stamp = make("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
    return make("std_msgs/msg/Header", stamp=stamp, frame_id="top")


def image(number: int, raw: bool) -> Any:
    pixels = np.full((24, 32, 3), 10 * number, np.uint8)
    stamp = header(BEGIN + number * PERIOD)
    if raw:
        return make(
            "sensor_msgs/msg/Image", header=stamp, height=24, width=32, encoding="bgr8",
            is_bigendian=0, step=96, data=pixels.reshape(-1),
        )  # fmt: skip
    data = cv2.imencode(".jpg", pixels)[1].reshape(-1)
    if number == 3:
        data = data[: data.size // 2]
    return make("sensor_msgs/msg/CompressedImage", header=stamp, format="jpeg", data=data)


def info(number: int, width: int = 32) -> Any:
    return make(
        "shopfloor_msgs/msg/FrameInfo",
        header=header(BEGIN + number * PERIOD),
        sequence=100 + number,
        part_id=f"p{number}",
        source="x",
        device_stamp=make("builtin_interfaces/msg/Time", sec=7, nanosec=number),
        stamp_error_ms=0.5,
        arrival_delay_ms=3.0,
        width=width,
        height=24,
        encoding="bgr8",
        exposure_us=900.0,
        gain_db=2.0,
        trigger_sequence=number,
        encoder_valid=False,
        encoder_count=0,
        frames_lost=0,
    )


def write(
    path: Path, *, raw: bool = False, infos: bool = True, cameras: tuple[str, ...] = ("top",)
) -> Path:
    """Six frames at 50 Hz; number 3 is a cut JPEG, and number 5 the camera could not read."""
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for camera in cameras:
            kind = "sensor_msgs/msg/Image" if raw else "sensor_msgs/msg/CompressedImage"
            suffix = "" if raw else "/compressed"
            images = writer.add_connection(f"/{camera}/image_raw{suffix}", kind, typestore=STORE)
            about = writer.add_connection(
                f"/{camera}/frame_info", "shopfloor_msgs/msg/FrameInfo", typestore=STORE
            )
            for n in range(6):
                stamp = BEGIN + n * PERIOD + 2_000_000
                if infos and n % 2:
                    bytes_ = STORE.serialize_cdr(info(n, 0 if n == 5 else 32), about.msgtype)
                    writer.write(about, stamp, bytes_)
                if n != 5:
                    writer.write(images, stamp, STORE.serialize_cdr(image(n, raw), kind))
                if infos and not n % 2:
                    writer.write(about, stamp + 1, STORE.serialize_cdr(info(n), about.msgtype))
    return path


def opened(*args: Any, **options: Any) -> BagSource:
    source = BagSource(*args, **options)
    source.open()
    return source


def test_frames_keep_stamp_part_sequence_and_settings(tmp_path: Path) -> None:
    source = opened(write(tmp_path / "bag"))
    assert source.describe().device_id == f"{tmp_path / 'bag'} /top/image_raw/compressed"
    grabs, bad = read_all(source)
    assert [g.part_id for g in grabs] == ["p0", "p1", "p2", "p4"]
    assert [g.sequence for g in grabs] == [100, 101, 102, 104]
    assert [g.ros_stamp_ns for g in grabs] == [BEGIN + n * PERIOD for n in (0, 1, 2, 4)]
    assert round(float(grabs[2].image.mean())) == 20 and grabs[0].encoding == "bgr8"
    assert (grabs[1].exposure_us, grabs[1].gain_db, grabs[1].trigger) == (900.0, 2.0, 1)
    assert grabs[1].stamp_error_ns == 0.5e6 and grabs[1].device_stamp_ns == 7_000_000_001
    assert [(b.part_id, b.sequence) for b in bad] == [("p3", 103), ("p5", 105)]
    assert [b.ros_stamp_ns for b in bad] == [BEGIN + n * PERIOD for n in (3, 5)]


def test_frames_come_as_they_were_recorded_or_at_a_rate(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", infos=False)
    source = opened(bag)
    start = time.monotonic()
    read_all(source)
    assert 0.075 <= time.monotonic() - start < 5.0, "five frames, four periods of 20 ms"
    source = opened(bag, rate_hz=1000.0)
    grabs, _ = read_all(source)
    assert [g.sequence for g in grabs] == [1, 2, 3, 5] and grabs[0].part_id == ""


def test_raw_images_are_read_and_looped_without_a_part_twice(tmp_path: Path) -> None:
    source = opened(write(tmp_path / "bag", raw=True), rate_hz=1000.0, loop=True)
    parts = []
    while len(parts) < 7:
        try:
            grab = source.read(0.1)
        except Exception:
            continue
        if grab is not None:
            parts.append(grab.part_id)
    assert parts == ["p0", "p1", "p2", "p3", "p4", "p0#2", "p1#2"]


def test_which_topic(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", cameras=("top", "side"))
    with pytest.raises(SourceError, match=r"must name an image topic .* /side/.*, /top/") as error:
        opened(bag)
    assert error.value.cause is Cause.CONFIGURATION
    with pytest.raises(SourceError, match="has no images on /left; image topics there: /side"):
        opened(bag, "/left")
    grabs, _ = read_all(opened(bag, "/side/image_raw/compressed", rate_hz=1000.0))
    assert len(grabs) == 4


def test_bag_of_a_killed_recorder_gives_what_it_has(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", raw=True)
    (bag / "metadata.yaml").unlink()
    assert len(read_all(opened(bag, rate_hz=1000.0))[0]) == 5
    (file,) = bag.glob("*.mcap")
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    source = opened(bag, rate_hz=1000.0)
    assert len(read_all(source)[0]) == 5 and "cut off" in source._end()


@pytest.mark.parametrize("keep", [0, 8, 200, 0.2, 0.5, 0.9])
def test_a_bag_cut_anywhere_is_read_so_far_or_refused(tmp_path: Path, keep: float) -> None:
    bag = write(tmp_path / "bag")
    (bag / "metadata.yaml").unlink()
    (file,) = bag.glob("*.mcap")
    whole = file.read_bytes()
    file.write_bytes(whole[: int(keep if keep > 1 else keep * len(whole))])
    try:
        grabs, _ = read_all(opened(bag, rate_hz=1000.0))
    except SourceError as error:
        assert error.cause in (Cause.FORMAT, Cause.EMPTY) and str(bag) in str(error)
    else:
        assert 1 <= len(grabs) <= 4


def test_what_is_no_bag_says_so(tmp_path: Path) -> None:
    for path, cause in ((tmp_path / "absent", Cause.ABSENT), (tmp_path, Cause.FORMAT)):
        with pytest.raises(SourceError) as error:
            opened(path)
        assert error.value.cause is cause and str(path) in str(error.value)
    text = tmp_path / "a.mcap"
    text.write_text("no bag")
    with pytest.raises(SourceError) as error:
        opened(text)
    assert error.value.cause is Cause.FORMAT
