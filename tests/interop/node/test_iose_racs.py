# SPDX-License-Identifier: Apache-2.0
"""``iose racs`` and the RACS reader against a whole node, as an operator uses them."""

import asyncio
import json

import pytest

from iose.cli.racs_access import open_reader, resolve_racs
from iose.client.racs import BlockingRacsClient
from iose.iso7816.apdu import CommandApdu
from iose.iso7816.batch import BatchStep
from iose.transport.errors import RacsRefusedError
from tests.support.running_node import iose, running_node

pytestmark = pytest.mark.timeout(60)

SELECT = "00A4040006010203040500"
KEYSTORE = CommandApdu(0, 0xA4, 4, 0, bytes.fromhex("010203040500"))


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with running_node(tmp_path_factory.mktemp("node") / "data", "--racs", "127.0.0.1:0") as node:
        yield node


@pytest.fixture(scope="module")
def racs(node):
    """Give a function that runs ``iose racs`` on the node's own data folder."""
    return lambda command, *given: iose("racs", command, "--data", str(node.data), *given)


def names(node):
    return {element["sen"]: element["seid"] for element in node.ready["elements"]}


def test_the_owner_of_the_folder_sees_every_element(node, racs):
    done = racs("list", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["server"] == node.ready["racs"]
    assert {one["sen"]: one["seid"] for one in document["elements"]} == names(node)


def test_an_address_and_a_folder_of_certificates_do_as_well(node):
    where = ("--server", node.ready["racs"], "--pki", node.ready["pki"])
    assert iose("racs", "power", "key1.com", "on", *where).returncode == 0
    named = iose("racs", "power", "key1.com", "on", "--server-name", "elsewhere.example", *where)
    assert named.returncode == 1
    assert "certificate is refused" in named.stderr


@pytest.mark.parametrize("options", [(), ("--warm",)])
def test_an_element_is_reset(racs, options):
    assert racs("reset", "key1.com", *options).returncode == 0


def test_apdus_are_answered_and_explained(racs):
    done = racs("apdu", "key1.com", SELECT, "00EE000000", "--json")
    assert done.returncode == 0, done.stderr
    assert [one["status"] for one in json.loads(done.stdout)["exchanges"]] == ["9000", "6D00"]
    stopped = racs("apdu", "key1.com", "--continue", "9000", SELECT, "00EE000000", SELECT)
    assert (stopped.returncode, len(stopped.stdout.splitlines())) == (1, 2)


def test_a_script_runs_and_tells_of_failures(node, racs, tmp_path):
    seid = names(node)["key2.com"]
    script = tmp_path / "script.txt"
    script.write_text(
        f"// as the console\nBEGIN one\nPOWERON {seid} APPEND\nAPDU {seid} {SELECT}\nEND\n"
        f"BEGIN two\nPOWERON nobody\nAPDU {seid} {SELECT}\nEND\nBEGIN\nFOO\nEND\nBEGIN\nLIST\nEND\n"
    )
    done = racs("run", str(script), "--json")
    assert done.returncode == 1
    said = [
        [line["status"] for line in response["lines"]]
        for response in json.loads(done.stdout)["responses"]
    ]
    assert said == [["+008", "+006"], ["-408"], ["-100"], ["+004"]]


def test_a_name_is_given_and_taken_back(node, racs):
    seid = names(node)["key3.com"]
    given = racs("sen", seid, "other.com", "--aid", "010203040500", "--json")
    assert given.returncode == 0, given.stderr
    assert json.loads(given.stdout)["sen"] == "other.com"
    assert racs("sen", seid, "--clear").stdout.split() == [seid, "key3.com"]


def test_an_element_in_use_says_so_and_can_be_cut_off(node, racs):
    endpoint = resolve_racs(node.data, None, None)
    with BlockingRacsClient(endpoint) as client:
        seid = client.seid_of("key1.com")
        client.power_on(seid)
        busy = racs("power", "key1.com", "on")
        assert busy.returncode == 1
        assert "refused, -708" in busy.stderr
        assert "another session holds the element" in busy.stderr
        assert racs("power", "key1.com", "off").returncode == 0
        with pytest.raises(RacsRefusedError):
            client.apdu(seid, KEYSTORE.encode())
        assert racs("power", "key1.com", "on").returncode == 0


def test_a_reader_reaches_an_element_by_its_name(node):
    reader = open_reader("key1.com", data=node.data)

    async def work():
        connection = await reader.connect()
        plan = [BatchStep(KEYSTORE), BatchStep(CommandApdu(0, 0xEE, 0, 0))]
        responses = await connection.transmit_batch(plan)
        await connection.reset()
        raw = await connection.transmit_raw(KEYSTORE.encode())
        await connection.close()
        return [response.status for response in responses], raw

    assert asyncio.run(work()) == ([0x9000, 0x6D00], b"\x90\x00")
    assert reader.atr == bytes.fromhex("3B08") + b"key1.com"


def test_a_node_without_an_administration_plane_says_so(tmp_path):
    with running_node(tmp_path / "data", "--racs", "") as node:
        done = iose("racs", "list", "--data", str(node.data))
    assert done.returncode == 1
    assert "the node has no administration plane" in done.stderr
    assert "--racs" in done.stderr
