"""The plots of the demo's report, each a PNG."""

from __future__ import annotations

from matplotlib.figure import Figure

from shopfloor.demo.floor import MachineHealthSeen
from shopfloor.demo.tally import Tally
from shopfloor.ros.html_page import png

_TIERS = ("UNKNOWN", "NORMAL", "LOG", "INSPECT", "WORK_ORDER")
_BLUE, _RED, _GREY = "#1f5f99", "#c0392b", "#57606a"


def line(tally: Tally) -> bytes:
    """Frame age over time, stage times and CPU."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    age, stages, cpu = figure.subplots(1, 3)
    for station in tally.stations.values():
        age.plot(station.arrival_s, station.frame_age_ms, ".", markersize=3, label=station.name)
    age.set(title="Frame age at the result", xlabel="s", ylabel="ms", ylim=(0, None))
    if tally.stations:
        age.legend(frameon=False)
    names = list(tally.stations)
    left = [0.0] * len(names)
    stage_names = list(dict.fromkeys(s for st in tally.stations.values() for s in st.stages_ms))
    for stage in stage_names:
        medians = [
            sorted(values)[len(values) // 2] if (values := tally.stations[n].stages_ms.get(stage))
            else 0.0
            for n in names
        ]  # fmt: skip
        stages.barh(names, medians, left=left, label=stage)
        left = [a + b for a, b in zip(left, medians, strict=True)]
    stages.set(title="Stages, median", xlabel="ms")
    if stage_names:
        stages.legend(frameon=False, fontsize=8, ncols=3, loc="upper center")
        stages.margins(y=0.6)
    usage = tally.usage
    cpu.barh([u.process for u in usage], [u.cpu_percent for u in usage], color=_GREY)
    cpu.set(title="CPU, % of one core", xlabel="%")
    return png(figure)


def machine(seen: MachineHealthSeen) -> bytes:
    """Both scores with their thresholds, and the tier, over the seconds since the start."""
    figure = Figure(figsize=(13, 3.2), layout="constrained")
    act, watch, tier = figure.subplots(1, 3, sharex=True)
    at_s = [point.at_s for point in seen.trend]
    for axes, title, scores, threshold in (
        (act, "Change, dB (act)", [p.act_score for p in seen.trend], seen.act_threshold),
        (watch, "Distance (watch)", [p.watch_score for p in seen.trend], seen.watch_threshold),
    ):
        axes.plot(at_s, scores, ".-", color=_BLUE, markersize=4, linewidth=1)
        if threshold == threshold:
            axes.axhline(threshold, color=_RED, linestyle="--", linewidth=1, label="threshold")
            axes.legend(frameon=False, loc="upper left")
        axes.set(title=title, xlabel="s")
    levels = [_TIERS.index(p.tier) if p.tier in _TIERS else 0 for p in seen.trend]
    tier.step(at_s, levels, where="post", color=_RED)
    tier.set_yticks(range(len(_TIERS)), [name.replace("_", " ") for name in _TIERS])
    tier.set(title="Tier", xlabel="s", ylim=(-0.3, len(_TIERS) - 0.7))
    return png(figure)
