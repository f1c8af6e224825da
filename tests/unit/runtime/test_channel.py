# SPDX-License-Identifier: Apache-2.0
"""Control channels: answers, refusals, events, torn ends; and who may use a control socket."""

import asyncio
import contextlib
import os
import socket
import stat
from pathlib import Path

import pytest

from iose.runtime.channel import Arguments, JsonChannel
from iose.runtime.control import ControlServer, connect_control, is_allowed, listen_unix
from iose.runtime.errors import ConfigurationError, ControlError
from iose.runtime.folder import DataFolder


async def answer(op: str, arguments: Arguments) -> object:
    match op:
        case "echo":
            return dict(arguments)
        case "refuse":
            raise ConfigurationError("no such name", hint="try another")
        case "slow":
            await asyncio.Event().wait()
    raise RuntimeError("hunter2 is the password")


@contextlib.asynccontextmanager
async def joined(events=None):
    left, right = socket.socketpair()
    ends = [await asyncio.open_unix_connection(sock=end) for end in (left, right)]
    sink = (
        (lambda name, arguments: events.append((name, dict(arguments))))
        if events is not None
        else None
    )
    server = JsonChannel(*ends[0], handler=answer, **({"sink": sink} if sink else {}))
    client = JsonChannel(*ends[1])
    tasks = [asyncio.create_task(end.serve()) for end in (server, client)]
    try:
        yield client, server, ends
    finally:
        client.close()
        server.close()
        await asyncio.gather(*tasks)


def run(scenario):
    return asyncio.run(scenario())


def test_requests_are_answered_in_any_number_at_once():
    async def scenario():
        async with joined() as (client, _, _):
            jobs = [client.request("echo", {"number": number}) for number in range(50)]
            return await asyncio.gather(*jobs)

    assert run(scenario) == [{"number": number} for number in range(50)]


def test_a_refusal_keeps_its_message_and_hint():
    async def scenario():
        async with joined() as (client, _, _):
            await client.request("refuse")

    with pytest.raises(ConfigurationError, match="no such name") as caught:
        run(scenario)
    assert caught.value.hint == "try another"


def test_an_unexpected_fault_does_not_carry_its_text():
    async def scenario():
        async with joined() as (client, _, _):
            await client.request("explode")

    with pytest.raises(ControlError, match="RuntimeError") as caught:
        run(scenario)
    assert "hunter2" not in str(caught.value)


def test_a_late_answer_is_an_error():
    async def scenario():
        async with joined() as (client, _, _):
            await client.request("slow", timeout_s=0.01)

    with pytest.raises(ControlError, match="no answer"):
        run(scenario)


def test_pending_requests_fail_when_the_other_end_goes():
    async def scenario():
        async with joined() as (client, server, _):
            job = asyncio.create_task(client.request("slow"))
            await asyncio.sleep(0)
            server.close()
            await job

    with pytest.raises(ControlError, match="gone"):
        run(scenario)


def test_what_was_asked_for_is_carried_out_although_the_asker_leaves():
    # an element that is being made must not be forgotten by who keeps the list
    async def scenario():
        may_end, is_done = asyncio.Event(), asyncio.Event()

        async def carry_out(_op: str, _arguments: Arguments):
            await may_end.wait()
            is_done.set()

        left, right = socket.socketpair()
        server = JsonChannel(*await asyncio.open_unix_connection(sock=left), handler=carry_out)
        serving = asyncio.create_task(server.serve())
        right.sendall(b'{"id":1,"op":"make"}\n')
        right.close()
        await serving
        may_end.set()
        await asyncio.wait_for(is_done.wait(), 10)

    run(scenario)


def test_a_line_that_is_no_json_ends_the_channel():
    async def scenario():
        async with joined() as (client, _, ends):
            ends[1][1].write(b"{nonsense\n")
            await client.request("echo")

    with pytest.raises(ControlError, match=r"gone|closed"):
        run(scenario)


