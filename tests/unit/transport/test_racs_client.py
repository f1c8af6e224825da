# SPDX-License-Identifier: Apache-2.0
"""The RACS link and reader against the strict twin of the published server."""

import asyncio
import contextlib
import dataclasses
import socket
import ssl
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from iose.client.access import SystemRng
from iose.crypto.x509 import Subject, Usage, public_of_certificate
from iose.iso7816.apdu import CommandApdu
from iose.iso7816.batch import ApduLimits, BatchStep
from iose.protocols.racs.errors import RacsPeerError
from iose.protocols.racs.response import RacsRequest
from iose.protocols.racs.status import EventClass
from iose.transport import racs_link
from iose.transport.errors import (
    CardBusyError,
    CardRemovedError,
    NoCardError,
    NoReaderError,
    RacsRefusedError,
    TransportError,
    TransportTimeoutError,
)
from iose.transport.racs_client import RacsEndpoint, RacsReader
from iose.transport.racs_link import RacsLink
from iose.transport.racs_pool import RacsPool
from iose.wire.errors import LocalProtocolError
from tests.support.certificates import NOW, issue, make_authority
from tests.support.racs_cards import ChunkCard, KeystoreCard, element
from tests.support.racs_transcripts import winscard
from tests.support.racs_twin import RacsTwin, Twin

SELECT = CommandApdu(0, 0xA4, 4, 0, bytes.fromhex("010203040500"))
LIST = RacsRequest(("LIST",))


@pytest.fixture(scope="module")
def authority():
    return make_authority()


@pytest.fixture(scope="module")
def folder(authority, tmp_path_factory):
    """Certificates of a server with an RSA key and of the user admin."""
    path = tmp_path_factory.mktemp("pki")
    issue(authority, path, "server", is_server=True, is_rsa=True)
    return issue(authority, path, "admin")


def endpoint(folder, port, **given):
    given.setdefault("is_legacy", True)
    return RacsEndpoint(
        "127.0.0.1", port, folder / "user.pem", folder / "user.key", folder / "ca.pem", **given
    )


def run(work, folder, *elements, is_modern=False, **given):
    """Run ``work(twin's end, endpoint)`` while the twin serves; return what it returns."""
    twin = Twin(list(elements) or [element()], {"admin": None})

    async def main():
        async with RacsTwin(twin, folder, is_modern=is_modern) as server:
            result = await work(server, endpoint(folder, server.port, **given))
        assert twin.crashes == []
        return result

    return asyncio.run(main())


# --- the link -------------------------------------------------------------------------------


def test_the_published_suite_is_spoken_and_no_name_is_sent(folder):
    async def work(server, where):
        link = RacsLink(where)
        await link.open()
        response = await link.request(LIST)
        await link.close()
        return response.last.text, server.server_names

    assert run(work, folder) == ("key1 ", [None])


def test_a_modern_client_and_the_published_server_have_no_suite_in_common(folder):
    async def work(_, where):
        with pytest.raises(NoReaderError, match="refused the session") as caught:
            await RacsLink(where).open()
        assert "--legacy" in caught.value.hint

    run(work, folder, is_legacy=False)


def test_a_modern_server_is_spoken_to_in_tls_13_and_its_name_is_sent_when_asked_for(folder):
    async def work(server, where):
        link = RacsLink(where)
        await link.open()
        assert (await link.request(LIST)).last.sign == "+"
        version = link._writer.get_extra_info("ssl_object").version()
        await link.close()
        return version, server.server_names

    found = run(work, folder, is_modern=True, is_legacy=False, server_name="localhost")
    assert found == ("TLSv1.3", ["localhost"])


def test_a_server_with_another_name_than_asked_for_is_refused(folder):
    async def work(_, where):
        with pytest.raises(NoReaderError, match="certificate is refused") as caught:
            await RacsLink(where).open()
        assert "--server-name" in caught.value.hint

    for name in ("node.example", "127.0.0.2"):
        run(work, folder, is_modern=True, is_legacy=False, server_name=name)


