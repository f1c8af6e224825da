# SPDX-License-Identifier: Apache-2.0
"""The bank of another node's elements: what is listed, what is said when something is wrong."""

import asyncio
import socket
import ssl

import pytest

from iose.iso7816.apdu import CommandApdu
from iose.servers.racs import connection as server_connection
from iose.transport import racs_bank
from iose.transport.bank import SlotState
from iose.transport.errors import CardBusyError, CardRemovedError, TransportTimeoutError
from iose.transport.racs_bank import RacsBank
from iose.transport.racs_link import RacsEndpoint
from iose.wire.errors import LocalProtocolError
from tests.support.certificates import issue, make_authority
from tests.support.racs_cards import element
from tests.support.racs_server import RacsRig, canned, expiring, folder_of
from tests.support.racs_twin import RacsTwin, Twin

pytestmark = pytest.mark.anyio

SELECT = CommandApdu(0, 0xA4, 4, 0, bytes.fromhex("010203040500"))
PATIENCE_S = 10.0
NEVER_S = 3600.0


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(racs_bank, "RETRY_S", 0.01)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A node's certificates and those of the user admin."""
    authority = make_authority()
    path = tmp_path_factory.mktemp("pki")
    issue(authority, path, "server", is_server=True, is_rsa=True)
    return issue(authority, path, "admin")


class Watched:
    """A bank and whoever waits for it to change."""

    def __init__(self, bank: RacsBank) -> None:
        self.bank = bank
        self.changes = 0
        self._changed = asyncio.Event()

    async def __aenter__(self) -> "Watched":
        await self.bank.start(self._note)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.bank.stop()

    def _note(self) -> None:
        self.changes += 1
        self._changed.set()

    async def until(self, state: SlotState) -> None:
        """Wait until the first slot is in a state."""
        async with asyncio.timeout(PATIENCE_S):
            while self.bank.slots[0].state is not state:
                await self._changed.wait()
                self._changed.clear()

    @property
    def first(self):
        return self.bank.slots[0]

    @property
    def shown(self):
        return [(slot.seid, slot.sen, slot.state.value) for slot in self.bank.slots]


def watched(folder, port, *elements, poll_s=NEVER_S, apdu_s=5.0, **given):
    files = (folder / "user.pem", folder / "user.key", folder / "ca.pem")
    where = RacsEndpoint("127.0.0.1", port, *files, **given)
    given_elements = {"elements": elements} if elements else {}
    return Watched(RacsBank("b", endpoint=where, apdu_s=apdu_s, poll_s=poll_s, **given_elements))


def published(folder, *elements, **given):
    return RacsTwin(Twin(list(elements), {"admin": None}, **given), folder)


THREE = [
    ("key1", "key1.com"),
    ("key2", "key2.com"),
    ("sim-3", "key3.com"),
]


def three():
    return [element(None, seid, sen=sen) for seid, sen in THREE]


# --- what there is -----------------------------------------------------------------------------


async def test_what_the_server_lists_is_ready_under_its_own_seids_and_names(folder):
    async with published(folder, *three()) as server:
        async with watched(folder, server.port, is_legacy=True) as bank:
            assert bank.shown == [(seid, sen, "ready") for seid, sen in THREE]
            slot = bank.first
            assert (slot.name, slot.keys) == (f"127.0.0.1:{server.port}/key1", ("key1.com",))
            assert slot.reader.name == slot.name
            connection = await slot.reader.connect()
            assert (await connection.transmit(SELECT)).status == 0x9000
            await connection.close()
        assert server.twin.crashes == []


@pytest.mark.parametrize(
    ("elements", "seids"),
    [
        (("*",), ["key1", "key2", "sim-3"]),
        (("key*",), ["key1", "key2"]),
        (("sim-?", "key2"), ["key2", "sim-3"]),
        (("KEY1*",), [""]),
    ],
)
async def test_the_elements_asked_for_are_taken(folder, elements, seids):
    async with (
        published(folder, *three()) as server,
        watched(folder, server.port, *elements, is_legacy=True) as bank,
    ):
        assert [slot.seid for slot in bank.bank.slots] == seids


async def test_an_element_without_a_name_hides_nobody_elses(folder):
    elements = [*three(), element(None, "plain")]
    async with (
        published(folder, *elements) as server,
        watched(folder, server.port, is_legacy=True) as bank,
    ):
        assert bank.shown == [(seid, sen, "ready") for seid, sen in [*THREE, ("plain", "")]]


