# SPDX-License-Identifier: Apache-2.0
"""The RACS server and ``openssl s_client``: examples byte for byte, old suites, strict readers."""

import asyncio
import re
from pathlib import Path

import pytest

from iose.servers.holders import Claim
from iose.servers.racs.policy import Rule
from tests.support.peers import require_peer
from tests.support.racs_server import (
    EVERYTHING,
    PATIENCE_S,
    SELECT,
    RacsRig,
    canned,
    folder_of,
    software,
)
from tests.support.shared import VECTORS

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.interop,
    pytest.mark.filterwarnings("default::ResourceWarning"),
]

EXAMPLES = sorted((Path(__file__).parent / "examples").glob("*.txt"))
SIGN = "0080000020E6635E4B47A2870043584CFCD6FAC5AA4625BF6CD2F7D56DCB98E67B974C22D8"
LEGACY = ("-tls1_2", "-noservername", "-cipher", "AES128-GCM-SHA256")
QUIT = "BEGIN goodbye\nQUIT\nEND\n"
GOODBYE = "BEGIN goodbye\r\n+012 001 QUIT\r\nEND\r\n"


@pytest.fixture
def anyio_backend():
    return "asyncio", {"use_uvloop": True}


async def s_client(rig, request, *options, user="admin"):
    """Run a request file through openssl and return what it printed, and its exit status."""
    host, port = rig.server.addresses[0]
    folder = folder_of(user)
    process = await asyncio.create_subprocess_exec(
        require_peer("openssl"),
        *("s_client", "-quiet", "-crlf", "-verify_return_error", "-connect", f"{host}:{port}"),
        *("-CAfile", folder / "ca.pem", "-cert", folder / "user.pem", "-key", folder / "user.key"),
        *options,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            output, _ = await process.communicate(request.encode())
    finally:
        if process.returncode is None:
            process.kill()
    return output.decode(), process.returncode


def example(path):
    """Return an example's request file, and a pattern of its answers with free texts."""
    lines = path.read_text().splitlines()
    request = "".join(f"{line[3:]}\n" for line in lines if line.startswith("C> "))
    answer = "".join(f"{line[3:]}\r\n" for line in lines if line.startswith("S> "))
    pattern = re.escape(answer).replace("<text>", "[ -~]*").replace("<data>", "[0-9A-F]+")
    return request, pattern


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
async def test_an_example_is_answered_byte_for_byte(path):
    request, pattern = example(path)
    elements = [
        canned("999", {SIGN: "6108", "00C0000008": "3006020101020101" + "9000"}, aliases=("0",)),
        software("key1"),
        canned("1010"),
        canned("5", {"00A404000401020304": "6A82"}),
    ]
    seids = ("999", "0") if path.stem.startswith("a_") else ("*",)
    rules = [Rule("admin", seids, EVERYTHING, ("*",))]
    async with RacsRig(*elements, rules=rules) as rig:
        if path.stem == "e_in_use":
            rig.holders.lock("1010").try_acquire(Claim("tls", 1, "somebody", 0.0), 0.0)
        is_last = path.stem.startswith("i_")
        output, status = await s_client(rig, request + ("" if is_last else QUIT))
        assert re.fullmatch(pattern + ("" if is_last else re.escape(GOODBYE)), output), output
        assert status == 0


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_both_versions_are_served(version):
    async with RacsRig() as rig:
        output, _ = await s_client(rig, "BEGIN x\nLIST\nEND\n" + QUIT, version)
        assert output == "BEGIN x\r\n+004 001 key1 \r\nEND\r\n" + GOODBYE


async def test_nothing_older_is_served():
    async with RacsRig() as rig:
        output, status = await s_client(rig, QUIT, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
        assert output == ""
        assert status != 0


async def test_a_client_with_static_rsa_and_no_name_is_served_when_that_is_on():
    async with RacsRig(is_legacy=True) as rig:
        output, status = await s_client(rig, "BEGIN o\nLIST\nEND\n" + QUIT, *LEGACY)
        assert output == "BEGIN o\r\n+004 001 key1 \r\nEND\r\n" + GOODBYE
        assert status == 0
    async with RacsRig() as rig:
        output, status = await s_client(rig, QUIT, *LEGACY)
        assert output == ""
        assert status != 0


async def test_requests_with_line_feeds_only():
    async with RacsRig() as rig:
        host, port = rig.server.addresses[0]
        folder = folder_of("admin")
        process = await asyncio.create_subprocess_exec(
            require_peer("openssl"),
            *("s_client", "-quiet", "-connect", f"{host}:{port}", "-CAfile", folder / "ca.pem"),
            *("-cert", folder / "user.pem", "-key", folder / "user.key"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        output, _ = await process.communicate(QUIT.encode())
        assert output.decode() == GOODBYE


class StrictReader:
    """Reads responses as the published PC/SC emulator does: four states, nothing forgiven (§4)."""

    def __init__(self, text):
        self.lines = text.split("\r\n")

    def result(self, *, wants_data):
        """Return the data, or "" where none is wanted; None for a failure."""
        begin = self.lines.pop(0).split(" ")
        assert begin[0] == "BEGIN"
        found = None if wants_data else ""
        while True:
            line = self.lines.pop(0)
            words = line.split(" ")
            if words[0] == "END":
                return found
            if not line.startswith("+"):
                assert line.startswith("-")
                found = None
                continue
            assert words[1].isdecimal()
            if wants_data and int(words[1]) == 1:
                assert words[2]
                assert len(words) == 3, "the hex string and nothing after it"
                found = words[2]


async def test_a_strict_reader_understands_power_answers_and_failures():
    requests = ("POWERON key1", f"APDU key1 {SELECT}", "APDU key1 00200000", "POWERON nosuch")
    text = "".join(f"BEGIN WINSCARD\n{line}\nEND\n" for line in requests)
    async with RacsRig(software("key1"), rules=[Rule("admin", ("*",), ("*",), ("*",))]) as rig:
        output, _ = await s_client(rig, text + QUIT)
        reader = StrictReader(output)
        assert reader.result(wants_data=False) == ""
        assert reader.result(wants_data=True) == "9000"
        assert reader.result(wants_data=True) is None
        assert reader.result(wants_data=False) is None
        assert reader.result(wants_data=False) == ""


async def test_a_client_that_is_killed_gives_its_element_back():
    async with RacsRig() as rig:
        host, port = rig.server.addresses[0]
        folder = folder_of("admin")
        process = await asyncio.create_subprocess_exec(
            require_peer("openssl"),
            *("s_client", "-quiet", "-connect", f"{host}:{port}", "-CAfile", folder / "ca.pem"),
            *("-cert", folder / "user.pem", "-key", folder / "user.key"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        process.stdin.write(b"BEGIN k\nPOWERON key1\nEND\n")
        async with asyncio.timeout(PATIENCE_S):
            await process.stdout.readuntil(b"END\r\n")
        other = await rig.connect()
        assert await other.code("POWERON key1") == "-708"
        process.kill()
        await process.communicate()
        await rig.until(lambda: rig.holders.lock("key1").holder is None)
        assert await other.code("POWERON key1") == "+008"


async def test_what_openssl_was_told_by_the_published_server_it_is_told_here():
    recorded = (VECTORS / "racs" / "racs_openssl_s_client.txt").read_text().splitlines()
    begin, end = recorded.index("BEGIN o"), len(recorded) - recorded[::-1].index("END")
    elements = [software("key1", aliases=("0",)), software("tls1", aliases=("1",))]
    seen = ("key1", "tls1", "0", "1")
    rules = [Rule("admin", seen, EVERYTHING, ("*",))]
    lines = (f"APDU key1 {SELECT}", "APDU key1 002000000430303030", "APDU key1 008B000008")
    request = "BEGIN o\nLIST\nEND\n" + "\n".join(
        ("BEGIN o2", *(f"{line} APPEND" for line in ("POWERON key1", *lines)), "END", "")
    )
    async with RacsRig(*elements, rules=rules, is_legacy=True, compat="reference") as rig:
        output, _ = await s_client(rig, f"{request}BEGIN q\nQUIT\nEND\n", *LEGACY)
    said = output.split("\r\n")[:-1]
    assert len(said) == end - begin
    for ours, theirs in zip(said, recorded[begin:end], strict=True):
        if theirs.startswith("+008"):  # what follows is for people
            assert ours[:8] == theirs[:8]
        elif theirs.startswith("+006 004"):  # random bytes
            assert (len(ours), ours[-4:]) == (len(theirs), theirs[-4:])
        else:
            assert ours == theirs
