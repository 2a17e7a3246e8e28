"""Rolling bearings: fault frequencies from geometry, and their evidence in the squared envelope.

The signal is prewhitened in the cepstral sense (every spectral line to magnitude one: Borghesani et
al. 2013), which takes out shaft and gear tones and levels resonances, so no band has to be chosen.
The spectrum of its squared envelope is looked at in decibels over the local floor, and a comb of
harmonics is laid over it for each fault, with one slip for all harmonics of a comb. What a comb
finds is compared with combs laid at frequencies where this bearing has no fault line: the score is
in standard deviations of those, so it needs no calibration to a machine, a level or a rig.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy.signal import get_window

from shopfloor.vibration.features import Floats, Spectrum
from shopfloor.vibration.signal import Samples

FAULTS = ("outer race", "inner race", "rolling element")
"""Rows of the scores, in this order."""

LINES = ("BPFO", "BPFI", "2xBSF", "FTF")
"""Lines that are reported, in this order."""

_LOW_BAND_HZ, _HIGH_BAND_HZ = (500.0, 6000.0), (5000.0, 12_000.0)
"""Demodulated bands, each as far as the rate allows. Structures ring in one or in the other; shaft
and gear tones lie below both. One band up to 12 kHz would drown a mode at 3 kHz in noise."""

_OF_NYQUIST = (0.1, 0.98)
"""A slow rate's band; above it lies the anti-alias filter."""

_EMPTY_BAND = 1e-5
"""Of the first band's power density: less is what a filter has left."""

_HARMONICS = 3
_SLIP = np.arange(-0.02, 0.0101, 0.001)
"""Rolling elements slip by 1 to 2 % (Randall and Antoni 2011); most often they lag."""

_CAGE_SLIP = np.arange(-0.03, 0.0301, 0.005)
_CAGE_ORDERS = 9
_CAGE_WEIGHT = 0.5
"""A defective ball passes the load zone at cage frequency; other faults modulate so too, a little,
hence half the weight."""

_EVIDENCE_CAP = 3.0
"""Nepers: one strong line is not allowed to stand for a comb."""

_FLOOR_HZ = 20.0
_SHAFT_MASK_BINS = 1.2
"""Bins of 1 / window length around a multiple of shaft speed that no fault line can claim."""

_MIN_REVOLUTIONS = 6.0
"""Shaft turns in a window below which shaft, cage and ball lines run into each other."""


@dataclass(frozen=True)
class BearingOrders:
    """Fault frequencies as multiples of shaft speed: outer race, inner race, ball spin, cage.

    A ball defect meets both races in one spin, so its lines lie at twice `bsf`.
    """

    bpfo: float
    bpfi: float
    bsf: float
    ftf: float

    def __post_init__(self) -> None:
        orders = (self.bpfo, self.bpfi, self.bsf, self.ftf)
        if not all(math.isfinite(order) and order > 0 for order in orders):
            raise ValueError(f"bearing orders must be positive: {self}")
        if not self.ftf < 0.5 or not self.bpfo < self.bpfi:
            raise ValueError(
                f"bearing orders need ftf < 0.5 and bpfo < bpfi (inner ring turns): {self}"
            )

    @classmethod
    def from_geometry(
        cls, balls: int, ball_mm: float, pitch_mm: float, contact_degrees: float = 0.0
    ) -> BearingOrders:
        """From number and diameter of the rolling elements; the inner ring turns (ISO 15243)."""
        if balls < 3 or not 0 < ball_mm < pitch_mm:
            raise ValueError(
                f"bearing geometry: {balls} balls of {ball_mm:g} mm on a pitch circle of "
                f"{pitch_mm:g} mm is not possible"
            )
        ratio = ball_mm / pitch_mm * math.cos(math.radians(contact_degrees))
        return cls(
            bpfo=balls / 2 * (1 - ratio),
            bpfi=balls / 2 * (1 + ratio),
            bsf=pitch_mm / (2 * ball_mm) * (1 - ratio**2),
            ftf=(1 - ratio) / 2,
        )


@dataclass(frozen=True)
class BearingEvidence:
    """Evidence of each channel; NaN where the window is too short for the speed.

    score: (channels, FAULTS) standard deviations over the combs where no fault line is.
    cage: the same for the cage comb, (channels,); half of it is in the rolling element's score.
    frequency_hz, amplitude: (channels, LINES) of the line as found in the squared envelope.
    prominence_db: (channels, LINES), mean of the comb's lines over the floor.
    """

    score: Floats
    frequency_hz: Floats
    amplitude: Floats
    prominence_db: Floats
    cage: Floats


