# SPDX-License-Identifier: Apache-2.0
"""``iose reader list``: what is there, how it does, what is wrong and what to do, with and without
a node."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import structlog

from iose.cli.main import run
from iose.runtime.readers import look
from iose.servers.virtual_reader import ExposureStatus
from iose.transport.bank import Slot, SlotState
from tests.support.made_bank import MadeBank, ready_slot
from tests.support.scripted_bank import filled

HEALTH = {
    "sessions": 12,
    "apdus": 96,
    "failures": 1,
    "last_fault": "",
    "last_fault_ago_s": None,
    "slowest_s": 0.5214,
    "waiting_since_s": None,
}
READER = {
    "bank": "pcsc",
    "type": "pcsc",
    "reader": "Acme 00 00",
    "seid": "pcsc-1",
    "sen": "key1.com",
    "state": "ready",
    "atr": "3B00",
    "fault": "",
    "hint": "",
    "keys": [],
    "max_record": 512,
    "chunk_size": 240,
    "warm_reset": True,
    "aid": "",
    "health": HEALTH,
}


@pytest.fixture
def listed(monkeypatch, capsys):
    """Give a function that lists what a node says, and returns the lines printed."""

    def work(*readers, exposed=(), options=()):
        async def ask(_folder, *, is_fresh):
            assert is_fresh == ("--refresh" in options)
            return {"readers": list(readers), "exposed": list(exposed)}

        monkeypatch.setattr("iose.cli.reader._ask", ask)
        assert run(["reader", "list", *options]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out.splitlines()

    return work


@pytest.fixture
def bank(monkeypatch):
    """Give a bank in the place of any that is made."""
    bank = MadeBank()
    monkeypatch.setattr(look, "make_bank", bank.make)
    yield bank
    structlog.reset_defaults()  # the command chose what is logged: other tests want it all


def test_a_reader_that_works_is_one_row(listed):
    assert listed(READER, options=["--refresh"]) == [
        "pcsc\tAcme 00 00\tpcsc-1\tkey1.com\tready\t12\t1\t0.521 s"
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"state": "fault", "fault": "garbage", "hint": "clean it"},
            "Acme 00 00: garbage → clean it",
        ),
        ({"state": "empty"}, None),
        (
            {"state": "empty", "fault": "nobody acknowledges", "hint": "wire it"},
            "Acme 00 00: nobody acknowledges → wire it",
        ),
        (
            {"state": "absent", "type": "i2c"},
            "Acme 00 00: not there → is the bus enabled, the address right, and may you open the "
            "device?",
        ),
        ({"state": "odd", "type": "odd"}, "Acme 00 00: odd"),
        (
            {"fault": "no TLS-SE applet answers", "hint": "install one"},
            "Acme 00 00: no TLS-SE applet answers → install one",
        ),
        (
            {"sen": ""},
            "Acme 00 00: the element has no server name; administrators alone reach it → "
            'write sen = "NAME" in [element."pcsc-1"]',
        ),
        (
            {"health": {**HEALTH, "waiting_since_s": 12.3}},
            "Acme 00 00: an answer is waited for since 12 s",
        ),
        (
            {"health": {**HEALTH, "last_fault": "no answer", "last_fault_ago_s": 61.2}},
            "Acme 00 00: 61 s ago: no answer",
        ),
        (
            {"health": {**HEALTH, "last_fault": "Acme 00 00: no answer", "last_fault_ago_s": 1.0}},
            "Acme 00 00: 1 s ago: no answer",
        ),
        (
            {
                "state": "fault",
                "fault": "no answer",
                "hint": "wait",
                "health": {**HEALTH, "last_fault": "Acme 00 00: no answer", "last_fault_ago_s": 1},
            },
            "Acme 00 00: no answer → wait",
        ),
        ({"health": {**HEALTH, "last_fault": "no answer", "last_fault_ago_s": 3600.0}}, None),
        ({"health": {**HEALTH, "waiting_since_s": 0.1}}, None),
        ({"state": "busy", "sen": ""}, None),
    ],
    ids=[
        *("fault", "empty", "empty-for-a-reason", "absent", "unknown", "no-applet", "no-name"),
        *("waiting", "last-fault", "named-once", "told-once", "long-past", "short-wait", "busy"),
    ],
)
def test_what_is_wrong_is_a_line_with_what_to_do(listed, changes, line):
    assert listed({**READER, **changes})[1:] == ([] if line is None else [line])


def test_no_name_is_cut_short_on_a_terminal(listed, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    seid = "serial-usb-Acme_Board_1234-if00"
    row = {**READER, "bank": "serial:/dev/ttyACM0", "reader": "serial:/dev/ttyACM0", "seid": seid}
    rows = [line.split("│") for line in listed(row) if line.startswith("│")]
    assert "".join(cells[3].strip() for cells in rows) == seid


def test_what_many_readers_of_a_bank_have_is_said_once(listed):
    gone = {**READER, "state": "absent", "fault": "cannot connect", "hint": "is it on?"}
    others = [{**gone, "reader": f"Acme {number:02} 00"} for number in (1, 2)]
    elsewhere = {**gone, "bank": "other", "reader": "Other"}
    assert listed(gone, *others, elsewhere)[4:] == [
        "Acme 00 00 and 2 more: cannot connect → is it on?",
        "Other: cannot connect → is it on?",
    ]


def test_what_a_card_says_does_nothing_to_a_terminal(listed):
    out = listed({**READER, "sen": "a\x1b[2J", "fault": "b\x1b", "hint": "c\nd"})
    assert out[0].split("\t")[3] == "a\\x1b[2J"
    assert out[1] == "Acme 00 00: b\\x1b → c\\nd"


def test_a_node_without_readers_says_how_to_get_some(listed):
    assert listed() == [
        "the node has no readers → add a table [[readers]] to its configuration: docs/readers.md; "
        "then iose node reload"
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {},
            "key1.com (se-1) is exposed at 127.0.0.1:35963 as a card of T=0 since 12 s, 7 commands",
        ),
        (
            {"sen": "", "fault": "nothing listens", "hint": "start pcscd"},
            "se-1 is exposed at 127.0.0.1:35963 as a card of T=0: nothing listens → start pcscd",
        ),
    ],
    ids=["in", "out"],
)
def test_what_is_exposed_is_listed(listed, changes, line):
    status = ExposureStatus(
        "se-1",
        "key1.com",
        "127.0.0.1:35963",
        "T=0",
        connected=True,
        for_s=12.3,
        apdus=7,
        fault="",
        hint="",
    )
    exposed = {**asdict(status), **changes}
    assert listed(READER, exposed=[exposed])[1] == line


def test_the_document_is_the_nodes(listed):
    document = json.loads(listed(READER, options=["--json"])[0])
    assert document == {"readers": [READER], "exposed": []}


def test_without_a_node_the_readers_of_pcsc_are_looked_at(bank, tmp_path: Path, capsys):
    bank.slots = (ready_slot("Acme"), Slot("Acme 2", "", SlotState.EMPTY))
    assert run(["reader", "list", "--data", str(tmp_path)]) == 0
    first, row, empty, *problems = capsys.readouterr().out.splitlines()
    assert first.startswith(f"no node runs on {tmp_path}")
    assert row.split("\t")[:5] == ["pcsc", "Acme", "pcsc-Acme", "key1.com", "ready"]
    assert empty.split("\t")[:5] == ["pcsc", "Acme 2", "", "", "empty"]
    assert problems == []
    assert bank.made_of[0].type == "pcsc"
    assert bank.running == 0


def test_without_a_node_the_readers_of_a_configuration_are_looked_at(bank, tmp_path: Path, capsys):
    file = tmp_path / "node.toml"
    file.write_text(
        f'data = "{tmp_path}"\n[[readers]]\ntype = "sim-array"\naddress = "a:1"\nmax_record = 0\n'
        '[element."pcsc-Acme"]\nsen = "key7.com"\n'
    )
    bank.slots = (ready_slot("Acme"),)
    assert run(["reader", "list", "--config", str(file), "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["readers"]
    assert set(one) == set(READER)
    assert set(one["health"]) == set(HEALTH)
    assert (one["bank"], one["sen"], one["max_record"]) == ("sim-array:a:1", "key7.com", 0)


def test_without_a_node_an_element_that_has_no_applet_is_looked_into_once(
    bank, tmp_path: Path, capsys
):
    slot = filled("Acme", "key1.com", has_applet=False)
    bank.slots = (slot,)
    assert run(["reader", "list", "--data", str(tmp_path)]) == 0
    assert "no TLS-SE applet answers" in capsys.readouterr().out
    assert slot.reader.element.power == ["on", "off"]
    assert bank.looks == 1


def test_certificates_that_are_not_there_are_looked_for_where_the_table_says(
    tmp_path: Path, capsys
):
    file = tmp_path / "node.toml"
    file.write_text(
        f'data = "{tmp_path}"\n[[readers]]\ntype = "racs"\naddress = "127.0.0.1:1"\npki = "none"\n'
    )
    assert run(["reader", "list", "--config", str(file)]) == 0
    problem = capsys.readouterr().out.splitlines()[-1]
    structlog.reset_defaults()
    assert f"{tmp_path / 'none' / 'ca.pem'}: No such file" in problem
    assert "'pki' of its table [[readers]]" in problem


def test_a_configuration_that_cannot_be_read_is_told(tmp_path: Path, capsys):
    assert run(["reader", "list", "--config", str(tmp_path / "none.toml")]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_a_node_that_does_not_answer_is_not_passed_by(monkeypatch, tmp_path: Path, capsys):
    monkeypatch.setattr("iose.cli.reader.DataFolder.is_locked", lambda _self: True)
    assert run(["reader", "list", "--data", str(tmp_path)]) == 1
    assert "starting or stopping" in capsys.readouterr().err
