"""Yesterday's outputs against today's: which part, which node, which field, how far apart."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from shopfloor.replay.fields import Value, flatten
from shopfloor.replay.rules import (
    DEFAULT_RULE,
    FLOAT_NOISE,
    OF_THE_RUN,
    OF_THE_TIME,
    RULES,
    Rule,
    Tolerance,
    covers,
)
from shopfloor.replay.topics import row_of
from shopfloor.ros.recorded import Recorded

Decode = Callable[[Recorded], Any]
Key = tuple[Any, ...]
EDGE_NS = 2_000_000_000
"""At the ends of a bag, answers without their question (and the other way round) are expected."""


@dataclass(frozen=True)
class Difference:
    """One field of one message. `before`: in the bag, `now`: in the replay; None: no message."""

    topic: str
    node: str
    part: str
    stamp_ns: int
    field: str
    before: Value | None
    now: Value | None


@dataclass
class Comparison:
    """What came out. compared: pairs by topic; at_the_edges: left out there; skipped: why."""

    differences: list[Difference] = field(default_factory=list)
    compared: Counter[str] = field(default_factory=Counter)
    at_the_edges: int = 0
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def is_equal(self) -> bool:
        """Whether something was compared, and all of it is equal."""
        return not self.differences and bool(self.compared.total())


@dataclass(frozen=True)
class _Said:
    stamp_ns: int
    item: Recorded
    message: Any


def compare(
    before: Iterable[Recorded],
    now: Iterable[Recorded],
    decode_before: Decode,
    decode_now: Decode,
    span_ns: tuple[int, int],
) -> Comparison:
    """Compare the messages of each topic.

    before, now: of the bag and of the replay. span_ns: of the inputs that were replayed.
    """
    found = Comparison()
    old, new = _by_topic(before), _by_topic(now)
    for topic in sorted(set(old) | set(new)):
        row = row_of(topic)
        if topic not in old:
            found.skipped[topic] = "not in the bag"
            continue
        rule = RULES.get(row.key, DEFAULT_RULE) if row is not None else DEFAULT_RULE
        first = _wanted(rule, [_said(item, decode_before) for item in old[topic]])
        second = _wanted(rule, [_said(item, decode_now) for item in new.get(topic, [])])
        if rule.by_clock and any(_get(said.message, rule.by_clock) for said in first):
            found.skipped[topic] = "its search ended by the clock, that of a replay does not"
            continue
        if rule.changes:
            _compare_changes(found, topic, rule, first, second)
        else:
            _compare_messages(found, topic, rule, first, second, span_ns)
    found.differences.sort(key=lambda d: (d.stamp_ns, d.topic, d.part))
    return found


def _by_topic(items: Iterable[Recorded]) -> dict[str, list[Recorded]]:
    by_topic: dict[str, list[Recorded]] = defaultdict(list)
    for item in items:
        by_topic[item.topic].append(item)
    return by_topic


def _said(item: Recorded, decode: Decode) -> _Said:
    message = decode(item)
    header = getattr(message, "header", None)
    if header is None:
        return _Said(item.stamp_ns, item, message)
    return _Said(header.stamp.sec * 1_000_000_000 + header.stamp.nanosec, item, message)


def _wanted(rule: Rule, said: Sequence[_Said]) -> list[_Said]:
    name, values = rule.only
    return [item for item in said if not name or _get(item.message, name) in values]


def _compare_messages(
    found: Comparison,
    topic: str,
    rule: Rule,
    old: Sequence[_Said],
    new: Sequence[_Said],
    span_ns: tuple[int, int],
) -> None:
    before, now = _by_key(rule, old), _by_key(rule, new)
    for key in [*before, *(key for key in now if key not in before)]:
        one, other = before.get(key), now.get(key)
        said = one or other
        assert said is not None
        if said.stamp_ns < span_ns[0] or (
            (one is None or other is None) and said.stamp_ns > span_ns[1] - EDGE_NS
        ):
            found.at_the_edges += 1
            continue
        found.compared[topic] += 1
        if one is None or other is None:
            words = "there is none", "there is one"
            values = words if one is None else (words[1], words[0])
            found.differences.append(_difference(topic, rule, said, "message", *values))
            continue
        for name, value, other_value in _unequal(rule, one.message, other.message):
            found.differences.append(_difference(topic, rule, other, name, value, other_value))


def _by_key(rule: Rule, said: Sequence[_Said]) -> dict[Key, _Said]:
    """By the rule's key and, where that is not unique, by their order."""
    seen: Counter[Key] = Counter()
    found: dict[Key, _Said] = {}
    for item in said:
        key: Key = tuple(_get(item.message, path) for path in rule.key)
        seen[key] += 1
        found[key + (seen[key],)] = item  # noqa: RUF005
    return found