@dataclass(frozen=True)
class _Combs:
    """Bins to look at: (lines, combs, slips); the first combs are FAULTS, and the own cage.

    cage_line: (slips,) the cage frequency itself. shaft: (bins,) multiples of shaft speed.
    top: bins that matter, the lines' own floor included.
    """

    faults: npt.NDArray[np.intp]
    cage: npt.NDArray[np.intp]
    cage_line: npt.NDArray[np.intp]
    shaft: npt.NDArray[np.bool_]
    top: int


class EnvelopeAnalyser:
    """Envelope spectra and bearing evidence of windows of one length."""

    def __init__(self, sample_rate_hz: float, samples: int) -> None:
        self.sample_rate_hz, self.samples = sample_rate_hz, samples
        self.bands_hz = demodulated_bands_hz(sample_rate_hz)
        bins = np.fft.rfftfreq(samples, 1 / sample_rate_hz)
        edges = [np.searchsorted(bins, (low, high)) for low, high in self.bands_hz]
        self._inside = [slice(int(first), max(int(last), int(first) + 4)) for first, last in edges]
        # A band alone needs few samples: its square reaches to twice its width.
        widest = max(part.stop - part.start for part in self._inside)
        self._reduced = int(scipy.fft.next_fast_len(2 * widest + 1))
        self._padded = 2 * self._reduced  # half-bin steps: a line between two bins loses little
        self.bin_hz = sample_rate_hz / samples / 2
        self._bins = self._padded // 4
        self.frequency_hz = np.arange(self._bins) * self.bin_hz
        self._window = get_window("hann", self._reduced).astype(np.float32)
        self._floor_block = max(8, 2 * round(_FLOOR_HZ / self.bin_hz))

    def spectra(self, x: Samples) -> Floats:
        """Prewhitened spectra of all of `bands_hz`, (bands, channels, bins of `frequency_hz`).

        A band that holds no signal, as in a record that was filtered or resampled, is zero.
        """
        spectrum = scipy.fft.rfft(x, axis=1)
        parts = [spectrum[:, part] for part in self._inside]
        power = np.array([np.median(np.abs(part), axis=1) ** 2 for part in parts])
        found = np.stack([self._envelope(part, True) for part in parts])
        found[power < _EMPTY_BAND * power[:1]] = 0.0
        return found

    def spectrum(self, x: Samples, prewhiten: bool = True) -> Floats:
        """Amplitudes of the squared envelope in the first band, (channels, bins).

        In the squared unit of the signal, or without unit and relative to a mean of one where it is
        prewhitened.
        """
        return self._envelope(scipy.fft.rfft(x, axis=1)[:, self._inside[0]], prewhiten)

    def _envelope(self, band: Spectrum, prewhiten: bool) -> Floats:
        if prewhiten:
            band = band / np.maximum(np.abs(band), np.finfo(np.float32).tiny)
        # Where the band lies does not matter to an envelope: it starts at zero here.
        analytic = np.zeros((len(band), self._reduced), np.complex64)
        analytic[:, : band.shape[1]] = band * np.float32(self._reduced / self.samples)
        envelope = scipy.fft.ifft(analytic, axis=1, overwrite_x=True)
        parts = np.square(envelope.view(np.float32))
        squared = parts[:, ::2] + parts[:, 1::2]
        squared *= 4.0
        mean = squared.mean(axis=1, keepdims=True)
        if prewhiten:
            squared /= np.maximum(mean, np.finfo(np.float32).tiny)
            squared -= 1.0
        else:
            squared -= mean
        squared *= self._window
        lines = np.abs(scipy.fft.rfft(squared, n=self._padded, axis=1)[:, : self._bins])
        lines *= np.float32(2.0 / self._window.sum(dtype=np.float64))
        amplitudes: Floats = lines
        return amplitudes

    def speed_limits_hz(self, orders: BearingOrders) -> tuple[float, float]:
        """Slowest and fastest shaft, turns per second, at which a bearing's lines can be judged."""
        top = _HARMONICS * max(orders.bpfi, 2 * orders.bsf) * (1 + _SLIP[-1])
        margin_hz = 2 * _FLOOR_HZ
        highest_hz = float(self.frequency_hz[-1]) - margin_hz
        return _MIN_REVOLUTIONS * self.sample_rate_hz / self.samples, highest_hz / top

    def evidence(self, spectra: Floats, orders: BearingOrders, speed_hz: float) -> BearingEvidence:
        """What the combs of a bearing find in `spectra` at one shaft speed.

        spectra: (bands, channels, bins), or (channels, bins) of one band. A comb counts in the band
        where it is strongest, and so do those that it is compared with.
        Raises ValueError where the speed is not positive.
        """
        if not speed_hz > 0:
            raise ValueError(f"shaft speed {speed_hz:g} Hz is not positive")
        spectra = spectra if spectra.ndim == 3 else spectra[None]
        channels = spectra.shape[1]
        slowest, fastest = self.speed_limits_hz(orders)
        if not slowest <= speed_hz <= fastest:
            nan = np.full((channels, len(LINES)), np.nan, np.float32)
            return BearingEvidence(nan[:, : len(FAULTS)], nan, nan, nan, nan[:, 0])
        # A cached comb may be off by this rounding, far less than the slip that it searches.
        step = 2e-4 * speed_hz
        digits = max(0, int(-math.floor(math.log10(step))))
        combs = _combs(orders, round(speed_hz, digits), self.bin_hz, self._bins)
        level = np.stack(
            [self._over_floor(s[:, : combs.top], combs.shaft[: combs.top]) for s in spectra]
        )
        per_slip = level[:, :, combs.faults].mean(axis=2)
        per_band = per_slip.max(axis=3)
        best = per_band.max(axis=0)
        known = len(FAULTS)
        score = _scores(best[:, :known], best[:, known:])
        cage_slips = level[:, :, combs.cage].mean(axis=2)
        cage_per_band = cage_slips.max(axis=3)
        cage_best = cage_per_band.max(axis=0)
        cage = _scores(cage_best[:, :1], cage_best[:, 1:])[:, 0]
        score[:, 2] += _CAGE_WEIGHT * cage
        rows = np.arange(channels)[:, None]
        band = np.column_stack([per_band[:, :, :known].argmax(axis=0),
                                cage_per_band[:, :, 0].argmax(axis=0)])  # fmt: skip
        columns = np.arange(known)
        slip = per_slip[band[:, :known], rows, columns].argmax(axis=2)
        cage_slip = cage_slips[band[:, known], rows[:, 0], 0].argmax(axis=1)
        centre = np.column_stack([combs.faults[0, columns, slip], combs.cage_line[cage_slip]])
        near = np.clip(centre[:, :, None] + np.arange(-1, 2), 0, self._bins - 1)
        highest = spectra[band[:, :, None], rows[:, :, None], near].argmax(axis=2)
        found = np.take_along_axis(near, highest[:, :, None], axis=2)[:, :, 0]
        prominence = np.column_stack([best[:, :known], cage_best[:, 0]])
        return BearingEvidence(
            score=score.astype(np.float32),
            frequency_hz=(found * self.bin_hz).astype(np.float32),
            amplitude=spectra[band, rows, found],
            prominence_db=(prominence * (20 / math.log(10))).astype(np.float32),
            cage=cage.astype(np.float32),
        )

    def _over_floor(self, spectrum: Floats, shaft: npt.NDArray[np.bool_]) -> Floats:
        """Nepers over the local floor, 0 to the cap; shaft harmonics are 0; widened by one bin."""
        block = self._floor_block
        blocks = spectrum.shape[1] // block
        medians = np.median(spectrum[:, : blocks * block].reshape(-1, blocks, block), axis=2)
        centres = (np.arange(blocks) + 0.5) * block
        floor = _interpolated(np.maximum(medians, np.finfo(np.float32).tiny), centres,
                              spectrum.shape[1])  # fmt: skip
        level = np.log(np.maximum(spectrum / floor, 1.0))
        level[:, shaft] = 0.0
        np.minimum(level, np.float32(_EVIDENCE_CAP), out=level)
        wide = level.copy()
        np.maximum(wide[:, 1:], level[:, :-1], out=wide[:, 1:])
        np.maximum(wide[:, :-1], level[:, 1:], out=wide[:, :-1])
        over: Floats = wide
        return over


