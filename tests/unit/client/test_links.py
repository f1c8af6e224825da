# SPDX-License-Identifier: Apache-2.0
"""The two links, over real sockets on the loopback: what breaks, and what a caller then sees."""

import asyncio
import contextlib
import errno
import socket
import struct
import threading

import pytest

import iose
from iose.client.asynchronous import _open_stream, _StreamLink
from iose.client.blocking import _finish, _open_socket
from iose.client.credentials import CredentialsStore
from iose.client.errors import (
    HandshakeError,
    SessionClosedError,
    SessionTimeoutError,
    UnreachableError,
)
from tests.support.scripted_element import SILENCE, ScriptedElement, listening

PSK = bytes(range(1, 33))
FLOOD_SIZE = 64 * 1024 * 1024


@pytest.fixture
def credentials(tmp_path):
    return CredentialsStore(tmp_path / "credentials")


@pytest.fixture(params=["blocking", "asyncio"])
def ask(request, credentials):
    """Open a session and ask for the version, in either form."""

    def blocking(port, timeout_s=5.0):
        uri = f"keyS://key1.com@127.0.0.1:{port}"
        with iose.connect(uri, psk=PSK, credentials=credentials, timeout_s=timeout_s) as element:
            return element.version()

    async def wait(port, timeout_s):
        uri = f"keyS://key1.com@127.0.0.1:{port}"
        opened = iose.connect_async(uri, psk=PSK, credentials=credentials, timeout_s=timeout_s)
        async with opened as element:
            return await element.version()

    def by_asyncio(port, timeout_s=5.0):
        return asyncio.run(wait(port, timeout_s))

    return blocking if request.param == "blocking" else by_asyncio


