"""What a comparison found: a table for the terminal, a page with the pictures side by side."""

from __future__ import annotations

import html
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from rich.table import Table

from shopfloor.replay.bag_reader import BagReader
from shopfloor.replay.comparison import Comparison, Difference
from shopfloor.replay.fields import Value
from shopfloor.replay.player import Played
from shopfloor.replay.topics import row_of
from shopfloor.ros import html_page

MAX_ROWS = 40
MAX_PICTURES = 60

_STYLE = ".pair{display:grid;grid-template-columns:1fr 1fr;gap:14px}"


def table(found: Comparison, limit: int = MAX_ROWS) -> Table:
    """The differences by time and part."""
    rows = found.differences
    more = f", the first {limit} of them" if len(rows) > limit else ""
    out = Table(title=f"{len(rows)} differences{more}", title_justify="left")
    for name in ("time", "part", "node", "field", "in the bag", "now"):
        out.add_column(name, overflow="fold")
    for d in rows[:limit]:
        out.add_row(_clock(d.stamp_ns), d.part, d.node, d.field, text(d.before), text(d.now))
    return out


def summary(found: Comparison) -> Table:
    """Where the differences are: by node and field."""
    out = Table(title="By node and field", title_justify="left")
    for name in ("node", "topic", "field", "differences", "parts"):
        out.add_column(name)
    for (node, topic, field), parts in _by_field(found.differences):
        out.add_row(node, topic, field, str(parts.total()), str(len(parts)))
    return out


def text(value: Value | None) -> str:
    """A value as a person reads it."""
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else f"{value:.6g}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return "-" if value is None else str(value)


def write_page(
    path: Path, found: Comparison, played: Played, before: Path, now: Path, title: str
) -> None:
    """The page at `path`; pictures come from the two bags, where they have them."""
    body = [
        f"<p>{len(found.differences)} differences in {found.compared.total()} messages; "
        f"{found.at_the_edges} at the ends of the bag left out. "
        f"{played.seconds:.1f} s replayed in {played.wall_s:.1f} s. "
        f"Hash of the outputs: <code>{played.total_hash}</code></p>",
        "<h2>By node and field</h2>",
        html_page.table(
            [(n, t, f, str(p.total()), str(len(p))) for (n, t, f), p in
             _by_field(found.differences)],
            ("node", "topic", "field", "differences", "parts"),
        ),
        "<h2>By time and part</h2>",
        html_page.table(
            [(_clock(d.stamp_ns), d.part, d.node, d.field, text(d.before), text(d.now))
             for d in found.differences[:1000]],
            ("time", "part", "node", "field", "in the bag", "now"),
        ),
        "<h2>Pictures of parts that differ: in the bag, now</h2>",
        _pictures(found.differences, before, now),
    ]  # fmt: skip
    html_page.write_page(path, title, body, _STYLE)


def _by_field(
    differences: Sequence[Difference],
) -> list[tuple[tuple[str, str, str], Counter[str]]]:
    counts: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    for d in differences:
        field = "".join(c for c in d.field if not c.isdigit()).replace("[]", "")
        counts[d.node, d.topic, field][d.part] += 1
    return sorted(counts.items(), key=lambda item: -item[1].total())


def _pictures(differences: Sequence[Difference], before: Path, now: Path) -> str:
    parts: dict[int, str] = {}
    for d in differences:
        row = row_of(d.topic)
        if row is not None and row.key == "inspection_result":
            parts.setdefault(d.stamp_ns, d.part)
    stamps = dict(list(parts.items())[:MAX_PICTURES])
    if not stamps:
        return "<p>No frame was judged differently.</p>"
    old, new = _of_stamps(before, stamps), _of_stamps(now, stamps)
    figures = []
    for stamp_ns, part in stamps.items():
        sides = ((old, "in the bag"), (new, "now"))
        shown = "".join(
            f"<figure>{_picture(side.get(stamp_ns))}<figcaption>{html.escape(part)}, {name}"
            "</figcaption></figure>"
            for side, name in sides
        )
        figures.append(f'<div class="pair">{shown}</div>')
    return "".join(figures)


def _of_stamps(bag: Path, stamps: Mapping[int, str]) -> dict[int, bytes]:
    """Annotated pictures, else those of the camera."""
    found: dict[int, bytes] = {}
    with BagReader(bag) as reader:
        for key in ("image_compressed", "annotated_compressed"):
            topics = [t for t in reader.types if (row := row_of(t)) is not None and row.key == key]
            decode = reader.decoder()
            for item in reader.messages(topics):
                message = decode(item)
                at_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
                if at_ns in stamps:
                    found[at_ns] = bytes(message.data)
    return found


def _picture(data: bytes | None) -> str:
    if data is None:
        return "<p>no picture here</p>"
    return html_page.image(data, "")


def _clock(stamp_ns: int) -> str:
    if stamp_ns <= 0:
        return "-"
    moment = datetime.fromtimestamp(stamp_ns / 1e9, timezone.utc)
    return moment.strftime("%H:%M:%S.%f")[:-3]
