"""Detections in the messages that standard tools draw."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from shopfloor.inspection.detections import Detections
from shopfloor.inspection.overlay import CLASS_COLOURS

UNCALIBRATED_MM = 1.0
"""Size of a pixel in markers where it is not known."""


def has_vision_msgs() -> bool:
    """Whether this ROS 2 has vision_msgs; the wheels on PyPI do not."""
    return importlib.util.find_spec("vision_msgs") is not None


def markers(
    found: Detections, classes: tuple[str, ...], header: Header, pixel_size_mm: float
) -> MarkerArray:
    """Boxes and labels on the part's plane: x right, y down, metres, origin at the top left pixel.

    pixel_size_mm: 0 or NaN: not known, then a pixel is a millimetre.
    """
    metres = (pixel_size_mm if pixel_size_mm > 0.0 else UNCALIBRATED_MM) / 1000.0
    boxes = Marker(header=header, ns="boxes", id=0, type=Marker.LINE_LIST, action=Marker.ADD)
    boxes.pose.orientation.w = 1.0
    boxes.scale.x = 2.0 * metres
    made = [Marker(header=header, action=Marker.DELETEALL), boxes]
    for row, ((left, top, right, bottom), score, class_id) in enumerate(
        zip(found.xyxy.tolist(), found.scores.tolist(), found.class_ids.tolist(), strict=True), 1
    ):
        blue, green, red = (value / 255.0 for value in CLASS_COLOURS[class_id % len(CLASS_COLOURS)])
        colour = ColorRGBA(r=red, g=green, b=blue, a=1.0)
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
            for x, y in (start, end):
                boxes.points.append(Point(x=x * metres, y=y * metres, z=0.0))
                boxes.colors.append(colour)
        label = Marker(
            header=header, ns="labels", id=row, type=Marker.TEXT_VIEW_FACING, action=Marker.ADD
        )
        label.text = f"{classes[class_id]} {score:.2f}"
        label.pose.position = Point(x=left * metres, y=(top - 8.0) * metres, z=0.0)
        label.pose.orientation.w = 1.0
        label.scale.z = 12.0 * metres
        label.color = colour
        made.append(label)
    if not boxes.points:
        made.pop(1)
    return MarkerArray(markers=made)


def detections_2d(found: Detections, classes: tuple[str, ...], header: Header) -> Any:
    """A vision_msgs/Detection2DArray; only where `has_vision_msgs`."""
    types = importlib.import_module("vision_msgs.msg")
    array = types.Detection2DArray(header=header)
    for (left, top, right, bottom), score, class_id in zip(
        found.xyxy.tolist(), found.scores.tolist(), found.class_ids.tolist(), strict=True
    ):
        detection = types.Detection2D(header=header)
        detection.bbox.center.position.x = (left + right) / 2
        detection.bbox.center.position.y = (top + bottom) / 2
        detection.bbox.size_x, detection.bbox.size_y = right - left, bottom - top
        hypothesis = types.ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = classes[class_id]
        hypothesis.hypothesis.score = score
        detection.results.append(hypothesis)
        array.detections.append(detection)
    return array
