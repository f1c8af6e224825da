# SPDX-License-Identifier: Apache-2.0
"""The RACS client as a library, and scripts, against the twin of the published server."""

import asyncio

import pytest

from iose.client.racs import BlockingRacsClient, ElementName, RacsClient, RacsEndpoint
from iose.client.racs_script import read_script
from iose.transport.errors import NoReaderError, RacsRefusedError
from iose.wire.errors import DecodeError, LocalProtocolError
from tests.support.certificates import issue, make_authority
from tests.support.racs_cards import ChunkCard, element
from tests.support.racs_twin import Twin, TwinSession, serving

SELECT = bytes.fromhex("00A4040006010203040500")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Certificates of a server with an RSA key and of the user admin."""
    path, authority = tmp_path_factory.mktemp("pki"), make_authority()
    issue(authority, path, "server", is_server=True, is_rsa=True)
    return issue(authority, path, "admin")


@pytest.fixture
def twin():
    return Twin([element(ChunkCard(), "key1", sen="key1.com")], {"admin": None})


@pytest.fixture
def endpoint(twin, folder):
    with serving(twin, folder, is_modern=False) as server:
        yield RacsEndpoint(
            "127.0.0.1",
            server.port,
            folder / "user.pem",
            folder / "user.key",
            folder / "ca.pem",
            is_legacy=True,
        )


def test_every_command_has_its_method(endpoint, twin):
    with BlockingRacsClient(endpoint) as client:
        assert client.version() == "0.3"
        assert client.list() == ("key1",)
        client.power_on("key1")
        client.power_on("key1")
        assert client.apdu("key1", SELECT, expected=0x9000) == b"\x90\x00"
        assert len(client.apdu("key1", bytes.fromhex("00CA012C00"), more=0x61)) == 302
        client.reset("key1")
        client.reset("key1", is_warm=True)
        client.shutdown("key1")
        assert client.get_sen("key1") == ElementName("key1.com")
        assert client.sen("key1", "k.com", "0102030405") == ElementName("k.com", "0102030405")
        twin.elements[0].sen = "k.com\tevil"
        assert client.get_sen("key1").sen == "k.com"
        twin.elements[0].sen = ""
        assert client.get_sen("key1") is None
        assert list(client.names()) == [("key1", None)]
    assert twin.crashes == []


def test_asyncio_programs_have_the_same(endpoint):
    script = ["BEGIN", "LIST", "END"]

    async def work():
        async with RacsClient(endpoint) as client:
            await client.power_on("key1")
            return [response.last.text async for response in client.run_script(script)]

    assert asyncio.run(work()) == ["key1 "]


def test_a_refusal_holds_what_the_server_said(endpoint):
    with BlockingRacsClient(endpoint) as client:
        with pytest.raises(RacsRefusedError) as caught:
            client.power_on("key9")
        assert str(caught.value.status) == "-408 001 POWERON invalid SEID (key9)"
        with pytest.raises(RacsRefusedError):
            client.get_sen("key9")
        client.power_on("key1")
        with pytest.raises(RacsRefusedError, match="-006"):
            client.apdu("key1", SELECT, expected=0x6D00)
        assert client.list() == ("key1",)


def test_a_session_that_has_ended_is_opened_again_by_the_next_request(endpoint):
    with BlockingRacsClient(endpoint) as client:
        assert [one.last.text for one in client.run_script(["BEGIN", "QUIT", "END"])]
        client.open()
        assert client.list() == ("key1",)


def test_names_come_from_a_server_whose_session_ends_at_an_unknown_command(
    endpoint, twin, monkeypatch
):
    monkeypatch.delattr(TwinSession, "_do_get_sen")
    twin.elements.append(element(ChunkCard(), "key2"))
    with BlockingRacsClient(endpoint) as client:
        assert list(client.names()) == [("key1", None), ("key2", None)]
        assert not client.is_open


def test_names_with_blanks_are_not_sent(endpoint, twin):
    with BlockingRacsClient(endpoint) as client, pytest.raises(LocalProtocolError):
        client.power_on("key1 APPEND")
    assert twin.requests == []


def test_a_client_that_cannot_connect_leaves_nothing_behind(folder):
    nowhere = RacsEndpoint(
        "127.0.0.1", 1, folder / "user.pem", folder / "user.key", folder / "ca.pem"
    )
    with pytest.raises(NoReaderError), BlockingRacsClient(nowhere):
        pass


# --- scripts --------------------------------------------------------------------------------


def test_a_script_is_cut_into_requests():
    lines = ["// all", "", "BEGIN a", " LIST  ", "// inner", "", "END", "BEGIN a b", "END x"]
    found = [(request.name, request.lines) for request in read_script(lines)]
    assert found == [("a", ("LIST",)), ("", ())]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["LIST"], "line 1: expected BEGIN"),
        (["END"], "line 1: expected BEGIN"),
        (["BEGIN", "BEGIN"], "line 2: BEGIN inside the block of line 1"),
        (["BEGIN", "LIST"], "line 1: this block has no END"),
        (["BEGIN", "ECHO é", "END"], "the block of line 1: line 1 is not printable"),
        ([f"BEGIN {'n' * 64}", "END"], "the block of line 1: a request name"),
    ],
)
def test_a_script_that_is_wrong_is_refused_by_line(lines, message):
    with pytest.raises(DecodeError, match=message):
        list(read_script(lines))
