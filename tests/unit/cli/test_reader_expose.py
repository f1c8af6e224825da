# SPDX-License-Identifier: Apache-2.0
"""``iose reader expose`` and ``withdraw``: what they ask for, and what they print."""

import json
import os
import signal
from contextlib import asynccontextmanager

import pytest

from iose.cli import reader_expose
from iose.cli.main import run
from iose.runtime.errors import ControlError

STATUS = {
    "element": "se-1",
    "sen": "key1.com",
    "address": "127.0.0.1:35963",
    "protocol": "T=0",
    "connected": True,
    "for_s": 0.1,
    "apdus": 7,
    "fault": "",
    "hint": "",
}
AWAY = {**STATUS, "connected": False, "fault": "the driver is gone", "hint": "start it"}


class World:
    """Stands for the node: keeps what it is asked, tells what it is given."""

    def __init__(self) -> None:
        self.requests = []
        self.statuses = [STATUS]
        self.ends_with = signal.SIGINT
        self.is_exposed = False

    async def ask_to_expose(self, _folder, request):
        self.requests.append(request)
        return STATUS

    async def ask_to_withdraw(self, _folder, element):
        self.requests.append(element)
        return STATUS

    @asynccontextmanager
    async def exposed(self, _where, request):
        self.requests.append(request)
        statuses = iter(self.statuses)
        self.is_exposed = True

        async def tell():
            status = next(statuses, None)
            if status is None:
                os.kill(os.getpid(), self.ends_with)
                return self.statuses[-1]
            if isinstance(status, Exception):
                raise status
            return status

        try:
            yield tell
        finally:
            self.is_exposed = False


@pytest.fixture
def world(monkeypatch, tmp_path):
    made = World()
    monkeypatch.setenv("IOSE_DATA", str(tmp_path))
    monkeypatch.setattr(reader_expose, "LOOK_S", 0.001)
    monkeypatch.setattr(reader_expose, "find_local", lambda *_: None)
    monkeypatch.setattr(reader_expose, "ask_to_expose", made.ask_to_expose)
    monkeypatch.setattr(reader_expose, "ask_to_withdraw", made.ask_to_withdraw)
    monkeypatch.setattr(reader_expose, "exposed_by_node", made.exposed)
    monkeypatch.setattr(reader_expose, "exposed_alone", made.exposed)
    return made


def test_a_detached_exposure_has_no_owner_and_says_how_it_ends(world, capsys):
    assert run(["reader", "expose", "key1.com", "--detach", "--protocol", "T=1"]) == 0
    (request,) = world.requests
    assert (request.element, request.protocol, request.owner) == ("key1.com", 1, 0)
    assert str(request.address) == "127.0.0.1:35963"
    printed = capsys.readouterr().out
    assert '"Virtual PCD 00 00"' in printed
    assert "opensc-tool --reader 0 --atr" in printed
    assert "pcsc_scan -r" in printed
    assert "iose reader withdraw key1.com" in printed


def test_the_second_reader_of_the_driver_has_its_own_name(world, capsys):
    assert run(["reader", "expose", "key1.com", "--detach", "--port", "35964"]) == 0
    printed = capsys.readouterr().out
    assert '"Virtual PCD 00 01"' in printed
    assert "opensc-tool --reader 1 --atr" in printed


def test_a_reader_nobody_knows_the_name_of_is_to_be_looked_for(world, capsys):
    assert run(["reader", "expose", "key1.com", "--detach", "--port", "40000"]) == 0
    assert "opensc-tool --list-readers" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_an_exposure_in_order(world, capsys, number):
    world.ends_with = number
    assert run(["reader", "expose", "key1.com"]) == 0
    (request,) = world.requests
    assert request.owner == os.getpid()
    assert not world.is_exposed
    assert "Stop with Ctrl-C" in capsys.readouterr().out


def test_a_card_that_leaves_the_reader_and_comes_back_is_told_once(world, capsys):
    world.statuses = [STATUS, AWAY, AWAY, STATUS]
    assert run(["reader", "expose", "key1.com"]) == 0
    told = capsys.readouterr().err
    assert told.count("the driver is gone") == 1
    assert told.index("start it") < told.index("in the reader again")


def test_an_exposure_that_somebody_ends_is_a_failure(world, capsys):
    world.statuses = [STATUS, ControlError("not exposed any more", hint="look")]
    assert run(["reader", "expose", "key1.com"]) == 1
    assert "not exposed any more" in capsys.readouterr().err
    assert not world.is_exposed


def test_without_a_node_the_command_exposes_alone_and_cannot_leave_it(world, monkeypatch, capsys):
    monkeypatch.setattr(reader_expose, "find_local", lambda *_: object())
    assert run(["reader", "expose", "key1.com"]) == 0
    assert len(world.requests) == 1
    assert run(["reader", "expose", "key1.com", "--detach"]) == 1
    assert "no node runs" in capsys.readouterr().err


@pytest.mark.parametrize("options", [("--protocol", "T=2"), ("--port", "0"), ("--port", "65536")])
def test_an_option_that_makes_no_sense_is_wrong_usage(world, options):
    assert run(["reader", "expose", "key1.com", *options]) == 2
    assert world.requests == []


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7", "reader.example"])
def test_another_machine_is_sent_commands_in_clear_which_is_told(world, capsys, host):
    assert run(["reader", "expose", "key1.com", "--detach", "--host", host]) == 0
    told = capsys.readouterr().err
    assert "in clear" in told
    assert f"ssh -L 35963:127.0.0.1:35963 {host}" in told


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LocalHost"])
def test_nothing_is_told_of_a_driver_on_this_machine(world, capsys, host):
    assert run(["reader", "expose", "key1.com", "--detach", "--host", host]) == 0
    assert capsys.readouterr().err == ""


def test_json_is_one_line_with_the_name_of_the_reader(world, capsys):
    assert run(["reader", "expose", "key1.com", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "exposed": STATUS,
        "reader": "Virtual PCD 00 00",
    }


def test_withdrawing_says_what_has_ended(world, capsys):
    assert run(["reader", "withdraw", "key1.com"]) == 0
    assert world.requests == ["key1.com"]
    assert "key1.com is withdrawn from 127.0.0.1:35963, 7 APDUs later" in capsys.readouterr().out
    assert run(["reader", "withdraw", "key1.com", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"withdrawn": STATUS}
