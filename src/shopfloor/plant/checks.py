"""Everything about a plant that can be known before anything starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shopfloor.plant.discovery import discovery_problems
from shopfloor.plant.endpoints import Endpoint, endpoints
from shopfloor.plant.links import Link, link_problems, links
from shopfloor.plant.part_names import part_name_problems
from shopfloor.plant.placement import ANY_HOST, need_problems, placement_problems, select
from shopfloor.plant.plant_file import Plant
from shopfloor.plant.problems import PlantError, Problem
from shopfloor.ros.interfaces import Kind
from shopfloor.ros.qos_settings import incompatibility, offered, requested


@dataclass(frozen=True)
class Report:
    """What a sound plant is worth saying of. notes: may be meant so, and a person should look."""

    links: tuple[Link, ...]
    notes: tuple[Problem, ...]


def check_plant(plant: Plant, host: str = ANY_HOST) -> Report:
    """All checks. Raises PlantError with every problem; host: whose needs are looked at."""
    problems = placement_problems(plant)
    if problems:
        raise PlantError(problems)
    ends = endpoints(plant)
    rows = links(plant)
    problems = [
        *need_problems(plant, select(plant, host)),
        *connection_problems(plant, ends),
        *link_problems(plant, rows),
        *discovery_problems(plant),
        *part_name_problems(plant),
    ]
    if problems:
        raise PlantError(problems)
    return Report(tuple(rows), tuple(_unheard(plant, ends)))


def connection_problems(plant: Plant, ends: Iterable[Endpoint]) -> list[Problem]:
    """Ends of one name that do not fit: other types, kinds or QoS, or two servers of a service."""
    problems = []
    first: dict[str, Endpoint] = {}
    by_name: dict[str, list[Endpoint]] = {}
    for end in ends:
        by_name.setdefault(end.name, []).append(end)
    for name, group in by_name.items():
        for end in group:
            other = first.setdefault(name, end)
            why = _clash(other, end)
            if not why and end.row.kind is Kind.TOPIC:
                why = next(filter(None, (_qos_clash(end, sink) for sink in group)), "")
            if why:
                names = f"'{other.node.key}'" if other is not end else "itself"
                message = f"{name} does not fit with {names}: {why}"
                problems.append(plant.lines.problem(end.node.path, message))
        servers = [end for end in group if end.serves and end.row.kind is not Kind.TOPIC]
        for end in servers[1:]:
            message = f"{name} is served by '{servers[0].node.key}' already; allowed: one server"
            problems.append(plant.lines.problem(end.node.path, message))
    return problems


def _clash(one: Endpoint, other: Endpoint) -> str:
    if one.row.type != other.row.type:
        return f"{other.row.type} here, {one.row.type} there"
    return ""


def _qos_clash(source: Endpoint, sink: Endpoint) -> str:
    if not source.serves or sink.serves:
        return ""
    return incompatibility(offered(source.row.qos), requested(sink.row.qos))


def _unheard(plant: Plant, ends: Iterable[Endpoint]) -> list[Problem]:
    """Topics that a node asks for by a name of its parameters and that no node here publishes."""
    ends = list(ends)
    sources = [end for end in ends if end.serves]
    notes = []
    for sink in ends:
        named = sink.row.placeholders and "*" not in sink.name and not sink.serves
        # A host need not have a watchdog, and a service may be offered by a tool.
        if not named or sink.row.key == "thermal_state" or sink.row.kind is not Kind.TOPIC:
            continue
        if not any(source.meets(sink) for source in sources):
            message = f"reads {sink.name}, which no node of this file publishes"
            notes.append(plant.lines.problem(sink.node.path, message))
    return notes