@pytest.mark.parametrize("is_legacy", [True, False])
def test_a_server_whose_certificate_has_ended_is_refused(folder, tmp_path, authority, is_legacy):
    issue(authority, tmp_path, "server", is_server=True, is_rsa=True)
    old = authority.certify(
        public_of_certificate((tmp_path / "server.pem").read_bytes()),
        Subject("server", Usage.NODE, NOW + timedelta(days=1), ("127.0.0.1",)),
        SystemRng(),
        NOW,
    )
    (tmp_path / "server.pem").write_bytes(old)

    async def work(_, where):
        where = dataclasses.replace(where, certificate=folder / "user.pem", key=folder / "user.key")
        with pytest.raises(NoReaderError, match="expired") as caught:
            await RacsLink(where).open()
        assert "renew" in caught.value.hint

    run(work, tmp_path, is_modern=not is_legacy, is_legacy=is_legacy)


def test_a_server_of_another_authority_is_refused(folder, tmp_path):
    other = issue(make_authority(), tmp_path, "admin")

    async def work(_, where):
        where = dataclasses.replace(where, ca=other / "ca.pem")
        with pytest.raises(NoReaderError, match="certificate is refused") as caught:
            await RacsLink(where).open()
        assert "--pki" in caught.value.hint
        link = RacsLink(dataclasses.replace(where, is_unverified=True))
        await link.open()
        await link.close()

    run(work, folder)


@pytest.mark.parametrize("is_user", [True, False])
def test_a_user_cannot_stand_for_the_server(folder, tmp_path, is_user, authority):
    issue(authority, tmp_path, "mallory", is_server=not is_user)
    for kind in ("pem", "key"):
        if is_user:
            (tmp_path / f"user.{kind}").rename(tmp_path / f"server.{kind}")
    twin = Twin([element()], {"admin": None})

    async def main():
        async with RacsTwin(twin, tmp_path, is_modern=True) as server:
            link = RacsLink(endpoint(folder, server.port, is_legacy=False))
            await link.open()
            await link.close()

    if is_user:
        with pytest.raises(NoReaderError, match="certificate"):
            asyncio.run(main())
    else:
        asyncio.run(main())


@pytest.mark.parametrize(
    ("host", "asked", "fault"),
    [
        ("localhost", None, "not made for a server"),
        ("localhost", "localhost", None),
        (None, "server", "Hostname mismatch"),  # its common name, which a user's may have too
    ],
)
def test_a_certificate_for_any_purpose_is_a_servers_only_by_its_name(
    folder, tmp_path, authority, host, asked, fault
):
    issue(authority, tmp_path, "server", is_server=True, is_rsa=True)
    made = x509.load_pem_x509_certificate((tmp_path / "server.pem").read_bytes())
    issuer = x509.load_pem_x509_certificate(authority.certificate).subject
    builder = x509.CertificateBuilder(issuer, made.subject, made.public_key(), 7)
    builder = builder.not_valid_before(NOW).not_valid_after(made.not_valid_after_utc)
    if host is not None:
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        builder = builder.add_extension(names, critical=False)
    signed = builder.sign(load_pem_private_key(authority.key, None), SHA256())
    (tmp_path / "server.pem").write_bytes(signed.public_bytes(Encoding.PEM))

    async def work(_, where):
        own = {"certificate": folder / "user.pem", "key": folder / "user.key"}
        link = RacsLink(dataclasses.replace(where, **own))
        await link.open()
        await link.close()

    given = {"is_modern": True, "is_legacy": False, "server_name": asked}
    if fault is None:
        run(work, tmp_path, **given)
    else:
        with pytest.raises(NoReaderError, match=fault) as caught:
            run(work, tmp_path, **given)
        assert "--server-name" in caught.value.hint
    run(work, tmp_path, is_legacy=True, server_name=asked)  # the published server's has no purpose


