# SPDX-License-Identifier: Apache-2.0
"""Who gets in, for how long, how many at once, and what one client may cost (racs.md §2, §11)."""

import asyncio
import socket
import ssl
import time
from contextlib import suppress

import pytest

from iose.servers.racs import connection, session, tls_stream
from iose.servers.racs.connection import AHEAD_LIMIT
from iose.servers.racs.users import IdentityError, identify
from tests.support.certificates import issue, make_authority
from tests.support.racs_server import (
    PATIENCE_S,
    RacsRig,
    canned,
    client_context,
    expiring,
    folder_of,
)

pytestmark = pytest.mark.anyio


async def refused(rig, context):
    """Connect, and return what is read: nothing, or the alert as an error."""
    host, port = rig.server.addresses[0]
    async with asyncio.timeout(PATIENCE_S):
        try:
            reader, writer = await asyncio.open_connection(
                host, port, ssl=context, server_hostname="localhost"
            )
            writer.write(b"BEGIN\r\nLIST\r\nEND\r\n")
            data = await reader.read()
            writer.transport.abort()
        except (ssl.SSLError, ConnectionError):
            return b""
        return data


async def test_nobody_gets_in_without_a_certificate():
    async with RacsRig() as rig:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(folder_of("admin") / "ca.pem")
        assert await refused(rig, context) == b""
        assert rig.audit.entries == []


async def test_nobody_gets_in_with_a_certificate_of_somebody_else(tmp_path):
    folder = issue(make_authority(), tmp_path, "admin")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(folder_of("admin") / "ca.pem")
    context.load_cert_chain(folder / "user.pem", folder / "user.key")
    async with RacsRig() as rig:
        assert await refused(rig, context) == b""
        assert not rig.server.sessions


async def test_a_name_that_looks_like_something_else_is_refused():
    async with RacsRig() as rig:
        assert await refused(rig, client_context("psk:admin")) == b""
        assert rig.audit.entries == []


class Shown:
    """What ``ssl`` says of a client's certificate."""

    def __init__(self, *names, der=b"certificate", until="Jan  1 00:00:00 2099 GMT"):
        self.until = until
        self.subject = tuple((("commonName", name),) for name in names)
        self.der = der

    def getpeercert(self, *, binary_form=False):
        subject = ((("organizationName", "O"),), *self.subject)
        return self.der if binary_form else {"subject": subject, "notAfter": self.until}


@pytest.mark.parametrize(
    "shown",
    [
        Shown(),
        Shown("a", "b"),
        Shown("*"),
        Shown("sha256:00"),
        Shown("psk:a"),
        Shown(" "),
        Shown(""),
        Shown("a\x00b"),
        Shown("a\nb"),
        Shown("a", der=None),
        Shown("a", until="Jan  1 00:00:00 2026 GMT"),  # a session of TLS 1.2 that is resumed late
    ],
)
def test_a_certificate_has_one_name_and_a_plain_one(shown):
    with pytest.raises(IdentityError):
        identify(shown)
    assert identify(Shown("a b")).user == "a b"
    assert identify(Shown("a", until="Jan  1 00:00:00 2099 GMT")).valid_until == 4070908800


async def test_a_client_that_speaks_no_tls_is_dropped():
    async with RacsRig() as rig:
        reader, writer = await asyncio.open_connection(*rig.server.addresses[0])
        writer.write(b"BEGIN\r\nLIST\r\nEND\r\n")
        async with asyncio.timeout(PATIENCE_S):
            assert b"+004" not in await reader.read()
        writer.close()
        assert await (await rig.connect()).code("LIST") == "+004"


async def test_a_handshake_has_little_time():
    async with RacsRig(handshake_s=0.05) as rig:
        reader, writer = await asyncio.open_connection(*rig.server.addresses[0])
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b""
        writer.close()
        await rig.until(lambda: rig.server.snapshot().connections == 0)


