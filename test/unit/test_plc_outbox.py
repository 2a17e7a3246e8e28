"""The outbox: in order, bounded, and there again after a crash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shopfloor.plc.mqtt_topics import Source, level
from shopfloor.plc.outbox import Outbox


def test_order_and_acknowledgement(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o", 10_000)
    numbers = [outbox.put("t", str(n).encode(), n == 1) for n in range(5)]
    assert numbers == sorted(numbers) and len(outbox) == 5
    assert [p.payload for p in outbox.after(0, 3)] == [b"0", b"1", b"2"]
    assert outbox.after(0, 3)[1].retain
    outbox.done(numbers[0])
    outbox.done(numbers[0])
    assert [p.payload for p in outbox.after(numbers[2], 9)] == [b"3", b"4"]
    assert len(outbox) == 4
    outbox.close()


def test_the_oldest_goes_where_the_bound_is_reached(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o", 1000)
    for n in range(20):
        outbox.put("t", bytes([n]) * 36)  # 100 bytes with its overhead
    assert len(outbox) == 10 and outbox.dropped == 10 and outbox.stored_bytes == 1000
    assert [p.payload[0] for p in outbox.after(0, 99)] == list(range(10, 20))
    outbox.close()
    again = Outbox(tmp_path / "o", 1000)
    assert (len(again), again.dropped, again.stored_bytes) == (10, 10, 1000)


def test_numbers_go_on_after_a_kill(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from shopfloor.plc.outbox import Outbox\n"
        "o = Outbox(Path(sys.argv[1]), 9999); [o.put('t', b'x') for _ in range(3)]; o.done(3)\n"
        "os.kill(os.getpid(), 9)"
    )
    source = Path(__file__).resolve().parents[2] / "src"
    environment = {**os.environ, "PYTHONPATH": str(source)}
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "o")], env=environment, check=False
    )
    outbox = Outbox(tmp_path / "o", 9999)
    assert [p.number for p in outbox.after(0, 9)] == [1, 2]
    assert outbox.put("t", b"y") == 4
    with pytest.raises(OSError, match="locked"):
        Outbox(tmp_path / "o", 9999)


def test_sources_and_their_topics() -> None:
    assert Source.parse("part_verdict").topic("/plant/a/") == "plant/a/part_verdict"
    host = Source.parse("host_state host=edge#1")
    assert host.topic("p") == "p/host_state/edge_1" and host.retained
    assert level("a/b+c") == "a_b_c" and level("") == "_"
    for wrong, needle in (
        ("nothing", "allowed: .*part_verdict"),
        ("manage_line", "is no topic"),
        ("image camera=x", "is no topic"),
        ("host_state", "with host=..."),
        ("part_verdict host=x", "with no names"),
        ("", "is no topic"),
    ):
        with pytest.raises(ValueError, match=needle):
            Source.parse(wrong)
