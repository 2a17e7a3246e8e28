"""Whether the samples of a window can be trusted, channel by channel, before anything is computed.

Each rule states its threshold and where it comes from; each has a test signal in
test/unit/test_vibration_validation.py. What fails is UNKNOWN with the reason. Samples are never
filled forward: the few NaN that are allowed become a straight line and the channel SUSPECT.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shopfloor.vibration.signal import Defect, Quality, Samples, Status

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Limits:
    """Thresholds of the rules.

    nan_fraction, nan_run_ms: more is UNKNOWN.
    flatline_ms: a value that stands still for longer; a 16-bit converter at rest still moves.
    bias_low_v, bias_high_v: outside, the IEPE loop is shorted or open. Sensors idle at 8 to 16 V;
        an open loop rests at the supply, 20 V and more, a shorted one near 0 V.
    saturation_share: of full scale; from there on a sample counts as clipped.
    saturated_samples: so many clipped samples make the window UNKNOWN.
    plateau_samples, plateaus: without a known full scale: so many runs of so many equal extremes.
    mains_hz: of the grid. hum_share: share of the power in its first five harmonics.
    hum_residual: what remains then, RMS over the hum, and hum_residual_of_scale: over full scale;
        an open input leaves the noise of its converter, a live sensor on a machine more.
    """

    nan_fraction: float = 0.005
    nan_run_ms: float = 5.0
    flatline_ms: float = 50.0
    bias_low_v: float = 5.0
    bias_high_v: float = 18.0
    saturation_share: float = 0.999
    saturated_samples: int = 3
    plateau_samples: int = 3
    plateaus: int = 3
    mains_hz: float = 50.0
    hum_share: float = 0.9
    hum_residual: float = 0.3
    hum_residual_of_scale: float = 2e-4


class SignalValidator:
    """Checks windows of one length and rate."""

    def __init__(self, sample_rate_hz: float, samples: int, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._ms = sample_rate_hz / 1e3
        self._hum = _HumMeter(sample_rate_hz, samples, self.limits.mains_hz)

    def check(
        self,
        data: Samples,
        *,
        full_scale: float = math.nan,
        bias_v: tuple[float, ...] = (),
        speed_hz: float = math.nan,
    ) -> tuple[Samples, list[Quality]]:
        """The samples to work with and the quality of each channel.

        data: (channels, samples) float32; it is returned itself where it holds no NaN.
        speed_hz: shaft speed; where it meets a mains harmonic, hum is only SUSPECT.
        """
        bad: Mask = ~np.asarray(np.isfinite(data))
        dirty: Mask = np.asarray(bad.any(axis=1))
        clean = _bridged(data, bad, dirty) if dirty.any() else data
        still = _longest_still(clean)
        hum_share, residual = self._hum.measure(clean)
        high, low = clean.max(axis=1), clean.min(axis=1)
        qualities = []
        for channel in range(len(data)):
            found = _Findings()
            self._check_nan(found, bad[channel], bool(dirty[channel]))
            self._check_bias(found, bias_v, channel)
            if still[channel] > self.limits.flatline_ms * self._ms:
                milliseconds = still[channel] / self._ms
                found.add(Defect.FLATLINE, f"stands still for {milliseconds:.0f} ms")
            else:
                extremes = (float(low[channel]), float(high[channel]))
                self._check_saturation(found, clean[channel], extremes, full_scale)
                self._check_hum(found, float(hum_share[channel]), float(residual[channel]),
                                full_scale, speed_hz)  # fmt: skip
            qualities.append(found.quality())
        return clean, qualities

    def _check_nan(self, found: _Findings, bad: Mask, dirty: bool) -> None:
        if not dirty:
            return
        limits = self.limits
        found.nan_fraction = float(bad.mean())
        run_ms = _longest_run(bad) / self._ms
        text = f"{found.nan_fraction:.2%} NaN, longest run {run_ms:.1f} ms"
        if found.nan_fraction > limits.nan_fraction or run_ms > limits.nan_run_ms:
            found.add(Defect.NAN, f"{text}; allowed {limits.nan_fraction:.1%} and "
                                  f"{limits.nan_run_ms:g} ms")  # fmt: skip
        else:
            found.add(Defect.NAN, text, Status.SUSPECT)

    def _check_bias(self, found: _Findings, bias_v: tuple[float, ...], channel: int) -> None:
        if channel >= len(bias_v):
            return
        limits, volts = self.limits, bias_v[channel]
        if not limits.bias_low_v <= volts <= limits.bias_high_v:
            what = "shorted" if volts < limits.bias_low_v else "open"
            found.add(Defect.OPEN_BIAS, f"IEPE bias {volts:.1f} V: loop {what}, allowed "
                      f"{limits.bias_low_v:g} to {limits.bias_high_v:g} V")  # fmt: skip

    def _check_saturation(
        self, found: _Findings, x: Samples, extremes: tuple[float, float], full_scale: float
    ) -> None:
        limits = self.limits
        if full_scale > 0:
            level = limits.saturation_share * full_scale
            if max(extremes[1], -extremes[0]) < level:
                return
            count = int(np.count_nonzero(np.abs(x) >= level))
            found.saturated_fraction = count / len(x)
            if count >= limits.saturated_samples:
                found.add(Defect.SATURATION, f"{count} samples at full scale {full_scale:g}")
            return
        count, runs = _plateaus(x, extremes, limits.plateau_samples)
        if runs >= limits.plateaus:
            found.saturated_fraction = count / len(x)
            found.add(Defect.SATURATION, f"{runs} plateaus at the extremes, {count} samples")

    def _check_hum(
        self, found: _Findings, share: float, residual: float, full_scale: float, speed_hz: float
    ) -> None:
        limits = self.limits
        if share < limits.hum_share:
            return
        hum = residual * math.sqrt(share / max(1 - share, 1e-9))
        # Without a known full scale only a very clean hum is told from a machine's own tone.
        allowed = limits.hum_residual_of_scale * full_scale if full_scale > 0 else 0.1 * hum
        if residual > min(allowed, limits.hum_residual * hum):
            return
        text = f"{share:.0%} of the power at harmonics of {limits.mains_hz:g} Hz: cable unplugged?"
        orders = limits.mains_hz / speed_hz if speed_hz > 0 else math.nan
        if math.isfinite(orders) and abs(orders - round(orders)) * speed_hz < 0.5:
            found.add(Defect.HUM, f"{text} The shaft turns with the grid", Status.SUSPECT)
        else:
            found.add(Defect.HUM, text)


class _Findings:
    """What the rules found in one channel."""

    def __init__(self) -> None:
        self.status = Status.VALID
        self.defects = Defect.NONE
        self.reasons: list[str] = []
        self.nan_fraction = 0.0
        self.saturated_fraction = 0.0

    def add(self, defect: Defect, reason: str, status: Status = Status.UNKNOWN) -> None:
        self.defects |= defect
        self.reasons.append(reason)
        if self.status is not Status.UNKNOWN:
            self.status = status

    def quality(self) -> Quality:
        return Quality(
            self.status,
            self.defects,
            "; ".join(self.reasons),
            nan_fraction=self.nan_fraction,
            saturated_fraction=self.saturated_fraction,
        )


class _HumMeter:
    """Power at the first five harmonics of the grid, by projection: cheaper than a spectrum."""

    def __init__(self, sample_rate_hz: float, samples: int, mains_hz: float) -> None:
        harmonics = [k * mains_hz for k in range(1, 6) if k * mains_hz < sample_rate_hz / 2]
        # A second tells a grid (within 0.2 Hz) from an induction motor that slips behind it.
        self._samples = min(samples, round(sample_rate_hz))
        t = np.arange(self._samples) / sample_rate_hz
        window = np.hanning(self._samples)
        waves = [w for hz in harmonics for w in _pair(2 * np.pi * hz * t)]
        self._basis = (np.array(waves).T * window[:, None] * 2 / window.sum()).astype(np.float32)
        self._weights = (window**2 / np.sum(window**2)).astype(np.float32)
        self._mean = (window / window.sum()).astype(np.float32)

    def measure(self, x: Samples) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Share of the power in the harmonics and RMS of the rest, each (channels,)."""
        part = x[:, : self._samples]
        part = part - (part @ self._mean)[:, None]
        total = (part * part @ self._weights).astype(np.float64)
        hum = 0.5 * np.square((part @ self._basis).astype(np.float64)).sum(axis=1)
        share = np.divide(hum, total, out=np.zeros_like(total), where=total > 0)
        return np.minimum(share, 1.0), np.sqrt(np.maximum(total - hum, 0.0))