async def test_an_element_without_a_service_plane_has_no_name(folder):
    async with (
        published(folder, element(None, sen="null")) as server,
        watched(folder, server.port, is_legacy=True) as bank,
    ):
        assert bank.shown == [("key1", "", "ready")]


async def test_a_server_that_lists_nothing_is_asked_for_elements_by_name(folder):
    async with published(folder, *three(), lists_nothing=True) as server:
        async with watched(folder, server.port, "key1", "key9", is_legacy=True) as bank:
            assert bank.shown == [("key1", "key1.com", "ready"), ("key9", "", "absent")]
            assert "iose racs list" in bank.bank.slots[1].hint
        async with watched(folder, server.port, is_legacy=True) as bank:
            assert bank.shown == [("", "", "absent")]
            assert "name its elements" in bank.first.hint


async def test_elements_come_and_go_and_the_others_keep_their_readers(folder):
    async with (
        published(folder, *three()) as server,
        watched(folder, server.port, is_legacy=True) as bank,
    ):
        reader = bank.first.reader
        server.twin.elements.append(element(None, "late", sen="late.com"))
        await bank.bank.refresh()
        assert bank.shown[-1] == ("late", "late.com", "ready")
        del server.twin.elements[1]
        await bank.bank.refresh()
        assert [slot.seid for slot in bank.bank.slots] == ["key1", "sim-3", "late"]
        assert bank.first.reader is reader
        changes = bank.changes
        await bank.bank.refresh()
        assert bank.changes == changes


async def test_a_new_name_is_heard_of(folder):
    async with (
        published(folder, *three()) as server,
        watched(folder, server.port, is_legacy=True) as bank,
    ):
        server.twin.elements[0].sen = "other.com"
        await bank.bank.refresh()
        assert bank.first.sen == "other.com"


async def test_the_list_is_looked_at_from_time_to_time(folder):
    async with (
        published(folder, *three()) as server,
        watched(folder, server.port, is_legacy=True, poll_s=0.01) as bank,
    ):
        del server.twin.elements[:]
        await bank.until(SlotState.ABSENT)
        server.twin.elements.extend(three())
        await bank.until(SlotState.READY)
        assert server.sessions == 1


def test_an_element_that_is_no_word_makes_no_bank(folder):
    with pytest.raises(LocalProtocolError):
        watched(folder, 1, "key1 APPEND")


# --- who is not there, or refuses ----------------------------------------------------------------


async def test_a_server_that_comes_late_goes_away_and_comes_back_is_noticed(folder, unused_port):
    async with watched(folder, unused_port, is_legacy=True, poll_s=0.02) as bank:
        assert bank.shown == [("", "", "absent")]
        assert "cannot connect" in bank.first.fault
        assert "RACS port" in bank.first.hint
        for _ in range(2):
            twin = Twin(three(), {"admin": None})
            async with RacsTwin(twin, folder, port=unused_port):
                await bank.until(SlotState.READY)
                connection = await bank.first.reader.connect()
                assert (await connection.transmit(SELECT)).status == 0x9000
            with pytest.raises(CardRemovedError):
                await connection.transmit(SELECT)
            await connection.close()
            await bank.until(SlotState.ABSENT)


async def test_the_end_of_the_session_is_noticed_at_once(folder):
    async with (
        published(folder, *three()) as server,
        watched(folder, server.port, is_legacy=True) as bank,
    ):
        del server.twin.elements[1:]
        server.cut()
        await server.until(lambda: len(bank.bank.slots) == 1)
        assert bank.first.state is SlotState.READY
        assert server.sessions == 2


async def test_a_server_that_ends_every_session_is_not_asked_without_a_pause(folder, monkeypatch):
    monkeypatch.setattr(racs_bank, "RETRY_S", 0.1)
    async with published(folder, *three()) as server:
        listing = server.twin.visible

        def list_and_go(user):
            asyncio.get_running_loop().call_soon(server.cut)
            return listing(user)

        server.twin.visible = list_and_go
        async with watched(folder, server.port, is_legacy=True):
            await asyncio.sleep(0.25)
        assert server.sessions < 20


async def test_a_certificate_that_the_server_does_not_trust_is_a_fault(folder, tmp_path):
    issue(make_authority(), tmp_path, "admin")
    (tmp_path / "ca.pem").write_bytes((folder / "ca.pem").read_bytes())
    async with (
        RacsTwin(Twin(three(), {"admin": None}), folder, is_modern=True) as server,
        watched(tmp_path, server.port) as bank,
    ):
        assert bank.shown == [("", "", "fault")]
        assert "refused our certificate" in bank.first.fault
        assert "iose pki" in bank.first.hint


