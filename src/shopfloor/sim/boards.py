"""Printed circuit boards as an inspection camera sees them.

Two appearances: the black and white image of an automatic optical inspection (copper black on
white substrate, ragged by its threshold, the polarity of DeepPCB), and a colour photograph with
solder mask or bare laminate, noise, uneven light and a little blur.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from shopfloor.sim import textures
from shopfloor.sim.board_defects import BoardDefects, Box
from shopfloor.sim.board_layout import LAYOUT_UNITS, Layout, draw_copper
from shopfloor.sim.board_routing import make_layout
from shopfloor.sim.textures import Image

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class _Palette:
    """Colours (bgr) of one kind of board."""

    substrate: Colour
    copper: Colour
    pad: Colour
    legend: Colour | None


_PALETTES = (
    _Palette((38, 78, 22), (66, 138, 52), (120, 190, 216), (225, 232, 228)),  # green, gold pads
    _Palette((34, 66, 26), (62, 122, 40), (188, 196, 198), (228, 230, 228)),  # green, tin pads
    _Palette((62, 92, 40), (96, 150, 84), (150, 205, 225), (230, 235, 232)),  # pale green, gold
    _Palette((70, 112, 104), (92, 146, 222), (98, 152, 228), None),  # bare laminate, copper
    _Palette((60, 96, 92), (86, 140, 214), (92, 148, 222), None),  # dark laminate, copper
    _Palette((88, 46, 18), (150, 92, 46), (130, 198, 220), (232, 232, 230)),  # blue, gold pads
)
_BELT: Colour = (52, 50, 48)
_DRILL: Colour = (26, 28, 30)


def render_board(seed: int, size_px: int, defects: int) -> tuple[Image, list[Box], list[str]]:
    """Draw a board: image (size_px, size_px, 3) uint8 bgr, boxes (px) and names of its defects.

    The board itself depends on the seed alone, so `defects=0` gives its good twin.
    """
    layout_rng = np.random.default_rng([seed, 11])
    defect_rng = np.random.default_rng([seed, 12])
    look_rng = np.random.default_rng([seed, 13])
    is_photo = bool(look_rng.random() < 0.5)
    has_edge = is_photo and bool(look_rng.random() < 0.4)
    layout = make_layout(layout_rng, float(look_rng.uniform(14, 26)) if has_edge else 0.0)
    copper, pads, drills = draw_copper(layout, size_px)
    if not is_photo:
        drills = _large(drills, size_px)
    copper[drills > 0] = 0
    boxes: list[Box] = []
    names: list[str] = []
    if defects:
        hidden = drills if is_photo else None  # in a photo a hole is a hole, whatever lies in it
        boxes, names = _add_defects(BoardDefects(defect_rng, layout, copper, hidden), defects)
    if is_photo:
        return _photo(look_rng, layout, copper, pads, drills), boxes, names
    return _threshold_image(look_rng, copper), boxes, names


def _large(drills: Image, size_px: int) -> Image:
    """Drills that an inspection image shows; vias are tented and stay black.

    A small round hole in a via would look like a pinhole.
    """
    reach = max(3, round(12 * size_px / LAYOUT_UNITS))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    return np.asarray(cv2.morphologyEx(drills, cv2.MORPH_OPEN, kernel), np.uint8)


def _add_defects(artist: BoardDefects, count: int) -> tuple[list[Box], list[str]]:
    boxes: list[Box] = []
    names: list[str] = []
    for _ in range(count):
        # every kind is equally likely; where the board has no room for one, another steps in
        for kind in artist.shuffled_kinds():
            box = artist.draw(kind)
            if box is not None:
                boxes.append(box)
                names.append(kind)
                break
    return boxes, names


def _threshold_image(rng: np.random.Generator, copper: Image) -> Image:
    size_px = copper.shape[0]
    soft = cv2.GaussianBlur(copper, (0, 0), max(0.5, 0.9 * size_px / LAYOUT_UNITS))
    rough = float(rng.uniform(15, 55))
    field = soft + rough * textures.noise(rng, size_px, 0.7, 0.7)
    # no noise far from edges: real thresholds are ragged at edges and clean elsewhere
    is_copper = np.where((soft > 12) & (soft < 243), field > 127, soft > 127)
    grey = np.where(is_copper, np.uint8(1), np.uint8(255))
    for _ in range(int(rng.integers(0, 5))):  # dust of one or two pixels
        x, y = (int(v) for v in rng.integers(2, size_px - 2, 2))
        grey[y : y + int(rng.integers(1, 3)), x : x + int(rng.integers(1, 3))] ^= 254
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)


def _photo(
    rng: np.random.Generator, layout: Layout, copper: Image, pads: Image, drills: Image
) -> Image:
    size_px = copper.shape[0]
    scale = size_px / LAYOUT_UNITS
    palette = _PALETTES[int(rng.integers(len(_PALETTES)))]
    # one byte a pixel names the material; the colours come from a table
    material = np.zeros((size_px, size_px), np.uint8)
    if palette.legend is not None:
        _draw_legends(material, layout, 5, scale)
    material[copper > 0] = 1
    material[(pads > 0) & (copper > 0)] = 2
    material[drills > 0] = 3
    if layout.inset:
        low = round(layout.inset * scale)
        material[:low] = material[-low:] = 4
        material[:, :low] = material[:, -low:] = 4
    table = np.zeros((1, 256, 3), np.uint8)
    table[0, :6] = (
        palette.substrate, palette.copper, palette.pad, _DRILL, _BELT,
        palette.legend or palette.substrate,
    )  # fmt: skip
    sharp = cv2.LUT(cv2.merge([material] * 3), table)
    sigma = float(rng.uniform(0.6, 1.15)) * max(scale, 0.6)
    image = cv2.GaussianBlur(sharp, (0, 0), sigma)

    # copper stands out of the board: its edges catch light on one side
    height = cv2.GaussianBlur(copper, (0, 0), sigma * 1.2)
    relief = cv2.Sobel(height, cv2.CV_32F, 1, 1, ksize=3, scale=-0.09)
    texture = np.asarray(relief, np.float32)
    texture += textures.noise(rng, size_px, 0.6, 0.6) * np.float32(rng.uniform(2.0, 5.0))
    texture += textures.noise(rng, size_px, 2.5, 2.5) * np.float32(rng.uniform(1.0, 3.0))
    light = 1.0 + float(rng.uniform(0.05, 0.2)) * textures.gradient(rng, 64)
    light += float(rng.uniform(0.02, 0.07)) * textures.clouds(rng, 64, 4)
    light *= float(rng.uniform(0.85, 1.15))
    gain = cv2.resize((light * 128.0).astype(np.uint8), (size_px, size_px))
    lit = cv2.multiply(image, cv2.merge([gain] * 3), scale=1 / 128)
    grain = texture.astype(np.int16)
    return np.asarray(cv2.add(lit, cv2.merge([grain] * 3), dtype=cv2.CV_8U), np.uint8)


def _draw_legends(material: Image, layout: Layout, value: int, scale: float) -> None:
    for (x, y), text in layout.legends:
        at = (round((x - 5 * len(text)) * scale), round((y + 5) * scale))
        cv2.putText(material, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.55 * scale, value, 1)
