"""The shift with and without the watchdog as PNG, and a page that holds plot, table and steps."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from table import Row
from thermal_shift import DEADLINE_MS, PARAMETERS, Shift

RED, BLUE, GREY, AMBER = "#c0392b", "#1f5f99", "#7f8c8d", "#d68910"


def plot_shift(path: Path, without: Shift, with_: Shift) -> None:
    """Two columns, four rows: temperature, rung, latency, missed deadlines."""
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(
        4,
        2,
        figsize=(11, 8.2),
        sharex=True,
        sharey="row",
        gridspec_kw={"height_ratios": [2.2, 1.2, 1.6, 1.2], "hspace": 0.22, "wspace": 0.05},
    )
    for column, (shift, title) in enumerate(((without, "without"), (with_, "with"))):
        colour = BLUE if column else RED
        axes[0, column].set_title(f"{title} the watchdog", loc="left", weight="bold")
        _temperature(axes[0, column], shift, colour)
        _rung(axes[1, column], shift, colour)
        _latency(axes[2, column], shift, colour)
        _missed(axes[3, column], shift, colour)
        axes[3, column].set_xlabel("hours of the shift")
    for row, label in enumerate(("°C", "rung", "inference, ms", "missed\nper minute")):
        axes[row, 0].set_ylabel(label)
    figure.align_ylabels(axes[:, 0])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight", facecolor="white")
    plt.close(figure)


def plot_forecast(
    path: Path, errors: dict[str, Sequence[float]], line: dict[str, Sequence[float]]
) -> None:
    """Errors of the crossing a minute ahead, beside a straight line through the last samples."""
    figure, axes = plt.subplots(1, len(errors), figsize=(9, 2.8), sharey=True)
    bins = np.linspace(-60, 60, 61)
    for ax, (name, values) in zip(axes, errors.items(), strict=True):
        ax.hist(np.clip(line[name], -60, 60), bins, color=GREY, alpha=0.5, label="straight line")
        ax.hist(np.clip(values, -60, 60), bins, color=BLUE, alpha=0.8, label="forecast")
        ax.axvspan(-10, 10, color=AMBER, alpha=0.15, lw=0)
        ax.set_title(f"{name}: crossing 60 s ahead", loc="left")
        ax.set_xlabel("error, s (negative: too early)")
    axes[0].set_ylabel("traces")
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=110, bbox_inches="tight", facecolor="white")
    plt.close(figure)


def _temperature(ax: Axes, shift: Shift, colour: str) -> None:
    curves = shift.curves
    ax.plot(curves["hours"], curves["die"], color=colour, lw=1.2, label="die")
    ax.plot(curves["hours"], curves["hall"], color=GREY, lw=1.2, label="hall")
    ax.axhline(shift.trip_celsius, color="black", lw=0.8, ls="--", label="throttle limit")
    ax.legend(frameon=False, ncol=3, loc="center")  # between the two curves


def _rung(ax: Axes, shift: Shift, colour: str) -> None:
    ax.step(shift.curves["hours"], shift.curves["rung"], where="post", color=colour, lw=1.6)
    used = max(2, int(max(shift.curves["rung"])) + 1)
    ax.set_ylim(max(used, *ax.get_ylim()) - 0.5, -0.5)
    ax.set_yticks(range(used), [f"{i} {PARAMETERS.rung_names[i]}" for i in range(used)])


def _latency(ax: Axes, shift: Shift, colour: str) -> None:
    values = np.array(shift.curves["latency"])
    ax.plot(shift.curves["hours"], values, ".", color=colour, ms=1.5)
    ax.axhline(DEADLINE_MS, color="black", lw=0.8, ls="--")
    ax.text(0.0, DEADLINE_MS + 2, "deadline 33 ms", fontsize=8)
    ax.set_ylim(0.0, 100.0)


def _missed(ax: Axes, shift: Shift, colour: str) -> None:
    ax.fill_between(shift.curves["hours"], shift.curves["missed"], color=colour, lw=0.0)
    total = f"{sum(shift.missed):,} of {sum(shift.due):,} frames missed"
    ax.set_title(total, loc="left", fontsize=9, weight="bold", color=colour)


def write_page(
    path: Path, rows: Sequence[Row], pictures: Sequence[tuple[str, Path]], shifts: Sequence[Shift]
) -> None:
    """One file that needs no other."""
    parts = [_HEAD, "<h1>Thermal watchdog: a simulated shift</h1>"]
    for caption, picture in pictures:
        data = base64.b64encode(picture.read_bytes()).decode()
        parts.append(f"<h2>{html.escape(caption)}</h2>")
        parts.append(f'<img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">')
    parts.append("<h2>Figures</h2><table><tr><th>what<th>value<th>unit<th>baseline<th>aim<th>note")
    for row in rows:
        cells = (row.key, _number(row.value), row.unit, _number(row.baseline), row.limit, row.note)
        parts.append("<tr>" + "".join(f"<td>{html.escape(str(cell))}" for cell in cells))
    parts.append("</table><h2>Steps</h2><table><tr><th>board<th>time<th>step<th>notice<th>cause")
    for shift in shifts:
        notices = {a.at_s: a.at_s - a.published_s for a in shift.announced}
        for at_s, before, after, text in shift.steps:
            notice = f"{notices[at_s]:.0f} s" if at_s in notices else ""
            names = PARAMETERS.rung_names[before], PARAMETERS.rung_names[after]
            cells = (shift.board, _clock(at_s), f"{names[0]} → {names[1]}", notice, text)
            parts.append("<tr>" + "".join(f"<td>{html.escape(cell)}" for cell in cells))
    path.write_text("\n".join([*parts, "</table>"]), encoding="utf-8")


_HEAD = """<!doctype html><meta charset="utf-8"><title>Thermal watchdog</title><style>
body{font:15px/1.45 system-ui,sans-serif;max-width:1150px;margin:2em auto;padding:0 1em;color:#222}
img{max-width:100%}table{border-collapse:collapse;margin:1em 0}
td,th{padding:.3em .8em;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}
</style>"""


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if math.isfinite(value) else "none"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
