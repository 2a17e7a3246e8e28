"""Diagnoses of recordings at other rates, speeds and bearings, and the command that gives them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat, wavfile

from shopfloor.sim.machines import MachineFault, MachineSpec, MachineStream
from shopfloor.vibration.__main__ import main
from shopfloor.vibration.bearing import FAULTS, BearingOrders, EnvelopeAnalyser
from shopfloor.vibration.recorded_diagnosis import Record, diagnose, rates, read_index
from shopfloor.vibration.recordings import read_recording, resampled

KINDS = ("outer_race", "inner_race", "ball")
FAN_END = BearingOrders(3.053, 4.947, 1.994, 0.3816)  # 6203
ZA2115 = BearingOrders.from_geometry(16, 8.407, 71.501, 15.17)  # double row, large
LOW, HIGH = (420.0, 1350.0, 3100.0), (900.0, 2500.0, 8000.0)


def stream(
    orders: BearingOrders, rpm: float, rate_hz: float, kind: str | None,
    modes_hz: tuple[float, float, float] = LOW,
) -> MachineStream:  # fmt: skip
    spec = MachineSpec("m", rpm, (orders.bpfo, orders.bpfi, orders.bsf, orders.ftf),
                       modes_hz=modes_hz)  # fmt: skip
    fault = MachineFault(kind) if kind else None
    return MachineStream(spec, 5, sample_rate_hz=rate_hz, fault=fault)


@pytest.mark.parametrize(
    ("orders", "rpm", "rate_hz", "modes_hz"),
    [
        (FAN_END, 1797.0, 12_000.0, LOW),
        (FAN_END, 1730.0, 48_000.0, LOW),
        (FAN_END, 1797.0, 48_000.0, HIGH),
        (ZA2115, 2000.0, 20_000.0, LOW),
        (ZA2115, 2000.0, 20_000.0, HIGH),
        (FAN_END, 2100.0, 25_600.0, HIGH),
        (FAN_END, 3000.0, 10_000.0, LOW),
    ],
)
def test_faults_are_named_at_other_rates_speeds_and_bearings(
    orders: BearingOrders, rpm: float, rate_hz: float, modes_hz: tuple[float, float, float]
) -> None:
    n = round(rate_hz)
    analyser = EnvelopeAnalyser(rate_hz, n)
    for row, kind in enumerate((*KINDS, None)):
        machine = stream(orders, rpm, rate_hz, kind, modes_hz)
        spectra = analyser.spectra(machine.take(n))
        score = analyser.evidence(spectra, orders, machine.speed_rpm / 60).score.mean(axis=0)
        if kind is None:
            assert score.max() < 2.5
        else:
            assert score.argmax() == row and score[row] > 2.5, (kind, score)


def test_a_band_without_signal_adds_nothing() -> None:
    """A record that was resampled upwards has nothing above its old rate: whitened, it is noise."""
    machine = stream(FAN_END, 1797.0, 10_000.0, "outer_race")
    x = machine.take(10_000)
    spectrum = np.fft.rfft(x, axis=1)
    padded = np.zeros((3, 24_001), complex)
    padded[:, : spectrum.shape[1]] = spectrum
    upsampled = np.fft.irfft(padded, n=48_000, axis=1).astype(np.float32)
    analyser = EnvelopeAnalyser(48_000.0, 48_000)
    spectra = analyser.spectra(upsampled)
    assert len(spectra) == 2 and spectra[0].any() and not spectra[1].any()


def test_speeds_whose_lines_cannot_be_told_or_seen_say_nothing() -> None:
    analyser = EnvelopeAnalyser(10_000.0, 10_000)
    slowest, fastest = analyser.speed_limits_hz(ZA2115)
    spectra = analyser.spectra(stream(ZA2115, 2000.0, 1e4, None).take(10_000))
    for hz in (0.99 * slowest, 1.01 * fastest, 1e6):
        assert np.isnan(analyser.evidence(spectra, ZA2115, hz).score).all()
    for hz in (1.01 * slowest, 0.99 * fastest):
        assert np.isfinite(analyser.evidence(spectra, ZA2115, hz).score).all()


def write(folder: Path, kind: str | None, rate_hz: float = 12_000.0, seconds: int = 4) -> Path:
    path = folder / f"{kind or 'normal'}.npy"
    np.save(path, stream(FAN_END, 1797.0, rate_hz, kind).take(round(seconds * rate_hz)))
    return path


SPEED = stream(FAN_END, 1797.0, 12_000.0, None).speed_rpm


def test_an_index_is_judged_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["file,fault,size_mm,rpm,sample_rate_hz"]
    for kind, name in zip((*KINDS, None), ("OR", "IR", "B", "normal"), strict=True):
        write(tmp_path, kind)
        rows.append(f"{kind or 'normal'}.npy,{name},{0.2 if kind else ''},{SPEED},12000")
    index = tmp_path / "index.csv"
    index.write_text("\n".join(rows))
    found = diagnose(read_index(index), FAN_END, resample_hz=10_000.0)
    told = rates(found)
    assert (told.faulty, told.healthy) == (12, 4)
    assert told.right == told.accepted_right == 1.0 and told.coverage > 0.8 and told.false == 0.0
    broken = tmp_path / "broken.csv"
    for old, new, message in (
        ("rpm", "speed", "no column rpm"),
        (",OR,", ",gremlin,", "row 2: fault 'gremlin'"),
        ("OR,0.2,", "OR,0.2,fast", "row 2: could not convert"),
    ):
        broken.write_text("\n".join(rows).replace(old, new))
        with pytest.raises(ValueError, match=rf"broken\.csv.*{message}"):
            read_index(broken)
    orders = "bpfo=3.053,bpfi=4.947,bsf=1.994,ftf=0.3816"
    out = tmp_path / "out.csv"
    assert main(["diagnose", "--index", str(index), "--bearing", orders, "--out", str(out)]) == 0
    assert len(pd.read_csv(out)) == 16
    assert "inner race" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs files, or --index"),
        (["x.npy", "--rate", "12000", "--speed", "1797"], "no bearing of machine 'machine'"),
        (["x.npy", "--bearing", "balls=8", "--speed", "1797"], "bearing needs ball_mm, pitch_mm"),
        (["x.npy", "--bearing", "balls=8,ball=6"], "unknown bearing key ball"),
        (["x.npy", "--bearing", "bpfo=5,bpfi=3,bsf=2,ftf=.4"], "bpfo < bpfi"),
        (["x.npy", "--bearing", "FE", "--speed", "1797"], "x.npy does not tell its sample rate"),
        (["x.npy", "--bearing", "FE", "--rate", "12000"], "x.npy: no shaft speed"),
        (["x.npy", "--bearing", "FE", "--rate", "12000", "--speed", "1797", "--window", "60"],
         "x.npy is shorter than a window of 60 s"),
        (["x.npy", "--bearing", "FE", "--rate", "12000", "--speed", "1797", "--resample", "1"],
         "1 Hz is too little of 12000 Hz"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(1).standard_normal(24_000))
    words = ["bpfo=3.053,bpfi=4.947,bsf=1.994,ftf=0.3816" if a == "FE" else a for a in arguments]
    assert main(["diagnose", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_wrong_bearing_speed_or_a_dead_sensor_abstains(tmp_path: Path) -> None:
    path = write(tmp_path, "outer_race")
    right = diagnose([Record(path, SPEED, 12_000.0)], FAN_END)
    assert (right.diagnosis == "outer race").all()
    other = diagnose([Record(path, SPEED, 12_000.0)], ZA2115)
    assert not other.accepted.any()
    slow = diagnose([Record(path, 0.94 * SPEED, 12_000.0)], FAN_END)
    assert not slow.accepted.any()
    np.save(path, np.zeros((1, 24_000)))
    dead = diagnose([Record(path, SPEED, 12_000.0)], FAN_END)
    assert (dead.diagnosis == "abstain").all() and "not trusted" in dead.text[0]


def test_files_as_other_rigs_have_them(tmp_path: Path) -> None:
    x = np.random.default_rng(2).standard_normal((2, 3000))
    path = tmp_path / "a.mat"
    savemat(path, {"X278_DE_time": x[:1].T, "X278_FE_time": x[1:].T, "X278RPM": 1797.0})
    found = read_recording(path, "fe_")
    assert np.allclose(found.data, x[1:]) and found.speed_rpm == 1797.0
    for variable, message in (("", "name the array"), ("time", "2 arrays 'time'"),
                              ("BA", "no array 'BA'")):  # fmt: skip
        with pytest.raises(ValueError, match=rf"{message}.*X278_DE_time, X278_FE_time"):
            read_recording(path, variable)
    savemat(path, {"bearing": {"sr": 97_656.0, "gs": x[0], "load": 270.0, "rate": 25.0}})
    found = read_recording(path)
    assert found.rate_hz == 97_656.0 and np.allclose(found.data, x[:1])
    assert math.isnan(found.speed_rpm)
    path = tmp_path / "2003.txt"  # columns by tabs, no names
    np.savetxt(path, x.T, delimiter="\t")
    assert np.allclose(read_recording(path).data, x, atol=1e-6)
    path = tmp_path / "a.csv"
    np.savetxt(path, x.T, delimiter=",", comments="",
               header="Horizontal_vibration_signals,Vertical_vibration_signals")  # fmt: skip
    assert read_recording(path).channels == ("Horizontal_vibra", "Vertical_vibrati")
    text = "zeit;wert\n" + "\n".join(f"{k};{v:.6f}".replace(".", ",") for k, v in enumerate(x[0]))
    path.write_text("\ufeff" + text)
    assert np.allclose(read_recording(path).data[1], x[0], atol=1e-5)
    wavfile.write(tmp_path / "a.wav", 48_000, (x[0] / 8).astype(np.float32))
    assert np.allclose(read_recording(tmp_path / "a.wav").data, x[:1] / 8)


@pytest.mark.parametrize("rate_hz", [12_000.0, 25_600.0, 48_828.125, 97_656.0])
def test_resampling_keeps_a_tone_and_tells_its_rate(tmp_path: Path, rate_hz: float) -> None:
    t = np.arange(round(rate_hz)) / rate_hz
    np.save(tmp_path / "x.npy", np.sin(2 * np.pi * 440.0 * t) + np.sin(2 * np.pi * 5900.0 * t))
    found, now_hz = resampled(read_recording(tmp_path / "x.npy"), rate_hz, 10_000.0)
    assert now_hz == pytest.approx(10_000.0, rel=1e-3)
    amplitudes = np.abs(np.fft.rfft(found.data[0] * np.hanning(found.data.shape[1])))
    peak = amplitudes.argmax() * now_hz / found.data.shape[1]
    assert peak == pytest.approx(440.0, abs=now_hz / found.data.shape[1])
    alias = round((now_hz - 5900.0) / now_hz * found.data.shape[1])
    assert amplitudes[alias - 3 : alias + 4].max() < 0.01 * amplitudes.max()
    with pytest.raises(ValueError, match="cannot resample"):
        resampled(found, rate_hz, math.inf)


def test_scores_are_named_in_the_order_of_the_faults(tmp_path: Path) -> None:
    found = diagnose([Record(write(tmp_path, "inner_race"), SPEED, 12_000.0)], FAN_END)
    best = found[[f"score {name}" for name in FAULTS]].to_numpy().argmax(axis=1)
    assert [FAULTS[k] for k in best] == found.said.tolist() == ["inner race"] * len(found)
