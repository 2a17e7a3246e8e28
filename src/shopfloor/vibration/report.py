"""The page of one machine: waveform, spectrum, envelope spectrum, trend with zones and alerts."""

from __future__ import annotations

import html
import math
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shopfloor.ros import html_page
from shopfloor.vibration.bearing import EnvelopeAnalyser
from shopfloor.vibration.features import FeatureExtractor, Layout
from shopfloor.vibration.machines import Machine
from shopfloor.vibration.severity import ZoneLimits
from shopfloor.vibration.signal import Window

TIERS = ("UNKNOWN", "NORMAL", "LOG", "INSPECT", "WORK ORDER")
_TIER_COLOURS = ("#9aa0a6", "#2e7d32", "#f9a825", "#ef6c00", "#c62828")
_ZONE_COLOURS = ("#e8f5e9", "#fffde7", "#fff3e0", "#ffebee")
_FAULT_COLOURS = {"BPFO": "#c62828", "BPFI": "#6a1b9a", "2xBSF": "#00838f", "FTF": "#795548"}
_HARMONICS = 3

_STYLE = """
.tier{display:inline-block;color:#fff;border-radius:6px;padding:.15em .7em;font-weight:600}
pre{background:#f6f8fa;padding:.8em;border-radius:6px;white-space:pre-wrap}
"""


@dataclass
class TrendPoint:
    """One judgement: time in seconds since 1970, velocity NaN where it is not known."""

    at_s: float
    tier: int
    velocity_mm_s: float
    act_db: float
    watch: float
    alert_id: str


@dataclass
class Story:
    """What is known of a machine over a stretch of time. latest: the last health, as a message."""

    machine_id: str
    trend: list[TrendPoint] = field(default_factory=list)
    window: Window | None = None
    speed_rpm: float = math.nan
    latest: Any = None


def draw(story: Story, machine: Machine | None, zones: ZoneLimits | None) -> Figure:
    """The figure; parts of which nothing is known say so."""
    figure = Figure(figsize=(12, 13), layout="constrained")
    _headline(figure, story)
    waveform, spectrum, envelope, trend, scores = figure.subplots(
        5, 1, height_ratios=(1, 1.2, 1.2, 1.3, 0.9)
    )
    if story.window is None:
        for axes in (waveform, spectrum, envelope):
            _empty(axes, "no waveform in this recording")
    else:
        _waveform(waveform, story.window)
        _spectrum(spectrum, story.window, machine, story.speed_rpm)
        _envelope(envelope, story.window, machine, story.speed_rpm)
    if story.trend:
        start_s = story.trend[0].at_s
        _trend(trend, story.trend, start_s, zones)
        _scores(scores, story, start_s)
    else:
        _empty(trend, "no judgement in this recording")
        _empty(scores, "")
    return figure


def _headline(figure: Figure, story: Story) -> None:
    """What somebody wants to know first: how is it, since when, what is it."""
    health = story.latest
    if health is None:
        figure.suptitle(f"{story.machine_id}: no health was published", x=0.01, ha="left")
        return
    tier = int(health.tier)
    lines = [f"{story.machine_id}: {TIERS[tier]}. {health.reason}", health.diagnosis_text]
    lines += [c.text for c in health.contributions[:1] if c.text not in lines[0]]
    words = "\n".join(textwrap.shorten(line, 130) for line in lines if line and line != lines[0])
    headline = textwrap.shorten(lines[0], 110)
    figure.suptitle(f"{headline}\n{words}", x=0.01, ha="left", color=_TIER_COLOURS[tier])


def write(figure: Figure, story: Story, path: Path) -> tuple[Path, Path]:
    """The page and a PNG beside it; returns both paths."""
    plot = html_page.png(figure)
    page, png = path.with_suffix(".html"), path.with_suffix(".png")
    picture = html_page.image(plot, "waveform, spectra, trend", "png")
    html_page.write_page(page, f"Machine {story.machine_id}", [_summary(story), picture], _STYLE)
    png.write_bytes(plot)
    return page, png


