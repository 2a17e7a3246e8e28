"""What a board is, learnt from the steps of its ladder: time constants, zone by zone.

A step of the load is a calibration that comes by itself. The samples around one are scored for each
board of a fine grid, and the scores of all steps add up. What comes of it enters the forecast as a
few models beside those of an unknown board, at a weight that is the chance that the board is still
the one that was learnt: each step is predicted by what was learnt and by a board whose heat sink is
another, and who predicts it better gains. A board that changed is forgotten and learnt anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from shopfloor.thermal.fit import Window, solve
from shopfloor.thermal.forecast import Trace
from shopfloor.thermal.heat_model import (
    STEP,
    BoardConstants,
    FloatArray,
    Models,
    Prior,
    unknown_board,
)

DIE_TAUS_S = (2.5, 6.0, 13.0)
SINK_TAUS_S = tuple(50.0 * 2.0 ** (i / 3.0) for i in range(15))
SINK_TO_DIE = (2.0, 3.3, 5.5, 9.0)
GRID = Models.grid(
    DIE_TAUS_S, SINK_TAUS_S, SINK_TO_DIE, Prior(step=4.0, step_correlation=0.97, drift=0.003)
)
"""Boards that are told apart; see BoardConstants. With more freedom for the hall small steps would
be taken for large ones of a slow heat sink."""

SHAPE = len(DIE_TAUS_S), len(SINK_TAUS_S), len(SINK_TO_DIE)
MODELS = math.prod(SHAPE)
_PART = 20
"""Models that are scored in one go, between two readings of the sensors."""

KNOWN_WEIGHT = 0.9
_FORGET_BELOW = 0.3
_LEAST_WINDOWS = 2
_MOST_DOUBT = 0.4
"""A board is never trusted by more, is forgotten below, and is unknown before so many steps, or
while they leave more doubt."""

_KEEP = 0.9
_DRIFT = 0.1
"""What steps told fades with each that follows, and a heat sink may have become its neighbour in
the grid: without, a true value between two of the grid looks like a board that changed."""

_CHANGED_BY = 0.7
"""Standard deviation of the logarithm by which another heat sink's time constant is another."""

WINDOW_S = 900.0
SETTLE_S = 90.0
"""Right after a step what the die does would be taken for the heat sink."""

AFTER_S = 600.0
_LEAST_AFTER_S = 150.0
_LEAST_WATCHED_S = 120.0
"""How long a step is watched, and what it takes for it to count, gaps left out."""

_LEAST_EFFECT_CELSIUS = 5.0
"""A step that moved little, as on a line that stands, would be taken for a very slow heat sink."""

_LOG_SINKS = np.log(SINK_TAUS_S)


@dataclass
class BoardMemory:
    """What the steps have told of one zone.

    evidence: its logarithm for each model of GRID, (k,). weight: how much that is believed.
    """

    evidence: FloatArray = field(default_factory=lambda: np.zeros(MODELS))
    windows: int = 0
    weight: float = KNOWN_WEIGHT

    def learn(self, score: FloatArray) -> None:
        """One more step; score: its log evidence for each model of GRID, (k,)."""
        score = score - score.max()
        if self.windows:
            same = _faded(self.evidence)
            gain = _log_sum(same + score) - _log_sum(_changed(same) + score)
            odds = math.log(self.weight / (1.0 - self.weight)) + gain
            self.weight = min(1.0 / (1.0 + math.exp(min(-odds, 50.0))), KNOWN_WEIGHT)
            if self.weight >= _FORGET_BELOW:
                self.evidence, self.windows = same + score, self.windows + 1
                return
        self.evidence, self.windows, self.weight = score, 1, KNOWN_WEIGHT

    @property
    def board(self) -> BoardConstants | None:
        """The board that was learnt; None: unknown."""
        if self.windows < _LEAST_WINDOWS:
            return None
        share = np.exp(self.evidence - _log_sum(self.evidence))
        means = [
            float(share @ np.log(taus))
            for taus in (GRID.die_taus_s, GRID.sink_taus_s, GRID.sink_to_die)
        ]
        doubt = math.sqrt(float(share @ (np.log(GRID.sink_taus_s) - means[1]) ** 2))
        if doubt > _MOST_DOUBT:
            return None
        die_tau_s, sink_tau_s, sink_to_die = map(math.exp, means)
        return BoardConstants(die_tau_s, sink_tau_s, sink_to_die, doubt)

    def models(self) -> Models:
        """What a forecast should try."""
        board = self.board
        return unknown_board() if board is None else Models.known(board, self.weight)

    def __str__(self) -> str:
        """For people."""
        board = self.board
        if board is None:
            return "unknown"
        steps = f"learned from {self.windows} steps"
        return f"{steps}, tau {board.sink_tau_s:.0f} s, {100 * self.weight:.0f} % believed"


