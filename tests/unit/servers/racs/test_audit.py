# SPDX-License-Identifier: Apache-2.0
"""Everything is written down before it is done, and nothing is done that cannot be written."""

import pytest

from iose.servers.racs.policy import Rule
from tests.support.racs_server import RacsRig, canned

pytestmark = pytest.mark.anyio


async def test_a_session_is_written_down_from_beginning_to_end():
    async with RacsRig(canned("key1", {"0020000004": "63C1"}, aliases=("0",))) as rig:
        client = await rig.connect()
        await client.ask("LIST", "POWERON 0", "APDU key1 00200000083132333435363738 APPEND")
        await client.ask("RESET key1 WARM", "SEN key1 a.b 0102", "SHUTDOWN key1", "QUIT")
        await rig.until(lambda: not rig.server.sessions)
        assert rig.audit.verbs() == [
            "CONNECT",
            "POWERON",
            "APDU",
            "RESET",
            "SEN",
            "SHUTDOWN",
            "CLOSE",
        ]
        for entry in rig.audit.entries:
            event = entry.event
            assert (event.user, event.session, event.plane) == ("admin", 1, "racs")
            assert len(event.fingerprint) == 64
            assert event.peer.startswith("127.0.0.1:")
            assert event.seid == ("" if event.verb in {"CONNECT", "CLOSE"} else "key1")
            assert entry.outcome.outcome == "done"
        (apdu,) = rig.audit.of("APDU")
        assert (apdu.event.header, apdu.event.size) == (bytes.fromhex("00200000"), 13)
        assert (apdu.outcome.code, apdu.outcome.status, apdu.outcome.size) == ("+006", 0x9000, 2)
        assert "3132" not in repr(rig.audit.entries)
        assert rig.audit.of("RESET")[0].event.detail == "WARM"
        assert rig.audit.of("SEN")[0].event.detail == "a.b 0102"


@pytest.mark.parametrize(
    ("line", "code", "seid", "outcome"),
    [
        ("POWERON nosuch", "-408", "nosuch", "refused"),
        ("POWERON key2", "-408", "key2", "refused"),
        ("RESET key1", "-605", "key1", "refused"),
        ("SHUTDOWN key1", "-607", "key1", "refused"),
        ("SEN key1 a.b", "-610", "key1", "refused"),
        ("APDU key1 00A40400", "-606", "key1", "refused"),
        ("APDU key1 00B00000", "-806", "key1", "failed"),
        ("APDU key1 00B10000 CONTINUE=9000", "-006", "key1", "done"),
    ],
)
async def test_what_is_refused_or_fails_is_one_entry_too(line, code, seid, outcome):
    rules = [Rule("admin", ("key1",), ("POWERON", "APDU"), ("default",))]
    elements = [canned("key1", {"00B00000": "", "00B10000": "6A82"}), canned("key2")]
    async with RacsRig(*elements, rules=rules) as rig:
        client = await rig.connect()
        await client.ask("POWERON key1")
        del rig.audit.entries[:]
        assert await client.code(line) == code
        (entry,) = rig.audit.entries
        assert entry.event.seid == seid
        assert (entry.outcome.outcome, entry.outcome.code) == (outcome, code)


async def test_what_cannot_be_read_is_no_act():
    async with RacsRig() as rig:
        client = await rig.connect()
        for line in ("APDU key1", "APDU key1 zz", "POWERON", "FOO", "LIST", "GET-SEN key1"):
            await client.ask(line)
        assert rig.audit.verbs() == ["CONNECT"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("POWERON key2", "-908"),
        ("RESET key1", "-905"),
        ("APDU key1 00B00000", "-906"),
        ("SHUTDOWN key1", "-907"),
        ("SEN key1 a.b", "-910"),
    ],
)
async def test_nothing_is_done_that_cannot_be_written(line, code):
    async with RacsRig(canned("key1"), canned("key2")) as rig:
        client = await rig.connect()
        await client.ask("POWERON key1")
        del rig.card.power[:]
        rig.audit.is_full = True
        assert await client.ask(line) == f"{code} 001 the audit log cannot be written"
        assert await client.ask("LIST") == "+004 001 key1 key2 "
        assert (rig.card.power, rig.card.commands) == ([], [])
        assert rig.elements[1].reader.element.power == []
        assert rig.names.names == rig.names.own
        client.close()
        await rig.until(lambda: not rig.server.sessions)
        assert rig.card.power == ["off"]


async def test_a_session_begins_without_an_audit_log_but_does_nothing():
    async with RacsRig() as rig:
        rig.audit.is_full = True
        client = await rig.connect()
        assert await client.code("LIST") == "+004"
        assert await client.code("POWERON key1") == "-908"
        rig.audit.is_full = False
        assert await client.code("POWERON key1") == "+008"


async def test_what_was_done_stays_done_when_its_end_cannot_be_written():
    async with RacsRig() as rig:
        client = await rig.connect()
        await client.ask("POWERON key1")
        process = rig.card.process

        def fill(command):
            rig.audit.is_full = True
            return process(command)

        rig.card.process = fill
        assert await client.code("APDU key1 00B00000") == "+006"
        assert await client.code("APDU key1 00B00000") == "-906"
