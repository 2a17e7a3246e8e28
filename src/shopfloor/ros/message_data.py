"""A ROS message as plain data: what JSON knows."""

from __future__ import annotations

import math
from typing import Any


def plain(message: Any, without: str = "") -> Any:
    """Dicts, lists, text, numbers and None, which stands for NaN and infinity.

    without: name of a field that is left out, at every level.
    """
    if hasattr(message, "get_fields_and_field_types"):
        names = message.get_fields_and_field_types()
        return {name: plain(getattr(message, name), without) for name in names if name != without}
    if isinstance(message, float):
        return message if math.isfinite(message) else None
    if isinstance(message, (str, int)):
        return message
    if isinstance(message, (bytes, bytearray)):
        return list(message)
    return [plain(item, without) for item in message]
