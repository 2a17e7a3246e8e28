"""Which row of the interface table a recorded topic belongs to, whatever its namespace."""

from __future__ import annotations

import re
from functools import lru_cache

from shopfloor.ros.interfaces import INTERFACES, Interface, Kind


@lru_cache(maxsize=1)
def _patterns() -> list[tuple[re.Pattern[str], Interface]]:
    rows = [row for row in INTERFACES if row.kind is Kind.TOPIC]
    # The longest and the most literal name is the most certain: line/state is no {camera}/state.
    rows.sort(key=lambda row: (-row.name.count("/"), len(row.placeholders)))
    found = []
    for row in rows:
        name = re.escape(row.resolve(**dict.fromkeys(row.placeholders, "PLACE")).lstrip("/"))
        found.append((re.compile(r"/(?:[^/]+/)*" + name.replace("PLACE", "[^/]+")), row))
    return found


def row_of(topic: str, type_: str = "") -> Interface | None:
    """The row of an absolute topic name (and of `type_`, where it is given); None: no row's."""
    for pattern, row in _patterns():
        if type_ in ("", row.type) and pattern.fullmatch(topic):
            return row
    return None
