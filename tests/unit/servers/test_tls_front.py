# SPDX-License-Identifier: Apache-2.0
"""The TLS front when all is well: routing, listening, stopping, reloading, showing."""

import asyncio
import json
import socket
from dataclasses import asdict

import pytest

from iose.iso7816.aid import Aid
from iose.iso7816.batch import ApduLimits
from iose.servers.errors import RoutingError
from iose.servers.routes import ElementRoute, start_sequence
from iose.servers.tls_front import FrontConfig, TlsFront
from tests.support.client_hello import hello_record
from tests.support.front import ALERT_BUSY, ALERT_UNKNOWN, FrontRig
from tests.support.scripted_connection import SERVER_HELLO, EchoElement, ScriptedReader, record

pytestmark = pytest.mark.anyio


def routes(*readers, **fields):
    return [ElementRoute(one.name, f"key{one.name}.com", one, **fields) for one in readers]


@pytest.mark.parametrize("name", [b"key1.com", b"KEY1.Com", b"alias.example", b"ALIAS.example"])
async def test_routes_names_and_aliases_in_any_case(name):
    reader = ScriptedReader(EchoElement())
    async with FrontRig(routes=routes(reader, aliases=("Alias.example",))) as rig:
        client = await rig.connect()
        await client.open(name)
        assert await client.call(b"?00") == b"?00"


async def test_serves_clients_without_a_name_where_there_is_a_default():
    async with FrontRig(default_sen="KEY1.com") as rig:
        client = await rig.connect()
        await client.send(hello_record())
        assert await client.receive(len(SERVER_HELLO)) == SERVER_HELLO
        other = await rig.connect()
        await other.send(hello_record(b"key9.com"))
        assert await other.rest() == ALERT_UNKNOWN


async def test_keeps_elements_apart():
    readers = [ScriptedReader(EchoElement(), name=str(number)) for number in range(1, 5)]
    async with FrontRig(*readers) as rig:
        clients = [await rig.connect() for _ in readers]
        for number, client in enumerate(clients, 1):
            await client.open(b"key%d.com" % number)
        for number, client in enumerate(clients, 1):
            assert await client.call(b"to %d" % number) == b"to %d" % number
        assert [reader.element.records[-1] for reader in readers] == [
            record(b"to %d" % number) for number in range(1, 5)
        ]


async def test_starts_an_element_with_select_and_reset():
    reader = ScriptedReader(EchoElement())
    aid = Aid.from_hex("010203040500")
    reader.element.process = lambda command: bytes.fromhex(
        {"00a40400": "6F009000", "00d80000": "9000"}.get(command[:4].hex(), "AA9000")
    )
    async with FrontRig(routes=routes(reader, start=start_sequence(aid))) as rig:
        client = await rig.connect()
        await client.send(hello_record(b"key1.com"))
        assert await client.receive(1) == b"\xaa"


async def test_starts_an_element_by_power_and_reset_in_one_batch():
    async with FrontRig() as rig:
        client = await rig.connect()
        await client.open()
        assert await client.call(b"x") == b"x"
        assert rig.element.commands[0].hex() == "00d8000000"
        assert rig.element.commands[1][:4].hex() == "00d80003"
        assert rig.element.power == ["on"]


async def test_listens_on_ipv4_and_ipv6():
    async with FrontRig(listen=(("127.0.0.1", 0), ("::1", 0))) as rig:
        for index, peer in enumerate(("127.0.0.1:", "[::1]:")):
            client = await rig.connect(index)
            await client.open()
            await client.send(record(b"?02"))
            assert await client.rest() == record(b"?02")
            await rig.ended(index + 1)
            assert rig.logged("session.ended")[index]["peer"].startswith(peer)


async def test_refuses_to_start_where_an_address_is_taken():
    async with FrontRig() as rig:
        with pytest.raises(OSError, match="in use"):
            async with FrontRig(listen=(("127.0.0.1", 0), rig.front.addresses[0])):
                pass


async def test_drains_open_sessions_and_refuses_the_others_on_stop():
    async with FrontRig(drain_s=5) as rig:
        serving, waiting, silent = [await rig.connect() for _ in range(3)]
        await serving.open()
        assert await serving.call(b"x") == b"x"
        await waiting.send(hello_record(b"key1.com"))
        await rig.until(lambda: rig.front.holders.lock("1").waiting == 1)
        address = rig.front.addresses[0]
        stopping = asyncio.ensure_future(rig.front.stop())
        assert await waiting.rest() == ALERT_BUSY
        assert await silent.rest() == ALERT_BUSY
        assert rig.front.snapshot().is_draining
        assert await serving.call(b"still served") == b"still served"
        await serving.send(record(b"?02"))
        assert await serving.rest() == record(b"?02")
        await stopping
        assert sorted(await rig.ended(3)) == ["element_closed", "shutdown", "shutdown"]
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)