def _summary(story: Story) -> str:
    health = story.latest
    if health is None:
        return "<p>No health was published.</p>"
    tier = int(health.tier)
    rows = [(c.text, f"{100 * c.share:.0f} %") for c in health.contributions[:6]]
    text = (
        f'<p><span class=tier style="background:{_TIER_COLOURS[tier]}">{TIERS[tier]}</span> '
        f"{html.escape(health.reason)}</p>"
        f"<p class=sub>{html.escape(health.diagnosis_text)} &middot; "
        f"{health.speed_rpm:.0f} rpm, {html.escape(health.speed_bin)}, baseline of "
        f"{health.baseline_windows} windows</p>"
    )
    if rows:
        text += html_page.table(rows, ("what changed most", "share"))
    if health.work_order:
        text += f"<h2>Draft of a work order</h2><pre>{html.escape(health.work_order)}</pre>"
    return text


def _waveform(axes: Axes, window: Window) -> None:
    t = np.arange(window.data.shape[1]) / window.sample_rate_hz
    for name, samples in zip(window.channels, window.data, strict=True):
        axes.plot(t, samples - samples.mean(), lw=0.4, label=name)
    axes.set(xlabel="s", ylabel=window.unit.symbol, xlim=(0, t[-1]))
    axes.set_title(f"Waveform of {window.sensor_id}", loc="left")
    for line in axes.legend(loc="upper right", ncols=3).get_lines():
        line.set_linewidth(2)


def _fault_orders(machine: Machine | None) -> dict[str, float]:
    """Multiples of shaft speed at which the machine's bearing shows its faults; empty: unknown."""
    bearing = machine.bearing if machine else None
    if bearing is None:
        return {}
    return {"BPFO": bearing.bpfo, "BPFI": bearing.bpfi, "2xBSF": 2 * bearing.bsf,
            "FTF": bearing.ftf}  # fmt: skip


def _spectrum(axes: Axes, window: Window, machine: Machine | None, speed_rpm: float) -> None:
    extractor = FeatureExtractor(Layout(window.sample_rate_hz, window.data.shape[1]))
    spectrum = np.abs(extractor.spectrum(window.data))
    for name, amplitudes in zip(window.channels, spectrum, strict=True):
        axes.semilogy(extractor.spectrum_hz[2:], amplitudes[2:], lw=0.5, label=name)
    top = min(1000.0, window.sample_rate_hz / 2)
    shown = spectrum[:, (extractor.spectrum_hz > 2) & (extractor.spectrum_hz < top)]
    axes.set(xlim=(0, top), ylim=(np.percentile(shown, 1), shown.max() * 4),
             xlabel="Hz", ylabel=f"{window.unit.symbol}, peak")  # fmt: skip
    axes.set_title("Spectrum with shaft orders and fault lines", loc="left")
    if speed_rpm > 0:
        for order in (1, 2, 3, 4, 5):
            _mark(axes, order * speed_rpm / 60, f"{order}x", "#57606a")
        for name, fault in _fault_orders(machine).items():
            _mark(axes, fault * speed_rpm / 60, name, _FAULT_COLOURS[name], 0.9)


def _envelope(axes: Axes, window: Window, machine: Machine | None, speed_rpm: float) -> None:
    analyser = EnvelopeAnalyser(window.sample_rate_hz, window.data.shape[1])
    spectrum = analyser.spectrum(window.data - window.data.mean(axis=1, keepdims=True))
    for name, amplitudes in zip(window.channels, spectrum, strict=True):
        axes.plot(analyser.frequency_hz, amplitudes, lw=0.6, label=name)
    axes.set_title("Spectrum of the squared envelope, prewhitened, with fault lines", loc="left")
    orders = _fault_orders(machine) if speed_rpm > 0 else {}
    top = 3.4 * max(orders.values()) * speed_rpm / 60 if orders else 500.0
    shown = spectrum[:, (analyser.frequency_hz > 2) & (analyser.frequency_hz < top)]
    axes.set(xlim=(0, top), ylim=(0, shown.max() * 1.3), xlabel="Hz", ylabel="relative")
    for name, order in orders.items():
        for harmonic in range(1, (_HARMONICS if name != "FTF" else 1) + 1):
            label = name if harmonic == 1 else f"{harmonic}"
            _mark(axes, harmonic * order * speed_rpm / 60, label, _FAULT_COLOURS[name])
    if not orders:
        axes.text(0.99, 0.9, "no bearing or no speed known: no lines marked",
                  ha="right", transform=axes.transAxes, color="#57606a")  # fmt: skip


