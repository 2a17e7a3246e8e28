"""Part of the inspector node: what a person sees, made only while someone looks."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from std_msgs.msg import Header

from shopfloor.inspection.detections import Detections
from shopfloor.inspection.model import ModelPackage
from shopfloor.inspection.overlay import annotate
from shopfloor.inspection.pipeline import InspectionOutcome
from shopfloor.inspection.rungs import Rung
from shopfloor.inspection.score_map import overlay, score_map
from shopfloor.inspection.verdict import Verdict
from shopfloor.inspection.view_messages import (
    detections_2d,
    has_vision_msgs,
    image_marker,
    markers,
)
from shopfloor.ros import images
from shopfloor.ros.frames import Frame
from shopfloor.ros.node import ShopfloorNode
from shopfloor.ros.worker import Done

Image = npt.NDArray[np.uint8]

KEPT_FAILS = 4
"""FAILs that wait for their score map; each holds its frame's memory."""


@dataclass(frozen=True)
class Shown:
    """What is drawn. floor: detections with a lower score are left out."""

    frame: Frame
    outcome: InspectionOutcome
    package: ModelPackage
    rung: Rung
    floor: float


class Views:
    """Annotated image, score map of each FAIL, markers, and vision_msgs where they are there.

    jpeg_quality: of the compressed images. pixel_size_mm: of markers, 0: not known.
    """

    def __init__(self, node: ShopfloorNode[Any], jpeg_quality: int, pixel_size_mm: float) -> None:
        self._node = node
        self._jpeg_quality = jpeg_quality
        self._pixel_size_mm = pixel_size_mm
        name = node.get_name()
        self._publishers = {
            key: node.publisher(key, inspector=name)
            for key in (
                "annotated", "annotated_compressed", "score_map", "score_map_compressed", "markers",
                "image_markers",
            )
        }  # fmt: skip
        if has_vision_msgs():
            self._publishers["detections_2d"] = node.publisher("detections_2d", inspector=name)
        self._fails: deque[Shown] = deque(maxlen=KEPT_FAILS)
        self._worker = node.worker("views", self._draw, self._drawn, quiet=True)

    def wants(self, outcome: InspectionOutcome) -> bool:
        """Whether there is a picture, and someone who looks."""
        return outcome.image is not None and any(map(self._wanted, self._publishers))

    def show(self, shown: Shown) -> None:
        """Draw it on the worker if someone looks; the newest wins, but for score maps of FAILs."""
        if not self.wants(shown.outcome):
            return
        if shown.outcome.decision.verdict is Verdict.FAIL and self._maps_wanted():
            if len(self._fails) == KEPT_FAILS:
                self._node.fault("score map left out", f"{KEPT_FAILS} later FAILs wait for theirs")
            self._fails.append(shown)  # the oldest gives way
        self._worker.put(shown)

    def _maps_wanted(self) -> bool:
        return self._wanted("score_map") or self._wanted("score_map_compressed")

    def _wanted(self, key: str) -> bool:
        publisher = self._publishers.get(key)
        return publisher is not None and bool(publisher.get_subscription_count())

    def _draw(self, shown: Shown) -> None:
        while self._fails:
            self._draw_score_map(self._fails.popleft())
        outcome, package = shown.outcome, shown.package
        classes, seen = package.classes, outcome.detections.above(shown.floor)
        header = self._header(shown)
        if self._wanted("annotated") or self._wanted("annotated_compressed"):
            assert outcome.image is not None
            self._publish("annotated", self._banner(shown, outcome.image, seen), shown, header)
        if self._wanted("markers"):
            array = markers(seen, classes, header, self._pixel_size_mm)
            self._publishers["markers"].publish(array)
        if self._wanted("image_markers"):
            self._publishers["image_markers"].publish(image_marker(seen, header))
        if self._wanted("detections_2d"):
            self._publishers["detections_2d"].publish(detections_2d(seen, classes, header))

    def _header(self, shown: Shown) -> Header:
        return Header(stamp=self._node.stamp(shown.frame.stamp_ns), frame_id=shown.frame.camera)

    def _draw_score_map(self, shown: Shown) -> None:
        outcome = shown.outcome
        if outcome.image is None or outcome.output is None or outcome.geometry is None:
            return
        heat = score_map(outcome.output, shown.package.output)
        picture = overlay(outcome.image, heat, outcome.geometry)
        banner = self._banner(shown, picture, Detections.empty())
        self._publish("score_map", banner, shown, self._header(shown))

    def _banner(self, shown: Shown, picture: Image, seen: Detections) -> Image:
        package, rung = shown.package, shown.rung
        note = f"{package.name}/{package.version}"
        return annotate(
            picture,
            seen,
            shown.outcome.decision,
            package.classes,
            part_id=shown.frame.part_id,
            note=f"{note}, rung {rung.index} {rung.name}" if rung.index else note,
        )

    def _publish(self, key: str, picture: Image, shown: Shown, header: Header) -> None:
        if not shown.frame.intact():
            return  # a picture of two frames would mislead whoever looks
        stamp, camera = header.stamp, header.frame_id
        if self._wanted(key):
            message = images.to_message(picture, "bgr8", stamp, camera)
            self._publishers[key].publish(message)
        jpeg = f"{key}_compressed"
        if self._wanted(jpeg):
            message = images.to_compressed(picture, "bgr8", stamp, camera, self._jpeg_quality)
            self._publishers[jpeg].publish(message)

    def _drawn(self, done: Done[Shown, None]) -> None:
        if done.error is not None:
            self._node.fault("views", f"{type(done.error).__name__}: {done.error}")