def test_a_certificate_the_server_does_not_trust_is_told_as_such(folder, tmp_path):
    other = issue(make_authority(), tmp_path, "admin")

    async def work(_, where):
        where = dataclasses.replace(where, certificate=other / "user.pem", key=other / "user.key")
        link = RacsLink(where)

        async def ask():
            await link.open()
            await link.request(LIST)  # in TLS 1.3 the refusal comes after the handshake

        with pytest.raises(NoReaderError, match="refused our certificate") as caught:
            await ask()
        assert "iose pki" in caught.value.hint

    run(work, folder)
    run(work, folder, is_modern=True, is_legacy=False)


def test_nobody_at_the_address_is_told_with_the_next_step(folder):
    async def work(server, where):
        server._server.close()
        with pytest.raises(NoReaderError, match="cannot connect: Connection refused") as caught:
            await RacsLink(where).open()
        assert "RACS port" in caught.value.hint
        with pytest.raises(NoReaderError, match="cannot connect"):
            await RacsLink(dataclasses.replace(where, host="no.such.invalid")).open()

    run(work, folder)


@pytest.mark.parametrize(
    ("host", "name"), [("a..b", None), ("x" * 64, None), ("127.0.0.1", ".b"), ("127.0.0.1", "a\0b")]
)
def test_a_name_that_is_none_is_told_as_such(folder, host, name):
    given = dataclasses.replace(endpoint(folder, 9), host=host, server_name=name)
    with socket.create_server(("127.0.0.1", 0)) as server:
        given = dataclasses.replace(given, port=server.getsockname()[1])
        with pytest.raises(NoReaderError, match="no name of a host"):
            asyncio.run(RacsLink(given).open())


def test_a_port_that_speaks_no_tls_is_told_as_such(folder):
    async def main():
        async def serve(reader, writer):
            await reader.read(1)
            writer.write(b"220 welcome\r\n")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        link = RacsLink(endpoint(folder, server.sockets[0].getsockname()[1]))
        with pytest.raises(NoReaderError) as caught:
            await link.open()
        assert "RACS port" in caught.value.hint
        assert not link.is_open
        server.close()

    asyncio.run(main())


def test_a_server_that_never_shakes_hands_is_given_up(folder, monkeypatch):
    monkeypatch.setattr(racs_link, "HANDSHAKE_S", 0.01)

    async def main(port):
        with pytest.raises(TransportTimeoutError, match="no session within"):
            await RacsLink(endpoint(folder, port)).open()

    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel connects, nobody accepts
        asyncio.run(main(silent.getsockname()[1]))


def test_a_key_with_a_passphrase_asks_nobody(folder, tmp_path):
    key = load_pem_private_key((folder / "user.key").read_bytes(), None)
    locked = tmp_path / "user.key"
    hidden = BestAvailableEncryption(b"passphrase")
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden))

    async def work(_, where):
        with pytest.raises(NoReaderError, match="has no passphrase"):
            await RacsLink(dataclasses.replace(where, key=locked)).open()

    run(work, folder)


def test_addresses_of_version_6_stand_in_brackets(folder):
    where = dataclasses.replace(endpoint(folder, 7777), host="::1")
    assert RacsReader(where, "key1").name == "[::1]:7777/key1"


def test_what_the_published_server_cannot_take_is_refused_by_the_reader(folder):
    limits = ApduLimits(200, 0)

    async def work(_, where):
        reader = RacsReader(where, "key1", limits=limits)
        assert reader.limits is limits
        connection = await reader.connect()
        with pytest.raises(TransportError, match="over 512 bytes"):
            await connection.transmit_raw(bytes(513))
        assert (await connection.transmit(SELECT)).status == 0x9000
        await connection.close()

    run(work, folder)


def test_an_answer_beyond_all_records_is_given_up(folder):
    card = KeystoreCard()
    card.process = lambda _: bytes(40_000) + b"\x61\x00"

    async def work(_, where):
        reader = RacsReader(where, "key1")
        connection = await reader.connect()
        with pytest.raises(TransportError, match="longer than 65536"):
            await connection.transmit_batch([BatchStep(SELECT)])
        await connection.close()

    run(work, folder, element(card))