def _trend(axes: Axes, trend: list[TrendPoint], start_s: float, zones: ZoneLimits | None) -> None:
    at = np.array([p.at_s for p in trend]) - start_s
    velocity = np.array([p.velocity_mm_s for p in trend])
    known = velocity[np.isfinite(velocity)]
    top = 1.25 * float(known.max()) if len(known) else 1.0
    if zones is not None:
        edges = [0.0, zones.ab_mm_s, zones.bc_mm_s, zones.cd_mm_s, math.inf]
        top = max(top, 1.1 * zones.ab_mm_s)
        for low, high, colour, name in zip(edges, edges[1:], _ZONE_COLOURS, "ABCD", strict=False):
            if low < top:
                axes.axhspan(low, min(high, top), color=colour, zorder=0)
                axes.text(0.004, (low + min(high, top)) / 2, name, va="center", color="#57606a",
                          transform=axes.get_yaxis_transform())  # fmt: skip
    axes.plot(at, velocity, color="#1565c0", lw=1)
    for p in trend:
        if not math.isfinite(p.velocity_mm_s):
            axes.axvspan(p.at_s - start_s - 0.5, p.at_s - start_s + 0.5, color="#9aa0a6", alpha=0.4,
                         lw=0)  # fmt: skip
    seen: set[str] = set()
    for p in trend:
        if p.alert_id and p.alert_id not in seen:
            seen.add(p.alert_id)
            axes.axvline(p.at_s - start_s, color="#c62828", ls="--", lw=1)
            axes.annotate("alert", (p.at_s - start_s, top * 0.97), xytext=(4, 0), va="top",
                          textcoords="offset points", color="#c62828")  # fmt: skip
    axes.set(xlim=(at[0], max(at[-1], at[0] + 1)), ylim=(0, top), ylabel="mm/s RMS")
    axes.set_title("Velocity 10-1000 Hz, worst axis, with zones; grey: not trusted", loc="left")


def _scores(axes: Axes, story: Story, start_s: float) -> None:
    trend = story.trend
    at = np.array([p.at_s for p in trend]) - start_s
    axes.plot(at, [p.act_db for p in trend], color="#ef6c00", lw=1, label="act, dB")
    axes.plot(at, [p.watch for p in trend], color="#6a1b9a", lw=1, label="watch, distance")
    if story.latest is not None and story.latest.act_threshold > 0:
        axes.axhline(story.latest.act_threshold, color="#ef6c00", ls=":", lw=1)
    if story.latest is not None and story.latest.watch_threshold > 0:
        axes.axhline(story.latest.watch_threshold, color="#6a1b9a", ls=":", lw=1)
    step = float(np.median(np.diff(at))) if len(at) > 1 else 1.0
    axes.broken_barh(
        [(max(t - step, at[0]), step) for t in at[1:]],
        (-0.14, 0.1),
        transform=axes.get_xaxis_transform(),
        facecolors=[_TIER_COLOURS[p.tier] for p in trend[1:]],
        clip_on=False,
    )
    axes.set(xlim=(at[0], max(at[-1], at[0] + 1)))
    colours = zip(TIERS, ("grey", "green", "yellow", "orange", "red"), strict=True)
    key = ", ".join(f"{colour} {tier}" for tier, colour in colours)
    axes.set_xlabel(f"s; the bar is the tier: {key}", labelpad=14)
    axes.set_title("Scores; dotted: thresholds", loc="left")
    axes.tick_params(axis="x", pad=12)
    axes.legend(loc="upper left", ncols=2)


def _mark(axes: Axes, hz: float, label: str, colour: str, height: float = 0.97) -> None:
    if hz < axes.get_xlim()[1]:
        axes.axvline(hz, color=colour, ls="--", lw=0.8, alpha=0.7)
        axes.annotate(label, (hz, height), xycoords=("data", "axes fraction"), xytext=(2, 0),
                      textcoords="offset points", color=colour, va="top", fontsize=9)  # fmt: skip


def _empty(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", color="#57606a", transform=axes.transAxes)
    axes.set_axis_off()
