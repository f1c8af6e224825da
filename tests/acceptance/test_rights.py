# SPDX-License-Identifier: Apache-2.0
"""Two users, every verb, two elements, on a whole node (racs.md §9).

What is refused has the code that the order of checks says, is in the files of the audit log, and
has changed nothing: neither name, nor power, nor who holds an element, nor what it stores.
"""

import asyncio
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import PATIENCE_S, POLL_S, LoggedNode, configured_node
from tests.support.racs_server import SELECT, RawClient
from tests.support.running_node import iose

VERBS = {
    "POWERON": ("POWERON {}", "08"),
    "RESET": ("RESET {}", "05"),
    "APDU": ("APDU {} " + SELECT, "06"),
    "SHUTDOWN": ("SHUTDOWN {}", "07"),
    "SEN": ("SEN {} stolen.example", "10"),
    "GET-SEN": ("GET-SEN {}", "11"),
}
GIVEN = {
    "alice": {"key1.com": {"POWERON", "APDU"}, "key2.com": {"GET-SEN"}},
    "bob": {"key2.com": {"POWERON", "RESET", "SHUTDOWN"}},
}


def rules(seids: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {"user": "operator", "elements": ["*"], "verbs": ["*", "preempt"], "aids": ["*"]},
        *(
            {"user": user, "elements": [seids[sen]], "verbs": sorted(verbs), "aids": ["*"]}
            for user, given in GIVEN.items()
            for sen, verbs in given.items()
        ),
    ]


@dataclass
class Plane:
    """A node, and TLS for each of its users."""

    node: LoggedNode
    contexts: dict[str, ssl.SSLContext]

    def seid(self, sen: str) -> str:
        return self.node[sen].seid

    async def connect(self, user: str) -> RawClient:
        host, _, port = self.node.racs.rpartition(":")
        streams = await asyncio.open_connection(
            host, int(port), ssl=self.contexts[user], server_hostname="localhost"
        )
        return RawClient(*streams)

    def state(self) -> dict[str, Any]:
        """Return all that a refused command could have changed."""
        stored = {
            path: content
            for path in (self.node.folder / "elements").glob("*.db*")
            if (content := path.read_bytes())
        }
        told = [self.node.element_status(sen) for sen in ("key1.com", "key2.com")]
        shown = [(one["sen"], one["is_served"], holder(one)) for one in told]
        return {"stored": stored, "shown": shown}

    def audit(self) -> list[dict[str, Any]]:
        """Return what the files of the audit log hold, line by line."""
        files = sorted((self.node.folder / "audit").glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    folder = tmp_path_factory.mktemp("rights")
    with configured_node(folder, 2, racs={"listen": ["127.0.0.1:0"]}) as node:
        seids = {sen: element.seid for sen, element in node.elements.items()}
        node.configure(2, racs={"listen": ["127.0.0.1:0"], "rules": rules(seids)})
        node.ask("reload")
        folders = {"operator": node.pki}
        for user in GIVEN:
            folders[user] = folder / user
            made = iose("pki", "user", user, "--out", str(folder / user), "--data",
                        str(node.folder))  # fmt: skip
            assert made.returncode == 0, made.stderr
        yield Plane(node, {user: context(path) for user, path in folders.items()})


def context(folder: Path) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=folder / "ca.pem")
    made.load_cert_chain(folder / "user.pem", folder / "user.key")
    return made


def expected(user: str, sen: str, verb: str) -> str:
    """Return the code of a verb by a user who holds nothing, on an element that is free."""
    number = VERBS[verb][1]
    given = GIVEN[user].get(sen)
    if given is None:
        return f"-4{number}"
    if verb not in given:
        return f"-6{number}"
    return f"-3{number}" if verb in {"RESET", "APDU"} else f"+0{number}"


