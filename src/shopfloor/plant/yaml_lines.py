"""YAML with the line of every key, without its traps: duplicate keys, tags, exploding aliases.

Only plain data comes out: dicts with string keys, lists, str, int, float, bool, None.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shopfloor.plant.problems import Problem

KeyPath = tuple["str | int", ...]

_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_MAX_BYTES = 1_000_000
_MAX_DEPTH = 16
_MAX_VALUES = 50_000


@dataclass(frozen=True)
class Lines:
    """The line of each key of a file, by key path. Lines count from 1."""

    file: str
    by_path: dict[KeyPath, int]

    def line(self, path: KeyPath) -> int:
        """The line of `path`, or of its nearest parent where the path itself is missing."""
        while path and path not in self.by_path:
            path = path[:-1]
        return self.by_path.get(path, 1)

    def problem(self, path: KeyPath, message: str) -> Problem:
        """A problem at `path`."""
        return Problem(self.file, self.line(path), dotted(path), message)


def dotted(path: KeyPath) -> str:
    """`cells.cell_1.nodes[2]` for a path."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def load(path: Path) -> tuple[Any, Lines, list[Problem]]:
    """Content, lines and problems of a YAML file; with problems the content may be incomplete."""
    file = str(path)
    lines = Lines(file, {})
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None, lines, [Problem(file, 1, "", "there is no such file")]
    except OSError as error:
        return None, lines, [Problem(file, 1, "", f"cannot be read: {error.strerror}")]
    if len(raw) > _MAX_BYTES:
        message = f"{len(raw)} bytes are no plant file; allowed: up to {_MAX_BYTES}"
        return None, lines, [Problem(file, 1, "", message)]
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        return None, lines, [Problem(file, line, "", "is not UTF-8 text; save it as UTF-8")]
    tabs = _tab_problems(file, text)
    if tabs:
        return None, lines, tabs
    reader = _Reader(lines)
    try:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            content = reader.convert(loader, root, (), ()) if root is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        context = f"{error.context}, " if error.context else ""
        line = mark.line + 1 if mark else 1
        return None, lines, [Problem(file, line, "", f"no valid YAML: {context}{error.problem}")]
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"character {error.character!r} is not allowed: {error.reason}"
        return None, lines, [Problem(file, line, "", message)]
    except _TooMuch as error:
        return None, lines, [Problem(file, error.line, "", str(error))]
    return content, lines, reader.problems


def _tab_problems(file: str, text: str) -> list[Problem]:
    """PyYAML's own words for a tab are hard to read, and it stops at the first."""
    message = "a tab indents this line; allowed: spaces"
    return [
        Problem(file, number, "", message)
        for number, line in enumerate(text.splitlines(), start=1)
        if "\t" in line[: len(line) - len(line.lstrip())] and not line.lstrip().startswith("#")
        if line.strip()
    ]


class _TooMuch(Exception):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


class _Reader:
    """Turns nodes into plain data and notes lines and problems on the way."""

    def __init__(self, lines: Lines) -> None:
        self.problems: list[Problem] = []
        self._lines = lines
        self._values = 0
        self._flattened: set[int] = set()

    def convert(
        self, loader: yaml.SafeLoader, node: yaml.Node, path: KeyPath, parents: tuple[int, ...]
    ) -> Any:
        line = node.start_mark.line + 1
        self._lines.by_path.setdefault(path, line)
        self._values += 1
        if id(node) in parents:
            raise _TooMuch(line, f"{dotted(path)}: an alias contains itself")
        if len(parents) > _MAX_DEPTH:
            raise _TooMuch(line, f"nested deeper than {_MAX_DEPTH} levels")
        if self._values > _MAX_VALUES:
            raise _TooMuch(line, f"more than {_MAX_VALUES} values (aliases counted each time)")
        parents = (*parents, id(node))
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN_TAGS:
            message = f"the tag {node.tag} is not allowed; allowed: plain YAML"
            self.problems.append(Problem(self._lines.file, line, dotted(path), message))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, path, parents)
        if isinstance(node, yaml.SequenceNode):
            return [
                self.convert(loader, item, (*path, index), parents)
                for index, item in enumerate(node.value)
            ]
        value = loader.construct_object(node)
        if value is not None and type(value) not in (str, int, float, bool):
            message = f"{node.value!r} was read as a {type(value).__name__}; put it in quotes"
            self.problems.append(Problem(self._lines.file, line, dotted(path), message))
            return str(node.value)
        return value

    def _mapping(
        self,
        loader: yaml.SafeLoader,
        node: yaml.MappingNode,
        path: KeyPath,
        parents: tuple[int, ...],
    ) -> dict[str, Any]:
        if id(node) not in self._flattened:  # an aliased mapping comes by more than once
            self._flattened.add(id(node))
            self._refuse_duplicates(node, path)
            loader.flatten_mapping(node)
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(loader, key_node, path)
            if key is None:
                continue
            here = (*path, key)
            # Written over for each key: after a merge (<<) the mapping's own key comes last.
            self._lines.by_path[here] = key_node.start_mark.line + 1
            found[key] = self.convert(loader, value_node, here, parents)
        return found

    def _key(self, loader: yaml.SafeLoader, node: yaml.Node, path: KeyPath) -> str | None:
        line = node.start_mark.line + 1
        value: Any = None
        if isinstance(node, yaml.ScalarNode):
            value = loader.construct_object(node)
            if isinstance(value, str):
                return value
        if isinstance(node, yaml.ScalarNode):
            message = f"the key '{node.value}' is no text (YAML reads {value!r}); put it in quotes"
        else:
            message = "a list or mapping is no key; allowed: text"
        self.problems.append(Problem(self._lines.file, line, dotted(path), message))
        return None

    def _refuse_duplicates(self, node: yaml.MappingNode, path: KeyPath) -> None:
        first: dict[str, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag.endswith(":merge"):
                continue
            line = key_node.start_mark.line + 1
            if key_node.value in first:
                message = f"is there twice; first in line {first[key_node.value]}"
                where = dotted((*path, key_node.value))
                self.problems.append(Problem(self._lines.file, line, where, message))
            first.setdefault(key_node.value, line)
