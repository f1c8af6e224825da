# SPDX-License-Identifier: Apache-2.0
"""RACS over HTTP: the same sessions, one for each request (racs.md §13)."""

import asyncio
import json
import time
import xml.etree.ElementTree as ET  # our own documents
from contextlib import asynccontextmanager

import pytest

from iose.servers.racs import http
from iose.servers.racs.http import HEAD_LIMIT, HttpBinding
from tests.support.racs_server import (
    PATIENCE_S,
    RacsRig,
    RawClient,
    canned,
    client_context,
    expiring,
)

pytestmark = pytest.mark.anyio

FORM = "application/x-www-form-urlencoded"
ACTS = "BEGIN=n&POWERON=key1&APDU=key1%2000B00000&END="


class HttpClient(RawClient):
    """A client of HTTP that knows lengths and nothing else."""

    async def get(self, target, **headers):
        return await self.call("GET", target, **headers)

    async def post(self, body, kind=FORM, **headers):
        return await self.call("POST", "/RACS", body, content_type=kind, **headers)

    async def call(self, method, target, body="", **headers):
        lines = [f"{method} {target} HTTP/1.1", "Host: gose"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join((*lines, "", body)).encode())
        return await self.answer()

    async def answer(self):
        """Return status, headers and body."""
        async with asyncio.timeout(PATIENCE_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            body = await self.reader.readexactly(int(fields["content-length"]))
        return int(head[0].split(" ")[1]), fields, body.decode()


@asynccontextmanager
async def running(*elements, **config):
    async with RacsRig(*elements, http_listen=(("127.0.0.1", 0),), **config) as rig:
        binding = HttpBinding(rig.server)
        await binding.start()

        async def connect(user="admin"):
            client = HttpClient(
                *await asyncio.open_connection(
                    *binding.addresses[0],
                    ssl=client_context(user),
                    server_hostname="localhost",
                    limit=1 << 21,
                )
            )
            rig._clients.append(client)
            return client

        rig.browse = connect
        try:
            yield rig
        finally:
            await binding.stop()
        assert binding.addresses == ()


async def test_a_look_is_a_document():
    async with running() as rig:
        client = await rig.browse()
        status, headers, body = await client.get("/RACS?BEGIN=n%26&LIST=&END=")
        assert (status, headers["content-type"]) == (200, "application/xml")
        assert headers["cache-control"] == "no-store"
        assert body == (
            "<RACS-Response><begin>n&amp;</begin><Cmd-Response><status>+004</status>"
            "<line>001</line><parameters>key1 </parameters></Cmd-Response><end></end>"
            "</RACS-Response>"
        )
        assert ET.fromstring(body).tag == "RACS-Response"  # noqa: S314  # our own document


async def test_json_for_who_asks():
    async with running() as rig:
        client = await rig.browse()
        line = "BEGIN=x&ECHO=%3Ca%3E+APPEND&GET-VERSION=&END="
        _, headers, body = await client.get(f"/RACS?{line}", accept="application/json")
        assert headers["content-type"] == "application/json"
        assert json.loads(body) == {
            "begin": "x",
            "responses": [
                {"status": "+009", "line": "001", "parameters": "<a>"},
                {"status": "+002", "line": "002", "parameters": "0.3"},
            ],
        }


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (FORM, ACTS),
        (FORM + "; charset=utf-8", ACTS),
        ("text/plain", "// a\r\nBEGIN n\r\nPOWERON key1\r\nAPDU key1 00B00000\r\n\r\nEND\r\n"),
    ],
)
async def test_acts_are_posted_and_leave_nothing_behind(kind, body):
    async with running() as rig:
        client = await rig.browse()
        status, _, answer = await client.post(body, kind)
        assert status == 200
        assert "<status>+006</status><line>002</line><parameters>9000</parameters>" in answer
        await rig.until(lambda: rig.holders.lock("key1").holder is None)
        assert rig.card.power == ["on", "off"]
        assert rig.audit.verbs() == ["CONNECT", "POWERON", "APDU", "CLOSE"]
        assert {entry.event.plane for entry in rig.audit.entries} == {"http"}
        assert {entry.event.user for entry in rig.audit.entries} == {"admin"}
        assert (await client.post(body, kind))[0] == 200
        assert rig.server.snapshot().opened == 2


