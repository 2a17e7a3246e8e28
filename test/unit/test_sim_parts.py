"""Rendered parts: the same each time, true to their boxes, and fair to an inspector."""

from __future__ import annotations

import numpy as np
import pytest

from shopfloor.sim.parts import CLASS_NAMES, KINDS, defect_count, render
from shopfloor.sim.scene import Scene

VISIBLE_GREY = 12
"""A pixel of a defect differs from the good twin's by this many grey levels in some channel."""


def changed_pixels(kind: str, seed: int, defects: int, size_px: int = 640) -> np.ndarray:
    bad = render(kind, seed, size_px, defects=defects).image
    good = render(kind, seed, size_px, defects=0).image
    return np.abs(bad.astype(int) - good).max(axis=2) >= VISIBLE_GREY


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_bytes(kind: str) -> None:
    one, two = render(kind, 7), render(kind, 7)
    assert one.image.tobytes() == two.image.tobytes()
    assert one.boxes.tobytes() == two.boxes.tobytes()
    assert one.classes.tolist() == two.classes.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_order_of_rendering_does_not_matter(kind: str) -> None:
    alone = render(kind, 3).image.tobytes()
    render(kind, 4)
    render(kind, 5, 320)
    assert render(kind, 3).image.tobytes() == alone


@pytest.mark.parametrize("kind", KINDS)
def test_other_seed_other_part(kind: str) -> None:
    assert render(kind, 1).image.tobytes() != render(kind, 2).image.tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size_px", [160, 333, 640, 1080])
def test_boxes_lie_in_the_image(kind: str, size_px: int) -> None:
    for seed in range(3):
        part = render(kind, seed, size_px, defects=2 + 2 * seed)
        assert part.image.shape == (size_px, size_px, 3) and part.image.dtype == np.uint8
        assert part.boxes.shape == (len(part.classes), 4) and part.boxes.dtype == np.float32
        assert (part.boxes >= 0).all() and (part.boxes <= size_px).all()
        assert (part.boxes[:, 2] > part.boxes[:, 0]).all()
        assert (part.boxes[:, 3] > part.boxes[:, 1]).all()
        assert ((part.classes >= 0) & (part.classes < len(CLASS_NAMES))).all()


@pytest.mark.parametrize(("kind", "enough_px"), [("board", 15), ("steel", 30)])
def test_every_defect_can_be_seen(kind: str, enough_px: int) -> None:
    for seed in range(100, 110):
        part = render(kind, seed, defects=5)
        changed = changed_pixels(kind, seed, 5)
        for box, index in zip(part.boxes, part.classes, strict=True):
            x1, y1, x2, y2 = box.round().astype(int)
            seen = int(changed[y1:y2, x1:x2].sum())
            assert seen >= enough_px, f"{CLASS_NAMES[index]} of seed {seed} at {box}: {seen} px"


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_changes_outside_the_boxes(kind: str) -> None:
    for seed in range(200, 206):
        changed = changed_pixels(kind, seed, 6)
        for x1, y1, x2, y2 in render(kind, seed, defects=6).boxes.round().astype(int):
            changed[y1:y2, x1:x2] = False
        assert not changed.any(), f"seed {seed}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_part_has_no_box(kind: str) -> None:
    part = render(kind, 5, defects=0)
    assert not part.defective and part.boxes.shape == (0, 4) and part.classes.shape == (0,)


@pytest.mark.parametrize("kind", KINDS)
def test_asked_for_defects_are_there(kind: str) -> None:
    for seed in range(300, 306):
        part = render(kind, seed, 320, defects=2)
        assert part.defective and len(part.boxes) == 2


def test_all_kinds_of_defects_come_up() -> None:
    names = {
        CLASS_NAMES[index]
        for kind in KINDS
        for seed in range(12)
        for index in render(kind, seed, 320, defects=6).classes
    }
    assert names == set(CLASS_NAMES)


def test_about_half_of_the_parts_are_good() -> None:
    counts = [defect_count(kind, seed) for kind in KINDS for seed in range(400)]
    assert 0.44 < np.mean(np.array(counts) == 0) < 0.56
    assert set(counts) == set(range(7))


def test_seed_decides_when_nobody_asks() -> None:
    for seed in range(8):
        assert render("steel", seed, 160).defective == (defect_count("steel", seed) > 0)


def test_class_list_is_the_shipped_model_s() -> None:
    assert CLASS_NAMES == (
        "open",
        "short",
        "mousebite",
        "spur",
        "copper",
        "pinhole",
        "scratch",
        "inclusion",
        "patch",
    )


@pytest.mark.parametrize(
    ("kind", "seed", "size_px", "defects", "message"),
    [
        ("wood", 1, 640, None, "unknown kind of part 'wood', known are board, steel"),
        ("board", -1, 640, None, "seed must be 0 or more, got -1"),
        ("board", -1, 640, 0, "seed must be 0 or more, got -1"),
        ("board", 1, 159, None, "size_px must be 160..4096, got 159"),
        ("steel", 1, 5000, None, "size_px must be 160..4096, got 5000"),
        ("steel", 1, 640, -2, "defects must be 0 or more, got -2"),
    ],
)
def test_wrong_arguments_are_named(
    kind: str, seed: int, size_px: int, defects: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        render(kind, seed, size_px, defects=defects)


def test_a_square_frame_is_the_part() -> None:
    picture = Scene(320, 320).picture("steel", 9, 2)
    assert picture.image.tobytes() == render("steel", 9, 320, defects=2).image.tobytes()


@pytest.mark.parametrize(("width", "height"), [(640, 360), (360, 640)])
def test_boxes_move_with_the_part_on_the_belt(width: int, height: int) -> None:
    scene = Scene(width, height)
    bad, good = scene.picture("board", 11, 3), scene.picture("board", 11, 0)
    assert bad.image.shape == (height, width, 3)
    assert len(bad.boxes) == 3 and bad.defective and not good.defective
    changed = np.abs(bad.image.astype(int) - good.image).max(axis=2) >= VISIBLE_GREY
    for x1, y1, x2, y2 in bad.boxes.round().astype(int):
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
        assert changed[y1:y2, x1:x2].any()
        changed[y1:y2, x1:x2] = False
    assert not changed.any()


def test_the_belt_is_not_drawn_over() -> None:
    scene = Scene(480, 320)
    first = scene.picture("steel", 1, 0).image.copy()
    scene.picture("steel", 2, 3)
    assert scene.picture("steel", 1, 0).image.tobytes() == first.tobytes()