async def test_a_silent_session_ends():
    async with RacsRig(idle_s=0.05) as rig:
        client = await rig.connect()
        await client.ask("POWERON key1")
        assert await client.rest() == b""
        await rig.until(lambda: not rig.server.sessions)
        assert rig.audit.of("CLOSE")[0].event.detail == "idle timeout"
        assert rig.holders.lock("key1").holder is None


async def test_a_session_that_waits_for_its_element_is_not_silent():
    async with RacsRig(idle_s=0.05) as rig:
        gate = rig.elements[0].reader.gate = asyncio.Event()
        gate.set()
        client = await rig.connect()
        await client.ask("POWERON key1")
        gate.clear()
        client.send(b"BEGIN\r\nAPDU key1 00B00000\r\nEND\r\n")
        await asyncio.sleep(0.2)  # longer than the limit
        gate.set()
        assert await client.block() == "BEGIN|+006 001 9000|END"


async def test_a_session_may_have_a_last_moment():
    async with RacsRig(session_s=0.1) as rig:
        client = await rig.connect()
        async with asyncio.timeout(PATIENCE_S):
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    client.send(b"BEGIN\r\nLIST\r\nEND\r\n")
                    await client.reader.readuntil(b"END\r\n")
        await rig.until(lambda: not rig.server.sessions)
        assert rig.audit.of("CLOSE")[0].event.detail == "session timeout"


async def test_sessions_are_limited_by_user_and_altogether():
    async with RacsRig(sessions_per_user=1, session_limit=2) as rig:
        first = await rig.connect()
        await first.ask("LIST")
        assert await refused(rig, client_context("admin")) == b""
        other = await rig.connect("guest")
        assert await other.ask("LIST") == "+004 001 "
        assert await refused(rig, client_context("nobody")) == b""
        first.close()
        await rig.until(lambda: rig.server.snapshot().connections == 1)
        assert await (await rig.connect()).code("LIST") == "+004"


async def test_a_client_that_does_not_read_costs_one_response():
    async with RacsRig(canned("key1", {"00B00000": "AB" * 60_000 + "9000"})) as rig:
        client = await rig.connect()
        await client.ask("POWERON key1")
        client.writer.transport.pause_reading()
        request = b"BEGIN\r\nAPDU key1 00B00000\r\nEND\r\n"
        client.send(request * 2000)
        done = 0
        async with asyncio.timeout(PATIENCE_S):
            while done != len(rig.card.commands):  # until nothing moves any more
                done = len(rig.card.commands)
                await asyncio.sleep(0.2)
        assert done < 100
        client.writer.transport.resume_reading()
        for _ in range(50):
            assert (await client.block()).endswith("9000|END")


async def test_a_client_that_is_far_ahead_is_not_read():
    async with RacsRig() as rig:
        gate = rig.elements[0].reader.gate = asyncio.Event()
        gate.set()
        client = await rig.connect()
        await client.ask("POWERON key1")
        gate.clear()
        client.send(b"BEGIN\r\nAPDU key1 00B00000\r\nEND\r\n" + b"// filler\r\n" * 200_000)
        (connection,) = rig.server._connections
        await rig.until(lambda: connection.stream._is_paused)
        assert AHEAD_LIMIT < connection._machine.buffered < 2 * AHEAD_LIMIT + 65_536
        gate.set()
        assert (await client.block()) == "BEGIN|+006 001 9000|END"
        client.send(b"BEGIN\r\nLIST\r\nEND\r\n")
        assert (await client.block()) == "BEGIN|+004 001 key1 |END"


async def test_a_revoked_user_is_put_out_and_kept_out():
    async with RacsRig() as rig:
        client, other = await rig.connect("admin"), await rig.connect("guest")
        await client.ask("POWERON key1")
        await other.ask("LIST")
        certificate = rig.server.sessions[1].identity.certificate
        rig.server.recheck(lambda der: der == certificate)
        assert await client.rest() == b""
        await rig.until(lambda: len(rig.server.sessions) == 1)
        assert rig.audit.of("CLOSE")[0].event.detail == "certificate revoked"
        assert rig.holders.lock("key1").holder is None
        assert await other.ask("LIST") == "+004 001 "
        assert await refused(rig, client_context("admin")) == b""
        rig.server.recheck(lambda _: False)
        assert await (await rig.connect()).code("LIST") == "+004"