async def test_an_error_of_racs_is_a_success_of_http():
    async with running() as rig:
        client = await rig.browse("nobody")
        status, _, body = await client.post("BEGIN=&LIST=APPEND&POWERON=key1&END=")
        assert status == 200
        assert "<begin></begin><Cmd-Response><status>-408</status><line>002</line>" in body
        status, _, body = await client.get("/RACS?BEGIN=&LIST=&END=")
        assert "<parameters></parameters>" in body


async def test_get_only_looks_unless_told_otherwise():
    async with running() as rig:
        client = await rig.browse()
        status, headers, _ = await client.get(f"/RACS?{ACTS}")
        assert (status, headers["allow"]) == (405, "get, post")
        assert rig.audit.entries == []
    async with running(http_get_acts=True) as rig:
        assert (await (await rig.browse()).get(f"/RACS?{ACTS}"))[0] == 200


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/", 404),
        ("/racs?BEGIN=&END=", 404),
        ("/RACS", 400),
        ("/RACS?LIST=", 400),
        ("/RACS?BEGIN=&LIST=", 400),
        ("/RACS?BEGIN=&END=&BEGIN=&END=", 400),
        ("/RACS?BEGIN=&ECHO=%0D%0AEND&END=", 400),
        ("/RACS?BEGIN=&ECHO=%FF&END=", 400),
    ],
)
async def test_what_is_no_request_is_refused_and_the_connection_goes_on(target, status):
    async with running() as rig:
        client = await rig.browse()
        assert (await client.get(target))[0] == status
        assert rig.audit.entries == []
        assert (await client.get("/RACS?BEGIN=&END="))[0] == 200


async def test_other_methods_and_kinds_are_refused():
    async with running() as rig:
        client = await rig.browse()
        assert (await client.call("PUT", "/RACS", ACTS, content_type=FORM))[0] == 405
        assert (await client.post(ACTS, "application/json"))[0] == 415
        assert (await client.post("BEGIN=\u00e9", "application/x-www-form-urlencoded"))[0] == 400


@pytest.mark.parametrize(
    "header", [{"origin": "https://elsewhere"}, {"sec_fetch_site": "cross-site"}]
)
async def test_a_page_of_another_site_does_nothing(header):
    async with running() as rig:
        client = await rig.browse()
        assert (await client.post(ACTS, **header))[0] == 403
        assert rig.card.power == []
        assert (await client.post(ACTS, origin="https://gose"))[0] == 200


async def test_no_http_is_refused():
    async with running() as rig:
        client = await rig.browse()
        client.send(b"BEGIN\r\nLIST\r\nEND\r\n\r\n")
        assert (await client.answer())[0] == 400
        assert await client.rest() == b""


async def test_a_body_has_a_limit():
    async with running() as rig:
        client = await rig.browse()
        client.send(
            b"POST /RACS HTTP/1.1\r\nHost: g\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 2_000_000
        )
        assert (await client.answer())[0] == 413


async def test_requests_may_follow_each_other_without_waiting():
    async with running() as rig:
        client = await rig.browse()
        for number in range(20):
            client.send(f"GET /RACS?BEGIN={number}&END= HTTP/1.1\r\nHost: g\r\n\r\n".encode())
        for number in range(20):
            status, _, body = await client.answer()
            assert status == 200
            assert f"<begin>{number}</begin>" in body


async def test_an_element_in_use_is_in_use_for_everybody():
    async with running() as rig:
        racs, http = await rig.connect(), await rig.browse()
        await racs.ask("POWERON key1")
        assert "-708" in (await http.post(ACTS))[2]