async def test_a_server_of_another_authority_is_a_fault(folder, tmp_path):
    other = issue(make_authority(), tmp_path, "admin")
    async with (
        RacsTwin(Twin(three(), {"admin": None}), folder, is_modern=True) as server,
        watched(other, server.port) as bank,
    ):
        assert bank.shown == [("", "", "fault")]
        assert "the server's certificate is refused" in bank.first.fault
        assert "ca.pem" in bank.first.hint


async def test_files_that_are_not_there_are_a_fault(folder, tmp_path):
    async with published(folder, *three()) as server, watched(tmp_path, server.port) as bank:
        assert bank.shown == [("", "", "fault")]
        assert "ca.pem" in bank.first.fault


async def test_a_user_whom_no_rule_knows_is_told_of_rules():
    async with (
        RacsRig(rules=[]) as rig,
        watched(folder_of("admin"), rig.server.addresses[0][1]) as bank,
    ):
        assert bank.shown == [("", "", "absent")]
        assert "rule" in bank.first.hint


async def test_a_server_that_ends_each_session_is_a_fault_and_its_reasons_are_told(folder):
    async with RacsTwin(Twin(three(), {"admin": None}), folder, is_modern=True) as server:

        async def cut(request, answer, send):
            server.cut()

        server._meddle = cut
        async with watched(folder, server.port) as bank:
            assert bank.shown == [("", "", "fault")]
            assert "ends each session" in bank.first.fault
            assert "revoked" in bank.first.hint
            server._meddle = None
            await bank.until(SlotState.READY)


async def test_elements_outlive_one_look_that_failed_and_not_two(folder):
    failures = [1]

    async def fail(request, answer, send):
        if b"LIST" in request and failures:
            failures.pop()
            send(b"nothing\r\n")
        else:
            send(answer)

    async with (
        RacsTwin(Twin(three(), {"admin": None}), folder) as server,
        watched(folder, server.port, is_legacy=True) as bank,
    ):
        connection = await bank.first.reader.connect()
        bank.bank._task.cancel()  # it looks by itself else
        await asyncio.gather(bank.bank._task, return_exceptions=True)
        changes = bank.changes
        server._meddle = fail
        await bank.bank._look()
        assert (bank.changes, bank.first.state) == (changes, SlotState.READY)
        await bank.bank._look()
        assert bank.changes == changes
        failures.append(1)
        await bank.bank._look()
        assert bank.changes == changes
        failures.append(1)
        await bank.bank._look()
        assert (bank.changes, bank.first.state) == (changes + 1, SlotState.FAULT)
        assert (await connection.transmit(SELECT)).status == 0x9000
        await connection.close()
        await bank.bank.refresh()
        assert bank.first.state is SlotState.READY


async def test_a_bank_that_is_stopped_leaves_no_task_behind(folder):
    async with published(folder, *three()) as server:
        async with watched(folder, server.port, is_legacy=True) as bank:
            await server.until(
                lambda: any("Event.wait" in repr(one) for one in asyncio.all_tasks())
            )
        left = [task for task in asyncio.all_tasks() if "Event.wait" in repr(task)]
        assert (left, bank.bank._task) == ([], None)


async def test_a_list_without_end_is_cut(folder, monkeypatch):
    monkeypatch.setattr(racs_bank, "LISTED_LIMIT", 2)
    async with (
        published(folder, *three()) as server,
        watched(folder, server.port, is_legacy=True) as bank,
    ):
        assert [slot.seid for slot in bank.bank.slots] == ["key1", "key2"]


async def test_a_certificate_that_ends_ends_kept_sessions_and_those_in_use(monkeypatch):
    expiring(monkeypatch, server_connection, 0.3)
    async with (
        RacsRig(canned("key1"), canned("key2")) as rig,
        watched(folder_of("admin"), rig.server.addresses[0][1]) as bank,
    ):
        first, second = (slot.reader for slot in bank.bank.slots)
        await (await first.connect()).close()
        used = await second.connect()
        kept = set(rig.server.sessions)
        await rig.until(lambda: not kept.intersection(rig.server.sessions))
        assert rig.holders.lock("key2").holder is None
        with pytest.raises(CardRemovedError):
            await used.transmit(SELECT)
        await used.close()
        for reader in (first, second):
            connection = await reader.connect()
            assert (await connection.transmit(SELECT)).status == 0x9000
            await connection.close()