def test_events_reach_the_sink_split_at_any_byte():
    events: list[tuple[str, dict[str, object]]] = []

    async def scenario():
        async with joined(events) as (client, _, ends):
            for byte in b'{"event":"atr","arguments":{"seid":"se-1"}}\n':
                ends[1][1].write(bytes((byte,)))
                await ends[1][1].drain()
            await client.request("echo")

    run(scenario)
    assert events == [("atr", {"seid": "se-1"})]


def test_the_control_socket_is_private_and_answers_its_owner(tmp_path: Path):
    folder = DataFolder(tmp_path / ("deep" * 40))
    folder.path.mkdir(parents=True)

    async def scenario():
        server = ControlServer(answer)
        await server.start(folder.control_socket)
        mode = stat.S_IMODE(folder.control_socket.stat().st_mode)
        async with connect_control(folder) as channel:
            reply = await channel.request("echo", {"word": "x"})
        await server.stop()
        return mode, reply

    assert run(scenario) == (0o600, {"word": "x"})


def test_the_control_socket_refuses_another_user(tmp_path: Path):
    folder = DataFolder(tmp_path)

    async def scenario():
        server = ControlServer(answer, uid_of=lambda _: os.geteuid() + 1)
        await server.start(folder.control_socket)
        try:
            async with connect_control(folder) as channel:
                await channel.request("echo")
        finally:
            await server.stop()

    with pytest.raises(ControlError):
        run(scenario)


def test_only_the_own_user_and_root_are_allowed():
    assert is_allowed(os.geteuid())
    assert is_allowed(0)
    assert not is_allowed(os.geteuid() + 1)


def test_a_node_of_another_user_is_told_nothing(tmp_path: Path, monkeypatch):
    folder = DataFolder(tmp_path)
    own = os.geteuid() or 1000
    monkeypatch.setattr(os, "geteuid", lambda: own)
    monkeypatch.setattr("iose.runtime.control.peer_uid", lambda _: own + 1)

    async def scenario():
        async with connect_control(folder) as channel:
            await channel.request("element.import")

    with listen_unix(folder.control_socket) as listener:
        with pytest.raises(ControlError, match="another user"):
            run(scenario)
        with listener.accept()[0] as connection:
            assert connection.recv(1) == b""


def test_a_folder_closed_to_us_says_so(tmp_path: Path, monkeypatch):
    async def refuse(*_arguments, **_options):
        raise PermissionError(13, "Permission denied")

    async def scenario():
        async with connect_control(DataFolder(tmp_path)):
            pass

    monkeypatch.setattr(asyncio, "open_unix_connection", refuse)
    with pytest.raises(ControlError, match="another user"):
        run(scenario)


def test_a_node_that_starts_or_stops_is_told_from_none(tmp_path: Path):
    folder = DataFolder(tmp_path)
    lock = folder.hold(is_node=True)

    async def scenario():
        async with connect_control(folder):
            pass

    with pytest.raises(ControlError, match="starting or stopping") as caught:
        run(scenario)
    assert "again" in caught.value.hint
    lock.release()


@pytest.mark.parametrize("is_left", [False, True], ids=["running", "ended, its hosts not yet"])
def test_a_command_that_holds_the_folder_is_no_node(tmp_path: Path, is_left):
    folder = DataFolder(tmp_path)
    lock = folder.hold()
    if is_left:
        (tmp_path / "lock").write_text("999999999\n")

    async def scenario():
        async with connect_control(folder):
            pass

    said = "starting or stopping" if is_left else f"no node runs .*process {os.getpid()}, holds it"
    with pytest.raises(ControlError, match=said):
        run(scenario)
    lock.release()


def test_a_folder_without_a_node_says_so(tmp_path: Path):
    async def scenario():
        async with connect_control(DataFolder(tmp_path)):
            pass

    with pytest.raises(ControlError, match="no node runs"):
        run(scenario)