async def test_a_client_that_goes_away_takes_nothing_with_it():
    async with running(canned("key1")) as rig:
        gate = rig.elements[0].reader.gate = asyncio.Event()
        client = await rig.browse()
        client.send(
            f"POST /RACS HTTP/1.1\r\nHost: g\r\nContent-Type: {FORM}\r\n"
            f"Content-Length: {len(ACTS)}\r\n\r\n{ACTS}".encode()
        )
        await rig.until(lambda: rig.audit.of("POWERON"))
        client.abort()
        await rig.until(lambda: rig.server.snapshot().connections == 0)
        gate.set()
        await rig.until(lambda: not rig.server.sessions)
        assert rig.holders.lock("key1").holder is None
        assert rig.audit.of("APDU") == []


async def test_a_revoked_user_is_put_out():
    async with running() as rig:
        client = await rig.browse()
        assert (await client.get("/RACS?BEGIN=&END="))[0] == 200
        rig.server.recheck(lambda _: True)
        assert (await client.get("/RACS?BEGIN=&END="))[0] == 503


async def test_a_connection_ends_with_its_certificate(monkeypatch):
    expiring(monkeypatch, http, 3600)
    async with running() as rig:
        client = await rig.browse()
        assert (await client.get("/RACS?BEGIN=&END="))[0] == 200
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 3601)
        client.send(f"POST /RACS HTTP/1.1\r\nHost: gose\r\nContent-Type: {FORM}\r\n".encode())
        client.send(f"Content-Length: {len(ACTS)}\r\n\r\n{ACTS}".encode())
        assert b" 200 " not in await client.rest()
        assert rig.audit.of("POWERON") == []


async def test_a_client_may_say_that_it_closes():
    async with running() as rig:
        client = await rig.browse()
        assert (await client.get("/RACS?BEGIN=&END=", connection="close"))[0] == 200
        assert await client.rest() == b""


async def test_a_bug_costs_one_request():
    async with running() as rig:
        client = await rig.browse()
        visible, rig.server.audit.intend = rig.server.audit.intend, None
        assert (await client.get("/RACS?BEGIN=&END="))[0] == 500
        rig.server.audit.intend = visible
        assert (await client.get("/RACS?BEGIN=&END="))[0] == 200


async def test_a_certificate_without_a_name_of_its_own_is_refused():
    async with running() as rig:
        client = await rig.browse("psk:admin")
        client.send(b"GET /RACS?BEGIN=&END= HTTP/1.1\r\nHost: g\r\n\r\n")
        assert await client.rest() == b""
        assert rig.audit.entries == []


async def test_a_server_that_stops_lets_requests_end():
    async with running(drain_s=5) as rig:
        gate = rig.elements[0].reader.gate = asyncio.Event()
        busy, idle = await rig.browse(), await rig.browse()
        assert (await idle.get("/RACS?BEGIN=&END="))[0] == 200
        busy.send(
            f"POST /RACS HTTP/1.1\r\nHost: g\r\nContent-Type: {FORM}\r\n"
            f"Content-Length: {len(ACTS)}\r\n\r\n{ACTS}".encode()
        )
        await rig.until(lambda: rig.audit.of("POWERON"))
        stopping = asyncio.ensure_future(rig.server.stop())
        assert await idle.rest() == b""
        gate.set()
        status, headers, body = await busy.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert "<parameters>9000</parameters>" in body
        await stopping


async def test_a_client_that_is_far_ahead_is_not_read():
    async with running() as rig:
        gate = rig.elements[0].reader.gate = asyncio.Event()
        client = await rig.browse()
        client.send(
            f"POST /RACS HTTP/1.1\r\nHost: g\r\nContent-Type: {FORM}\r\n"
            f"Content-Length: {len(ACTS)}\r\n\r\n{ACTS}".encode()
        )
        await rig.until(lambda: rig.audit.of("POWERON"))
        client.send(b"GET /RACS?BEGIN=&END= HTTP/1.1\r\nHost: g\r\n\r\n" * 50_000)
        (connection,) = rig.server._connections
        await rig.until(lambda: connection.stream._is_paused)
        gate.set()
        for _ in range(20):
            assert (await client.answer())[0] == 200