def _unequal(rule: Rule, one: Any, other: Any) -> list[tuple[str, Value | None, Value | None]]:
    for message in (one, other):
        _leave_out_what_does_not_count(message)
        if rule.labelled is not None:
            _order_by_label(message, *rule.labelled)
    left = (*OF_THE_RUN, *OF_THE_TIME, *rule.ignored)
    flag, names = rule.ignored_where
    if flag and _get(one, flag) and _get(other, flag):
        left += names
    before = {exact: (path, value) for path, exact, value in flatten(one)}
    now = {exact: (path, value) for path, exact, value in flatten(other)}
    found: list[tuple[str, Value | None, Value | None]] = []
    # A field that only one version of the type has is a change of the type, not of its value.
    for exact, (path, value) in before.items():
        if covers(left, path) or exact not in now:
            continue
        other_value = now[exact][1]
        if _is_number(value) and _is_number(other_value):
            noise = FLOAT_NOISE if isinstance(value, float) else Tolerance()
            tolerance = rule.tolerances.get(path) or next(
                (t for known, t in rule.tolerances.items() if covers((known,), path)), noise
            )
            if tolerance.holds(value, other_value):
                continue
        elif value == other_value:
            continue
        found.append((exact, value, other_value))
    return found


def _leave_out_what_does_not_count(message: Any) -> None:
    """Detections below the suspect threshold decide nothing, and come and go with JPEG's noise."""
    floor = getattr(message, "suspect_threshold", None)
    if floor is not None:
        message.detections = [d for d in message.detections if d.score >= floor]


def _is_number(value: Value | None) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _order_by_label(message: Any, names: str, numbers: str) -> None:
    pairs = sorted(zip(getattr(message, names), getattr(message, numbers), strict=True))
    setattr(message, names, [name for name, _ in pairs])
    setattr(message, numbers, [number for _, number in pairs])


def _compare_changes(
    found: Comparison, topic: str, rule: Rule, old: Sequence[_Said], new: Sequence[_Said]
) -> None:
    before, now = _changes(rule, old), _changes(rule, new)
    first, second = _started(rule, before, now)
    found.at_the_edges += first + second
    before, now = before[first:], now[second:]
    for index in range(max(len(before), len(now))):
        one = before[index] if index < len(before) else None
        other = now[index] if index < len(now) else None
        said = one or other
        assert said is not None
        found.compared[topic] += 1
        if one is None or other is None:
            name = ", ".join(rule.changes)
            texts = [_state(rule, i) if i is not None else "no change" for i in (one, other)]
            found.differences.append(_difference(topic, rule, said, name, texts[0], texts[1]))
            continue
        for name in rule.changes:
            values_now = _get(one.message, name), _get(other.message, name)
            if values_now[0] != values_now[1]:
                found.differences.append(_difference(topic, rule, other, name, *values_now))


def _changes(rule: Rule, said: Sequence[_Said]) -> list[_Said]:
    kept: list[_Said] = []
    for item in said:
        if not kept or _state(rule, kept[-1]) != _state(rule, item):
            kept.append(item)
    return kept


def _started(rule: Rule, before: Sequence[_Said], now: Sequence[_Said]) -> tuple[int, int]:
    """How many states of each came before the first that they share.

    A node goes through some as it starts, and a recorder that finds it later has not heard them.
    """
    early = [
        [s for s in said if s.stamp_ns <= said[0].stamp_ns + EDGE_NS] for said in (before, now)
    ]
    pairs = [
        (i, j)
        for i, one in enumerate(early[0])
        for j, other in enumerate(early[1])
        if _state(rule, one) == _state(rule, other)
    ]
    return min(pairs, key=sum, default=(0, 0))


def _state(rule: Rule, said: _Said) -> str:
    return ", ".join(f"{name} {_get(said.message, name)}" for name in rule.changes)


def _difference(
    topic: str, rule: Rule, said: _Said, name: str, before: Value | None, now: Value | None
) -> Difference:
    message = said.message
    origin = getattr(message, "provenance", None)
    row = row_of(topic)
    node = getattr(origin, "node", "") or (", ".join(row.servers) if row is not None else "")
    return Difference(topic, node, str(_get(message, rule.part)), said.stamp_ns, name, before, now)


def _get(message: Any, path: str) -> Any:
    value = message
    for name in path.split("."):
        value = getattr(value, name, "")
    if hasattr(value, "nanosec"):
        return value.sec * 1_000_000_000 + value.nanosec
    return value