async def test_ends_what_has_not_ended_when_draining_takes_too_long():
    async with FrontRig(drain_s=0.05) as rig:
        client = await rig.connect()
        await client.open()
        assert await client.call(b"x") == b"x"
        await rig.front.stop()
        assert await client.rest() == b""
        assert await rig.ended() == ["shutdown"]
        assert rig.element.power == ["on", "off"]


async def test_reload_changes_names_without_touching_sessions():
    first, second = ScriptedReader(EchoElement()), ScriptedReader(EchoElement(), name="2")
    async with FrontRig(first) as rig:
        client = await rig.connect()
        await client.open()
        rig.front.reload(routes(second))
        assert await client.call(b"still here") == b"still here"
        other, old = await rig.connect(), await rig.connect()
        await other.open(b"key2.com")
        await old.send(hello_record(b"key1.com"))
        assert await old.rest() == ALERT_UNKNOWN


async def test_reload_keeps_the_old_routes_where_the_new_are_refused():
    async with FrontRig() as rig:
        reader = rig.readers[0]
        with pytest.raises(RoutingError):
            rig.front.reload([*routes(reader), ElementRoute("2", "KEY1.COM", reader)])
        client = await rig.connect()
        await client.open()


async def test_shows_who_holds_what_and_who_waits():
    async with FrontRig() as rig:
        first, second = await rig.connect(), await rig.connect()
        await first.open()
        assert await first.call(b"x") == b"x"
        await second.send(hello_record(b"key1.com"))
        await rig.until(lambda: rig.front.holders.lock("1").waiting == 1)
        status = rig.front.snapshot()
        (element,) = status.elements
        assert (element.holder.session, element.holder.plane) == (1, "tls")
        assert [claim.session for claim in element.waiting] == [2]
        assert [(one.state, one.seid) for one in status.sessions] == [
            ("open", "1"),
            ("queued", "1"),
        ]
        assert (status.accepted, status.opened, status.connections) == (2, 1, 2)
        assert json.loads(json.dumps(asdict(status)))["ended"] == {}


async def test_logs_no_payload_and_stable_fields():
    async with FrontRig() as rig:
        client = await rig.connect()
        await client.open()
        await client.send(record(b"?AAsecret-psk"))
        assert await client.receive(18) == record(b"?AAsecret-psk")
        await client.send(record(b"?02"))
        assert await client.rest() == record(b"?02")
        (line,) = rig.logged("session.ended")
        assert set(line) == {
            *("event", "log_level", "session", "peer", "sen", "seid", "reason", "status"),
            *("apdus", "duration"),
        }
        seen = repr(rig.events)
        assert "secret" not in seen
        assert b"secret".hex() not in seen


async def test_takes_a_long_name_into_the_log_only_in_part():
    async with FrontRig() as rig:
        client = await rig.connect()
        await client.send(hello_record(b"\x1b[31m" + b"x" * 200))
        assert await client.rest() == ALERT_UNKNOWN
        assert rig.logged("session.ended")[0]["sen"] == "\\x1b[31m" + "x" * 56


async def test_goes_on_with_a_client_that_reads_again():
    reader = ScriptedReader(EchoElement(), limits=ApduLimits(240, 0))
    async with FrontRig(reader) as rig:
        client = await rig.connect()
        await client.open()
        big, count = record(bytes(16_000)), 1000
        pouring = asyncio.ensure_future(client.send(big * count))
        (session,) = rig.front._sessions.values()
        await rig.until(lambda: session._is_write_blocked and session._is_read_paused)
        for _ in range(count):
            assert await client.receive(len(big)) == big
        await pouring
        assert await client.call(b"x") == b"x"


async def test_takes_sockets_bound_before():
    listener = socket.create_server(("127.0.0.1", 0))
    front = TlsFront(FrontConfig(), routes(ScriptedReader(EchoElement())))
    await front.start([listener])
    assert front.addresses == (listener.getsockname(),)
    reader, writer = await asyncio.open_connection(*front.addresses[0])
    writer.write(hello_record(b"key9.com"))
    assert await reader.read() == ALERT_UNKNOWN
    writer.close()
    await front.stop()
