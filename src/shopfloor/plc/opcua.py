"""The picture and the commands over OPC UA: read-only variables, and a method for each command.

Objects/shopfloor/PLC/: a variable for each point, the writable `plc_heartbeat`, and a method for
each command: (command_id, person, reason, expected_state, FIELDS...) -> (outcome, first_outcome,
reason, text, state). The caller is the user who is logged in. Basic256Sha256, Sign & Encrypt, with
user and password, unless the mapping says `anonymous`.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import yaml
from asyncua import Node, Server, ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.internal_server import InternalServer

from shopfloor.plc.mapping import (
    EXPECTED_STATE,
    HEAD,
    HEARTBEAT,
    CommandPoint,
    Input,
    OpcUa,
    PlcMapping,
)
from shopfloor.plc.port import Call, Port
from shopfloor.plc.values import Kind, Value

NAMESPACE = "urn:shopfloor:plc"
APPLICATION = "urn:shopfloor:plc_bridge"
_ITERATIONS = 100_000
_WATCH_MS = 50

VARIANTS = {
    Kind.BOOL: ua.VariantType.Boolean,
    Kind.UINT8: ua.VariantType.Byte,
    Kind.UINT16: ua.VariantType.UInt16,
    Kind.INT16: ua.VariantType.Int16,
    Kind.UINT32: ua.VariantType.UInt32,
    Kind.INT32: ua.VariantType.Int32,
    Kind.UINT64: ua.VariantType.UInt64,
    Kind.INT64: ua.VariantType.Int64,
    Kind.FLOAT32: ua.VariantType.Float,
    Kind.FLOAT64: ua.VariantType.Double,
    Kind.STRING: ua.VariantType.String,
}

logging.getLogger("asyncua").setLevel(logging.CRITICAL)
_LOGGER = logging.getLogger("asyncua.server")
_LOGGER.setLevel(logging.WARNING)
_LOGGER.propagate = False
_CAUSE_MAX = 200


def password_hash(password: str, salt: str) -> str:
    """PBKDF2-HMAC-SHA256 of a password, for the users file."""
    derived = hashlib.pbkdf2_hmac("sha256", password.encode(), bytes.fromhex(salt), _ITERATIONS)
    return derived.hex()


class Users:
    """Users of a YAML file: `NAME: {salt: HEX, sha256: HEX}`; `None` lets everybody in."""

    def __init__(self, path: Path | None, refused: Callable[[str, str], None]) -> None:
        """Raises ValueError naming the file, OSError."""
        self._refused = refused
        self._users: dict[str, tuple[str, str]] | None = None
        if path is None:
            return
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            self._users = {
                str(name): (str(row["salt"]), str(row["sha256"])) for name, row in content.items()
            }
        except (AttributeError, KeyError, TypeError, UnicodeDecodeError, yaml.YAMLError):
            raise ValueError(f"{path}: allowed: NAME: {{salt: HEX, sha256: HEX}}") from None

    def get_user(
        self,
        iserver: Any,
        username: str | None = None,
        password: str | None = None,
        certificate: Any = None,
    ) -> User | None:
        """The user, or None where name and password do not fit (asyncua's interface)."""
        if self._users is None:
            return User(role=UserRole.User, name=username or "anonymous")
        salt, expected = self._users.get(username or "", ("00", ""))
        if hmac.compare_digest(password_hash(password or "", salt), expected):
            return User(role=UserRole.User, name=username)
        self._refused("opcua user", f"'{username or 'anonymous'}' was not let in")
        return None


_USER: ContextVar[str] = ContextVar("user of the call", default="")


class _SessionsThatTellTheirUser(InternalServer):
    """asyncua does not tell a method who calls it."""

    def create_session(self, *arguments: Any, **named: Any) -> Any:
        """A session whose calls run with `_USER` set."""
        session = super().create_session(*arguments, **named)
        call = session.call

        async def told(*parameters: Any) -> Any:
            _USER.set(getattr(session.user, "name", None) or "")
            return await call(*parameters)

        session.call = told
        return session


class _CountsBadFrames(logging.Handler):
    """asyncua tells of bytes and requests that it does not take in its log only."""

    def __init__(self, refused: Callable[[str, str], None]) -> None:
        super().__init__(logging.WARNING)
        self._refused = refused

    def emit(self, record: logging.LogRecord) -> None:
        """Count it, with what asyncua says of it."""
        cause = "" if record.exc_info is None else f": {record.exc_info[1]!r}"
        self._refused("opcua request", f"{record.getMessage()}{cause}"[:_CAUSE_MAX])


def _check_files(*names: str) -> None:
    for name in names:
        if not Path(name).is_file():
            raise FileNotFoundError(
                f"opcua: there is no file '{name}'; made by: "
                "python -m shopfloor.plc certificates FOLDER --user NAME --password PASSWORD"
            )


class OpcUaSide:
    """The server. All methods run on its event loop."""

    def __init__(self, mapping: PlcMapping, settings: OpcUa, port: Port) -> None:
        self._mapping = mapping
        self._settings = settings
        self._port = port
        self._server: Server | None = None
        self._counter = _CountsBadFrames(port.refused)
        self._variables: dict[str, Node] = {}
        self._written: dict[str, Value] = {}
        self._brought: dict[str, Input | None] = {}

    async def start(self) -> None:
        """Build the address space and listen. Raises OSError, ValueError."""
        settings = self._settings
        if not settings.anonymous:
            _check_files(settings.certificate, settings.private_key, settings.users)
        users = Users(None if settings.anonymous else Path(settings.users), self._port.refused)
        iserver = _SessionsThatTellTheirUser(user_manager=users)
        self._server = server = Server(iserver)
        await server.init()
        server.set_endpoint(f"opc.tcp://{settings.address}:{settings.port}/shopfloor")
        server.set_server_name("shopfloor")
        await server.set_application_uri(APPLICATION)
        if settings.anonymous:
            server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        else:
            server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
            server.set_identity_tokens([ua.UserNameIdentityToken])
            await server.load_certificate(settings.certificate)
            await server.load_private_key(settings.private_key)
        await self._build(server)
        try:
            await server.start()
        except OSError as error:
            where = f"{settings.address}:{settings.port}"
            raise OSError(f"OPC UA: cannot listen on {where}: {error.strerror}") from None
        _LOGGER.addHandler(self._counter)

    async def stop(self) -> None:
        """Close every session."""
        _LOGGER.removeHandler(self._counter)
        if self._server is not None:
            await self._server.stop()
            self._server = None

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        server = self._server
        return 0 if server is None or server.bserver is None else len(server.bserver.clients)

    async def update(self, values: Mapping[str, Value]) -> None:
        """Write what has changed; subscribed clients are told by OPC UA itself."""
        if self._server is None:
            return
        for point in self._mapping.points:
            value = values[point.name]
            if self._written.get(point.name) != value:
                variant = ua.Variant(value, VARIANTS[point.kind])
                await self._variables[point.name].write_value(variant)
                self._written[point.name] = value

    async def _build(self, server: Server) -> None:
        index = await server.register_namespace(NAMESPACE)
        top = await server.nodes.objects.add_object(index, "shopfloor")
        plc_id = ua.NodeId(self._mapping.plc, index)
        plc = await top.add_object(plc_id, ua.QualifiedName(self._mapping.plc, index))
        for point in self._mapping.points:
            start: Any = {Kind.STRING: "", Kind.FLOAT32: 0.0, Kind.BOOL: False}.get(point.kind, 0)
            name = ua.NodeId(f"{self._mapping.plc}.{point.name}", index)
            variant = ua.Variant(start, VARIANTS[point.kind])
            self._variables[point.name] = await plc.add_variable(
                name, ua.QualifiedName(point.name, index), variant
            )
        watched = [await self._writable(plc, index, "plc_heartbeat", Kind.UINT32, None)]
        for item in self._mapping.inputs:
            watched.append(await self._writable(plc, index, item.name, item.field.kind, item))
        subscription = await server.create_subscription(_WATCH_MS, self)
        await subscription.subscribe_data_change(watched)
        for command in self._mapping.commands:
            await self._add_method(plc, index, command)

    async def _writable(
        self, plc: Node, index: int, name: str, kind: Kind, item: Input | None
    ) -> Node:
        """A variable that the PLC writes; empty until then."""
        node_id = ua.NodeId(f"{self._mapping.plc}.{name}", index)
        variant = VARIANTS[kind]
        first = ua.Variant(None if item else 0, ua.VariantType.Null if item else variant)
        bare = ua.QualifiedName(name, index)
        node = await plc.add_variable(node_id, bare, first, datatype=ua.NodeId(variant.value))
        await node.set_writable()
        self._brought[node_id.Identifier] = item
        return node

    def datachange_notification(self, node: Node, value: Any, data: Any) -> None:
        """The PLC moved its heartbeat, or brought an input (asyncua's interface)."""
        item = self._brought[node.nodeid.Identifier]
        try:
            if item is None:
                self._port.heartbeat(int(HEARTBEAT.check(value)))
            elif value is not None:
                self._port.inputs({item.name: item.take(value)})
        except ValueError as error:
            self._port.refused("opcua input", str(error))
            if item is not None:
                self._port.inputs({item.name: float("nan")})

    async def _add_method(self, plc: Node, index: int, command: CommandPoint) -> None:
        fields = (*HEAD, EXPECTED_STATE, *command.fields)
        inputs = [_argument(f.name, VARIANTS[f.kind]) for f in fields]
        outputs = [
            _argument("outcome", ua.VariantType.Byte),
            _argument("first_outcome", ua.VariantType.Byte),
            _argument("reason", ua.VariantType.UInt16),
            _argument("text", ua.VariantType.String),
            _argument("state", ua.VariantType.Byte),
        ]
        name = ua.NodeId(f"{self._mapping.plc}.{command.name}", index)

        async def method(parent: Any, *values: ua.Variant) -> Any:
            return await self._on_method(command, values)

        bare = ua.QualifiedName(command.name, index)
        await plc.add_method(name, bare, method, inputs, outputs)

    async def _on_method(self, command: CommandPoint, variants: Sequence[ua.Variant]) -> Any:
        fields = (*HEAD, EXPECTED_STATE, *command.fields)
        try:
            if len(variants) != len(fields):
                raise ValueError(f"{len(variants)} arguments; allowed: {len(fields)}")
            # A PLC's empty string comes as null.
            command_id, person, reason = (
                str(f.check("" if v.Value is None else v.Value))
                for f, v in zip(HEAD, variants, strict=False)
            )
            state, *rest = (v.Value for v in variants[len(HEAD) :])
            state = int(EXPECTED_STATE.check(state))
            values = {f.name: f.check(value) for f, value in zip(command.fields, rest, strict=True)}
        except ValueError as error:
            self._port.refused("opcua call", f"{command.name}: {error}")
            return ua.StatusCode(ua.StatusCodes.BadInvalidArgument)
        who = person or _USER.get()
        reply = await self._port.call(Call(command, command_id, values, who, reason, state))
        return [
            ua.Variant(int(reply.outcome), ua.VariantType.Byte),
            ua.Variant(int(reply.first_outcome), ua.VariantType.Byte),
            ua.Variant(int(reply.reason), ua.VariantType.UInt16),
            ua.Variant(reply.text, ua.VariantType.String),
            ua.Variant(int(reply.state), ua.VariantType.Byte),
        ]


def _argument(name: str, kind: ua.VariantType) -> ua.Argument:
    argument = ua.Argument()
    argument.Name = name
    argument.DataType = ua.NodeId(kind.value)
    argument.ValueRank = -1
    return argument
