"""What /diagnostics makes of a camera's health: what nobody can know is never OK."""

from __future__ import annotations

import time
from dataclasses import replace

from shopfloor.camera.capture import CaptureHealth, CaptureState
from shopfloor.camera.node import HELD_S, _level
from shopfloor.camera.source import Cause, SourceInfo
from shopfloor.ros.diagnostics import Level

SILENCE_S = 2.0


def health(*, triggered: bool, silent_s: float = 0.0) -> CaptureHealth:
    """A camera that gave a frame `silent_s` ago."""
    return CaptureHealth(
        SourceInfo("genicam", "7", triggered=triggered),
        CaptureState.STREAMING,
        last_frame_steady_ns=time.monotonic_ns() - round(silent_s * 1e9),
    )


def test_silence_is_a_fault_of_what_waits_for_nobody() -> None:
    level, text = _level(health(triggered=True, silent_s=600.0), SILENCE_S)
    assert level is Level.OK and "no trigger for 600" in text
    level, text = _level(health(triggered=False, silent_s=600.0), SILENCE_S)
    assert level is Level.WARN and "no frame for 600" in text
    opening = replace(health(triggered=True), state=CaptureState.OPENING)
    assert _level(opening, SILENCE_S)[0] is Level.OK
    assert _level(replace(opening, cause=Cause.NO_FRAMES), SILENCE_S)[0] is Level.ERROR


def test_a_driver_that_hangs_in_a_read_is_an_error_whoever_it_waits_for() -> None:
    for triggered in (True, False):
        silent = health(triggered=triggered, silent_s=600.0)
        held = replace(silent, reading_s=HELD_S + SILENCE_S + 1.0)
        level, text = _level(held, SILENCE_S)
        assert level is Level.ERROR and "held a read for 13 s" in text
        # A stream may take as long as its silence for one frame.
        slow = replace(health(triggered=triggered), reading_s=HELD_S + SILENCE_S - 1.0)
        assert _level(slow, SILENCE_S)[0] is Level.OK