@pytest.mark.parametrize("sen", ["key1.com", "key2.com"])
@pytest.mark.parametrize("user", sorted(GIVEN))
def test_each_cell_has_its_code_its_line_in_the_log_and_no_effect(
    plane: Plane, user: str, sen: str
):
    async def work() -> None:
        seid = plane.seid(sen)
        client = await plane.connect(user)
        for verb, (line, _) in VERBS.items():
            before, mark = plane.state(), len(plane.audit())
            code = await client.code(line.format(seid))
            assert code == expected(user, sen, verb), verb
            written = plane.audit()[mark:]
            asked = [one for one in written if one["kind"] == "intent" and one["verb"] == verb]
            is_look = verb == "GET-SEN" and code.startswith("+")
            assert [(one["user"], one["seid"]) for one in asked] == [(user, seid)] * (not is_look)
            if verb == "POWERON" and code.startswith("+"):
                client.abort()
                client = await plane.connect(user)
                await freed(plane, sen)
            assert plane.state() == before
        client.abort()
        await concluded(plane)

    asyncio.run(work())


def holder(told: dict[str, Any]) -> tuple[str, int] | None:
    """Return who holds an element, without for how long."""
    return told["holder"] and (told["holder"]["plane"], told["holder"]["session"])


async def freed(plane: Plane, sen: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while plane.node.element_status(sen)["holder"] is not None:  # noqa: ASYNC110  # of another process
            await asyncio.sleep(POLL_S)


async def concluded(plane: Plane) -> None:
    """Wait until every intent has its outcome, which is the last thing written of an act."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            lines = plane.audit()
            intents = {one["seq"] for one in lines if one["kind"] == "intent"}
            if intents == {one["of"] for one in lines if one["kind"] == "outcome"}:
                return
            await asyncio.sleep(POLL_S)


HELD = {  # user, line, code, while the operator holds both
    "without the right": ("alice", "SHUTDOWN", "key1.com", "-607"),
    "without the right to take away": ("bob", "SHUTDOWN", "key2.com", "-707"),
    "power": ("alice", "POWERON", "key1.com", "-708"),
    "a reset": ("bob", "RESET", "key2.com", "-705"),
    "an APDU": ("alice", "APDU", "key1.com", "-706"),
    "a name": ("alice", "SEN", "key1.com", "-610"),
    "not seen": ("bob", "SHUTDOWN", "key1.com", "-407"),
}


def test_what_another_holds_is_taken_away_by_nobody_but_who_may(plane: Plane):
    async def work() -> None:
        holder = await plane.connect("operator")
        for sen in ("key1.com", "key2.com"):
            assert await holder.code(f"POWERON {plane.seid(sen)}") == "+008"
        clients = {user: await plane.connect(user) for user in GIVEN}
        before, mark = plane.state(), len(plane.audit())
        for user, verb, sen, code in HELD.values():
            line = VERBS[verb][0].format(plane.seid(sen))
            assert await clients[user].code(line) == code, (user, line)
        assert plane.state() == before
        written = [one for one in plane.audit()[mark:] if one["kind"] == "intent"]
        asked = [(one["user"], one["verb"]) for one in written if one["user"] in GIVEN]
        assert [one for one in asked if one[1] != "CONNECT"] == [
            (user, verb) for user, verb, _, _ in HELD.values()
        ]
        for client in clients.values():
            client.abort()
        other = await plane.connect("operator")
        assert await other.code(f"SHUTDOWN {plane.seid('key1.com')}") == "+007"
        assert plane.node.element_status("key1.com")["holder"] is None
        assert await holder.code(f"APDU {plane.seid('key1.com')} {SELECT}") == "-306"
        for client in (holder, other):
            client.abort()
        await concluded(plane)
        taken = [one["preempted"] for one in plane.audit() if one.get("preempted")]
        assert len(taken) == 1
        assert taken[0].startswith("racs ")

    asyncio.run(work())


@pytest.mark.parametrize(
    ("user", "seen"),
    [("operator", ["key1.com", "key2.com"]), ("alice", ["key1.com", "key2.com"]),
     ("bob", ["key2.com"])],
)  # fmt: skip
def test_the_list_hides_what_a_user_may_not_see(plane: Plane, user: str, seen: list[str]):
    async def work() -> None:
        client = await plane.connect(user)
        listed = (await client.data("LIST")).split()
        client.abort()
        assert sorted(listed) == sorted(map(plane.seid, seen))

    asyncio.run(work())