@pytest.mark.parametrize("name", ["certificate", "key", "ca"])
def test_a_file_that_is_not_there_or_holds_no_pem_is_named(folder, tmp_path, name):
    bad = tmp_path / "bad.pem"

    async def work(_, where):
        where = dataclasses.replace(where, **{name: bad})
        with pytest.raises(NoReaderError):
            await RacsLink(where).open()
        bad.write_text("no PEM")
        with pytest.raises(NoReaderError, match="PEM"):
            await RacsLink(where).open()

    run(work, folder)


def test_a_request_that_would_overrun_the_published_server_is_not_sent(folder):
    async def work(server, where):
        link = RacsLink(where)
        await link.open()
        with pytest.raises(LocalProtocolError):
            await link.request(RacsRequest(("ECHO" + " a" * 10,)))
        assert (await link.request(LIST)).last.text == "key1 "  # the session goes on
        await link.close()
        return server.twin.requests

    assert run(work, folder) == [b"BEGIN\r\nLIST\r\nEND\r\n"]


def test_a_request_travels_in_one_record(folder):
    lines = tuple(f"ECHO {'a' * 900}{number:02d}" for number in range(17))

    async def work(server, where):
        link = RacsLink(where)
        await link.open()
        response = await link.request(RacsRequest(lines))
        await link.close()
        return response.last.text[-2:], len(server.twin.requests)

    assert run(work, folder) == ("16", 1)


def test_a_failure_whose_end_is_forgotten_does_not_stop_the_session(folder):
    async def work(_, where):
        link = RacsLink(where)
        await link.open()
        unnamed = await link.request(RacsRequest(("GET-SEN key1",)))
        after = await link.request(LIST)
        await link.close()
        return unnamed.has_end, unnamed.last.event_class, after.last.text

    assert run(work, folder) == (False, EventClass(9), "key1 ")


def test_an_error_that_ends_the_session_is_still_read(folder):
    async def work(_, where):
        link = RacsLink(where)
        await link.open()
        response = await link.request(RacsRequest(("FOO",)))
        assert response.last.text.startswith("FOO unknown")
        with pytest.raises(CardRemovedError, match="closed"):
            await link.request(LIST)
        with pytest.raises(CardRemovedError, match="closed"):
            await link.request(LIST)

    run(work, folder)


def test_the_end_of_a_session_is_noticed_by_who_waits_a_moment(folder):
    async def work(_, where):
        link = RacsLink(where)
        await link.settle()
        await link.open()
        await link.request(RacsRequest(("POWERON key9",)))
        await link.settle()
        assert link.is_open
        await link.request(RacsRequest(("FOO",)))
        await link.settle()
        assert not link.is_open

    run(work, folder)


def test_an_answer_that_does_not_come_ends_the_session(folder):
    async def work(server, where):
        silent = asyncio.Event()
        server.twin.elements[0].process = lambda _: b""
        link = RacsLink(dataclasses.replace(where, answer_s=0.01))
        await link.open()
        link._writer.write = lambda _: silent.set()  # the request is lost on its way
        with pytest.raises(TransportTimeoutError):
            await link.request(LIST)
        assert silent.is_set()
        assert not link.is_open

    run(work, folder)


def test_a_cancelled_request_ends_the_session(folder):
    async def work(_, where):
        link = RacsLink(where)
        await link.open()
        sent = asyncio.Event()
        link._writer.write = lambda _: sent.set()
        task = asyncio.create_task(link.request(LIST))
        await sent.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not link.is_open

    run(work, folder)


def test_a_server_that_speaks_something_else_is_told_from_a_refusal(folder):
    async def main():
        async def serve(reader, writer):
            await reader.readline()
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        link = RacsLink(endpoint(folder, server.sockets[0].getsockname()[1], is_legacy=False))
        await link.open()
        with pytest.raises(RacsPeerError):
            await link.request(LIST)
        assert not link.is_open
        server.close()

    asyncio.run(main())


LISTED = b"BEGIN\r\n+004 001 key1 \r\nEND\r\n"