def _pair(angle: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
    return np.cos(angle), np.sin(angle)


def _bridged(data: Samples, bad: Mask, dirty: Mask) -> Samples:
    """A copy with straight lines over what is not finite; zero where nothing is."""
    clean = data.copy()
    at = np.arange(data.shape[1])
    for channel in np.flatnonzero(dirty):
        good = ~bad[channel]
        if not good.any():
            clean[channel] = 0.0
            continue
        clean[channel, bad[channel]] = np.interp(at[bad[channel]], at[good], data[channel, good])
    return clean


def _longest_run(flags: Mask) -> int:
    """Length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _longest_still(x: Samples) -> list[int]:
    """Per channel, samples of the longest run of one value."""
    same = x[:, 1:] == x[:, :-1]
    # A healthy channel repeats few values: most are done with the count alone.
    counts = np.count_nonzero(same, axis=1)
    return [(_longest_run(same[k]) + 1 if count else 1) for k, count in enumerate(counts.tolist())]


def _plateaus(x: Samples, extremes: tuple[float, float], shortest: int) -> tuple[int, int]:
    """Samples in, and number of, runs of at least `shortest` equal extremes that are cut off.

    The crest of a slow wave also stands still for a few samples of a coarse converter: a plateau
    counts only where the signal comes to it with a step of many converter steps.
    """
    samples = runs = 0
    steps: Samples | None = None
    for extreme in extremes:
        at = x == extreme
        if np.count_nonzero(at) < shortest:
            continue
        edges = np.flatnonzero(np.diff(np.concatenate([[False], at, [False]])))
        starts, ends = edges[::2], edges[1::2]
        long = (ends - starts >= shortest) & (starts > 0)
        if not long.any():
            continue
        if steps is None:
            steps = np.abs(np.diff(x))
        quantum = steps[steps > 0].min(initial=np.inf)
        cut = steps[starts[long] - 1] > 8 * quantum
        samples += int((ends - starts)[long][cut].sum())
        runs += int(np.count_nonzero(cut))
    return samples, runs
