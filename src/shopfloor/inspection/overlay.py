"""The annotated image: what a person sees of an inspection."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from shopfloor.inspection.detections import Detections
from shopfloor.inspection.verdict import Decision, Verdict

Bgr = tuple[int, int, int]
Image = npt.NDArray[np.uint8]

SMALL_SIDE_PX = 480
"""Images with a shorter side are enlarged, so that labels can be read."""

FONT = cv2.FONT_HERSHEY_SIMPLEX
WHITE: Bgr = (255, 255, 255)
BLACK: Bgr = (0, 0, 0)

VERDICT_COLOURS: dict[Verdict, Bgr] = {
    Verdict.PASS: (60, 140, 30),
    Verdict.FAIL: (40, 30, 200),
    Verdict.SUSPECT: (0, 125, 205),
    Verdict.UNKNOWN: (110, 110, 110),
}

# Okabe and Ito's palette, told apart by colour-blind people too (BGR).
CLASS_COLOURS: tuple[Bgr, ...] = (
    (0, 94, 213), (233, 180, 86), (66, 228, 240), (167, 121, 204), (0, 159, 230),
    (115, 158, 0), (178, 114, 0),
)  # fmt: skip


def annotate(
    image: Image,
    detections: Detections,
    decision: Decision,
    classes: tuple[str, ...],
    *,
    part_id: str = "",
    note: str = "",
    suspect: float = 0.0,
) -> Image:
    """A new BGR image: a banner with the verdict above the picture, and its boxes with labels.

    image: H x W (grey) or H x W x 3 (BGR) uint8, not changed. Boxes are in its pixels; those with a
    score below `suspect` are left out. note: small print on the right of the banner.
    """
    factor = max(1, -(-SMALL_SIDE_PX // min(image.shape[:2])))
    height, width = image.shape[0] * factor, image.shape[1] * factor
    text_scale = max(0.5, min(height, width) / 1000)
    banner_px = round(56 * text_scale) + 8
    canvas = np.empty((height + banner_px, width, 3), dtype=np.uint8)
    picture = canvas[banner_px:]
    enlarged = cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST)
    if image.ndim == 2:
        cv2.cvtColor(enlarged, cv2.COLOR_GRAY2BGR, dst=picture)
    else:
        np.copyto(picture, enlarged)
    shown = detections.above(suspect)
    for index in range(len(shown) - 1, -1, -1):  # the best on top
        class_id = int(shown.class_ids[index])
        label = f"{classes[class_id]} {shown.scores[index]:.2f}"
        colour = CLASS_COLOURS[class_id % len(CLASS_COLOURS)]
        _draw_box(picture, shown.xyxy[index] * factor, label, colour, text_scale)
    _draw_banner(canvas[:banner_px], decision, part_id, note, text_scale)
    return canvas


def _draw_box(
    picture: Image, box: npt.NDArray[np.float32], label: str, colour: Bgr, scale: float
) -> None:
    height, width = picture.shape[:2]
    line = max(2, round(3 * scale))
    left, top, right, bottom = (round(float(v)) for v in box)
    # A margin, so that the line does not hide a defect of a few pixels.
    left, top = max(left - line, 0), max(top - line, 0)
    right, bottom = min(right + line, width - 1), min(bottom + line, height - 1)
    cv2.rectangle(picture, (left, top), (right, bottom), BLACK, line + 2)
    cv2.rectangle(picture, (left, top), (right, bottom), colour, line)
    text_scale = 0.8 * scale
    (text_width, text_height), base = cv2.getTextSize(label, FONT, text_scale, _weight(scale))
    tab_height = text_height + base + 2
    x = min(left, max(0, width - text_width - 6))
    y = top - tab_height if top >= tab_height else min(bottom, height - tab_height)
    cv2.rectangle(picture, (x, y), (x + text_width + 6, y + tab_height), colour, cv2.FILLED)
    ink = BLACK if sum(colour) > 380 else WHITE
    origin = (x + 3, y + text_height + 2)
    cv2.putText(picture, label, origin, FONT, text_scale, ink, _weight(scale), cv2.LINE_AA)


def _draw_banner(banner: Image, decision: Decision, part_id: str, note: str, scale: float) -> None:
    banner[:] = VERDICT_COLOURS[decision.verdict]
    height, width = banner.shape[:2]
    verdict = decision.verdict.name
    big = 1.3 * scale
    (used, text_height), _ = cv2.getTextSize(verdict, FONT, big, _weight(scale) + 1)
    origin = (8, (height + text_height) // 2)
    cv2.putText(banner, verdict, origin, FONT, big, WHITE, _weight(scale) + 1, cv2.LINE_AA)
    room = width - used - 40
    lines = [f"part {part_id}" if part_id else "", decision.text]
    if note:
        lines[0] = f"{lines[0]}   {note}".strip()
    for row, text in enumerate(lines):
        fitted = _fit(text, 0.65 * scale, room)
        y = round(height * (0.42 if row == 0 else 0.84))
        cv2.putText(
            banner, fitted, (used + 24, y), FONT, 0.65 * scale, WHITE, _weight(0.8 * scale),
            cv2.LINE_AA,
        )  # fmt: skip


def _fit(text: str, scale: float, room_px: int) -> str:
    """`text`, cut with dots where it is wider than the room."""
    text = text.encode("ascii", "replace").decode()  # the font has no other letters
    if cv2.getTextSize(text, FONT, scale, 1)[0][0] <= room_px:
        return text
    while text and cv2.getTextSize(text + "...", FONT, scale, 1)[0][0] > room_px:
        text = text[:-1]
    return text + "..." if text else ""


def _weight(scale: float) -> int:
    return max(1, round(1.6 * scale))
