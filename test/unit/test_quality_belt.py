"""The belt's position from a counter that wraps, stands, runs back, jumps and falls silent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopfloor.quality.belt import EncodedBelt, TimedBelt

MS = 1_000_000
T0 = 1_700_000_000_000_000_000


def belt(bits: int = 16, pulses_per_m: float = 1000.0, silent_s: float = 0.25) -> EncodedBelt:
    return EncodedBelt(pulses_per_m, bits=bits, max_speed_m_per_s=1.0, silent_s=silent_s)


def test_a_timed_belt_there_and_back() -> None:
    timed = TimedBelt(0.2)
    assert timed.at(T0 + 1000 * MS) - timed.at(T0) == pytest.approx(0.2, abs=1e-6)
    assert abs(timed.when(timed.at(T0)) - T0) < MS
    with pytest.raises(ValueError, match="0 m/s; allowed: above 0"):
        TimedBelt(0.0)


@given(
    steps=st.lists(st.integers(-20, 20), min_size=1, max_size=200),
    start=st.integers(0, 2**16 - 1),
    bits=st.sampled_from([0, 16]),
    sign=st.sampled_from([1.0, -1.0]),
)
def test_positions_follow_the_counter_over_wraps_and_backwards(
    steps: list[int], start: int, bits: int, sign: float
) -> None:
    encoder = belt(bits, sign * 1000.0)
    raw, moved = start, 0
    assert encoder.read(T0, raw)
    origin = encoder.at(T0)
    assert origin is not None
    for n, step in enumerate(steps, 1):
        raw, moved = raw + step, moved + step
        assert encoder.read(T0 + n * 20 * MS, raw % (1 << bits) if bits else raw)
    now = encoder.at(T0 + len(steps) * 20 * MS)
    assert now is not None and now - origin == pytest.approx(sign * moved / 1000.0, abs=1e-9)
    assert encoder.count_at(now) == (raw % (1 << bits) if bits else raw)
    # A window ahead, in counts, is what the counter will read there.
    ahead = raw + round(sign * 50)
    assert encoder.count_at(now + 0.05) == (ahead % (1 << bits) if bits else ahead)


def test_between_two_readings_and_a_little_ahead() -> None:
    encoder = belt()
    for n in range(20):
        encoder.read(T0 + n * 20 * MS, n * 10)
    assert encoder.speed_m_per_s == pytest.approx(0.5)
    assert encoder.at(T0 + 50 * MS) == pytest.approx(0.025)
    assert encoder.at(T0 + 400 * MS) == pytest.approx(0.2)
    assert encoder.at(T0 - 1) is None
    assert encoder.at_count(185) == pytest.approx(0.185)


def test_a_belt_that_starts_is_measured_and_not_forecast() -> None:
    encoder = belt()
    assert not encoder.has_passed(T0)
    for n in range(20):
        encoder.read(T0 + n * 20 * MS, 0)
    exposure = T0 + 390 * MS
    assert not encoder.has_passed(exposure) and encoder.at(exposure) == 0.0
    encoder.read(T0 + 400 * MS, 8)
    assert encoder.has_passed(exposure) and encoder.at(exposure) == pytest.approx(0.004)


def test_silence_is_not_a_position() -> None:
    encoder = belt()
    assert encoder.at(T0) is None and encoder.at_count(3) is None
    with pytest.raises(LookupError):
        encoder.count_at(0.0)
    encoder.read(T0, 0)
    assert encoder.at(T0 + 250 * MS) is not None
    assert encoder.at(T0 + 251 * MS) is None
    assert encoder.read(T0 + 300 * MS, 100), "it moved as it may have in the meantime"
    assert encoder.at(T0 + 300 * MS) == pytest.approx(0.1)


def test_a_jump_says_that_places_are_lost() -> None:
    encoder = belt()
    encoder.read(T0, 30_000)
    assert not encoder.read(T0 + 20 * MS, 0), "a counter that was reset"
    assert encoder.counts["jump"] == 1
    assert encoder.read(T0 + 40 * MS, 10)
    # 66 s at 1 m/s is more than half way round 65,536 counts: nobody knows how often it wrapped.
    assert not encoder.read(T0 + 66_000 * MS, 20)


def test_readings_that_cannot_be_used_are_counted() -> None:
    encoder = belt()
    encoder.read(T0, 0)
    assert encoder.read(T0 + 20 * MS, 9999, valid=False)
    assert encoder.read(T0, 5) and encoder.read(T0 - MS, 5)
    assert encoder.counts == {"invalid": 1, "not newer": 2}
    encoder.read(T0 + 300 * MS, -20)
    assert encoder.runs_backwards and encoder.counts["backwards"] == 1
