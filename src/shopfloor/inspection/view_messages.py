"""Detections in the messages that standard tools draw."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import ImageMarker, Marker, MarkerArray

from shopfloor.inspection.detections import Detections
from shopfloor.inspection.overlay import CLASS_COLOURS

UNCALIBRATED_MM = 1.0
"""Size of a pixel in markers where it is not known."""

IMAGE_MARKER_LIFETIME_S = 1
"""Boxes of an inspector that has gone must not stay on a picture that moves on."""

Corner = tuple[float, float]


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
        colour = _colour(class_id)
        for edge in _edges(left, top, right, bottom):
            for x, y in edge:
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


def image_marker(found: Detections, header: Header) -> ImageMarker:
    """All boxes as one line list in pixels of the frame, a colour for each of its lines.

    Without a box it is a REMOVE without points: a viewer that keeps markers by name takes the last
    one out, and one that draws the newest message, as Foxglove does, draws nothing.
    """
    marker = ImageMarker(header=header, ns="boxes", id=0, type=ImageMarker.LINE_LIST, scale=2.0)
    marker.action = ImageMarker.ADD if len(found) else ImageMarker.REMOVE
    marker.outline_color.a = 1.0  # Foxglove hides a marker without it, whatever the lines' colours
    marker.lifetime = Duration(sec=IMAGE_MARKER_LIFETIME_S)
    for box, class_id in zip(found.xyxy.tolist(), found.class_ids.tolist(), strict=True):
        for edge in _edges(*box):
            marker.points += [Point(x=x, y=y, z=0.0) for x, y in edge]
            marker.outline_colors.append(_colour(class_id))
    return marker


def _edges(left: float, top: float, right: float, bottom: float) -> list[tuple[Corner, Corner]]:
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return list(zip(corners, corners[1:] + corners[:1], strict=True))


def _colour(class_id: int) -> ColorRGBA:
    blue, green, red = (value / 255.0 for value in CLASS_COLOURS[class_id % len(CLASS_COLOURS)])
    return ColorRGBA(r=red, g=green, b=blue, a=1.0)


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
