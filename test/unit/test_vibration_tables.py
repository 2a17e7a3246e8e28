"""Tables of several rates, the report page and the command line."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from shopfloor.sim.machines import MACHINES, MachineFault, MachineStream
from shopfloor.vibration import alignment
from shopfloor.vibration.__main__ import main
from shopfloor.vibration.collector import Collector

START = pd.Timestamp("2026-03-01T10:00:00Z")


def seconds(*offsets: float) -> pd.Series:
    return pd.Series([START + pd.Timedelta(seconds=s) for s in offsets])


def features(count: int = 5) -> pd.DataFrame:
    return pd.DataFrame({"time": seconds(*range(count)), "window_s": 1.0, "x": range(count)})


def test_values_come_from_inside_their_window() -> None:
    at = np.arange(0, 5, 0.02)  # 50 Hz
    current = pd.DataFrame({"time": seconds(*at), "value": np.floor(at + 1e-9)})
    table = alignment.align(features(), {"current": current})
    assert table["current"].tolist() == [0, 1, 2, 3, 4]
    assert table["current_valid"].all()


def test_nothing_is_carried_forward() -> None:
    slow = pd.DataFrame({"time": seconds(-0.5, 0.5, 1.4), "value": [20.0, 21.0, 22.0]})
    table = alignment.align(features(), {"temperature": slow})
    assert table["temperature"].tolist()[:2] == [21.0, 22.0]
    assert table["temperature"][2:].isna().all()
    assert table["temperature_valid"].tolist() == [True, True, False, False, False]


def test_a_line_only_between_neighbours_that_are_near() -> None:
    late = pd.DataFrame({"time": seconds(0.9, 2.1, 3.1, 4.1), "value": [1.0, 2.2, 3.2, 4.2]})
    table = alignment.align(features(), {"t": late})
    assert table["t"][1] == pytest.approx(1.6) and table["t_valid"][1]
    late["value"] = np.nan
    assert not alignment.align(features(), {"t": late})["t_valid"].any()
    assert not alignment.align(features(), {"t": late[:0]})["t_valid"].any()


def test_maintenance_before_and_in_a_window() -> None:
    log = pd.DataFrame({"time": seconds(1.5, 1.6), "text": ["greased", "bolt tightened"]})
    table = alignment.align(features(), {}, log)
    assert table["maintenance"].tolist() == ["", "greased; bolt tightened", "", "", ""]
    assert table["hours_since_maintenance_valid"].tolist() == [False, True, True, True, True]
    assert table["hours_since_maintenance"][3] == pytest.approx(2.4 / 3600)


def test_times_are_read_in_every_common_form(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for text in ("1772359200", "2026-03-01T10:00:00Z", "2026-03-01T11:00:00+01:00",
                 "2026-03-01T10:00:00"):  # fmt: skip
        path.write_text(f"time,value\n{text},1\n")
        assert alignment.read_table(path)["time"][0] == START
    path.write_text("time,value\nyesterday,1\n")
    with pytest.raises(ValueError, match=r"t\.csv"):
        alignment.read_table(path)
    path.write_text("when,value\n1,1\n")
    with pytest.raises(ValueError, match="no column 'time'; there are: when, value"):
        alignment.read_table(path)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_from_a_recording_to_one_table(
    tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    x = MachineStream(MACHINES[0], 1).take(35_000)
    x[:, 15_000:15_500] = np.nan
    np.save(tmp_path / "x.npy", x)
    out, joined = tmp_path / f"f.{suffix}", tmp_path / f"j.{suffix}"
    recording = [str(tmp_path / "x.npy"), "--rate", "10000", "--machine", "pump_1"]
    times = ["--speed", "1460", "--start", str(START.timestamp())]
    assert main(["features", *recording, *times, "--out", str(out)]) == 0
    assert "3 windows, 2 of them valid" in capsys.readouterr().out
    temperature = pd.DataFrame({"time": seconds(0.5, 1.5, 2.5), "value": [30, 31, 32]})
    temperature.to_csv(tmp_path / "t.csv", index=False)
    joining = ["align", str(out), "--temperature", str(tmp_path / "t.csv"), "--out", str(joined)]
    assert main(joining) == 0
    table = alignment.read_table(joined)
    assert table["valid"].tolist() == [True, False, True]
    assert table["temperature"].tolist() == [30, 31, 32]
    assert np.isfinite(table["x rms [dB]"][0]) and math.isnan(table["x rms [dB]"][1])
    assert "NaN" in table["reason"][1]


def test_a_table_without_its_column_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "f.csv").write_text("time,window_s\n0,1\n1,1\n")
    (tmp_path / "log.csv").write_text("time,note\n0,greased\n")
    (tmp_path / "t.csv").write_text("time,value\n0,21.5\n1,warm\n")
    (tmp_path / "bare.csv").write_text("time\n0\n")
    out = ["--out", str(tmp_path / "o.csv")]
    for arguments, needle in (
        (["f.csv", "--maintenance", "log.csv"], "maintenance: no column 'text'; there are: time"),
        (["f.csv", "--temperature", "t.csv"], "temperature: column 'value': could not convert"),
        (["f.csv", "--current", "bare.csv"], "current: no column 'value'"),
        (["bare.csv"], "features: no column 'window_s'"),
    ):
        paths = [a if a.startswith("--") else str(tmp_path / a) for a in arguments]
        assert main(["align", *paths, *out]) == 2
        assert needle in capsys.readouterr().err


def test_what_cannot_be_done_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.zeros(100))
    for arguments in (
        ["features", str(tmp_path / "x.npy"), "--out", "o.csv"],
        ["features", str(tmp_path / "none.npy"), "--rate", "5", "--out", "o.csv"],
        ["report", "--machine", "m"],
        ["report", str(tmp_path), "--machine", "m"],
    ):
        assert main(arguments) == 2
        assert "shopfloor.vibration: " in capsys.readouterr().err


def block(k: int, stream: MachineStream, **changes: object) -> SimpleNamespace:
    data = stream.take(1000).ravel()
    known = {"machine_id": "pump_1", "sensor_id": "s", "sequence": k, "channels": ["x", "y", "z"],
             "samples_per_channel": 1000, "sample_rate_hz": 1e4, "unit": 1, "data": data,
             "header": SimpleNamespace(frame_id="")}  # fmt: skip
    return SimpleNamespace(**{**known, **changes})


def health(at_s: float, tier: int, alert: str = "") -> SimpleNamespace:
    whole = int(at_s)
    stamp = SimpleNamespace(sec=whole, nanosec=int((at_s - whole) * 1e9))
    return SimpleNamespace(
        machine_id="pump_1", header=SimpleNamespace(stamp=stamp), tier=tier, act_score=3.0,
        watch_score=1.0, act_threshold=6.0, watch_threshold=2.0, alert_id=alert, reason="r <&>",
        diagnosis_text="d", component="s", contributions=[], work_order="",
        speed_rpm=1460.0, speed_bin="b", baseline_windows=30,
    )  # fmt: skip


def test_the_collector_keeps_the_last_whole_stretch() -> None:
    collector = Collector("pump_1")
    stream = MachineStream(MACHINES[0], 1)
    for k in range(25):
        collector.add("vibration_block", block(k, stream))
    collector.add("vibration_block", block(30, stream))
    collector.add("vibration_block", block(31, stream, samples_per_channel=7))
    collector.add("vibration_block", block(31, stream, machine_id="other"))
    story = collector.finish()
    assert story.window is not None and story.window.data.shape == (3, 1000)
    assert collector.machines == {"pump_1", "other"}


def test_two_sensors_of_a_machine_do_not_cut_each_others_waveform() -> None:
    collector, stream = Collector("pump_1"), MachineStream(MACHINES[0], 1)
    for k in range(12):
        for name in ("s", "other end"):
            collector.add("vibration_block", block(k, stream, sensor_id=name))
    collector.add("vibration_block", block(12, stream, sensor_id="other end"))
    window = collector.finish().window
    assert window is not None and window.data.shape == (3, 10_000)
    collector.add("machine_health", health(1e9, 3))
    window = collector.finish().window
    assert window is not None and window.sensor_id == "s", "the one that the health speaks of"


def test_the_page_has_everything_and_escapes_text(tmp_path: Path) -> None:
    from shopfloor.vibration import report
    from shopfloor.vibration.bearing import BearingOrders
    from shopfloor.vibration.machines import Machine
    from shopfloor.vibration.severity import ZoneLimits

    collector = Collector("pump_1")
    stream = MachineStream(MACHINES[0], 1, fault=MachineFault("outer_race"))
    for k in range(10):
        collector.add("vibration_block", block(k, stream))
    axes = [SimpleNamespace(velocity_rms_mm_s=1.2)]
    collector.add(
        "vibration_features", SimpleNamespace(machine_id="pump_1", axes=axes, speed_rpm=1460.0)
    )
    for k in range(20):
        collector.add("machine_health", health(1e9 + k, 1 if k < 15 else 3, "a" if k > 15 else ""))
    collector.add("machine_health", health(1e9 + 3600, 0))  # an hour off: no place on the axis
    story = collector.finish()
    assert len(story.trend) == 20
    machine = Machine("pump_1", 1480.0, BearingOrders(*MACHINES[0].orders))
    zones = ZoneLimits("2", "rigid", 1.4, 2.8, 4.5, ("", "", ""))
    figure = report.draw(story, machine, zones)
    marked = [{text.get_text() for text in axes.texts} for axes in figure.axes]
    lines = {"BPFO", "BPFI", "2xBSF", "FTF"}
    assert lines | {"1x", "2x", "3x"} <= marked[1] and lines <= marked[2]
    page, png = report.write(figure, story, tmp_path / "p")
    assert png.read_bytes().startswith(b"\x89PNG")
    text = page.read_text("utf-8")
    assert "r &lt;&amp;&gt;" in text and "data:image/png" in text
    empty = report.draw(Collector("nobody").finish(), None, None)
    report.write(empty, Collector("nobody").finish(), tmp_path / "q")