@contextlib.contextmanager
def treating_clients_by(treat):
    """Listen, and treat one client so; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            client, _ = listener.accept()
            with client:
                treat(client)

        serving = threading.Thread(target=serve)
        serving.start()
        yield listener.getsockname()[1]
        serving.join()


def _reset(client):
    client.recv(65_536)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_asks_and_answers(ask):
    with listening(ScriptedElement(PSK)) as port:
        assert ask(port) == "scripted"


def test_a_closed_port_is_unreachable(ask):
    with pytest.raises(UnreachableError, match="connection refused"):
        ask(1)


def test_a_reset_during_the_handshake_has_no_reason(ask):
    with treating_clients_by(_reset) as port, pytest.raises(HandshakeError, match="without"):
        ask(port)


def test_a_silent_server_is_given_up(ask):
    with (
        treating_clients_by(lambda client: [client.recv(65_536), client.recv(1)]) as port,
        pytest.raises(SessionTimeoutError, match=r"no session within 0\.1 s"),
    ):
        ask(port, 0.1)


def test_a_silent_element_is_given_up(ask):
    with (
        listening(ScriptedElement(PSK, lambda _line: SILENCE)) as port,
        pytest.raises(SessionTimeoutError, match=r"no answer within 0\.1 s"),
    ):
        ask(port, 0.1)


def test_a_cancelled_command_closes_the_session(credentials):
    async def cancel(port):
        uri = f"keyS://key1.com@127.0.0.1:{port}"
        async with iose.connect_async(uri, psk=PSK, credentials=credentials) as element:
            asked = asyncio.create_task(element.version())
            await asyncio.to_thread(asked_once.wait)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            scripted.answer = scripted.obey
            with pytest.raises(SessionClosedError):
                await element.version()
            await element.open()
            assert await element.version() == "scripted"
            assert len(element.handshake_secret) == 32

    def keep_silent(_line):
        asked_once.set()
        return SILENCE

    asked_once = threading.Event()
    scripted = ScriptedElement(PSK, keep_silent)
    with listening(scripted) as port:
        asyncio.run(cancel(port))


def test_a_cancelled_opening_closes_the_connection(credentials):
    async def cancel(port):
        uri = f"keyS://key1.com@127.0.0.1:{port}"
        element = iose.connect_async(uri, psk=PSK, credentials=credentials)
        opening = asyncio.create_task(element.open())
        await asyncio.to_thread(reached.wait)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await asyncio.to_thread(left.wait)
        with pytest.raises(SessionClosedError):
            await element.version()

    def be_left(client):
        while client.recv(65_536):
            reached.set()
        left.set()

    reached, left = threading.Event(), threading.Event()
    with treating_clients_by(be_left) as port:
        asyncio.run(cancel(port))


def test_a_cancelled_change_of_key_is_settled_by_the_next_session(credentials):
    async def cancel(port):
        uri = f"keyS://key1.com@127.0.0.1:{port}"
        async with iose.connect_async(uri, psk=PSK, credentials=credentials) as element:
            changing = asyncio.create_task(element.change_psk())
            await asyncio.to_thread(obeyed.wait)
            changing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await changing
            (kept,) = credentials.credentials()
            assert kept.candidates == (scripted.psk, PSK)
            await element.open()
            assert element.has_psk(scripted.psk)
        (kept,) = credentials.credentials()
        assert kept.candidates == (scripted.psk,)

    def obey_silently(line):
        scripted.obey(line)
        obeyed.set()
        return SILENCE

    obeyed = threading.Event()
    scripted = ScriptedElement(PSK, obey_silently)
    with listening(scripted) as port:
        asyncio.run(cancel(port))


def test_tasks_that_share_an_element_get_their_own_answers(credentials):
    async def talk(port):
        uri = f"keyS://key1.com@127.0.0.1:{port}"
        async with iose.connect_async(uri, psk=PSK, credentials=credentials) as element:
            texts = [str(number).encode() for number in range(20)]
            assert await asyncio.gather(*map(element.echo, texts)) == texts

    with listening(ScriptedElement(PSK, lambda line: line[3:] + b"\r\n")) as port:
        asyncio.run(talk(port))


def test_threads_that_share_an_element_get_their_own_answers(credentials):
    def talk(name):
        for number in range(20):
            text = f"{name}{number}".encode()
            given.append(element.echo(text) == text)

    given = []
    scripted = ScriptedElement(PSK, lambda line: line[3:] + b"\r\n")
    with listening(scripted) as port:
        uri = f"keyS://key1.com@127.0.0.1:{port}"
        with iose.connect(uri, psk=PSK, credentials=credentials) as element:
            threads = [threading.Thread(target=talk, args=(name,)) for name in "abcd"]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert given == [True] * 80
    assert len(scripted.links) == 1


def test_the_key_is_changed_by_asyncio_too(credentials):
    async def change(port):
        uri = f"keyS://key1.com@127.0.0.1:{port}"
        async with iose.connect_async(uri, psk=PSK, credentials=credentials) as element:
            await element.change_psk()
            assert element.has_psk(scripted.psk)
            assert element.uri.sen == "key1.com"
            assert await element.version() == "scripted"

    scripted = ScriptedElement(PSK)
    with listening(scripted) as port:
        asyncio.run(change(port))
    assert scripted.psk != PSK


def test_who_floods_an_idle_client_has_to_wait():
    sent = 0

    def flood(client):
        nonlocal sent
        client.settimeout(0.2)
        with contextlib.suppress(OSError):
            while sent < FLOOD_SIZE:
                sent += client.send(bytes(65_536))

    async def idle(port):
        link = await _open_stream("127.0.0.1", port, 5.0)
        await asyncio.to_thread(flooding_ends.wait)
        held = 0
        while data := await link.receive(5.0):
            assert len(data) < FLOOD_SIZE // 16
            held += len(data)
        link.close()
        return held

    def treat(client):
        flood(client)
        flooding_ends.set()

    flooding_ends = threading.Event()
    with treating_clients_by(treat) as port:
        assert asyncio.run(idle(port)) == sent  # nothing is lost of what was taken
    assert sent < FLOOD_SIZE


def test_a_client_that_is_not_listened_to_lets_go_in_time(monkeypatch):
    monkeypatch.setattr("iose.client.asynchronous.FLUSH_S", 0.05)

    async def talk_to_a_wall(port):
        link = await _open_stream("127.0.0.1", port, 5.0)
        with pytest.raises(TimeoutError):
            await link.send(bytes(FLOOD_SIZE), 0.05)
        link.close()
        assert await link.receive(5.0) == b""

    may_go = threading.Event()
    with treating_clients_by(lambda _client: may_go.wait()) as port:
        asyncio.run(talk_to_a_wall(port))
        may_go.set()


def test_a_connection_that_is_gone_before_it_is_used_is_closed(monkeypatch):
    def gone(*_arguments):
        raise OSError(errno.EINVAL, "Invalid argument")

    made = []
    connect = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", lambda *a: made.append(connect(*a)) or made[0])
    monkeypatch.setattr(socket.socket, "setsockopt", gone)
    with treating_clients_by(lambda _client: None) as port, pytest.raises(OSError, match="Invalid"):
        _finish(_open_socket("127.0.0.1", port, 5.0))
    assert made[0].fileno() == -1


def test_a_full_link_waits_and_gives_up_in_time():
    class Transport(asyncio.Transport):
        def write(self, data):
            link.pause_writing()

    async def fill():
        with pytest.raises(TimeoutError):
            await link.send(b"x", 0.01)
        link.resume_writing()
        sent = asyncio.create_task(link.send(b"x", 5.0))
        await asyncio.sleep(0)
        link.resume_writing()
        await sent
        link.connection_lost(OSError("gone"))
        with pytest.raises(ConnectionResetError):
            await link.send(b"x", 5.0)
        with pytest.raises(ConnectionResetError):
            link.received()

    link = _StreamLink()
    link.connection_made(Transport())
    asyncio.run(fill())


def test_a_blocking_link_that_suspends_is_a_fault_of_ours():
    async def suspend():
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="must not suspend"):
        _finish(suspend())
