"""Blocks to windows: each break in time is named, and the sensor is back one window later."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shopfloor.vibration.signal import Block, Defect, Status, Unit, Window
from shopfloor.vibration.windows import SensorStream

RATE, SIZE = 10_000.0, 1000
START_NS = 1_800_000_000_000_000_000
STEP_NS = 100_000_000


def block(k: int, **changes: object) -> Block:
    """Block k of a well-behaved sensor; its samples count on."""
    ramp = np.arange(k * SIZE, (k + 1) * SIZE, dtype=np.float32)
    made = Block(
        machine_id="m",
        sensor_id="s",
        sequence=k,
        stamp_ns=START_NS + k * STEP_NS,
        received_ns=START_NS + (k + 1) * STEP_NS + 20_000_000,
        sample_rate_hz=RATE,
        channels=("x", "y"),
        unit=Unit.ACCELERATION,
        data=np.stack([ramp, -ramp]),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def shifted(k: int, seconds: float, **changes: object) -> Block:
    return block(k, stamp_ns=START_NS + k * STEP_NS + round(seconds * 1e9), **changes)


def run(blocks: list[Block], window_s: float = 0.5) -> tuple[list[Window], SensorStream]:
    stream = SensorStream(window_s)
    return [window for b in blocks for window in stream.add(b)], stream


def test_windows_are_whole_and_in_order() -> None:
    windows, stream = run([block(k) for k in range(20)])
    assert [w.first_sequence for w in windows] == [0, 5, 10, 15]
    assert all(w.clock.status is Status.VALID for w in windows)
    together = np.concatenate([w.data[0] for w in windows])
    assert np.array_equal(together, np.arange(20 * SIZE, dtype=np.float32))
    assert not stream.counts


def test_a_window_need_not_be_a_multiple_of_a_block() -> None:
    windows, _ = run([block(k) for k in range(10)], window_s=0.25)
    assert len(windows) == 4
    together = np.concatenate([w.data[1] for w in windows])
    assert np.array_equal(together, -np.arange(10 * SIZE, dtype=np.float32))
    assert [w.stamp_ns - START_NS for w in windows] == [0, 250_000_000, 500_000_000, 750_000_000]


BREAKS = [
    ("lost block", [block(7)], Defect.GAP),
    ("jump", [shifted(6, 0.035)], Defect.TIME_JUMP),
    ("back", [shifted(6, -0.35)], Defect.NON_MONOTONIC),
    ("time zone", [shifted(6, 3600.0)], Defect.ZONE_OFFSET),
    ("quarter hours", [shifted(6, -4500.0)], Defect.ZONE_OFFSET),
    ("a second", [shifted(6, 1.0)], Defect.SECOND_OFFSET),
    ("rate", [block(6, sample_rate_hz=5000.0)], Defect.FORMAT),
    ("no rate", [block(6, sample_rate_hz=float("nan"))], Defect.FORMAT),
    ("channels", [block(6, channels=("x",))], Defect.FORMAT),
    ("bias", [block(6, bias_v=(10.0,))], Defect.FORMAT),
    ("empty", [block(6, data=np.zeros((2, 0), np.float32))], Defect.FORMAT),
]


@pytest.mark.parametrize(("what", "bad", "defect"), BREAKS, ids=[b[0] for b in BREAKS])
def test_a_break_is_named_and_costs_one_window(what: str, bad: list[Block], defect: Defect) -> None:
    windows, stream = run([*map(block, range(6)), *bad, *(block(k) for k in range(8, 22))])
    broken = [w for w in windows if w.clock.status is Status.UNKNOWN]
    assert broken and broken[0].clock.defects & defect and broken[0].clock.reason
    assert broken[0].data.shape[1] == 0, "what breaks off has no samples"
    assert stream.counts[defect.name or ""] >= 1
    good = [w for w in windows if w.clock.status is Status.VALID]
    assert good[0].first_sequence == 0
    assert good[1].first_sequence <= 9, "the first whole blocks after the break start the next one"
    for window in good:
        assert (np.diff(window.data[0]) == 1).all(), "no window reaches over a break"


def test_an_offset_from_arrival_lasts_until_it_is_mended() -> None:
    blocks = [shifted(k, 3600.0) for k in range(10)] + [block(k) for k in range(10, 20)]
    windows, _ = run(blocks)
    first = [w for w in windows if w.stamp_ns > START_NS + 3000e9]
    assert first and all(w.clock.defects & Defect.ZONE_OFFSET for w in first)
    assert "+60 min" in first[0].clock.reason
    assert windows[-1].clock.status is Status.VALID


@pytest.mark.parametrize(
    ("seconds", "defect"),
    [(1.05, Defect.SECOND_OFFSET), (-2.0, Defect.SECOND_OFFSET), (-1.6, Defect.LATE),
     (0.7, Defect.TIME_JUMP), (-20700.0, Defect.ZONE_OFFSET)],
)  # fmt: skip
def test_offsets_from_the_first_block_on(seconds: float, defect: Defect) -> None:
    windows, _ = run([shifted(k, seconds) for k in range(6)])
    assert all(w.clock.status is Status.UNKNOWN for w in windows)
    assert windows[-1].clock.defects == defect


def test_repeated_and_swapped_blocks_lose_no_more_than_they_must() -> None:
    twice = [b for k in range(10) for b in (block(k), block(k))]
    windows, stream = run(twice)
    assert [w.clock.status for w in windows] == [Status.VALID] * 2
    assert stream.counts["thrown away"] == 10 == stream.counts["NON_MONOTONIC"]
    order = [0, 1, 2, 4, 3, *range(5, 16)]
    windows, stream = run([block(k) for k in order])
    assert stream.counts["GAP"] == 1 and stream.counts["thrown away"] == 1
    assert [w.first_sequence for w in windows if w.clock.status is Status.VALID] == [4, 9]


def test_a_sensor_that_restarts_is_followed() -> None:
    later = START_NS + 5_000_000_000
    restarted = [
        block(k, stamp_ns=later + k * STEP_NS, received_ns=later + (k + 1) * STEP_NS)
        for k in range(10)
    ]
    windows, _ = run([*(block(k) for k in range(100, 108)), *restarted])
    assert windows[-1].clock.status is Status.VALID
    assert windows[-1].stamp_ns > later


@pytest.mark.parametrize("ppm", [0.0, 50.0, 500.0, -1000.0])
def test_drift_against_arrival(ppm: float) -> None:
    rng = np.random.default_rng(1)
    stream = SensorStream(1.0)
    windows = []
    for k in range(1500):
        elapsed_ns = round((k + 1) * STEP_NS / (1 + ppm * 1e-6))
        delay_ns = round(2e6 + rng.exponential(10e6))
        windows += stream.add(block(k, received_ns=START_NS + elapsed_ns + delay_ns))
    last = windows[-1].clock
    assert last.clock_drift_ppm == pytest.approx(ppm, abs=120)
    assert bool(last.defects & Defect.CLOCK_DRIFT) == (abs(ppm) > 200)
    assert (last.status is Status.UNKNOWN) == (abs(ppm) > 200)


def test_a_clock_that_was_set_right_is_trusted_after_one_window() -> None:
    stream, ppm = SensorStream(1.0), 3000.0
    windows = []
    for k in range(900):
        elapsed_ns = (k + 1) * STEP_NS
        ahead_ns = round(ppm * 1e-6 * elapsed_ns) if k < 700 else 0
        windows += stream.add(
            block(k, stamp_ns=START_NS + k * STEP_NS + ahead_ns,
                  received_ns=START_NS + elapsed_ns + 2_000_000)
        )  # fmt: skip
    drifting = [w for w in windows if w.clock.defects & Defect.CLOCK_DRIFT]
    assert drifting and max(w.last_sequence for w in drifting) <= 700
    after = [w for w in windows if w.first_sequence >= 700 and w.data.shape[1]]
    assert len(after) == 20 and all(w.clock.status is Status.VALID for w in after)