def answering(folder, *answers, first=b""):
    """Return what two LIST requests come to when a server gives these answers, one by one."""

    async def main():
        async def serve(reader, writer):
            writer.write(first)
            for answer in answers:
                await reader.readuntil(b"END\r\n")
                writer.write(answer)
            await reader.read()
            writer.close()

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        link = RacsLink(endpoint(folder, server.sockets[0].getsockname()[1], is_legacy=False))
        await link.open()
        if first and not link._reader._buffer:
            await link._reader._wait_for_data("test")
        found = []
        for _ in range(2):
            try:
                found.append((await link.request(LIST)).last.text)
            except (RacsPeerError, CardRemovedError) as error:
                found.append(type(error))
        is_open = link.is_open
        await link.close()
        server.close()
        return found, is_open

    return asyncio.run(main())


def test_answers_that_were_asked_for_are_taken(folder):
    assert answering(folder, LISTED, LISTED) == (["key1 ", "key1 "], True)


@pytest.mark.parametrize(
    "more", [LISTED, b"BEGIN\r\n", b"BEG", b"END\r\n", b"+006 001 9000\r\n", b"\0"]
)
def test_an_answer_with_more_behind_it_ends_the_session(folder, more):
    found, is_open = answering(folder, LISTED + more, LISTED)
    assert (found, is_open) == ([RacsPeerError, CardRemovedError], False)


@pytest.mark.parametrize("first", [LISTED, b"BEGIN\r\n", b"END\r\n"])
def test_an_answer_before_its_request_ends_the_session(folder, first):
    found, is_open = answering(folder, first=first)
    assert (found, is_open) == ([RacsPeerError, CardRemovedError], False)


def test_the_answer_to_another_request_ends_the_session(folder):
    found, is_open = answering(folder, LISTED.replace(b"BEGIN", b"BEGIN other"))
    assert (found, is_open) == ([RacsPeerError, CardRemovedError], False)


def test_an_end_that_comes_late_is_no_answer(folder):
    unended = b"BEGIN\r\n-911 001 no name\r\n"
    found, is_open = answering(folder, unended, b"END\r\n" + LISTED)
    assert (found, is_open) == (["no name", "key1 "], True)


def test_whether_a_request_was_sent_is_told_when_a_session_ends(folder):
    async def work(server, where):
        link = RacsLink(where)
        await link.open()
        server.cut()
        with contextlib.suppress(OSError):
            await link._reader._wait_for_data("test")
        with pytest.raises(CardRemovedError, match="nothing more was sent"):
            await link.request(LIST)
        await link.open()
        server.twin.visible = lambda _: server.cut() or []
        with pytest.raises(CardRemovedError, match="may have been obeyed"):
            await link.request(LIST)
        assert not link.is_open

    run(work, folder)


def test_tasks_that_open_at_once_share_a_session(folder):
    async def work(server, where):
        link = RacsLink(where)
        await asyncio.gather(link.open(), link.open())
        found = await asyncio.gather(link.request(LIST), link.request(LIST))
        await link.close()
        return server.sessions, len(found)

    assert run(work, folder) == (1, 2)


# --- the reader -----------------------------------------------------------------------------


def test_the_dialogue_is_that_of_the_published_emulator_byte_for_byte(folder):
    seen = winscard()
    asked = [request for request, _ in seen if request]
    card = KeystoreCard()
    answers = iter(
        [bytes.fromhex(answer.split()[4].decode()) for _, answer in seen if b"+006" in answer]
    )
    card.process = lambda _: next(answers)

    async def work(server, where):
        got = []
        for apdus in (asked[:1], asked[1:4], asked[4:]):
            reader = RacsReader(where, "tls1")
            connection = await reader.connect()
            for wire in apdus:
                answer = await connection.transmit_raw(bytes.fromhex(wire.split()[4].decode()))
                got.append(answer)
            await connection.close()
        return got, server.twin.requests

    got, requests = run(work, folder, element(card, "tls1"))
    power = b"BEGIN WINSCARD\r\nPOWERON tls1\r\nEND\r\n"
    shutdown = b"BEGIN WINSCARD\r\nSHUTDOWN tls1\r\nEND\r\n"  # the emulator only closes
    assert requests == [
        *(power, *asked[:1], shutdown),
        *(power, *asked[1:4], shutdown),
        *(power, *asked[4:], shutdown),
    ]
    assert [answer.hex().upper() for answer in got[3:5]] == [
        "268AB46F4BA0DD1395C9202797C7C88EDEB319AE9CFB43A15A61004C0D52BA4A9000",
        "9000",
    ]


