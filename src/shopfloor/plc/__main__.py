"""Keys and users for OPC UA, a look at a mapping, and the schemas of what goes to MQTT."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import getpass
import json
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from cryptography.x509.oid import ExtendedKeyUsageOID

from shopfloor.plant.problems import PlantError
from shopfloor.plc.mapping_file import load_mapping
from shopfloor.plc.opcua import APPLICATION, Users, password_hash
from shopfloor.ros.interfaces import BY_KEY, INTERFACES, Kind

EXAMPLES = """\
examples:
  python -m shopfloor.plc certificates /etc/shopfloor/plc --user plc1
  python -m shopfloor.plc check config/plc/plc1.yaml
  python -m shopfloor.plc schema part_verdict > part_verdict.schema.json

exit codes: 0 done, 1 what was given is wrong, with the reason on stderr, 2 wrong command line
"""


def _certificates(args: argparse.Namespace) -> int:
    """A self-signed certificate, its key, and a user; what is there already is kept."""
    folder: Path = args.folder
    key, certificate, users = (folder / n for n in ("server.pem", "server.der", "users.yaml"))
    try:
        content = _with_user(users, args) if args.user else {}
        folder.mkdir(parents=True, exist_ok=True)
        with _for_the_owner_only():
            asyncio.run(
                setup_self_signed_certificate(
                    key,
                    certificate,
                    args.uri,
                    socket.gethostname(),
                    [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH],
                    {"organizationName": "shopfloor"},
                )
            )
            print(f"{certificate} and {key}")
            if content:
                users.write_text(yaml.safe_dump(content), "utf-8")
                print(f"{users}: {args.user}")
    except (OSError, ValueError) as error:
        print(f"certificates: {error}", file=sys.stderr)
        return 1
    return 0


@contextlib.contextmanager
def _for_the_owner_only() -> Iterator[None]:
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def _with_user(users: Path, args: argparse.Namespace) -> dict[str, Any]:
    """What the users file holds, and the user. Raises ValueError, OSError."""
    if users.exists():
        Users(users, lambda what, why: None)  # raises where it holds anything else
    content: dict[str, Any] = yaml.safe_load(users.read_text("utf-8")) if users.exists() else {}
    password = args.password
    if password is None:
        if not sys.stdin.isatty():
            raise ValueError(f"no password for {args.user}: --password, or a terminal to ask on")
        password = getpass.getpass(f"password of {args.user}: ")
    if not password:
        raise ValueError(f"the password of {args.user} is empty")
    salt = secrets.token_hex(16)
    content[args.user] = {"salt": salt, "sha256": password_hash(password, salt)}
    return content


def _check(args: argparse.Namespace) -> int:
    """Read a mapping and say what it holds."""
    try:
        mapping = load_mapping(args.file, {r.key: r.kind is Kind.TOPIC for r in INTERFACES})
    except PlantError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{args.file}: {mapping.plc}, {len(mapping.points)} points")
    print(f"  a stalled PLC is seen within {mapping.detection_ms:g} ms")
    for point in mapping.points:
        at = _where("register", point.register, point.node)
        print(f"  {point.name:20} {point.kind.value:8} {at}")
    for item in mapping.inputs:
        at = _where("holding register", item.register, item.node)
        print(f"  {item.name:20} {item.field.kind.value:8} from the PLC, {at}".rstrip(", "))
    for command in mapping.commands:
        at = _where("holding register", command.register, command.nodes.get("id", ""))
        fields = ", ".join(field.name for field in command.fields)
        print(f"  {command.name:20} calls {command.service}({fields}) {at}".rstrip())
    return 0


def _schema(args: argparse.Namespace) -> int:
    """Print the JSON Schema of a topic's messages."""
    # Only here is ROS needed.
    from shopfloor.ros.endpoint_node import message_type
    from shopfloor.ros.message_schema import json_schema

    row = BY_KEY.get(args.key)
    if row is None or row.kind is not Kind.TOPIC:
        topics = sorted(key for key, row in BY_KEY.items() if row.kind is Kind.TOPIC)
        print(f"no topic '{args.key}'; there are: {', '.join(topics)}", file=sys.stderr)
        return 1
    print(json.dumps(json_schema(message_type(row.type)), indent=1))
    return 0


def _where(what: str, register: int | None, node: str) -> str:
    known = ["" if register is None else f"{what} {register}", node]
    return ", ".join(text for text in known if text)


def main(arguments: list[str] | None = None) -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m shopfloor.plc",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    certificates = verbs.add_parser("certificates", help="make a key, a certificate and a user")
    certificates.add_argument("folder", type=Path, help="where they go; made if it is not there")
    certificates.add_argument("--user", help="add this user to users.yaml, or change the password")
    certificates.add_argument("--password", help="asked for where it is not given")
    certificates.add_argument(
        "--uri", default=APPLICATION, help="the certificate's application URI; default: %(default)s"
    )
    certificates.set_defaults(run=_certificates)
    check = verbs.add_parser("check", help="read a mapping and list what it holds")
    check.add_argument("file", type=Path, help="for example config/plc/plc1.yaml")
    check.set_defaults(run=_check)
    schema = verbs.add_parser("schema", help="JSON Schema of what mqtt_bridge sends for a topic")
    schema.add_argument("key", help="as in docs/interfaces.md, for example part_verdict")
    schema.set_defaults(run=_schema)
    args = parser.parse_args(arguments)
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(main())
