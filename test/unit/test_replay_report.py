"""The page of a comparison: every difference, escaped, and the pictures of both bags."""

from __future__ import annotations

from pathlib import Path

from shopfloor.replay.bag_reader import BagReader
from shopfloor.replay.comparison import Comparison, Difference
from shopfloor.replay.player import Played
from shopfloor.replay.report import write_page
from shopfloor.replay.topics import row_of

BAG = Path(__file__).resolve().parents[1] / "replay" / "golden" / "line"
PLAYED = Played({}, "0123abcd", {}, {}, frozenset(), (0, 0), 10.0, 2.5, 1.0, 3)


def pictured() -> int:
    """The stamp of a frame of which the bag has a picture."""
    with BagReader(BAG) as reader:
        topics = [t for t in reader.types if (r := row_of(t)) and r.key == "image_compressed"]
        decode = reader.decoder()
        stamp = decode(next(iter(reader.messages(topics)))).header.stamp
        return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def test_differences_are_named_and_shown(tmp_path: Path) -> None:
    at_ns = pictured()
    found = Comparison(
        [
            Difference("/line_1/inspection/result", "/line_1/inspector", "part <7>", at_ns,
                       "score", 0.5, 0.25),
            Difference("/line_1/parts/verdict", "/line_1/gate", "part <7>", at_ns, "reasons[1]",
                       None, "new"),
        ]
    )  # fmt: skip
    page = tmp_path / "deep" / "page.html"
    write_page(page, found, PLAYED, BAG, BAG, "a <bag>")
    text = page.read_text("utf-8")
    assert "<h1>a &lt;bag&gt;</h1>" in text and "part &lt;7&gt;" in text and "part <7>" not in text
    assert text.count("data:image/jpeg;base64,") == 2
    assert "<td class=n>0.5</td><td class=n>0.25</td>" in text and "<td>-</td><td>new</td>" in text
