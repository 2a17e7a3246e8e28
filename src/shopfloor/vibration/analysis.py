"""One window from samples to everything that is known of it: quality, features, lines, evidence.

Windows of one length and rate go through together, however many sensors they come from.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from shopfloor.vibration.bearing import BearingEvidence, BearingOrders, EnvelopeAnalyser
from shopfloor.vibration.features import (
    DEFAULT_BANDS_HZ,
    BasicFeatures,
    FeatureExtractor,
    Floats,
    Layout,
    Lines,
)
from shopfloor.vibration.machines import Machine
from shopfloor.vibration.severity import Zone, ZoneLimits
from shopfloor.vibration.signal import Quality, Status, Window, worst
from shopfloor.vibration.validation import Limits, SignalValidator

ORDERS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)
Arrays = TypeVar("Arrays", BasicFeatures, Lines, BearingEvidence)

LINE_NAMES = ("dominant", *(f"{order:g}x" for order in ORDERS))


class SpeedSource(enum.IntEnum):
    """The values of Tachometer.SOURCE_*."""

    UNKNOWN = 0
    MEASURED = 1
    DRIVE = 2
    ESTIMATED = 3
    NOMINAL = 4


@dataclass(frozen=True)
class Speed:
    """Shaft speed in a window; NaN where nobody knows."""

    rpm: float = math.nan
    source: SpeedSource = SpeedSource.UNKNOWN

    @property
    def hz(self) -> float:
        """Turns per second."""
        return self.rpm / 60


@dataclass(frozen=True)
class WindowFeatures:
    """What is known of one window; arrays are (channels,) or (channels, lines or bands or faults).

    Where a channel's quality is UNKNOWN its numbers are NaN. `evidence` is None without a bearing
    and a speed.
    """

    window: Window
    speed: Speed
    quality: Quality
    channel_quality: tuple[Quality, ...]
    basic: BasicFeatures
    velocity_rms_mm_s: Floats
    zones: tuple[Zone, ...]
    lines: Lines
    evidence: BearingEvidence | None
    bearing: BearingOrders | None = None

    @property
    def usable(self) -> npt.NDArray[np.bool_]:
        """Which channels may be used, (channels,)."""
        return np.array([q.status is not Status.UNKNOWN for q in self.channel_quality], bool)


class Analyser:
    """Analyses windows; keeps what can be reused for each combination of rate and length."""

    def __init__(
        self,
        machines: Mapping[str, Machine],
        zones: Mapping[tuple[str, str], ZoneLimits],
        bands_hz: tuple[tuple[float, float], ...] = DEFAULT_BANDS_HZ,
        limits: Limits | None = None,
    ) -> None:
        self.machines, self.zones = machines, zones
        self.bands_hz, self.limits = bands_hz, limits or Limits()
        self._tools: dict[
            tuple[float, int], tuple[SignalValidator, FeatureExtractor, EnvelopeAnalyser]
        ] = {}

    def analyse(self, windows: Sequence[Window], speeds: Sequence[Speed]) -> list[WindowFeatures]:
        """Features of each window, in order; a window without samples is UNKNOWN throughout."""
        groups: dict[tuple[float, int], list[int]] = {}
        for index, window in enumerate(windows):
            groups.setdefault((window.sample_rate_hz, window.data.shape[1]), []).append(index)
        results: dict[int, WindowFeatures] = {}
        for (rate, samples), members in groups.items():
            if samples < 16:
                for index in members:
                    results[index] = _unknown(windows[index], speeds[index], len(self.bands_hz))
                continue
            chosen = [windows[index] for index in members]
            done = self._group(rate, samples, chosen, [speeds[index] for index in members])
            results.update(zip(members, done, strict=True))
        return [results[index] for index in range(len(windows))]

    def tools(
        self, rate_hz: float, samples: int
    ) -> tuple[SignalValidator, FeatureExtractor, EnvelopeAnalyser]:
        """Validator, extractor and envelope analyser for windows of one shape."""
        key = (rate_hz, samples)
        if key not in self._tools:
            if len(self._tools) >= 16:  # a stream that changes its rate must not eat the memory
                self._tools.clear()
            self._tools[key] = (
                SignalValidator(rate_hz, samples, self.limits),
                FeatureExtractor(Layout(rate_hz, samples, self.bands_hz)),
                EnvelopeAnalyser(rate_hz, samples),
            )
        return self._tools[key]

    def _group(
        self, rate: float, samples: int, windows: list[Window], speeds: list[Speed]
    ) -> list[WindowFeatures]:
        validator, extractor, envelope = self.tools(rate, samples)
        clean, qualities = [], []
        for window, speed in zip(windows, speeds, strict=True):
            data, channel_qualities = validator.check(
                window.data,
                full_scale=window.full_scale,
                bias_v=window.bias_v,
                speed_hz=speed.hz,
            )
            clean.append(data)
            qualities.append(channel_qualities)
        x = extractor.centred(np.concatenate(clean) if len(clean) > 1 else clean[0])
        basic = extractor.basic(x)
        spectrum = extractor.spectrum(x)
        expected = _expected(extractor.dominant_hz(spectrum), windows, speeds)
        lines = extractor.lines(spectrum, expected)
        results, first = [], 0
        for window, speed, channel_qualities in zip(windows, speeds, qualities, strict=True):
            rows = slice(first, first + len(window.channels))
            first = rows.stop
            machine = self.machines.get(window.machine_id)
            evidence = None
            # A nominal speed is good enough for levels, not for telling fault lines apart.
            known = speed.source not in (SpeedSource.UNKNOWN, SpeedSource.NOMINAL)
            if machine is not None and machine.bearing and known and speed.rpm > 0:
                spectra = envelope.spectra(x[rows])
                evidence = envelope.evidence(spectra, machine.bearing, speed.hz)
            velocity = extractor.velocity_rms_mm_s(spectrum[rows], window.unit)
            features = WindowFeatures(
                window=window,
                speed=speed,
                quality=worst([*channel_qualities, window.clock]),
                channel_quality=tuple(worst([q, window.clock]) for q in channel_qualities),
                basic=_rows(basic, rows),
                velocity_rms_mm_s=velocity,
                zones=self._zones(machine, velocity),
                lines=_rows(lines, rows),
                evidence=evidence,
                bearing=machine.bearing if machine else None,
            )
            results.append(_masked(features))
        return results

    def _zones(self, machine: Machine | None, velocity: Floats) -> tuple[Zone, ...]:
        limits = self.zones.get(machine.zone_key) if machine and machine.zone_key else None
        if limits is None:
            return (Zone.UNKNOWN,) * len(velocity)
        return tuple(limits.zone(float(value)) for value in velocity)


def _expected(
    dominant_hz: Floats, windows: list[Window], speeds: list[Speed]
) -> npt.NDArray[np.float64]:
    """(channels, lines): where LINE_NAMES are expected."""
    rows = []
    for window, speed in zip(windows, speeds, strict=True):
        orders = np.array(ORDERS) * speed.hz
        rows += [orders] * len(window.channels)
    return np.column_stack([dominant_hz, np.array(rows)])


def _rows(features: Arrays, rows: slice) -> Arrays:
    """The same dataclass of arrays with only these rows."""
    return type(features)(**{f.name: getattr(features, f.name)[rows] for f in fields(features)})


def _masked(features: WindowFeatures) -> WindowFeatures:
    """NaN in the channels that cannot be trusted."""
    usable = features.usable
    if usable.all():
        return features

    def array(values: Floats) -> Floats:
        out = values.copy()
        out[~usable] = np.nan
        return out

    def arrays(value: Arrays) -> Arrays:
        return type(value)(**{f.name: array(getattr(value, f.name)) for f in fields(value)})

    zones = tuple(
        zone if good else Zone.UNKNOWN for zone, good in zip(features.zones, usable, strict=True)
    )
    return replace(
        features,
        basic=arrays(features.basic),
        velocity_rms_mm_s=array(features.velocity_rms_mm_s),
        zones=zones,
        lines=arrays(features.lines),
        evidence=None if features.evidence is None else arrays(features.evidence),
    )


def _unknown(window: Window, speed: Speed, bands: int) -> WindowFeatures:
    channels = len(window.channels)
    nan = np.full(channels, np.nan, np.float32)
    lines = np.full((channels, len(LINE_NAMES)), np.nan, np.float32)
    clock = window.clock
    if clock.status is not Status.UNKNOWN:
        clock = replace(clock, status=Status.UNKNOWN, reason=clock.reason or "no samples")
    return WindowFeatures(
        window=window,
        speed=speed,
        quality=clock,
        channel_quality=(clock,) * channels,
        basic=BasicFeatures(
            nan, nan, nan, nan, nan, np.full((channels, bands), np.nan, np.float32)
        ),
        velocity_rms_mm_s=nan,
        zones=(Zone.UNKNOWN,) * channels,
        lines=Lines(lines, lines, lines),
        evidence=None,
    )
