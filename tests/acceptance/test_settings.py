# SPDX-License-Identifier: Apache-2.0
"""Every combination of wire, limits and commands through a whole node, and what hardened closes."""

import asyncio
from itertools import product

import pytest

from iose.iso7816.apdu import CommandApdu
from iose.iso7816.batch import BatchStep
from iose.tls.constants import AlertDescription, NamedGroup
from iose.transport.element_host import ElementHostLink
from tests.acceptance.programs import CCM, GCM, openssl
from tests.acceptance.signatures import is_verified
from tests.acceptance.wire import WireClient
from tests.support.node import configured_node
from tests.support.running_node import iose

VERSIONS = {"iose": "iose keystore/1", "1.3": "iose keystore 1.3", "2.18": "iose keystore 2.18"}
COMPATIBLE = ("compatible", "iose")  # makes no statements on itself, and says so
SETTINGS = list(product(("hardened", "compatible"), ("wide", "chip"), VERSIONS))
DEMO_PSK = bytes(range(1, 33))
USER_PIN = "002000000430303030"
ADMIN_PIN = "00200001083030303030303030"
CHIP_LINE = 490  # tls-se.md §8.4: what a record of 512 bytes has room for


def name_of(wire: str, limits: str, commands: str) -> str:
    return f"{commands.replace('.', '')}-{limits}-{wire[:4]}"


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A node with an element of each kind, and two with published keys."""
    with configured_node(tmp_path_factory.mktemp("kinds"), 0) as running:
        for kind in SETTINGS:
            plan = dict(zip(("wire", "limits", "commands"), kind, strict=True))
            running.ask("element.create", {"sen": name_of(*kind), **plan})
        for wire in ("hardened", "compatible"):
            made = iose(
                *("element", "create", "--sen", f"demo-{wire[:4]}", "--wire", wire),
                *("--demo-keys", "--data", str(running.folder)),
            )
            assert made.returncode == 0, made.stderr
            assert "published" in made.stderr, "a warning"
        running.refresh_elements()
        yield running


@pytest.mark.parametrize(("wire", "limits", "commands"), SETTINGS)
def test_openssl_is_answered_likewise(node, tmp_path, wire, limits, commands):
    element = node[name_of(wire, limits, commands)]
    mark = node.log_mark()
    with openssl(node.front, element) as client:
        shown = "iose keystore compatible" if (wire, commands) == COMPATIBLE else VERSIONS[commands]
        assert client.ask("?00") == shown
        assert client.ask("c00") == "OK"
        assert client.ask("g00") == "OK"
        point = bytes.fromhex(client.ask("p00"))
        signature = bytes.fromhex(client.ask("s00" + "5A" * 32))
        assert is_verified(tmp_path, point, b"\x5a" * 32, signature)
        client.send("?02")
        outcome = client.finish()
    line = node.wait_logged("session.ended", mark)
    if wire == "hardened":
        assert (outcome.status, outcome.errors) == (0, "")
        assert (line["reason"], line["status"]) == ("element_closed", "9002")
    else:
        assert "unexpected eof" in outcome.errors, "a bare close, as published"
        assert (line["reason"], line["status"]) == ("element_refused", "6D16")


@pytest.mark.parametrize(("wire", "limits", "commands"), SETTINGS)
def test_what_an_element_does_not_speak_is_refused(node, wire, limits, commands):
    element = node[name_of(wire, limits, commands)]
    for suite, group in ((GCM, "P-256"), (CCM, "X25519")):
        with openssl(node.front, element, suite=suite, group=group) as client:
            if wire == "hardened":
                assert client.ask("?00") == VERSIONS[commands]
            else:
                assert client.finish().status == 1


@pytest.mark.parametrize(("wire", "limits", "commands"), SETTINGS)
def test_lines_are_as_long_as_the_limits_say(node, wire, limits, commands):
    element = node[name_of(wire, limits, commands)]
    groups = (NamedGroup.SECP256R1,)
    for size, is_served in ((CHIP_LINE, True), (CHIP_LINE + 1, limits == "wide")):
        line = b"?01" + b"x" * (size - len(b"?01\n"))
        with WireClient(node, element, groups=groups) as client:
            assert client.handshake()
            if is_served:
                assert client.call(line) == line[3:]
                continue
            client.engine.send_data(line + b"\n")
            data = client.engine.data_to_send()
            if len(data) <= 512:
                pytest.fail("a record too long for a chip has more than 512 bytes")
            client.write(data)
            client.rest()
            assert client.ended()["reason"] in {"record_overflow", "element_closed"}


@pytest.mark.parametrize(("wire", "limits", "commands"), SETTINGS)
def test_a_hybrid_hello_is_for_wide_hardened_elements(node, wire, limits, commands):
    element = node[name_of(wire, limits, commands)]
    with WireClient(node, element, groups=(NamedGroup.X25519_MLKEM768,)) as client:
        assert client.handshake() == ((wire, limits) == ("hardened", "wide"))
        if limits == "chip":
            assert client.alert is AlertDescription.RECORD_OVERFLOW
        elif wire == "compatible":
            assert client.received == bytes.fromhex("15030300020250"), "6D16 before any byte"


@pytest.mark.parametrize("limits", ["wide", "chip"])
@pytest.mark.parametrize("wire", ["hardened", "compatible"])
def test_each_set_has_its_own_commands(node, wire, limits):
    answers = {}
    for commands in VERSIONS:
        with WireClient(
            node, node[name_of(wire, limits, commands)], groups=(NamedGroup.SECP256R1,)
        ) as client:
            assert client.handshake(), client.alert
            client.call(b"c01")
            client.call(b"t01")
            lines = (b"N01", b"h01" + b"00" * 32, b"G02", b"Z00ab", b"Z00plain text", b"I00")
            answers[commands] = [client.call(line) for line in lines]
    one, two, ours = answers["1.3"], answers["2.18"], answers["iose"]
    assert one[0] == two[0] == b"ERROR"
    assert ours[0] == b"00"
    assert one[1] == b"ERROR"
    assert len(two[1]) == len(ours[1]) == 64
    assert one[2] == b"ERROR"
    assert two[2] != b"ERROR"
    assert (one[3:], ours[3:]) == ([b"OK", b"OK", b"plain text"],) * 2
    assert two[3:] == [b"OK", b"ERROR", b"AB"], "hex records in 2.18"


# --- what a host may do with APDUs of its own ----------------------------------------------


def apdus(node, sen: str, *commands: str) -> list[str]:
    """Return the answers to APDUs sent over the host's own socket, past the front."""

    async def send() -> list[str]:
        for path in sorted(node.folder.glob("host-*.sock")):
            link = ElementHostLink(path)
            await link.start()
            try:
                await link.refresh()
                if link.info(node[sen].seid) is None:
                    continue
                connection = await link.reader(node[sen].seid).connect()
                try:
                    return [await one(connection, text) for text in commands]
                finally:
                    await connection.close()
            finally:
                await link.stop()
        raise AssertionError(f"no host has {sen}")

    async def one(connection, text: str) -> str:
        command = CommandApdu.decode(bytes.fromhex(text))
        (answer,) = await connection.transmit_batch([BatchStep(command, expected=None)])
        return (answer.data + answer.status.to_bytes(2, "big")).hex().upper()

    return asyncio.run(send())


