"""A bag that was cut off by a power cut or kill -9: what is whole of it, with an index."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mcap.records import Channel, Message, Schema
from mcap.stream_reader import StreamReader
from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from shopfloor.replay.bag import NOTES_FILE, BagError, qos_profile
from shopfloor.replay.hidden_types import types_of_idl


@dataclass(frozen=True)
class Repaired:
    """What was saved: messages by topic, and the span of time in ns."""

    counts: Counter[str]
    start_ns: int
    end_ns: int


def repair(damaged: Path, whole: Path) -> Repaired:
    """Write everything that can be read of `damaged` (folder or .mcap file) to the bag `whole`.

    `damaged` stays as it is. Raises BagError where nothing can be read, or `whole` exists.
    """
    files = sorted(damaged.glob("*.mcap")) if damaged.is_dir() else [damaged]
    if not files or not all(file.is_file() for file in files):
        raise BagError(f"{damaged}: there is no .mcap file to repair")
    counts: Counter[str] = Counter()
    start_ns, end_ns = 2**63 - 1, 0
    try:
        with Writer(whole, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            for key, value in _notes(files[0].parent).items():
                writer.set_custom_data(key, value)
            for topic, connection, message in _messages(files, writer):
                writer.write(connection, message.log_time, message.data)
                counts[topic] += 1
                start_ns, end_ns = min(start_ns, message.log_time), max(end_ns, message.log_time)
    except Exception as error:
        raise BagError(f"cannot write the bag {whole}: {error}") from error
    return Repaired(counts, min(start_ns, end_ns), end_ns)


def _messages(files: list[Path], writer: Writer) -> Iterator[tuple[str, Connection, Message]]:
    known: dict[str, Connection] = {}
    for file in files:
        schemas: dict[int, Schema] = {}
        channels: dict[int, Channel] = {}
        # What a cut leaves is half a record: the end of what can be read.
        # Garbage makes the parser raise all sorts of things.
        with file.open("rb") as stream, contextlib.suppress(Exception):
            for record in StreamReader(stream).records:
                if isinstance(record, Schema):
                    schemas[record.id] = record
                elif isinstance(record, Channel):
                    channels[record.id] = record
                elif isinstance(record, Message):
                    channel = channels[record.channel_id]
                    if channel.topic not in known:
                        schema = schemas[channel.schema_id]
                        known[channel.topic] = writer.add_connection(
                            channel.topic,
                            schema.name,
                            msgdef=schema.data.decode(),
                            rihs01=_hash(schema),
                            offered_qos_profiles=[qos_profile(_is_latched(channel))],
                        )
                    yield channel.topic, known[channel.topic], record


def _notes(folder: Path) -> dict[str, str]:
    """The plant and its files, as the recorder laid them beside a bag that it had not ended."""
    try:
        notes = json.loads((folder / NOTES_FILE).read_text(encoding="utf-8"))
        return {str(key): str(value) for key, value in notes.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _hash(schema: Schema) -> str:
    """Of the type's words: the hash itself stood in the metadata, which may be lost."""
    types = get_typestore(Stores.EMPTY)
    text = schema.data.decode()
    is_idl = schema.encoding == "ros2idl"
    found = types_of_idl(text) if is_idl else get_types_from_msg(text, schema.name)
    types.register({name: fields for name, fields in found.items() if name not in types.types})
    return types.hash_rihs01(schema.name)


def _is_latched(channel: Channel) -> bool:
    return "transient_local" in channel.metadata.get("offered_qos_profiles", "")