def test_a_session_that_ends_under_a_connection_is_a_card_removed(folder):
    async def work(server, where):
        reader = RacsReader(where, "key1")
        connection = await reader.connect()
        server.cut()
        with pytest.raises(CardRemovedError):
            await connection.transmit(SELECT)
        await connection.close()
        connection = await reader.connect()
        await connection.close()

    run(work, folder)


def test_a_reader_whose_farewell_was_cancelled_can_be_used_again(folder):
    async def work(server, where):
        reader = RacsReader(where, "key1", pool=RacsPool(where))
        connection = await reader.connect()
        sent = asyncio.Event()
        connection._pooled.link._writer.write = lambda _: sent.set()
        task = asyncio.create_task(connection.close())
        await sent.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.until(lambda: server.twin.elements[0].holder is None)
        await (await reader.connect()).close()
        return server.sessions

    assert run(work, folder) == 2


def test_the_reset_keeps_the_power_on_where_the_server_can_do_that(folder):
    async def work(server, where):
        connection = await RacsReader(where, "key1", sen="key1.com").connect()
        assert await connection.reset() == bytes.fromhex("3B08") + b"key1.com"
        await connection.close()
        return server.twin.elements[0].log

    assert run(work, folder) == ["on", "warm", "off"]


def test_an_element_in_use_and_one_that_is_unknown_are_told_apart(folder):
    async def work(_, where):
        first, second = RacsReader(where, "key1"), RacsReader(where, "key1")
        connection = await first.connect()
        with pytest.raises(CardBusyError, match="in use over there: -708") as in_use:
            await second.connect()
        with pytest.raises(NoCardError, match="no such element over there: -408") as unknown:
            await RacsReader(where, "key9").connect()
        with pytest.raises(CardBusyError):
            await first.connect()
        await connection.close()
        await (await second.connect()).close()
        return in_use.value.hint, unknown.value.hint

    in_use, unknown = run(work, folder)
    assert "another session" in in_use
    assert "iose racs list" in unknown


def test_an_element_that_does_not_start_is_no_card(folder):
    async def work(_, where):
        with pytest.raises(NoCardError, match="does not start: -908"):
            await RacsReader(where, "key1").connect()

    run(work, folder, element(is_broken=True))


def test_an_element_that_breaks_over_there_is_a_card_removed_and_has_been_let_go(folder):
    async def work(server, where):
        reader = RacsReader(where, "key1")
        connection = await reader.connect()
        await connection.transmit(SELECT)
        one = server.twin.elements[0]
        one.is_broken = True
        with pytest.raises(CardRemovedError, match="does not answer over there: -806"):
            await connection.transmit(SELECT)
        await server.until(lambda: one.holder is None)
        await connection.close()
        one.is_broken = False
        await (await reader.connect()).close()

    run(work, folder, element())


def test_an_element_that_was_taken_away_is_not_powered_off_under_its_new_holder(folder):
    async def work(server, where):
        mine = await RacsReader(where, "key1").connect()
        await mine.transmit(SELECT)
        server.twin.elements[0].power("off", None)  # by a SHUTDOWN of somebody else
        other = await RacsReader(where, "key1").connect()
        with pytest.raises(TransportError, match="-706"):
            await mine.transmit(SELECT)
        await mine.close()
        assert (await other.transmit(SELECT)).status == 0x9000
        await other.close()

    run(work, folder)


def test_a_refused_command_leaves_the_session(folder):
    async def work(_, where):
        reader = RacsReader(where, "key1")
        connection = await reader.connect()
        with pytest.raises(RacsRefusedError, match="-706"):
            await connection.transmit_raw(bytes.fromhex("008B000004"))
        assert (await connection.transmit(SELECT)).status == 0x9000
        await connection.close()
        with pytest.raises(TransportError, match="closed"):
            await connection.transmit(SELECT)
        with pytest.raises(TransportError, match="closed"):
            await connection.reset()

    run(work, folder)