def demodulated_bands_hz(sample_rate_hz: float) -> tuple[tuple[float, float], ...]:
    """The bands whose envelope is looked at: one, and a second where the rate reaches beyond it."""
    nyquist_hz = sample_rate_hz / 2
    top_hz = _OF_NYQUIST[1] * nyquist_hz
    low = (min(_LOW_BAND_HZ[0], _OF_NYQUIST[0] * nyquist_hz), min(_LOW_BAND_HZ[1], top_hz))
    high = (_HIGH_BAND_HZ[0], min(_HIGH_BAND_HZ[1], top_hz))
    return (low, high) if high[1] >= 1.5 * high[0] else (low,)


def _interpolated(values: Floats, at: Floats, count: int) -> Floats:
    """Rows of `values` at positions `at`, linearly on 0 .. count - 1, flat outside."""
    x = np.clip(np.arange(count), at[0], at[-1])
    right = np.clip(np.searchsorted(at, x), 1, len(at) - 1)
    share = ((x - at[right - 1]) / (at[right] - at[right - 1])).astype(np.float32)
    out: Floats = values[:, right - 1] * (1 - share) + values[:, right] * share
    return out


def _scores(found: Floats, elsewhere: Floats) -> Floats:
    """Standard deviations of `found` over `elsewhere`, per channel."""
    spread = np.maximum(elsewhere.std(axis=1, keepdims=True), 1e-3)
    score: Floats = (found - elsewhere.mean(axis=1, keepdims=True)) / spread
    return score