async def test_a_session_ends_with_its_certificate(monkeypatch):
    expiring(monkeypatch, connection, 0.1)
    async with RacsRig() as rig:
        client = await rig.connect()
        client.send(b"BEGIN\r\nPOWERON key1\r\nEND\r\n")
        await client.rest()
        await rig.until(lambda: rig.audit.of("CLOSE"))
        assert rig.audit.of("CLOSE")[0].event.detail == "certificate expired"
        assert rig.holders.lock("key1").holder is None


async def test_a_certificate_is_looked_at_again_while_its_session_runs(monkeypatch):
    monkeypatch.setattr(session, "EXPIRY_STEP_S", 0.01)
    expiring(monkeypatch, connection, 3600)
    async with RacsRig() as rig:
        client = await rig.connect()
        assert await client.code("LIST") == "+004"
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 3601)  # a clock that was set
        assert await client.rest() == b""
        await rig.until(lambda: rig.audit.of("CLOSE"))
        assert rig.audit.of("CLOSE")[0].event.detail == "certificate expired"


async def test_a_server_that_stops_lets_requests_end():
    rig = RacsRig(drain_s=5)
    async with rig:
        gate = rig.elements[0].reader.gate = asyncio.Event()
        gate.set()
        busy, idle = await rig.connect(), await rig.connect()
        await busy.ask("POWERON key1")
        await idle.ask("LIST")
        gate.clear()
        busy.send(b"BEGIN\r\nAPDU key1 00B00000 APPEND\r\nLIST\r\nEND\r\nBEGIN\r\nLIST\r\nEND\r\n")
        await rig.until(lambda: len(rig.audit.of("APDU")) == 1)
        stopping = asyncio.ensure_future(rig.server.stop())
        assert await idle.rest() == b""
        gate.set()
        assert await busy.block() == "BEGIN|+006 001 9000|+004 002 key1 |END"
        await stopping
        assert rig.card.power == ["on", "off"]
        assert rig.audit.verbs().count("CLOSE") == 2


async def test_a_server_that_stops_does_not_wait_for_ever():
    rig = RacsRig(drain_s=0.05)
    async with rig:
        gate = rig.elements[0].reader.gate = asyncio.Event()
        gate.set()
        client = await rig.connect()
        await client.ask("POWERON key1")
        gate.clear()
        client.send(b"BEGIN\r\nAPDU key1 00B00000\r\nEND\r\n")
        await rig.until(lambda: len(rig.audit.of("APDU")) == 1)
        await rig.server.stop()
        assert rig.card.power == ["on", "off"]
        assert rig.holders.lock("key1").holder is None
        (entry,) = rig.audit.of("APDU")
        assert entry.outcome.outcome == "failed"


async def test_what_goes_on_is_shown():
    async with RacsRig() as rig:
        client = await rig.connect()
        await client.ask("POWERON key1", "LIST")
        shown = rig.server.snapshot()
        (session,) = shown.sessions
        assert (session.user, session.plane, session.number) == ("admin", "racs", 1)
        assert (session.holds, session.commands) == (("key1",), 2)
        assert shown.listening == rig.server.addresses
        assert (shown.opened, shown.connections, shown.is_draining) == (1, 1, False)


async def test_the_last_response_reaches_a_slow_reader():
    async with RacsRig(canned("key1", {"00B00000": "AB" * 65_000 + "9000"})) as rig:
        client = await rig.connect()
        client.writer.transport.pause_reading()
        lines = ["POWERON key1", *["APDU key1 00B00000 APPEND"] * 6, "QUIT"]
        client.send("\r\n".join(("BEGIN", *lines, "END", "")).encode())
        await rig.until(lambda: not rig.server.sessions)
        client.writer.transport.resume_reading()
        answer = await client.rest()
        assert answer.endswith(b"+012 008 QUIT\r\nEND\r\n")
        assert len(answer) > 780_000


