"""A folder as a camera: every way to open it wrong, and what a good one gives."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from camera_tools import picture, read_all

from shopfloor.camera.folder import FolderSource, read_picture
from shopfloor.camera.source import BadFrame, Cause, SourceError, SourceLost


def test_folder_gives_pictures_in_natural_order_with_their_names(tmp_path: Path) -> None:
    for name in ("part_10.png", "part_9.jpg", "part_1.bmp", "part_2.TIF"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    source = FolderSource(tmp_path)
    source.open()
    grabs, bad = read_all(source)
    assert [g.part_id for g in grabs] == ["part_1", "part_2", "part_9", "part_10"]
    assert [g.sequence for g in grabs] == [1, 2, 3, 4]
    assert {g.encoding for g in grabs} == {"bgr8"} and grabs[0].image.shape == (24, 32, 3)
    assert bad == []


def test_folder_keeps_grey_and_16_bit_pictures_as_they_are(tmp_path: Path) -> None:
    deep = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 80
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    cv2.imwrite(str(tmp_path / "b.png"), np.full((8, 8), 7, np.uint8))
    cv2.imwrite(str(tmp_path / "c.png"), np.full((8, 8, 3), 0x1234, np.uint16))
    cv2.imwrite(str(tmp_path / "d.png"), np.full((8, 8, 4), 9, np.uint8))
    source = FolderSource(tmp_path)
    source.open()
    grabs, _ = read_all(source)
    assert [g.encoding for g in grabs] == ["mono16", "mono8", "bgr8", "bgr8"]
    np.testing.assert_array_equal(grabs[0].image, deep)
    assert (grabs[2].image == 0x12).all() and grabs[3].image.shape == (8, 8, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif"])
@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_folder_skips_a_cut_picture_and_names_it(
    tmp_path: Path, suffix: str, keep: int | float
) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    for name in ("a", "b", "c"):
        cv2.imwrite(str(tmp_path / f"{name}{suffix}"), noise)
    data = (tmp_path / f"b{suffix}").read_bytes()
    left = len(data) + keep if keep == -1 else keep if keep in (0, 10) else len(data) // 2
    (tmp_path / f"b{suffix}").write_bytes(data[: int(left)])
    source = FolderSource(tmp_path)
    source.open()
    grabs, bad = read_all(source)
    assert [g.part_id for g in grabs] == ["a", "c"]
    assert [g.sequence for g in grabs] == [1, 3]
    assert len(bad) == 1 and f"b{suffix}" in str(bad[0])
    assert (bad[0].sequence, bad[0].part_id) == (2, "b")


def test_folder_skips_text_with_a_picture_suffix_and_float_pixels(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("this is no picture at all, whatever its name says")
    cv2.imwrite(str(tmp_path / "b.tif"), np.ones((8, 8), np.float32))
    source = FolderSource(tmp_path)
    source.open()
    grabs, bad = read_all(source)
    assert grabs == []
    assert "float32" in str(bad[1]) and "uint8" in str(bad[1])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folder_skips_a_picture_without_permission(tmp_path: Path) -> None:
    picture(tmp_path / "a.png").chmod(0)
    source = FolderSource(tmp_path)
    source.open()
    assert "ermission" in str(read_all(source)[1][0])


def test_folder_names_a_picture_whose_name_is_no_utf_8(tmp_path: Path) -> None:
    """As one comes from an old Windows: no message can carry such text."""
    (tmp_path / os.fsdecode(b"M\xfcller.png")).write_bytes(picture(tmp_path / "x.png").read_bytes())
    (tmp_path / os.fsdecode(b"M\xe4ller.png")).touch()
    source = FolderSource(tmp_path)
    source.open()
    grabs, bad = read_all(source)
    assert {g.part_id for g in grabs} == {r"M\xfcller", "x"}
    assert bad[0].part_id == r"M\xe4ller" and r"M\xe4ller.png: the file is empty" in str(bad[0])
    assert str(bad[0]).encode()


def test_folder_loops_with_a_running_sequence_and_no_part_comes_twice(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    source = FolderSource(tmp_path, loop=True)
    source.open()
    grabs = [source.read(0.1) for _ in range(5)]
    assert [(g.part_id, g.sequence) for g in grabs if g] == [
        ("a", 1), ("b", 2), ("a#2", 3), ("b#2", 4), ("a#3", 5)
    ]  # fmt: skip


def test_folder_paces_bad_pictures_too(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    source = FolderSource(tmp_path, rate_hz=2.0, loop=True)
    source.open()
    with pytest.raises(BadFrame):
        source.read(0.1)
    assert source.read(0.01) is None


def test_folder_that_vanishes_is_lost_and_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    file = picture(folder / "a.png")
    source = FolderSource(folder, loop=True)
    source.open()
    first = source.read(0.1)
    file.unlink()
    folder.rmdir()
    with pytest.raises(SourceLost, match="gone"):
        source.read(0.1)
    source.close()
    folder.mkdir()
    picture(file)
    source.open()
    again = source.read(0.1)
    assert first is not None and again is not None
    assert again.sequence > first.sequence, "a sequence number must not come twice"


@pytest.mark.parametrize(
    ("make", "cause", "says"),
    [
        (lambda p: None, Cause.ABSENT, "no folder"),
        (lambda p: p.mkdir(), Cause.EMPTY, "is empty"),
        (lambda p: (p.mkdir(), (p / "a.txt").touch()), Cause.EMPTY, "1 files but no picture"),
        (lambda p: p.touch(), Cause.FORMAT, "is a file"),
    ],
)
def test_folder_that_cannot_be_opened_says_why(
    tmp_path: Path, make: Any, cause: Cause, says: str
) -> None:
    folder = tmp_path / "in"
    make(folder)
    with pytest.raises(SourceError, match=says) as caught:
        FolderSource(folder).open()
    assert caught.value.cause is cause and str(folder) in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folder_without_permission_is_denied(tmp_path: Path) -> None:
    tmp_path.chmod(0)
    with pytest.raises(SourceError) as caught:
        FolderSource(tmp_path).open()
    tmp_path.chmod(0o700)
    assert caught.value.cause is Cause.DENIED


def test_jpeg_padded_behind_its_end_marker_is_whole(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes() + b"\0" * 48)
    assert read_picture(path)[1] == "bgr8"
