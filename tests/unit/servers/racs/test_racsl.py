# SPDX-License-Identifier: Apache-2.0
"""RACS Lite: one key, one element, below it the RACS server (racs.md §12.1)."""

import asyncio
import socket
from contextlib import asynccontextmanager, suppress

import pytest

from iose.crypto.pyca import PycaCrypto
from iose.servers.racs.policy import Rule
from iose.servers.racs.racsl import RacslListener
from iose.tls import ClientEngine
from iose.tls.config import ClientConfig, EngineConfig, PreSharedKey
from iose.tls.constants import CipherSuite, NamedGroup
from iose.tls.events import ApplicationData, HandshakeComplete, PeerClosed
from tests.support.racs_server import PATIENCE_S, RacsRig, canned
from tests.support.rng import SeededRng

pytestmark = pytest.mark.anyio

KEY = bytes(range(32))
RULES = [
    Rule("psk:Client_identity", ("key1",), ("*",), ("*",)),
    Rule("admin", ("*",), ("*", "preempt"), ("*",)),
]
GCM, CCM = CipherSuite.TLS_AES_128_GCM_SHA256, CipherSuite.TLS_AES_128_CCM_SHA256


class LiteClient:
    """A client that sends one line in a record and reads one."""

    def __init__(self, reader, writer, *, key, identity, suite):
        engine = EngineConfig(
            PycaCrypto(), SeededRng(b"lite"), suites=(suite,), groups=(NamedGroup.SECP256R1,)
        )
        self.reader, self.writer = reader, writer
        self.engine = ClientEngine(ClientConfig(engine, PreSharedKey(identity, key), "gose"))
        self.engine.start()

    async def event(self):
        async with asyncio.timeout(PATIENCE_S):
            while (event := self.engine.next_event()) is None:
                self.writer.write(self.engine.data_to_send())
                data = await self.reader.read(65_536)
                if not data:
                    return None
                self.engine.receive_data(data)
        self.writer.write(self.engine.data_to_send())
        return event

    async def say(self, line):
        self.engine.send_data(line.encode() + b"\r\n")
        event = await self.event()
        assert isinstance(event, ApplicationData)
        return event.data.decode()


@asynccontextmanager
async def running(*elements, credentials=None, **config):
    async with RacsRig(*elements, rules=RULES, **config) as rig:
        credentials = credentials or {"Client_identity": (KEY, "key1"), "other": (KEY, "key1")}
        listener = RacslListener(rig.server, credentials, PycaCrypto(), SeededRng(b"server"))
        await listener.start([socket.create_server(("127.0.0.1", 0))])

        async def connect(key=KEY, identity=b"Client_identity", suite=GCM):
            streams = await asyncio.open_connection(*listener.addresses[0])
            client = LiteClient(*streams, key=key, identity=identity, suite=suite)
            rig._clients.append(_Abort(streams[1]))
            return client

        rig.lite, rig.listener = connect, listener
        try:
            yield rig
        finally:
            await listener.stop()


class _Abort:
    def __init__(self, writer):
        self.writer = writer

    def abort(self):
        self.writer.transport.abort()


@pytest.mark.parametrize("suite", [GCM, CCM])
async def test_an_element_is_used_by_lines(suite):
    async with running(canned("key1", {"00B00000": "0A6A82"}), canned("key2")) as rig:
        client = await rig.lite(suite=suite)
        assert isinstance(await client.event(), HandshakeComplete)
        assert await client.say("on") == "OK\r\n"
        assert await client.say("A 00B00000") == "0A6A82\r\n"
        assert await client.say("a 00b10000") == "9000\r\n"
        assert await client.say("OFF") == "OK\r\n"
        assert await client.say("A 00B00000") == "ERROR\r\n"
        assert rig.card.power == ["on", "off"]
        assert rig.audit.verbs() == ["CONNECT", "POWERON", "APDU", "APDU", "SHUTDOWN", "APDU"]
        event = rig.audit.entries[1].event
        assert (event.user, event.plane, event.seid) == ("psk:Client_identity", "racsl", "key1")


@pytest.mark.parametrize("line", ["", "A", "A zz", "A 00", "LIST", "POWERON key2", "on key2"])
async def test_everything_refused_is_error(line):
    async with running(canned("key1"), canned("key2")) as rig:
        client = await rig.lite()
        await client.event()
        assert await client.say("on") == "OK\r\n"
        assert await client.say(line) == "ERROR\r\n"
        assert await client.say("A 00B00000") == "9000\r\n"


async def test_an_element_in_use_is_an_error():
    async with running() as rig:
        admin, client = await rig.connect(), await rig.lite()
        await admin.ask("POWERON key1")
        await client.event()
        assert await client.say("on") == "ERROR\r\n"
        assert await client.say("off") == "ERROR\r\n"
        await admin.ask("SHUTDOWN key1")
        assert await client.say("on") == "OK\r\n"
        assert await admin.code("POWERON key1") == "-708"


@pytest.mark.parametrize("end", ["abort", "close"])
async def test_an_element_is_free_after_the_session(end):
    async with running() as rig:
        client = await rig.lite()
        await client.event()
        await client.say("on")
        if end == "abort":
            client.writer.transport.abort()
        else:
            client.engine.close()
            client.writer.write(client.engine.data_to_send())
            client.writer.close()
        await rig.until(lambda: not rig.server.sessions)
        assert rig.card.power == ["on", "off"]
        assert rig.audit.verbs()[-1] == "CLOSE"


