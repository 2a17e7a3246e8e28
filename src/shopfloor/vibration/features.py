"""Features of many channels at once: level and shape, Welch bands, velocity, spectral lines.

Everything is computed on (channels, samples) float32 arrays with windows, buffers and band matrices
made once; scipy's FFT keeps float32 and is told to use one thread. Measured against analytic
signals and scipy.signal.welch in test/unit/test_vibration_features.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy.signal import get_window

from shopfloor.vibration.signal import Samples, Unit

Floats = npt.NDArray[np.floating[Any]]
Spectrum = npt.NDArray[np.complex64]

DEFAULT_BANDS_HZ = ((10.0, 100.0), (100.0, 1000.0), (1000.0, 3000.0))
VELOCITY_BAND_HZ = (10.0, 1000.0)
"""ISO 20816-1: broad-band velocity from 10 Hz to 1000 Hz."""

_CHUNK = 18
"""Channels transformed at a time: what is worked on stays in the cache."""

_LINE_REACH = 16
"""A line is searched at most this many bins from where it is expected."""

_FLOOR_REACH = 24
"""The noise floor around a line is the median of this many bins on either side."""


@dataclass(frozen=True)
class Layout:
    """What the features of one kind of window are made of.

    welch_segment: samples, even; half of it overlaps, as in scipy.signal.welch's default.
    """

    sample_rate_hz: float
    samples: int
    bands_hz: tuple[tuple[float, float], ...] = DEFAULT_BANDS_HZ
    welch_segment: int = 2048


@dataclass(frozen=True)
class BasicFeatures:
    """Level, shape and bands, each (channels,); bands is (channels, bands), unit^2."""

    rms: Floats
    peak: Floats
    crest_factor: Floats
    kurtosis: Floats
    skewness: Floats
    bands: Floats


@dataclass(frozen=True)
class Lines:
    """Lines of the spectrum, each (channels, lines); NaN where none was found."""

    frequency_hz: Floats
    amplitude: Floats
    prominence_db: Floats


class FeatureExtractor:
    """Features of windows of one layout. Not thread-safe: the buffers are reused.

    Raises ValueError where the layout cannot work.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        rate, n, segment = layout.sample_rate_hz, layout.samples, layout.welch_segment
        if not rate > 0 or n < 16:
            raise ValueError(f"a window of {n} samples at {rate:g} Hz is too short")
        segment = min(segment, n) // 2 * 2
        self._segment, self._step = segment, segment // 2
        self._welch_window = get_window("hann", segment).astype(np.float32)
        self.psd_hz = np.fft.rfftfreq(segment, 1 / rate)
        self._psd_weights = _psd_weights(self._welch_window, rate, n, self._step)
        self._band_weights = _band_matrix(self.psd_hz, layout.bands_hz, self._psd_weights)
        segments = (n - segment) // self._step + 1
        self._windowed = np.empty((_CHUNK, segments, segment), np.float32)
        self._ones = np.ones(n, np.float32)
        self._window = get_window("hann", n).astype(np.float32)
        self.spectrum_hz = np.fft.rfftfreq(n, 1 / rate)
        self.resolution_hz = rate / n
        self._velocity = {
            unit: _velocity_weights(self.spectrum_hz, self._window, unit) for unit in Unit
        }

    def basic(self, x: Samples) -> BasicFeatures:
        """RMS, peak, crest factor, kurtosis, skewness and Welch bands of (channels, samples).

        The mean is removed first. A channel that does not move has NaN for the ratios.
        """
        x = self.centred(x)
        squares = x * x
        count = np.float32(x.shape[1])
        m2 = np.vecdot(x, x) / count
        m3 = np.vecdot(squares, x) / count
        m4 = np.vecdot(squares, squares) / count
        peak = np.maximum(x.max(axis=1), -x.min(axis=1))
        still = np.where(m2 > 0, m2, np.float32(np.nan))
        return BasicFeatures(
            rms=np.sqrt(m2),
            peak=peak,
            crest_factor=peak / np.sqrt(still),
            kurtosis=m4 / (still * still),
            skewness=m3 / (still * np.sqrt(still)),
            bands=self._welch_squares(x) @ self._band_weights,
        )

    def centred(self, x: Samples) -> Samples:
        """(channels, samples) float32 without its mean; raises ValueError on another length."""
        if x.ndim != 2 or x.shape[1] != self.layout.samples:
            raise ValueError(f"expected (channels, {self.layout.samples}), got {x.shape}")
        mean = x @ self._ones / np.float32(x.shape[1])
        centred: Samples = x - mean[:, None]
        return centred

    def welch(self, x: Samples) -> Floats:
        """Power spectral density, unit^2/Hz; as scipy.signal.welch(x, rate, nperseg=segment)."""
        squares = self._welch_squares(self.centred(x))
        psd: Floats = squares.reshape(len(x), -1, 2).sum(axis=2) * self._psd_weights
        return psd

    def _welch_squares(self, x: Samples) -> Floats:
        """Squared real and imaginary parts summed over the segments, (channels, 2 * bins)."""
        out = np.empty((len(x), 2 * len(self.psd_hz)), np.float32)
        step = self._step
        halves = x[:, : x.shape[1] // step * step].reshape(len(x), -1, step) @ self._ones[:step]
        all_means = (halves[:, :-1] + halves[:, 1:]) / np.float32(2 * step)
        segments = np.lib.stride_tricks.sliding_window_view(x, self._segment, axis=1)[:, ::step]
        for first in range(0, len(x), _CHUNK):
            part, means = segments[first : first + _CHUNK], all_means[first : first + _CHUNK]
            windowed = np.multiply(part, self._welch_window, out=self._windowed[: len(part)])
            spectrum = scipy.fft.rfft(windowed, axis=2)
            # Each segment's own mean goes; a Hann window spreads it over two bins and no more.
            spectrum[:, :, 0] -= means * np.float32(self._segment / 2)
            spectrum[:, :, 1] += means * np.float32(self._segment / 4)
            parts = spectrum.view(np.float32)
            np.einsum("csk,csk->ck", parts, parts, out=out[first : first + _CHUNK])
        return out

    def spectrum(self, x: Samples) -> Spectrum:
        """Hann-windowed spectrum of the whole window, scaled to peak amplitude of a line."""
        spectrum: Spectrum = scipy.fft.rfft(self.centred(x) * self._window, axis=1)
        spectrum *= np.float32(2.0 / self._window.sum(dtype=np.float64))
        return spectrum

    def velocity_rms_mm_s(self, spectrum: Spectrum, unit: Unit) -> Floats:
        """Velocity RMS 10-1000 Hz, mm/s, from `spectrum`; NaN where `unit` has none."""
        weights = self._velocity[unit]
        if weights is None:
            return np.full(len(spectrum), np.nan, np.float32)
        velocity: Floats = np.sqrt(np.square(spectrum.view(np.float32)) @ weights)
        return velocity

    def lines(self, spectrum: Spectrum, expected_hz: Floats) -> Lines:
        """The highest line near each expected frequency.

        expected_hz: (channels, lines); NaN asks for nothing. Searched within 1 % and at least 1.5
        bins. Frequency and amplitude are interpolated for the Hann window (Grandke 1983), which is
        exact for a steady line that stands alone.
        """
        magnitude = np.abs(spectrum)
        bins = magnitude.shape[1]
        asked = np.isfinite(expected_hz)
        wanted = np.where(asked, expected_hz, 0.0) / self.resolution_hz
        inside = asked & (wanted >= 2) & (wanted < bins - 2)
        centre = np.clip(np.rint(wanted).astype(np.intp), 2, bins - 3)
        offsets = np.arange(-_LINE_REACH, _LINE_REACH + 1)
        index = np.clip(centre[:, :, None] + offsets, 2, bins - 3)
        reach = np.clip(0.01 * wanted, 1.5, _LINE_REACH)[:, :, None]
        rows = np.arange(len(magnitude))[:, None, None]
        near = np.where(np.abs(index - wanted[:, :, None]) <= reach, magnitude[rows, index], -1.0)
        best = np.take_along_axis(index, near.argmax(axis=2)[:, :, None], axis=2)[:, :, 0]
        frequency, amplitude = _interpolate(magnitude, best, self.resolution_hz)
        around = np.r_[-_FLOOR_REACH:-3, 4 : _FLOOR_REACH + 1]
        floor = np.median(magnitude[rows, np.clip(best[:, :, None] + around, 1, bins - 1)], axis=2)
        with np.errstate(divide="ignore", invalid="ignore"):
            prominence = 20 * np.log10(amplitude / floor)
        nan = np.float32(np.nan)
        return Lines(
            np.where(inside, frequency, nan).astype(np.float32),
            np.where(inside, amplitude, nan).astype(np.float32),
            np.where(inside & np.isfinite(prominence), prominence, nan).astype(np.float32),
        )

    def dominant_hz(self, spectrum: Spectrum, low_hz: float = 2.0) -> Floats:
        """Frequency of each channel's highest bin above `low_hz`, (channels,)."""
        first = max(2, int(np.ceil(low_hz / self.resolution_hz)))
        dominant: Floats = self.spectrum_hz[first + np.abs(spectrum[:, first:-2]).argmax(axis=1)]
        return dominant


def _psd_weights(window: Floats, rate_hz: float, n: int, step: int) -> Floats:
    """(bins,): what turns summed squares into a one-sided density."""
    segments = (n - len(window)) // step + 1
    power = float(np.sum(window.astype(np.float64) ** 2))
    weights = np.full(len(window) // 2 + 1, 2.0 / (rate_hz * power * segments))
    weights[0] /= 2
    weights[-1] /= 2
    return weights.astype(np.float32)


def _band_matrix(
    frequencies: Floats,
    bands: Sequence[tuple[float, float]],
    psd_weights: Floats,
) -> Floats:
    """(2 * bins, bands): from squared parts to the integral of the density over low <= f < high."""
    inside = [(frequencies >= low) & (frequencies < high) for low, high in bands]
    weights = np.stack(inside, axis=1) * (psd_weights[:, None] * frequencies[1])
    return np.repeat(weights, 2, axis=0).astype(np.float32)


def _velocity_weights(frequencies: Floats, window: Floats, unit: Unit) -> Floats | None:
    """What each squared real and imaginary part adds to the squared velocity, (2 * bins,)."""
    omega = 2 * np.pi * frequencies
    omega[0] = np.inf
    factors = {
        Unit.ACCELERATION: 1e3 / omega,
        Unit.VELOCITY: np.ones_like(omega),
        Unit.DISPLACEMENT: 1e-3 * np.where(np.isinf(omega), 0.0, omega),
    }
    if unit not in factors:
        return None
    low, high = VELOCITY_BAND_HZ
    w = window.astype(np.float64)
    noise_bandwidth = len(w) * float(np.sum(w**2)) / float(np.sum(w)) ** 2
    inside = (frequencies >= low) & (frequencies <= high)
    # Parseval over the windowed bins: a line's energy lies in several of them.
    weights = np.where(inside, factors[unit] ** 2 / (2 * noise_bandwidth), 0.0)
    return np.repeat(weights, 2).astype(np.float32)


def _interpolate(
    magnitude: Floats, index: npt.NDArray[np.intp], resolution_hz: float
) -> tuple[Floats, Floats]:
    """Frequency and amplitude of the Hann-windowed lines that peak at bins `index`."""
    rows = np.arange(len(magnitude))[:, None]
    here = magnitude[rows, index].astype(np.float64)
    left, right = magnitude[rows, index - 1], magnitude[rows, index + 1]
    side = np.where(right >= left, 1.0, -1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.maximum(left, right) / here
        delta = np.clip((2 * ratio - 1) / (ratio + 1), 0.0, 0.5)
    delta = np.nan_to_num(delta)
    gain = np.sinc(delta) / (1 - delta**2)
    return (index + side * delta) * resolution_hz, here / gain