@pytest.mark.parametrize("sw1", [0x61, 0x9F])
@pytest.mark.parametrize("is_legacy", [True, False])
def test_the_server_fetches_the_rest_of_an_answer_where_it_can(folder, sw1, is_legacy):
    card = ChunkCard(sw1)
    ask = CommandApdu(0, 0xCA, 1, 0x2C)  # 300 bytes

    async def work(server, where):
        reader = RacsReader(where, "key1")
        connection = await reader.connect()
        plan = [BatchStep(SELECT), BatchStep(ask), BatchStep(ask)]
        responses = await connection.transmit_batch(plan)
        await connection.close()
        return responses, len(server.twin.requests) - 2, connection.apdus

    responses, requests, apdus = run(
        work, folder, element(card), is_modern=not is_legacy, is_legacy=is_legacy
    )
    assert [(len(one.data), one.status) for one in responses[1:]] == [(300, 0x9000)] * 2
    assert responses[1].data == responses[2].data
    assert len(card.commands) == 1 + 3 + 3
    assert requests == apdus
    if is_legacy:
        assert requests == 7
    else:  # 9F is learnt once
        assert requests == (3 if sw1 == 0x61 else 4)


def test_a_batch_stops_at_the_first_unexpected_status(folder):
    card = ChunkCard()
    unknown = CommandApdu(0, 0xEE, 0, 0)

    async def work(_, where):
        reader = RacsReader(where, "key1")
        connection = await reader.connect()
        plan = [BatchStep(SELECT), BatchStep(unknown, None), BatchStep(unknown), BatchStep(SELECT)]
        responses = await connection.transmit_batch(plan)
        await connection.close()
        return [response.status for response in responses]

    assert run(work, folder, element(card)) == [0x9000, 0x6D00, 0x6D00]


def test_a_long_answer_is_had_from_the_published_server_too(folder):
    card = ChunkCard(chunk=250)

    async def work(_, where):
        reader = RacsReader(where, "key1")
        connection = await reader.connect()
        plan = [BatchStep(SELECT), BatchStep(CommandApdu(0, 0xCA, 0x13, 0x88))]  # 5000 bytes
        responses = await connection.transmit_batch(plan)
        await connection.close()
        return len(responses[1].data)

    assert run(work, folder, element(card)) == 5000


def test_a_rest_on_another_channel_is_fetched_there(folder):
    async def work(server, where):
        reader = RacsReader(where, "key1")
        connection = await reader.connect()
        await connection.transmit_batch([BatchStep(dataclasses.replace(SELECT, cla=1))])
        await connection.close()
        return server.twin.requests[1]

    wire = run(work, folder, element(ChunkCard()), is_modern=True, is_legacy=False)
    assert b"APDU key1 01A4040006010203040500 MORE=61 FETCH=01C00000\r\n" in wire


@pytest.mark.parametrize("answer", [b"", b"\x90"])
def test_an_answer_that_is_none_ends_the_connection(folder, answer):
    card = KeystoreCard()
    card.process = lambda _: answer

    async def work(_, where):
        reader = RacsReader(where, "key1")
        connection = await reader.connect()
        with pytest.raises(CardRemovedError):
            await connection.transmit(SELECT)
        await connection.close()

    run(work, folder, element(card))


def test_a_card_that_never_ends_its_answer_is_given_up(folder):
    card = KeystoreCard()
    card.process = lambda _: b"\x61\x01"

    async def work(_, where):
        reader = RacsReader(where, "key1")
        connection = await reader.connect()
        with pytest.raises(TransportError, match="does not end"):
            await connection.transmit_batch([BatchStep(SELECT)])
        await connection.close()

    run(work, folder, element(card))


def test_a_seid_that_is_no_word_makes_no_reader(folder):
    with pytest.raises(LocalProtocolError):
        RacsReader(endpoint(folder, 1), "key1 APPEND")
