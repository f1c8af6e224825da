# SPDX-License-Identifier: Apache-2.0
"""Clients, the front, a host process and real elements: what works, and faults end to end."""

import pytest

from iose.tls import ClientEngine, PreSharedKey
from iose.tls.constants import AlertDescription, CipherSuite, NamedGroup
from iose.tls.errors import AlertReceived
from iose.tls.events import ApplicationData
from tests.support.engine_pair import IDENTITY, KEY, client_config
from tests.support.front import Client

pytestmark = pytest.mark.anyio

SUITES = (
    CipherSuite.TLS_AES_128_GCM_SHA256,
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256,
    CipherSuite.TLS_AES_128_CCM_8_SHA256,
    CipherSuite.TLS_AES_128_CCM_SHA256,
)
GROUPS = (
    NamedGroup.SECP256R1,
    NamedGroup.X25519,
    NamedGroup.X25519_MLKEM768,
    NamedGroup.SECP256R1_MLKEM768,
)
CHIP = {"suites": SUITES[-1:], "groups": GROUPS[:1]}


def flipped(data, position):
    """Return the bytes with one bit of one of them flipped."""
    damaged = bytearray(data)
    damaged[position] ^= 1
    return bytes(damaged)


def cut(data):
    """Return one record a byte shorter, its length field with it."""
    length = int.from_bytes(data[3:5], "big")
    assert len(data) == 5 + length
    return data[:3] + (length - 1).to_bytes(2, "big") + data[5:-1]


class TlsClient:
    """Our own client engine over a connection to the front."""

    def __init__(self, client: Client, **settings) -> None:
        settings.setdefault("server_name", "key1.com")
        self.engine = ClientEngine(client_config(**settings))
        self.client = client

    async def read(self):
        """Take one read's worth of the stream; the end of it says so."""
        data = await self.client.some()
        if data:
            self.engine.receive_data(data)
        return bool(data)

    async def send_hello(self):
        self.engine.start()
        await self.client.send(self.engine.data_to_send())

    async def open(self):
        await self.send_hello()
        while not self.engine.is_open and await self.read():
            pass
        await self.client.send(self.engine.data_to_send())

    def record(self, line):
        self.engine.send_data(line)
        return self.engine.data_to_send()

    async def open_but_finished(self):
        """Come to the point where the client's Finished is all that is missing."""
        await self.send_hello()
        while not self.engine.is_open:
            assert await self.read()
        self.finished = self.engine.records_to_send()[-1]

    async def trickle(self, data):
        for byte in data:
            await self.client.send(bytes((byte,)))

    async def end_with(self, data):
        """Send bytes, say goodbye, and return all that comes back."""
        await self.client.send(data)
        self.client.half_close()
        return await self.client.rest()

    async def call(self, line):
        await self.client.send(self.record(line))
        return await self.answer()

    async def answer(self):
        answer = b""
        while not answer.endswith(b"\n") and await self.read():
            while (event := self.engine.next_event()) is not None:
                if isinstance(event, ApplicationData):
                    answer += event.data
        return answer

    async def alert(self):
        """Return the alert that the peer ends the session with."""
        try:
            while await self.read():
                pass
        except AlertReceived as error:
            assert await self.client.rest() == b""
            return error.alert
        return None


async def connect(rig, **settings):
    return TlsClient(await rig.connect(), **settings)


async def assert_serves(rig):
    tls = await connect(rig)
    await tls.open()
    assert await tls.call(b"?01still here\r\n") == b"still here\r\n"
    tls.client.close()


@pytest.mark.parametrize(("name", "apdus"), [("key1.com", 7), ("key2.com", 8)])
async def test_a_session_costs_so_many_commands(rig, name, apdus):
    tls = await connect(rig, server_name=name, **CHIP)
    await tls.open()
    assert await tls.call(b"?01x\r\n") == b"x\r\n"
    await tls.client.send(tls.record(b"?02\r\n"))
    while await tls.read():
        pass
    assert await rig.ended() == ["element_closed"]
    (line,) = rig.logged("session.ended")
    # reset; hello, in two chunks on a chip; two pieces of the flight; finished; ?01; ?02
    assert (line["sen"], line["status"], line["apdus"]) == (name, "9002", apdus)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("suite", SUITES)
async def test_every_suite_and_group(rig, suite, group):
    tls = await connect(rig, suites=(suite,), groups=(group,))
    await tls.open()
    assert await tls.call(b"?01" + suite.name.encode() + b"\r\n") == suite.name.encode() + b"\r\n"


@pytest.mark.parametrize(
    ("psk", "settings"),
    [
        (PreSharedKey(IDENTITY, bytes(32)), {}),
        (PreSharedKey(b"Somebody", KEY), {}),
    ],
    ids=["wrong key", "wrong identity"],
)
async def test_wrong_key_and_wrong_identity_look_alike(rig, psk, settings):
    tls = await connect(rig, psk=psk, **settings)
    await tls.send_hello()
    assert await tls.alert() is AlertDescription.DECRYPT_ERROR
    assert await rig.ended() == ["element_closed"]
    assert rig.logged("session.ended")[0]["status"] == "9002"
    await assert_serves(rig)


