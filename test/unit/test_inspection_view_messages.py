"""What viewers are told to draw."""

from __future__ import annotations

import numpy as np
import pytest

from shopfloor.inspection.detections import Detections
from shopfloor.inspection.overlay import CLASS_COLOURS

messages = pytest.importorskip("visualization_msgs.msg", reason="ROS 2 is not there")
views = pytest.importorskip("shopfloor.inspection.view_messages")
HEADER = messages.ImageMarker().header
HEADER.frame_id, HEADER.stamp.sec, HEADER.stamp.nanosec = "camera", 7, 8


def found(*boxes: tuple[float, float, float, float], class_ids: list[int]) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.5, len(boxes), dtype=np.float32),
        np.array(class_ids, np.int32),
    )


def test_each_box_is_four_lines_in_pixels_of_its_colour() -> None:
    class_ids = [1, len(CLASS_COLOURS)]  # the colours begin again after the last
    marker = views.image_marker(
        found((10, 20, 30, 60), (0.5, 1.5, 2.5, 3.5), class_ids=class_ids), HEADER
    )
    assert (marker.type, marker.action) == (messages.ImageMarker.LINE_LIST, 0)
    assert marker.header == HEADER
    points = [(p.x, p.y) for p in marker.points]
    lines = list(zip(points[::2], points[1::2], strict=True))
    assert lines[:4] == [
        ((10, 20), (30, 20)), ((30, 20), (30, 60)), ((30, 60), (10, 60)), ((10, 60), (10, 20)),
    ]  # fmt: skip
    assert set(points[8:]) == {(0.5, 1.5), (2.5, 1.5), (2.5, 3.5), (0.5, 3.5)}
    # One a line, not one a point: what viewers agree on.
    colours = [(c.b, c.g, c.r) for c in marker.outline_colors]
    for colour, class_id in zip(colours, [1] * 4 + [0] * 4, strict=True):
        assert colour == pytest.approx([v / 255 for v in CLASS_COLOURS[class_id]])
    assert all(c.a == 1.0 for c in (marker.outline_color, *marker.outline_colors))
    assert marker.scale > 0.0
    assert 0 < marker.lifetime.sec + marker.lifetime.nanosec / 1e9 <= 5


def test_a_frame_without_boxes_clears_those_of_the_last() -> None:
    drawn = views.image_marker(found((1, 2, 3, 4), class_ids=[0]), HEADER)
    cleared = views.image_marker(Detections.empty(), HEADER)
    assert cleared.action == messages.ImageMarker.REMOVE
    assert (cleared.ns, cleared.id) == (drawn.ns, drawn.id)
    assert len(cleared.points) == len(cleared.outline_colors) == 0