def post(lines):
    body = "\n".join(("BEGIN", *lines, "END", ""))
    head = "POST /RACS HTTP/1.1\r\nHost: g\r\nContent-Type: text/plain\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


async def test_a_client_that_does_not_read_is_answered_no_more():
    async with running(canned("key1", {"00B00000": "AB" * 60_000 + "9000"})) as rig:
        client = await rig.browse()
        client.writer.transport.pause_reading()
        client.send(post(["POWERON key1", "APDU key1 00B00000"]) * 1000)
        done = 0
        async with asyncio.timeout(PATIENCE_S):
            while done != len(rig.card.commands) or not done:  # until nothing moves any more
                done = len(rig.card.commands)
                await asyncio.sleep(0.2)
        assert done < 100
        client.writer.transport.resume_reading()
        for _ in range(100):
            assert (await client.answer())[0] == 200


async def test_what_waits_does_not_grow_with_each_answer():
    async with running() as rig:
        client = await rig.browse()
        client.send(b"GET /RACS?BEGIN=&END= HTTP/1.1\r\nHost: g\r\n\r\n" * 100_000)
        assert (await client.answer())[0] == 200
        (connection,) = rig.server._connections
        for _ in range(300):
            assert (await client.answer())[0] == 200
            assert len(connection._http.trailing_data[0]) < 2 * HEAD_LIMIT + 262_144


async def test_a_long_request_keeps_nobody_waiting():
    async with running() as rig:
        browser, client = await rig.browse(), await rig.connect()
        await client.ask("LIST")
        browser.send(post(["LIST"] * 9_000))
        await rig.until(lambda: len(rig.server.sessions) == 2)
        assert await client.code("LIST") == "+004"
        assert len(rig.server.sessions) == 2
        assert (await browser.answer())[0] == 200


async def test_connections_without_a_request_make_room():
    async with running(session_limit=3) as rig:
        gate = rig.elements[0].reader.gate = asyncio.Event()
        busy, first, second = [await rig.browse() for _ in range(3)]
        busy.send(post(["POWERON key1"]))
        await rig.until(lambda: rig.audit.of("POWERON"))
        for one in (first, second):
            assert (await one.get("/RACS?BEGIN=&END="))[0] == 200
        late = await rig.connect()
        assert await late.code("LIST") == "+004"
        assert await first.rest() == b""
        assert (await second.get("/RACS?BEGIN=&END="))[0] == 200
        gate.set()
        assert (await busy.answer())[0] == 200


async def test_a_head_is_refused_without_a_body_and_the_connection_goes_on():
    async with running() as rig:
        client = await rig.browse()
        client.send(b"HEAD /RACS?BEGIN=&END= HTTP/1.1\r\nHost: g\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 405 ")
        assert (await client.get("/RACS?BEGIN=&END="))[0] == 200
        client.send(b"HEAD / HTTP/1.1\r\nHost: g\r\n\r\nno HTTP\r\n\r\n")
        await client.reader.readuntil(b"\r\n\r\n")
        assert (await client.answer())[0] == 400


async def test_a_bug_in_an_answer_closes_the_connection():
    async with running() as rig:
        client = await rig.browse()
        (connection,) = rig.server._connections
        connection._answer = None
        client.send(b"GET /RACS?BEGIN=&END= HTTP/1.1\r\nHost: g\r\n\r\n")
        assert await client.rest() == b""
        await rig.until(lambda: rig.server.snapshot().connections == 0)


async def test_a_body_of_two_lengths_is_refused():
    async with running(canned("key1")) as rig:
        client = await rig.browse()
        body = "BEGIN\nPOWERON key1\nEND\n"
        client.send(
            "POST /RACS HTTP/1.1\r\nHost: g\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n"
            f"Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n{body}\r\n0\r\n\r\n".encode()
        )
        assert (await client.answer())[0] == 400
        assert await client.rest() == b""
        assert rig.card.power == []