@lru_cache(maxsize=128)
def _combs(orders: BearingOrders, speed_hz: float, bin_hz: float, bins: int) -> _Combs:
    names = np.array([orders.bpfo, orders.bpfi, 2 * orders.bsf])
    scale = speed_hz / bin_hz

    def to_bins(order: Floats) -> npt.NDArray[np.intp]:
        found: npt.NDArray[np.intp] = np.clip(np.rint(order * scale), 0, bins - 1).astype(np.intp)
        return found

    harmonics = np.arange(1, _HARMONICS + 1)
    elsewhere = _elsewhere(names, 1.3 * orders.bpfi)
    inside = elsewhere * _HARMONICS * (1 + _SLIP[-1]) * scale < bins - 1
    centres = np.r_[names, elsewhere[inside]]
    faults = to_bins(harmonics[:, None, None] * centres[:, None] * (1 + _SLIP))

    sides = np.array([[n, s] for n in range(_CAGE_ORDERS) for s in (-1, 1) if n or s > 0], float)
    lines = sides[:, 0] + sides[:, 1] * orders.ftf
    taken = np.abs(lines[:, None] - (names[:, None] * harmonics).ravel()).min(axis=1) < 0.08
    sides = sides[~taken]
    others = np.arange(0.12, 0.48, 0.01)
    own = np.array([orders.ftf, orders.ftf / 2, 1 - 2 * orders.ftf])
    others = others[np.abs(others[:, None] - own).min(axis=1) > 0.03]
    cages = np.r_[orders.ftf, others][:, None] * (1 + _CAGE_SLIP)
    cage = to_bins(sides[:, 0, None, None] + sides[:, 1, None, None] * cages)
    cage_line = to_bins(orders.ftf * (1 + _CAGE_SLIP))

    shaft = np.zeros(bins, bool)
    reach = 2 * _SHAFT_MASK_BINS  # the spectrum has two bins per 1 / window length
    multiples = np.arange(0, bins, scale)
    for multiple in multiples:
        shaft[max(0, math.ceil(multiple - reach)) : math.floor(multiple + reach) + 1] = True
    margin = 2 * max(8, 2 * round(_FLOOR_HZ / bin_hz))
    top = min(bins, int(max(faults.max(), cage.max())) + margin)
    return _Combs(faults, cage, cage_line, shaft, top)


def _elsewhere(names: Floats, highest: float) -> Floats:
    """Orders where this bearing has no line: away from its faults and from shaft harmonics."""
    grid = np.arange(2.1, max(8.0, highest), 0.0617)
    to_shaft = np.abs(grid[:, None] * [1, 2] - np.rint(grid[:, None] * [1, 2])).min(axis=1)
    to_fault = np.abs(grid[:, None] - names).min(axis=1)
    elsewhere: Floats = grid[(to_shaft > 0.07) & (to_fault > 0.15)]
    return elsewhere