async def test_a_server_that_speaks_something_else_is_a_fault(folder):
    async def serve(reader, writer):
        await reader.readline()
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server, watched(folder, server.sockets[0].getsockname()[1]) as bank:
        assert bank.shown == [("", "", "fault")]
        assert "does not speak RACS" in bank.first.fault


async def test_a_server_that_accepts_and_says_nothing_is_given_up(folder, monkeypatch):
    monkeypatch.setattr(racs_bank, "LOOK_S", 0.01)
    async with (
        RacsTwin(Twin(three(), {"admin": None}), folder, meddle=_silent) as server,
        watched(folder, server.port, is_legacy=True) as bank,
    ):
        assert bank.shown == [("", "", "fault")]
        assert "no response within" in bank.first.fault
        server._meddle = None
        await bank.until(SlotState.READY)


# --- what happens to sessions --------------------------------------------------------------------


async def test_an_element_that_was_silent_is_at_fault_until_it_can_be_powered_on(folder):
    silent = {b"APDU"}

    async def lose(request, answer, send):
        if not any(verb in request for verb in silent):
            send(answer)

    async with (
        RacsTwin(Twin(three()[:1], {"admin": None}), folder, meddle=lose) as server,
        watched(folder, server.port, is_legacy=True, apdu_s=0.1) as bank,
    ):
        reader = bank.first.reader
        connection = await reader.connect()
        silent.add(b"POWERON")
        with pytest.raises(TransportTimeoutError):
            await connection.transmit(SELECT)
        await connection.close()
        await bank.until(SlotState.FAULT)
        assert bank.first.reader is None
        assert "no response within 0.1 s" in bank.first.fault
        assert bank.first.seid == "key1"
        silent.clear()
        await bank.until(SlotState.READY)
        assert bank.first.reader is reader


async def test_an_element_that_was_silent_and_is_gone_is_not_asked_for_any_more(folder):
    async def lose(request, answer, send):
        if b"POWERON" not in request:
            send(answer)

    async with (
        RacsTwin(Twin(three(), {"admin": None}), folder, meddle=lose) as server,
        watched(folder, server.port, is_legacy=True, apdu_s=0.05) as bank,
    ):
        with pytest.raises(TransportTimeoutError):
            await bank.first.reader.connect()
        await bank.until(SlotState.FAULT)
        del server.twin.elements[0]
        await bank.bank.refresh()
        assert [slot.seid for slot in bank.bank.slots] == ["key2", "sim-3"]
        assert not bank.bank._silent


async def test_an_element_in_use_over_there_is_busy_and_free_afterwards():
    async with RacsRig(canned("key1")) as rig:
        other = await rig.connect()
        await other.ask("POWERON key1")
        async with watched(folder_of("admin"), rig.server.addresses[0][1]) as bank:
            with pytest.raises(CardBusyError):
                await bank.first.reader.connect()
            await other.ask("SHUTDOWN key1")
            connection = await bank.first.reader.connect()
            assert "-708" in await other.ask("POWERON key1")
            await connection.close()
            assert "+008" in await other.ask("POWERON key1")


async def test_an_element_that_idles_may_be_taken_away_and_the_next_session_has_it():
    async with (
        RacsRig(canned("key1"), hold_idle_s=0.05) as rig,
        watched(folder_of("admin"), rig.server.addresses[0][1]) as bank,
    ):
        connection = await bank.first.reader.connect()
        await rig.until(lambda: rig.holders.lock("key1").holder is None)
        with pytest.raises(CardRemovedError, match="taken away over there"):
            await connection.transmit(SELECT)
        await connection.close()
        connection = await bank.first.reader.connect()
        assert (await connection.transmit(SELECT)).status == 0x9000
        await connection.close()


async def test_both_resets_reach_the_element():
    async with (
        RacsRig(canned("key1")) as rig,
        watched(folder_of("admin"), rig.server.addresses[0][1]) as bank,
    ):
        connection = await bank.first.reader.connect()
        await connection.reset()
        await connection.close()
        connection = await bank.first.reader.connect()
        await connection.close()
        assert rig.card.power == ["on", "reset", "off", "on", "off"]


async def test_whoever_vanishes_lets_the_element_go():
    async with (
        RacsRig(canned("key1")) as rig,
        watched(folder_of("admin"), rig.server.addresses[0][1]) as bank,
    ):
        connection = await bank.first.reader.connect()
        connection._pooled.link.abort()  # as the system does for a process that is killed
        await rig.until(lambda: rig.holders.lock("key1").holder is None)
        assert rig.card.power == ["on", "off"]
        await connection.close()


async def _silent(request, answer, send):
    pass


@pytest.fixture
def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
