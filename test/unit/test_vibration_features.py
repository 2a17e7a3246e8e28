"""Features against analytic signals and scipy; channels do not mix."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import welch

from shopfloor.vibration.features import DEFAULT_BANDS_HZ, FeatureExtractor, Layout
from shopfloor.vibration.signal import Unit

RATE, N = 10_000.0, 10_000
EXTRACTOR = FeatureExtractor(Layout(RATE, N))
T = np.arange(N) / RATE


def tone(hz: float, amplitude: float = 1.0, phase: float = 0.3) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hz * T + phase)


def rows(*signals: np.ndarray) -> np.ndarray:
    return np.array(signals, np.float32)


def test_welch_equals_scipys() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((7, N)) + 3 + 2 * tone(123.4)
    ours = EXTRACTOR.welch(x.astype(np.float32))
    hz, theirs = welch(x, RATE, nperseg=2048)
    assert np.allclose(EXTRACTOR.psd_hz, hz)
    # A float32 has no more to give where a DC offset was 1e4 times the density.
    assert np.abs(ours - theirs).max() / theirs.max() < 1e-6
    assert np.abs(ours / theirs - 1)[:, 2:].max() < 1e-5


@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_bands_equal_scipys_welch(offset: float) -> None:
    x = np.random.default_rng(2).standard_normal((5, N)) + offset
    hz, psd = welch(x, RATE, nperseg=2048)
    bands = EXTRACTOR.basic(x.astype(np.float32)).bands
    for k, (low, high) in enumerate(DEFAULT_BANDS_HZ):
        theirs = psd[:, (hz >= low) & (hz < high)].sum(axis=1) * hz[1]
        assert np.abs(bands[:, k] / theirs - 1).max() < 1e-5 * max(1.0, offset / 5)


@pytest.mark.parametrize(("rate", "n"), [(25_600.0, 25_600), (12_000.0, 6_001), (1_000.0, 1_000)])
def test_other_rates_and_odd_lengths(rate: float, n: int) -> None:
    x = np.random.default_rng(3).standard_normal((2, n)).astype(np.float32)
    extractor = FeatureExtractor(Layout(rate, n))
    _, psd = welch(x.astype(float), rate, nperseg=min(2048, n // 2 * 2))
    assert np.abs(extractor.welch(x) / psd - 1)[:, 2:].max() < 1e-4


def test_level_and_shape_against_closed_forms() -> None:
    sine, square = tone(50.0, 2.0), np.sign(tone(50.0))
    noise = np.random.default_rng(4).standard_normal(N)
    found = EXTRACTOR.basic(rows(sine + 7, square, noise))
    assert found.rms == pytest.approx([2 / np.sqrt(2), 1.0, noise.std()], rel=1e-4)
    assert found.peak[0] == pytest.approx(2.0, rel=1e-3)
    assert found.crest_factor[0] == pytest.approx(np.sqrt(2), rel=1e-3)
    assert found.kurtosis[:2] == pytest.approx([1.5, 1.0], rel=1e-3)
    assert found.kurtosis[2] == pytest.approx(3.0, abs=0.2)
    assert found.skewness[:2] == pytest.approx([0.0, 0.0], abs=1e-3)


def test_a_channel_that_does_not_move_has_no_ratios() -> None:
    found = EXTRACTOR.basic(rows(np.full(N, 3.0), tone(50.0)))
    assert found.rms[0] == 0
    assert np.isnan([found.crest_factor[0], found.kurtosis[0], found.skewness[0]]).all()
    assert np.isfinite(found.kurtosis[1])


@pytest.mark.parametrize("hz", [24.7, 25.0, 29.95, 159.155, 1234.5, 3999.5])
def test_line_amplitude_within_half_a_percent(hz: float) -> None:
    spectrum = EXTRACTOR.spectrum(rows(tone(hz, 0.7)))
    lines = EXTRACTOR.lines(spectrum, np.array([[hz * 1.004, np.nan, 7000.0]]))
    assert lines.amplitude[0, 0] == pytest.approx(0.7, rel=0.005)
    assert lines.frequency_hz[0, 0] == pytest.approx(hz, abs=0.02)
    assert np.isnan(lines.amplitude[0, 1:]).all()
    assert EXTRACTOR.dominant_hz(spectrum)[0] == pytest.approx(hz, abs=1.0)


def test_line_amplitude_in_noise() -> None:
    noise = 0.1 * np.random.default_rng(5).standard_normal(N)
    lines = EXTRACTOR.lines(EXTRACTOR.spectrum(rows(tone(29.95) + noise)), np.array([[29.95]]))
    assert lines.amplitude[0, 0] == pytest.approx(1.0, rel=0.01)
    assert lines.prominence_db[0, 0] > 40


@pytest.mark.parametrize("hz", [15.3, 25.0, 49.7, 159.155, 990.0])
def test_velocity_rms_within_one_percent(hz: float) -> None:
    omega = 2 * np.pi * hz
    for unit, amplitude in [
        (Unit.ACCELERATION, 3e-3 * omega),
        (Unit.VELOCITY, 3.0),
        (Unit.DISPLACEMENT, 3e3 / omega),
    ]:
        spectrum = EXTRACTOR.spectrum(rows(tone(hz, amplitude)))
        found = EXTRACTOR.velocity_rms_mm_s(spectrum, unit)
        assert found[0] == pytest.approx(3 / np.sqrt(2), rel=0.01), unit


def test_velocity_leaves_out_what_is_not_in_its_band() -> None:
    spectrum = EXTRACTOR.spectrum(rows(tone(4.0, 50.0) + tone(2000.0, 50.0) + 9.81))
    assert EXTRACTOR.velocity_rms_mm_s(spectrum, Unit.ACCELERATION)[0] < 0.05
    assert np.isnan(EXTRACTOR.velocity_rms_mm_s(spectrum, Unit.CURRENT)).all()


def test_channels_do_not_mix() -> None:
    rng = np.random.default_rng(6)
    x = rng.standard_normal((30, N)).astype(np.float32)
    together = EXTRACTOR.basic(x)
    for k in (0, 11, 12, 29):
        alone = EXTRACTOR.basic(x[k : k + 1])
        assert alone.bands[0] == pytest.approx(together.bands[k], rel=1e-5)
        assert alone.kurtosis[0] == pytest.approx(together.kurtosis[k], rel=1e-5)


def test_a_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        EXTRACTOR.basic(np.zeros((3, 99), np.float32))
    with pytest.raises(ValueError, match="too short"):
        FeatureExtractor(Layout(RATE, 3))
