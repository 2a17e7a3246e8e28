"""A PLC that is a server, as a process: memory without a program. `plc_server.py modbus PORT` or
`plc_server.py opcua PORT KEYS`, where KEYS is a folder of `python -m shopfloor.plc certificates`.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from asyncua import Server, ua
from asyncua.crypto.permission_rules import User, UserRole
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

NODES = {
    "Beat": ua.VariantType.UInt32,
    "Speed": ua.VariantType.Double,
    "GraphBeat": ua.VariantType.UInt32,
    "LineState": ua.VariantType.UInt16,
    "Command.Id": ua.VariantType.UInt32,
    "Command.Command": ua.VariantType.UInt16,
    "Command.Mode": ua.VariantType.UInt16,
    "Answer.Id": ua.VariantType.UInt32,
    "Answer.Outcome": ua.VariantType.Byte,
    "Answer.Reason": ua.VariantType.UInt16,
    "Answer.State": ua.VariantType.Byte,
}
USER, PASSWORD = "line", "a secret"


async def modbus(port: int) -> None:
    """300 holding registers."""
    registers = [SimData(0, count=300, values=0, datatype=DataType.REGISTERS)]
    bits = [SimData(0, values=False, datatype=DataType.BITS)]
    device = SimDevice(1, simdata=(bits, list(bits), registers, list(registers)))
    server = ModbusTcpServer(device, address=("127.0.0.1", port))
    assert await server.listen()


class _OneUser:
    def get_user(
        self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None
    ) -> User | None:
        known = (username, password) == (USER, PASSWORD)
        return User(role=UserRole.User, name=USER) if known else None


async def opcua(port: int, keys: Path) -> None:
    """NODES as ns=2;s=NAME, writable; encrypted, with a user."""
    server = Server(user_manager=_OneUser())
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}")
    await server.set_application_uri("urn:test:plc")
    server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
    server.set_identity_tokens([ua.UserNameIdentityToken])
    await server.load_certificate(str(keys / "server.der"))
    await server.load_private_key(str(keys / "server.pem"))
    index = await server.register_namespace("urn:test:plc:memory")
    for name, kind in NODES.items():
        start: Any = 0.0 if kind is ua.VariantType.Double else 0
        node = ua.NodeId(name, index)
        variable = await server.nodes.objects.add_variable(node, name, ua.Variant(start, kind))
        await variable.set_writable()
    await server.start()


async def main(kind: str, port: str, *rest: str) -> None:
    """Until killed."""
    await (modbus(int(port)) if kind == "modbus" else opcua(int(port), Path(rest[0])))
    print("the PLC listens", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
