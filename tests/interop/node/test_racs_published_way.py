# SPDX-License-Identifier: Apache-2.0
"""Readers of ours against a node that does as the published server, and against RACS Lite.

The node's configuration is an imported directory of that server, as far as it goes.
"""

import asyncio
import dataclasses
import json
import tomllib

import pytest

from iose.cli.racs_access import resolve_racs
from iose.client.racs import BlockingRacsClient
from iose.iso7816.apdu import CommandApdu
from iose.iso7816.batch import BatchStep
from iose.runtime.author_config import read_author_config
from iose.transport.errors import NoCardError, RacsRefusedError
from iose.transport.racs_client import RacsReader
from iose.transport.racsl_client import RacslEndpoint
from tests.support.node import configured_node
from tests.support.racsl_board import reader_of
from tests.support.running_node import iose

pytestmark = pytest.mark.timeout(60)

KEYSTORE = CommandApdu(0, 0xA4, 4, 0, bytes.fromhex("010203040500"))
VERIFY = CommandApdu(0, 0x20, 0, 0, b"0000")
VERSION = CommandApdu(0, 0xEE, 0, 0)
PSK = bytes(range(32))
FILES = {
    "config.txt": "server_port 127.0.0.1:0\ncipher_list AES128-GCM-SHA256\n",
    "users.txt": "operator 1 1010\nguest 1 1010\n",
    "1010.txt": "010203040500 no 1 operator:filter.txt\ndefault no 0\n",
    "filter.txt": "FFFF0000 00200000\n",
}


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A node with the rules of the published files, for the element with the SEID 1010."""
    folder = tmp_path_factory.mktemp("published")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    imported = tomllib.loads(read_author_config(folder).toml)["racs"]
    key = folder / "psk"
    key.write_text(PSK.hex())
    key.chmod(0o600)
    board = {"user": "psk:board", "elements": ["1010"], "verbs": ["*"], "aids": ["010203040500"]}
    racs = {
        **imported,
        "legacy_rsa_kx": True,
        "compat": "reference",
        "racsl_listen": ["127.0.0.1:0"],
        "rules": [*imported["rules"], board],
        "racsl": [{"identity": "board", "psk_file": str(key), "element": "1010"}],
    }
    element = {"key1.com": {"seids": ["1010"]}}
    with configured_node(folder / "node", 1, racs=racs, element=element) as node:
        yield node


@pytest.fixture(params=[True, False], ids=["legacy", "modern"])
def endpoint(node, request):
    return dataclasses.replace(resolve_racs(node.folder, None, None), is_legacy=request.param)


def test_the_author_s_way_to_connect_is_open_where_asked_for(node):
    done = iose("racs", "list", "--legacy", "--data", str(node.folder), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["elements"] == [{"seid": "1010", "sen": "key1.com", "aid": ""}]


def test_the_rights_of_the_files_hold(endpoint):
    with BlockingRacsClient(endpoint) as client:
        client.power_on("1010")
        with pytest.raises(RacsRefusedError, match="-706"):
            client.apdu("1010", VERSION.encode())  # nothing is selected
        assert client.apdu("1010", KEYSTORE.encode()) == b"\x90\x00"
        with pytest.raises(RacsRefusedError, match="-706"):
            client.apdu("1010", VERIFY.encode())  # the filter
        with pytest.raises(RacsRefusedError, match="-706"):
            client.apdu("1010", bytes.fromhex("00A4040008A000000151000000"))


def test_the_reader_works_over_the_node_as_over_the_published_server(endpoint):
    async def work():
        reader = RacsReader(endpoint, "1010")
        for _ in range(2):
            connection = await reader.connect()
            plan = [BatchStep(KEYSTORE), BatchStep(VERSION, None), BatchStep(VERSION)]
            found = await connection.transmit_batch(plan)
            await connection.close()
        return [response.status for response in found]

    assert asyncio.run(work()) == [0x9000, 0x6D00, 0x6D00]


def test_an_unknown_command_ends_the_session_there_and_the_next_request_opens_another(endpoint):
    with BlockingRacsClient(endpoint) as client:
        responses = list(client.run_script(["BEGIN", "FOO", "END", "BEGIN", "LIST", "END"]))
    assert [str(one.last)[:8] for one in responses] == ["-900 001", "+004 001"]


def test_racs_lite_reaches_the_element_of_its_key(node):
    port = int(node.ask("status")["racsl"][0].rpartition(":")[2])
    endpoint = RacslEndpoint("127.0.0.1", port, PSK, "key1.com", identity="board")

    async def work():
        connection = await reader_of(endpoint).connect()
        with pytest.raises(NoCardError):
            await reader_of(endpoint).connect()  # in use
        plan = [BatchStep(KEYSTORE), BatchStep(VERSION)]
        found = await connection.transmit_batch(plan)
        await connection.reset()
        await connection.close()
        return [response.status for response in found]

    assert asyncio.run(work()) == [0x9000, 0x6D00]