async def test_a_client_that_does_not_read_the_end_is_dropped(monkeypatch):
    monkeypatch.setattr(tls_stream, "LINGER_S", 0.05)
    async with RacsRig(canned("key1", {"00B00000": "AB" * 65_000 + "9000"})) as rig:
        client = await rig.connect()
        client.writer.transport.pause_reading()
        request = "\r\n".join(
            ("BEGIN", "POWERON key1", *["APDU key1 00B00000 APPEND"] * 6, "END", "")
        )
        client.send(request.encode() * 20)
        (connection,) = rig.server._connections
        await rig.until(lambda: connection.stream.is_write_blocked)
        rig.server.recheck(lambda _: True)
        await rig.until(lambda: connection.stream._transport is None)
        assert rig.holders.lock("key1").holder is None


async def test_who_only_knocks_keeps_nobody_out():
    async with RacsRig(session_limit=3) as rig:
        client = await rig.connect()
        await client.ask("LIST")
        knocking = []
        for count in range(2, 8):
            knocking.append(await asyncio.open_connection(*rig.server.addresses[0]))
            wanted = min(count, 3)
            await rig.until(lambda wanted=wanted: rig.server.snapshot().connections == wanted)
        late = await rig.connect()
        assert await late.code("LIST") == "+004"
        assert await client.code("LIST") == "+004"
        async with asyncio.timeout(PATIENCE_S):
            with suppress(ConnectionError):
                assert await knocking[0][0].read() == b""
        for _, writer in knocking:
            writer.transport.abort()


async def test_all_addresses_are_listened_on_or_none():
    async with RacsRig() as rig:
        taken = rig.server.addresses[0]
        other = RacsRig(listen=(("127.0.0.1", 0), taken))
        with pytest.raises(OSError, match="in use"):
            await other.server.start()
        assert other.server.addresses == ()


async def test_bound_sockets_are_served():
    async with RacsRig(listen=()) as rig:
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        await rig.server.start([listener])
        assert rig.server.addresses == (address,)
        assert await (await rig.connect()).code("LIST") == "+004"


async def test_a_client_that_does_not_read_is_not_read_either():
    async with RacsRig(canned("key1", {"00B00000": "AB" * 60_000 + "9000"})) as rig:
        client = await rig.connect()
        await client.ask("POWERON key1")
        client.writer.transport.pause_reading()
        client.send(b"BEGIN\r\nAPDU key1 00B00000\r\nEND\r\n" * 200)
        (connection,) = rig.server._connections
        await rig.until(lambda: connection.stream.is_write_blocked)
        connection.stream.resume_reading()  # its own wish does not count now
        assert not connection.stream._transport.is_reading()
        client.writer.transport.resume_reading()
        for _ in range(200):
            assert (await client.block()).endswith("9000|END")
        assert connection.stream._transport.is_reading()


@pytest.mark.parametrize("line", [b"\n", b"// nothing\n", b"BEGIN\nEND\n"])
async def test_lines_that_ask_for_nothing_keep_nobody_waiting(line):
    async with RacsRig() as rig:
        noisy = await rig.connect()
        await noisy.ask("LIST")
        (connection,) = rig.server._connections
        client = await rig.connect()
        await client.ask("LIST")
        noisy.send(line * (200_000 // len(line)))
        await rig.until(lambda: connection._machine.buffered > 100_000)
        assert await client.code("LIST") == "+004"
        assert connection._machine.buffered


async def test_commands_that_cost_much_keep_nobody_waiting():
    async with RacsRig() as rig:
        busy, client = await rig.connect(), await rig.connect()
        await busy.ask("LIST")
        await client.ask("LIST")
        name, asked = rig.names.name, 0

        async def slow(seid):
            nonlocal asked
            asked += 1
            time.sleep(0.003)  # noqa: ASYNC251  # a command that works, and does not wait
            return await name(seid)

        rig.names.name = slow
        busy.send(b"BEGIN\r\n" + b"GET-SEN key1\r\n" * 300 + b"END\r\n")
        await rig.until(lambda: asked)
        assert await client.code("LIST") == "+004"
        assert asked < 100