class Learner:
    """Collects the samples of one zone around each step of the ladder, and scores them."""

    def __init__(self, memory: BoardMemory) -> None:
        self.memory = memory
        self._trace = Trace(WINDOW_S, SETTLE_S)
        self._due_s = math.inf
        self._job: Iterator[FloatArray] | None = None

    def add(self, now_s: float, celsius: float, fan: float) -> None:
        """One more sample of the zone; fan: share of its full speed, NaN: not known."""
        if now_s >= self._due_s:
            self._end(now_s)
        self._trace.add(now_s, celsius, fan)

    def load_changed(self, now_s: float) -> None:
        """The ladder made a step."""
        if now_s >= self._trace.step_at_s + _LEAST_AFTER_S:
            self._end(now_s)
        self._trace.load_changed(now_s)
        self._due_s = now_s + AFTER_S

    def disturbed(self, now_s: float) -> None:
        """The load changed otherwise, at a time not known so well: the last step is of no use."""
        self._trace.load_changed(now_s)
        self._due_s = math.inf

    @property
    def has_work(self) -> bool:
        """A step waits to be scored."""
        return self._job is not None

    def work(self) -> bool:
        """Score a part of what waits, a few milliseconds; whether something was learnt."""
        if self._job is None:
            return False
        score = next(self._job, None)
        if score is not None and score.size < MODELS:
            return False
        self._job = None
        if score is not None:
            self.memory.learn(score)
        return score is not None

    def _end(self, now_s: float) -> None:
        """The last step was watched for long enough."""
        pending, self._due_s = math.isfinite(self._due_s), math.inf
        # Without its fan a board's time constants are those of one day.
        window = self._trace.window(now_s) if pending and self._trace.knows_fan else None
        if window is not None and window.watched_s >= _LEAST_WATCHED_S:
            self._job = _scores(window)


def _scores(window: Window) -> Iterator[FloatArray]:
    """Log evidence of GRID's models as far as it is known, a part more each time.

    Nothing where the step moved little.
    """
    unknown = unknown_board()
    design = window.design(unknown)
    seen, weight = window.linearised(unknown, design)
    fit = solve(unknown, design, seen, weight)
    effects = np.einsum("ki,ki->k", design[:, -1, STEP], fit.solution[:, STEP])
    if abs(float(fit.share @ effects)) < _LEAST_EFFECT_CELSIUS:
        return
    done: FloatArray = np.empty(0)
    for start in range(0, MODELS, _PART):
        yield done
        part = GRID.part(slice(start, start + _PART))
        done = np.concatenate([done, solve(part, window.design(part), seen, weight).evidence])
    yield done


def _faded(evidence: FloatArray) -> FloatArray:
    """Log prior for the next step, from what was known after the last one; both (k,)."""
    share = np.exp(_KEEP * (evidence - evidence.max())).reshape(SHAPE)
    drifted = (1.0 - _DRIFT) * share
    drifted[:, 1:] += _DRIFT / 2.0 * share[:, :-1]
    drifted[:, :-1] += _DRIFT / 2.0 * share[:, 1:]
    return _logarithm(drifted)


def _changed(same: FloatArray) -> FloatArray:
    """Log prior of a board that has another heat sink than this one; both (k,)."""
    share = np.exp(same).reshape(SHAPE)
    middle = float(share.sum(axis=(0, 2)) @ _LOG_SINKS)
    wide = np.exp(-0.5 * ((_LOG_SINKS - middle) / _CHANGED_BY) ** 2)[None, :, None]
    return _logarithm(share.sum(axis=1, keepdims=True) * wide)


def _logarithm(share: FloatArray) -> FloatArray:
    """Of probabilities, (k,), that are normalised here."""
    return np.asarray(np.log(np.maximum(share / share.sum(), 1e-300)).ravel(), dtype=np.float64)


def _log_sum(logs: FloatArray) -> float:
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).sum()))
