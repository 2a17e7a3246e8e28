"""Training data: what is held out is not trained on, and neither is a near-copy of it."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from training.augment import augment, blend_pair, mosaic, negative
from training.data import (
    HELD_OUT_STEP,
    NEU_GUARD,
    Sample,
    deeppcb_split,
    load_neu,
    load_pair,
    neu_split,
    windows,
)
from training.recipes import BOARD_CLASSES, NEU_CLASSES, RECIPES
from training.sources import VIEWS, with_classes

from shopfloor.ros.paths import data_folder

NEU_XML = """<annotation><object><name>{label}</name><bndbox><xmin>1</xmin><ymin>11</ymin>
<xmax>50</xmax><ymax>200</ymax></bndbox></object></annotation>"""


def neu_folder(tmp_path: Path, numbers: range, label: str = "crazing") -> Path:
    folder = tmp_path / "neu-det"
    (folder / "annotations").mkdir(parents=True)
    for number in numbers:
        path = folder / "annotations" / f"crazing_{number}.xml"
        path.write_text(NEU_XML.format(label=label), encoding="utf-8")
    return tmp_path


def part(boxes: list[list[float]], size: int = 640, seed: int = 0) -> Sample:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 255, (size, size), np.uint8)
    template = np.zeros_like(image)
    return Sample("part", image, np.array(boxes, np.float32).reshape(-1, 5), template)


def test_held_out_strip_has_no_neighbour_in_the_training_set(tmp_path: Path) -> None:
    split = neu_split(neu_folder(tmp_path, range(1, 301)))
    numbers = {use: {int(n.rsplit("_", 1)[1]) for n in names} for use, names in split.items()}
    assert sum(len(names) for names in split.values()) == 300
    assert {len(numbers[use]) for use in ("test", "validation")} == {30, 15}
    held_out = numbers["test"] | numbers["validation"]
    nearest = min(abs(a - b) for a in held_out for b in numbers["train"])
    assert nearest == NEU_GUARD + 1


def test_both_pictures_of_a_pair_and_every_board_are_split_alike(tmp_path: Path) -> None:
    boxes = tmp_path / "deeppcb" / "boxes"
    boxes.mkdir(parents=True)
    for board in ("00041", "77000"):
        for number in range(60):
            (boxes / f"{board}{number:03}.txt").touch()
    split = deeppcb_split(tmp_path)
    assert Counter(chain(*split.values())).most_common(1)[0][1] == 1
    for board in ("00041", "77000"):
        share = {use: sum(n.startswith(board) for n in names) for use, names in split.items()}
        assert share["train"] == 60 - 60 // HELD_OUT_STEP
        assert share["validation"] > 0 and share["test"] > share["validation"]


def test_a_picture_of_an_unknown_class_names_its_file(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    folder = neu_folder(tmp_path, range(1, 2), label="rust")
    (tmp_path / "neu-det" / "images").mkdir()
    cv2.imwrite(str(tmp_path / "neu-det/images/crazing_1.jpg"), np.zeros((200, 200), np.uint8))
    with pytest.raises(ValueError, match=r"crazing_1\.xml: class 'rust'"):
        load_neu(folder, ["crazing_1"])


def test_a_damaged_picture_and_a_damaged_box_file_name_themselves(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    images = tmp_path / "deeppcb" / "images"
    images.mkdir(parents=True)
    (images / "a_test.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"a_test\.jpg: not a readable image"):
        load_pair(tmp_path, "a")
    for kind in ("test", "temp"):
        cv2.imwrite(str(images / f"a_{kind}.jpg"), np.zeros((64, 64), np.uint8))
    (tmp_path / "deeppcb" / "boxes").mkdir()
    (tmp_path / "deeppcb" / "boxes" / "a.txt").write_text("1 2 3 4\n", encoding="ascii")
    with pytest.raises(ValueError, match=r"a\.txt: a line is not"):
        load_pair(tmp_path, "a")


def test_real_sets_load_with_boxes_inside_their_pictures() -> None:
    folder = data_folder()
    if not (folder / "neu-det").is_dir():
        pytest.skip(f"NEU-DET is not in {folder}; set SHOPFLOOR_DATA")
    for sample in load_neu(folder, neu_split(folder)["validation"]):
        height, width = sample.image.shape
        assert (sample.boxes[:, :2] >= 0).all()
        assert (sample.boxes[:, 2] <= width).all() and (sample.boxes[:, 3] <= height).all()
        assert (sample.boxes[:, 2:4] > sample.boxes[:, :2]).all()


def test_classes_are_carried_over_by_name() -> None:
    (renamed,) = with_classes([part([[0, 0, 9, 9, 1]])], ("a", "b"), ("b", "c", "a"))
    assert renamed.boxes[0, 4] == 0
    with pytest.raises(ValueError):
        with_classes([part([[0, 0, 9, 9, 1]])], ("a", "b"), ("a", "c"))


def test_a_negative_swaps_the_names_and_a_second_one_brings_them_back() -> None:
    sample = part([[0, 0, 9, 9, k] for k in range(6)])
    image, boxes = negative(sample.image, sample.boxes, BOARD_CLASSES)
    swapped = [BOARD_CLASSES[int(k)] for k in boxes[:, 4]]
    assert swapped == ["short", "open", "spur", "mousebite", "pinhole", "copper"]
    again, back = negative(image, boxes, BOARD_CLASSES)
    assert (again == sample.image).all() and (back == sample.boxes).all()


def test_a_template_with_some_defects_has_no_defect_without_a_box() -> None:
    sample = part([[20, 20, 60, 60, 0], [300, 300, 340, 350, 1], [310, 310, 360, 360, 2]])
    for seed in range(60):
        image, boxes = blend_pair(sample, np.random.default_rng(seed))
        shown = np.zeros(image.shape, bool)
        for x1, y1, x2, y2 in boxes[:, :4].astype(int):
            shown[max(y1 - 3, 0) : y2 + 3, max(x1 - 3, 0) : x2 + 3] = True
        if (image == sample.image).all():
            assert len(boxes) == 3
        else:
            assert not image[~shown].any()


@pytest.mark.parametrize("source", list(VIEWS))
@pytest.mark.parametrize("plain", [True, False])
def test_training_views_are_repeatable_and_their_boxes_inside(source: str, plain: bool) -> None:
    classes = NEU_CLASSES if source == "neu" else RECIPES["surface_nano"].classes
    size = 200 if source == "neu" else 640
    parts = [part([[30, 40, 90, 80, 0], [150, 10, 190, 60, 3]], size, seed) for seed in range(5)]
    for seed in range(25):
        first, again = (
            augment(parts, VIEWS[source], classes, 256, plain, np.random.default_rng(seed))
            for _ in range(2)
        )
        image, boxes = first
        assert (image == again[0]).all() and (boxes == again[1]).all()
        assert image.shape == (256, 256, 3) and image.dtype == np.uint8
        assert boxes[:, :4].min(initial=0) >= 0 and boxes[:, :4].max(initial=0) <= 256
        assert (boxes[:, 2:4] > boxes[:, :2]).all()


def test_a_mosaic_keeps_every_picture_in_its_quarter() -> None:
    parts = [part([[0, 0, 200, 200, k]], 200, k) for k in range(4)]
    for seed in range(20):
        _, boxes = mosaic(parts, 256, 1.28, np.random.default_rng(seed))
        for i, first in enumerate(boxes):
            for second in boxes[i + 1 :]:
                low = np.maximum(first[:2], second[:2])
                high = np.minimum(first[2:4], second[2:4])
                assert first[4] == second[4] or (high - low).min() <= 0


def test_a_window_of_a_defective_part_shows_a_defect() -> None:
    parts = [part([[5, 600, 25, 639, 2], [100, 100, 500, 140, 1]]), part([])]
    found = windows(parts * 40)
    assert len(found) >= 60
    for window in found:
        side = window.image.shape[0]
        assert window.image.shape == (side, side)
        assert window.boxes[:, :4].max(initial=0) <= side
