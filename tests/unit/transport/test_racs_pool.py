# SPDX-License-Identifier: Apache-2.0
"""TLS sessions with a RACS server that go from one element to the next."""

import asyncio

import pytest

from iose.iso7816.apdu import CommandApdu
from iose.transport import racs_pool
from iose.transport.errors import CardBusyError, CardRemovedError, NoReaderError
from iose.transport.racs_client import RacsReader
from iose.transport.racs_link import RacsEndpoint
from iose.transport.racs_pool import RacsPool
from tests.support.certificates import issue, make_authority
from tests.support.racs_cards import element
from tests.support.racs_twin import RacsTwin, Twin

pytestmark = pytest.mark.anyio

SELECT = CommandApdu(0, 0xA4, 4, 0, bytes.fromhex("010203040500"))


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    authority = make_authority()
    path = tmp_path_factory.mktemp("pki")
    issue(authority, path, "server", is_server=True, is_rsa=True)
    return issue(authority, path, "admin")


@pytest.fixture
async def server(folder):
    elements = [element(None, f"key{number}") for number in range(1, 13)]
    async with RacsTwin(Twin(elements, {"admin": None}), folder) as twin:
        yield twin
    assert twin.twin.crashes == []


@pytest.fixture
async def pool(server, folder):
    files = (folder / "user.pem", folder / "user.key", folder / "ca.pem")
    made = RacsPool(RacsEndpoint("127.0.0.1", server.port, *files, is_legacy=True))
    yield made
    made.close()


async def use(pool, seid="key1"):
    connection = await RacsReader(pool.endpoint, seid, pool=pool).connect()
    assert (await connection.transmit(SELECT)).status == 0x9000
    return connection


async def test_one_session_serves_elements_one_after_the_other(server, pool):
    for seid in ("key1", "key2", "key1"):
        connection = await use(pool, seid)
        await connection.close()
        await connection.close()
    assert server.sessions == 1
    assert server.twin.elements[0].log == ["on", SELECT.encode().hex().upper(), "off"] * 2


async def test_elements_in_use_at_once_have_sessions_of_their_own(server, pool):
    connections = [await use(pool, f"key{number}") for number in (1, 2, 3)]
    assert server.sessions == 3
    for connection in connections:
        await connection.close()
    connections = [await use(pool, f"key{number}") for number in (4, 5, 6)]
    assert server.sessions == 3
    for connection in connections:
        await connection.close()


async def test_the_sessions_kept_are_bounded(server, pool, monkeypatch):
    monkeypatch.setattr(pool, "_limit", 1)
    for connection in [await use(pool, f"key{number}") for number in (1, 2)]:
        await connection.close()
    await server.until(lambda: len(server._writers) == 1)
    await (await use(pool)).close()
    assert server.sessions == 2


async def test_a_session_that_lies_still_is_ended(server, pool, monkeypatch):
    monkeypatch.setattr(racs_pool, "KEPT_S", 0)
    await (await use(pool)).close()
    await server.until(lambda: not server._writers)
    await (await use(pool)).close()
    assert server.sessions == 2


async def test_an_old_session_is_not_kept_for_a_server_that_ends_it_whatever_it_does(
    server, pool, monkeypatch
):
    monkeypatch.setattr(racs_pool, "LEGACY_LIFE_S", -1)
    await (await use(pool)).close()
    await (await use(pool)).close()
    assert server.sessions == 2


async def test_a_session_that_died_in_use_takes_no_place_among_the_kept(server, pool, monkeypatch):
    monkeypatch.setattr(pool, "_limit", 1)
    dead, alive = await use(pool), await use(pool, "key2")
    dead._pooled.link.abort()
    await dead.close()
    await alive.close()
    await (await use(pool)).close()
    assert server.sessions == 2


async def test_a_session_found_dead_is_replaced_before_anything_was_sent(server, pool):
    await (await use(pool)).close()
    server.cut()
    await (await use(pool)).close()
    assert server.sessions == 2


async def test_a_session_that_dies_of_the_power_on_is_replaced(server, pool):
    await (await use(pool)).close()
    visible = server.twin.visible

    def die(user):
        server.twin.visible = visible
        server.cut()
        return visible(user)

    server.twin.visible = die
    await (await use(pool)).close()
    assert server.sessions == 2


async def test_a_command_that_may_have_been_executed_is_not_sent_again(server, pool):
    connection = await use(pool)
    one = server.twin.elements[0]
    process = one.process

    def die(command):
        server.cut()
        return process(command)

    one.process = die
    with pytest.raises(CardRemovedError):
        await connection.transmit(SELECT)
    with pytest.raises(CardRemovedError, match="the session is closed"):
        await connection.transmit(SELECT)
    await connection.close()
    assert one.log.count(SELECT.encode().hex().upper()) == 2
    one.process = process
    await (await use(pool)).close()


async def test_a_session_with_a_refusal_behind_it_serves_the_next(server, pool):
    held = await use(pool)
    with pytest.raises(CardBusyError):
        await use(pool)
    await (await use(pool, "key2")).close()
    await held.close()
    assert server.sessions == 2


async def test_a_cancelled_power_on_lets_the_element_go(server, pool):
    reader = RacsReader(pool.endpoint, "key1", pool=pool)
    one = server.twin.elements[0]
    task = asyncio.create_task(reader.connect())
    power, one.power = one.power, lambda *given: (task.cancel(), power(*given))
    with pytest.raises(asyncio.CancelledError):
        await task
    one.power = power
    await server.until(lambda: one.holder is None)
    await (await use(pool)).close()


async def test_a_closed_pool_keeps_nothing_and_sessions_on_loan_go_on(server, pool):
    connection = await use(pool)
    await (await use(pool, "key2")).close()
    pool.close()
    await server.until(lambda: len(server._writers) == 1)
    assert (await connection.transmit(SELECT)).status == 0x9000
    await connection.close()
    await server.until(lambda: not server._writers)


async def test_a_server_that_is_not_there_gives_no_session(pool, server):
    server._server.close()
    with pytest.raises(NoReaderError):
        await use(pool)
