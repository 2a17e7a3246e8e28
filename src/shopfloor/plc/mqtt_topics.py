"""Which topics of the graph go to a broker, under which name. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shopfloor.ros.interfaces import BY_KEY, Kind, Qos

_UNFIT = str.maketrans({"/": "_", "#": "_", "+": "_", "\0": "_"})


@dataclass(frozen=True)
class Source:
    """A topic of the interface table with its names filled in."""

    key: str
    names: Mapping[str, str]

    @staticmethod
    def parse(text: str) -> Source:
        """Read `KEY` or `KEY NAME=VALUE ...`. Raises ValueError naming what is allowed."""
        key, *pairs = text.split() or [""]
        row = BY_KEY.get(key)
        if row is None or row.kind is not Kind.TOPIC or row.qos is Qos.FRAMES:
            known = (
                k for k, r in BY_KEY.items() if r.kind is Kind.TOPIC and r.qos is not Qos.FRAMES
            )
            raise ValueError(f"'{key}' is no topic that can go out; allowed: {', '.join(known)}")
        names = dict(pair.partition("=")[::2] for pair in pairs)
        if set(names) != set(row.placeholders) or not all(names.values()):
            wanted = " ".join(f"{name}=..." for name in row.placeholders) or "no names"
            raise ValueError(f"'{text}'; allowed: '{key}' with {wanted}")
        return Source(key, names)

    @property
    def retained(self) -> bool:
        """A state is retained by the broker, an event is not."""
        return BY_KEY[self.key].qos is Qos.STATE

    def topic(self, prefix: str) -> str:
        """The MQTT topic: PREFIX/KEY and the names."""
        return "/".join([prefix.strip("/"), self.key, *map(level, self.names.values())])


def level(text: str) -> str:
    """`text` as one level of an MQTT topic."""
    return text.translate(_UNFIT) or "_"