@pytest.mark.parametrize(("key", "identity"), [(bytes(32), b"Client_identity"), (KEY, b"nobody")])
async def test_nobody_gets_in_without_the_key(key, identity):
    async with running() as rig:
        client = await rig.lite(key, identity)
        with pytest.raises(Exception, match=r"(?i)alert|decrypt.error"):
            await client.event()
        assert rig.audit.entries == []


async def test_a_key_without_a_rule_may_do_nothing():
    async with running() as rig:
        client = await rig.lite(identity=b"other")
        await client.event()
        assert await client.say("on") == "ERROR\r\n"
        assert rig.audit.of("POWERON")[0].outcome.code == "-408"


async def test_lines_may_come_together():
    async with running() as rig:
        client = await rig.lite()
        await client.event()
        client.engine.send_data(b"on\r\nA 00B00000\r\noff\r\n")
        answers = [(await client.event()).data for _ in range(3)]
        assert answers == [b"OK\r\n", b"9000\r\n", b"OK\r\n"]


async def test_a_silent_session_ends_and_a_server_that_stops_says_goodbye():
    async with running(idle_s=0.1) as rig:
        client = await rig.lite()
        await client.event()
        assert isinstance(await client.event(), PeerClosed)
    async with running() as rig:
        client = await rig.lite()
        await client.event()
        await client.say("on")
        await rig.server.stop()
        assert isinstance(await client.event(), PeerClosed)
        assert rig.card.power == ["on", "off"]


async def test_without_credentials_nobody_is_served():
    async with running() as rig:
        rig.listener.reload({})
        client = await rig.lite()
        with suppress(ConnectionError):
            assert await client.event() is None


async def test_a_session_ends_with_its_credential():
    async with running() as rig:
        client, other = await rig.lite(), await rig.lite(identity=b"other")
        for one in (client, other):
            await one.event()
        await client.say("on")
        rig.listener.reload({"Client_identity": (bytes(32), "key1"), "other": (KEY, "key1")})
        assert isinstance(await client.event(), PeerClosed)
        await rig.until(lambda: len(rig.server.sessions) == 1)
        assert rig.card.power == ["on", "off"]
        assert await other.say("on") == "ERROR\r\n"


async def test_sessions_are_limited():
    async with running(sessions_per_user=1) as rig:
        client = await rig.lite()
        await client.event()
        await client.say("on")
        late = await rig.lite()
        await late.event()
        assert isinstance(await late.event(), PeerClosed)
        await rig.until(lambda: len(rig.audit.of("CONNECT")) == 2)
        assert rig.audit.of("CONNECT")[1].outcome.outcome == "refused"
        assert await client.say("A 00B00000") == "9000\r\n"


async def test_what_is_no_tls_and_what_is_no_line_is_dropped():
    async with running() as rig:
        reader, writer = await asyncio.open_connection(*rig.listener.addresses[0])
        writer.write(b"on\r\n")
        async with asyncio.timeout(PATIENCE_S):
            await reader.read()
        writer.close()
        client = await rig.lite()
        await client.event()
        client.engine.send_data(b"on\x00\r\n")
        assert isinstance(await client.event(), PeerClosed)
        await rig.until(lambda: not rig.server.sessions)


async def deaf(rig, lines):
    """Return a client that says lines and does not listen, and the server's end of it."""
    client = await rig.lite()
    await client.event()
    assert await client.say("on") == "OK\r\n"
    client.writer.transport.pause_reading()
    for _ in range(40):
        client.engine.send_data(lines)
        client.writer.write(client.engine.data_to_send())
    (connection,) = rig.server._connections
    await rig.until(lambda: connection._is_write_blocked)
    return client, connection


async def test_a_client_that_does_not_read_is_not_read_either():
    async with running(canned("key1", {"00B00000": "AB" * 6_000 + "9000"})) as rig:
        _, connection = await deaf(rig, b"A 00B00000\r\n" * 1200)
        for _ in range(50):
            connection._wakeup.wake()
            await asyncio.sleep(0)
            assert not connection._transport.is_reading()
        assert len(connection._queue) < 40 * 1200


async def test_a_client_that_does_not_read_the_end_is_dropped():
    answers = {"00B00000": "AB" * 6_000 + "9000"}
    async with running(canned("key1", answers), idle_s=0.3, handshake_s=0.3) as rig:
        _, connection = await deaf(rig, b"A 00B00000\r\n" * 1200)
        await rig.until(lambda: not rig.server.sessions)
        assert rig.server.snapshot().connections == 0
        await rig.until(lambda: connection._transport is None)


async def test_a_client_with_many_lines_keeps_nobody_waiting():
    async with running() as rig:
        client = await rig.lite()
        await client.event()
        (connection,) = rig.server._connections
        admin = await rig.connect()
        await admin.ask("LIST")
        client.engine.send_data(b"x\r\n" * 5000)
        client.writer.write(client.engine.data_to_send())
        await rig.until(lambda: connection._queue)
        assert await admin.code("LIST") == "+004"
        assert connection._queue