@pytest.mark.parametrize("position", [0, 3, 5, 9, 30, -1])
@pytest.mark.parametrize("part", ["hello", "finished", "command"])
async def test_a_bit_flipped_in_any_record(rig, part, position):
    tls = await connect(rig)
    seen = b""
    if part == "hello":
        tls.engine.start()
        seen = await tls.end_with(flipped(tls.engine.data_to_send(), position))
    else:
        await tls.send_hello()
        while not tls.engine.is_open:
            assert await tls.read()
        finished = tls.engine.data_to_send()
        if part == "command":
            await tls.client.send(finished)
            data = tls.record(b"?01secret\r\n")
        else:
            data = finished
        seen = await tls.end_with(flipped(data, position))
    assert b"secret" not in seen
    (reason,) = await rig.ended()
    assert reason in {
        *("element_closed", "element_refused", "malformed_hello", "record_overflow"),
        *("client_closed", "unknown_name", "missing_name"),
    }
    await assert_serves(rig)


@pytest.mark.parametrize("part", ["finished", "command"])
async def test_a_protected_record_flipped_or_cut_is_answered_with_bad_record_mac(rig, part):
    for damage in (lambda data: flipped(data, -1), cut):
        tls = await connect(rig)
        await tls.open_but_finished()
        data = tls.finished
        if part == "command":
            await tls.client.send(data)
            data = tls.record(b"?00\r\n")
        await tls.client.send(damage(data))
        assert await tls.alert() is AlertDescription.BAD_RECORD_MAC
    assert await rig.ended(2) == ["element_closed"] * 2
    await assert_serves(rig)


async def test_one_byte_at_a_time(rig):
    tls = await connect(rig)
    tls.engine.start()
    await tls.trickle(tls.engine.data_to_send())
    while not tls.engine.is_open:
        assert await tls.read()
    await tls.trickle(tls.engine.data_to_send())
    await tls.trickle(tls.record(b"?01slow\r\n"))
    assert await tls.answer() == b"slow\r\n"


async def test_a_hello_larger_than_a_chip_takes(rig):
    tls = await connect(rig, server_name="key2.com", groups=(NamedGroup.X25519_MLKEM768,))
    await tls.send_hello()
    assert await tls.alert() is AlertDescription.RECORD_OVERFLOW
    assert await rig.ended() == ["record_overflow"]


async def test_two_clients_at_once(rig):
    first, second = await connect(rig), await connect(rig)
    await first.open()
    assert await first.call(b"?01first\r\n") == b"first\r\n"
    await second.send_hello()
    await rig.until(lambda: rig.front.holders.lock("1").waiting == 1)
    other = await connect(rig, server_name="key2.com", **CHIP)
    await other.open()
    assert await other.call(b"?01other\r\n") == b"other\r\n"
    first.client.close()
    while not second.engine.is_open:
        assert await second.read()


async def test_a_host_killed_mid_session(rig, host):
    idle, other = await connect(rig), await connect(rig, server_name="key2.com", **CHIP)
    await idle.open()
    assert await idle.call(b"?01here\r\n") == b"here\r\n"
    await other.open()
    assert await other.call(b"?01here\r\n") == b"here\r\n"
    host.kill()
    await idle.client.send(idle.record(b"?01gone\r\n"))
    assert await idle.client.rest() == b""
    await other.client.send(other.record(b"?01gone\r\n"))
    assert await other.client.rest() == b""
    assert await rig.ended(2) == ["element_failed"] * 2
    errors = {line["error"] for line in rig.logged("element.failed")}
    assert errors == {"1: the element host went away", "2: the element host went away"}
    host.start()
    await assert_serves(rig)


async def test_a_host_that_is_not_there_and_comes_back(rig, host):
    host.kill()
    rig.routes[0].reader._link._reconnect_wait_s = 0.05
    tls = await connect(rig)
    await tls.send_hello()
    assert await tls.alert() is AlertDescription.INTERNAL_ERROR
    assert await rig.ended() == ["element_unavailable"]
    rig.routes[0].reader._link._reconnect_wait_s = 15.0
    host.start()
    await assert_serves(rig)


async def test_a_full_disk(rig, host):
    tls = await connect(rig, server_name="key3.com")
    await tls.open()
    assert await tls.call(b"g00\r\n") == b"ERROR\r\n"
    assert await tls.call(b"?01still here\r\n") == b"still here\r\n"
    await rig.until(lambda: "store.refused" in host.log.read_text())
    assert "the medium is full" in host.log.read_text()
    await assert_serves(rig)