HOLES = {
    "SEND with P1=01, fixed keys": "00D8010305160301000100",
    "SEND with P1=02": "00D8020305160301000100",
    "SEND with P1=FF": "00D8FF0305160301000100",
    "the PSK by INS 85": "0085000A23010020" + "AB" * 32,
    "a binder by INS 85": "0085000C20" + "AB" * 32,
    "a handshake secret by INS 85": "0085000E20" + "AB" * 32,
    "a line without TLS": "00DA00FF043F30300A",
    "a fixed random": "00DA000320" + "AB" * 32,
    "another PIN in clear": "0024000010" + "3030303030303030" + "3131313131313131",
    "a private key in clear": "0088070001" + "07",
    "STORE DATA once more": "00E2800000",
    "a signature of the attestation key": "008000FE20" + "AB" * 32,
}


@pytest.mark.parametrize("hole", HOLES)
def test_a_hardened_element_refuses_its_host(node, hole):
    *_, answer = apdus(node, "demo-hard", USER_PIN, ADMIN_PIN, HOLES[hole])
    assert answer == "6985"


def test_the_pins_were_right(node):
    """The twin: without it, all of the above could be refused for want of a PIN."""
    for sen in ("demo-hard", "demo-comp"):
        assert apdus(node, sen, USER_PIN, ADMIN_PIN) == ["9000", "9000"]
        assert apdus(node, sen, "002000000431313131")[0] == "6302"
        assert apdus(node, sen, USER_PIN)[0] == "9000"


def test_a_compatible_element_lets_its_host_do_as_published(node):
    answers = apdus(
        node,
        "demo-comp",
        ADMIN_PIN,
        HOLES["a line without TLS"],
        "0085000A23010020" + DEMO_PSK.hex(),
    )
    assert answers[0] == "9000"
    assert bytes.fromhex(answers[1][:-4]) == b"iose keystore compatible\r\n"
    assert answers[2] == "9000"
    assert node["demo-comp"].psk == DEMO_PSK


def test_random_elements_have_none_of_the_published_keys(node):
    assert node["demo-hard"].psk == DEMO_PSK
    others = [one.psk for sen, one in node.elements.items() if not sen.startswith("demo-")]
    assert DEMO_PSK not in others
    assert len(set(others)) == len(SETTINGS)
    sen = name_of("hardened", "wide", "iose")
    assert apdus(node, sen, USER_PIN)[0] == "6302", "PINs are random too"
