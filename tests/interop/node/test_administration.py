# SPDX-License-Identifier: Apache-2.0
"""The administration plane of whole nodes: certificates, rules, names, HTTP, RACS Lite, audit."""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from iose.client.racs import BlockingRacsClient
from iose.transport.errors import RacsRefusedError, TransportError
from iose.transport.racs_client import RacsEndpoint
from tests.support.node import LoggedNode, configured_node, until
from tests.support.peers import require_peer
from tests.support.running_node import iose, running_node

pytestmark = [pytest.mark.interop, pytest.mark.timeout(60)]

OPERATOR = {"user": "operator", "elements": ["*"], "verbs": ["*", "SEN"], "aids": ["*"]}
FREE = ["127.0.0.1:0"]
SELECT = bytes.fromhex("00A4040006010203040500")
PSK = "00112233445566778899aabbccddeeff" * 2


def racs_table(**more: Any) -> dict[str, Any]:
    return {"listen": FREE, "rules": [OPERATOR], **more}


def endpoint(address: str, folder: Path) -> RacsEndpoint:
    host, _, port = address.rpartition(":")
    files = (folder / name for name in ("user.pem", "user.key", "ca.pem"))
    return RacsEndpoint(host, int(port), *files)


@contextmanager
def session(node: LoggedNode, folder: Path | None = None) -> Iterator[BlockingRacsClient]:
    with BlockingRacsClient(endpoint(node.racs, folder or node.pki)) as client:
        yield client


def user(node: LoggedNode, name: str) -> Path:
    """Return the folder of a new user's certificate."""
    out = node.folder.parent / f"{name}-{os.urandom(4).hex()}"
    done = iose("pki", "user", name, "--again", "--out", str(out), "--data", str(node.folder))
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoggedNode]:
    folder = tmp_path_factory.mktemp("node")
    psk = folder / "psk"
    psk.write_text(PSK + "\n")
    psk.chmod(0o600)
    table = racs_table(
        http_listen=FREE,
        racsl_listen=FREE,
        rules=[OPERATOR, {"user": "psk:board", "elements": ["*"], "verbs": ["*"], "aids": ["*"]}],
        racsl=[{"identity": "board", "psk_file": str(psk), "element": "rack-1"}],
    )
    element = {"key1.com": {"seids": ["rack-1"]}}
    with configured_node(folder, 3, racs=table, element=element) as running:
        yield running


def test_an_operator_reaches_an_element_by_its_own_seid_and_by_an_alias(node: LoggedNode):
    seid = node["key1.com"].seid
    with session(node) as client:
        assert set(client.list()) == {element.seid for element in node.elements.values()}
        client.power_on("rack-1")
        assert client.apdu(seid, SELECT)[-2:] == b"\x90\x00"
        assert node.element_status("key1.com")["holder"]["plane"] == "racs"
    until(lambda: node.element_status("key1.com")["holder"] is None)


def test_a_name_given_over_racs_is_served_at_once_and_after_a_crash(node: LoggedNode):
    element = node["key2.com"]
    uri = node.uri("key2.com").replace("key2.com", "given.example")
    with session(node) as client:
        client.sen(element.seid, "given.example")
        assert "keystore" in iose("call", f"{uri}?%3F00").stdout
        with pytest.raises(RacsRefusedError):
            client.sen(node["key3.com"].seid, "GIVEN.example")
        (pid,) = node.pids("node")
        os.kill(pid, signal.SIGKILL)
    until(lambda: node.pids("node") not in ([], [pid]))
    until(lambda: "keystore" in iose("call", f"{uri}?%3F00").stdout)
    with session(node) as client:
        assert client.get_sen(element.seid).sen == "given.example"
        client.sen(element.seid, "null")
        assert iose("call", f"{uri}?%3F00").returncode == 1
        client.sen(element.seid)
        assert client.get_sen(element.seid).sen == "key2.com"
    assert "keystore" in iose("call", f"{node.uri('key2.com')}?%3F00").stdout


def test_the_audit_of_a_running_node_is_whole_and_tells_who_did_what(node: LoggedNode):
    data = ("--data", str(node.folder))
    head = iose("audit", "head", *data).stdout.strip()
    with session(node) as client:
        client.power_on(node["key3.com"].seid)
    shown = json.loads(
        iose("audit", "show", "--seid", node["key3.com"].seid, "--json", *data).stdout
    )
    assert {entry["verb"] for entry in shown["entries"]} >= {"POWERON"}
    assert {entry["user"] for entry in shown["entries"]} == {"operator"}
    done = iose("audit", "verify", "--since", head, *data)
    assert done.returncode == 0, done.stdout
    assert element_secrets_are_absent(node)


def details(node: LoggedNode, verb: str) -> list[str]:
    shown = json.loads(iose("audit", "show", "--json", "--data", str(node.folder)).stdout)
    return [one["detail"] for one in shown["entries"] if one["verb"] == verb]


def element_secrets_are_absent(node: LoggedNode) -> bool:
    written = b"".join(path.read_bytes() for path in (node.folder / "audit").glob("*.jsonl"))
    return not any(one.psk.hex().encode() in written.lower() for one in node.elements.values())


def test_a_revoked_user_loses_the_session_at_once_and_gets_none_again(node: LoggedNode):
    folder = user(node, "mallory")
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    context.load_cert_chain(folder / "user.pem", folder / "user.key")
    host, _, port = node.racs.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=15) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        connection.sendall(b"BEGIN\r\nLIST\r\nEND\r\n")
        assert b"+004" in connection.recv(1000)
        revoked = iose("pki", "revoke", "mallory", "--json", "--data", str(node.folder))
        assert json.loads(revoked.stdout)["node_told"] is True
        assert connection.recv(1000) == b""
    acts = details(node, "PKI")
    assert [one.split()[0] for one in acts[-2:]] == ["user", "revoke"]
    assert all(one.endswith(" mallory") for one in acts[-2:])
    refused = BlockingRacsClient(endpoint(node.racs, folder))
    with pytest.raises(TransportError):
        refused.list()
    refused.close()
    with session(node) as client:
        assert client.list()


def test_a_user_certificate_is_no_node_and_a_node_certificate_no_user(node, tmp_path: Path):
    for name in ("pem", "key"):
        shutil.copy(node.pki / f"node.{name}", tmp_path / f"user.{name}")
    shutil.copy(node.pki / "ca.pem", tmp_path)
    refused = BlockingRacsClient(endpoint(node.racs, tmp_path))
    with pytest.raises(TransportError):
        refused.list()
    refused.close()
    context = ssl.create_default_context(cafile=node.pki / "ca.pem")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(node.pki / "user.pem", node.pki / "user.key")
    pipes = [ssl.MemoryBIO() for _ in range(2)]
    near = context.wrap_bio(pipes[0], pipes[1], server_hostname="localhost")
    far = server.wrap_bio(pipes[1], pipes[0], server_side=True)
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        shake_hands(near, far)


def shake_hands(*sides: ssl.SSLObject) -> None:
    for side in sides * 5:
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()


@pytest.mark.parametrize("version", ["-tls1_3", "-tls1_2"])
def test_openssl_speaks_to_the_node(node: LoggedNode, version: str):
    command = [require_peer("openssl"), "s_client", "-quiet", version]
    command += ["-connect", node.racs, "-verify_return_error", "-verify_hostname", "localhost"]
    command += ["-cert", "user.pem", "-key", "user.key", "-CAfile", "ca.pem"]
    done = subprocess.run(
        command, cwd=node.pki, input=b"BEGIN\r\nQUIT\r\nEND\r\n", capture_output=True, check=False
    )
    assert b"+012" in done.stdout, done.stderr


def test_nobody_without_a_certificate_gets_in(node: LoggedNode):
    command = [require_peer("openssl"), "s_client", "-quiet", "-connect", node.racs]
    done = subprocess.run(command, input=b"", capture_output=True, check=False, timeout=30)
    assert b"certificate required" in done.stderr


def test_http_and_racs_lite_listen_where_they_are_told(node: LoggedNode):
    status = node.ask("status")
    context = ssl.create_default_context(cafile=node.pki / "ca.pem")
    context.load_cert_chain(node.pki / "user.pem", node.pki / "user.key")
    host, _, port = status["http"][0].rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=15) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        request = "GET /RACS?BEGIN=&LIST=&END= HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        connection.sendall(request.encode() + b"\r\n")
        page = b"".join(iter(lambda: connection.recv(4096), b""))
    assert b"200" in page.split(b"\r\n")[0]
    assert node["key1.com"].seid.encode() in page
    command = [require_peer("openssl"), "s_client", "-quiet", "-no_ign_eof", "-tls1_3"]
    command += ["-connect", status["racsl"][0], "-psk_identity", "board", "-psk", PSK]
    command += ["-groups", "P-256", "-ciphersuites", "TLS_AES_128_GCM_SHA256"]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL) as client:
        for line, answer in ((b"on", b"OK"), (b"A " + SELECT.hex().encode(), b"9000")):
            client.stdin.write(line + b"\r\n")
            client.stdin.flush()
            assert client.stdout.readline().strip() == answer
        client.terminate()


def test_a_reload_changes_rules_at_once_and_names_what_needs_a_restart(tmp_path: Path):
    with configured_node(tmp_path, 1, racs=racs_table()) as node:
        folder = user(node, "alice")
        with session(node, folder) as client:
            assert client.list() == ()
            rules = [OPERATOR, {**OPERATOR, "user": "alice"}]
            node.configure(1, racs=racs_table(rules=rules))
            assert node.ask("reload") == {"restart_needed_for": []}
            assert len(client.list()) == 1
            client.power_on(client.list()[0])
            node.configure(1, racs=racs_table(listen=["127.0.0.1:1"]))
            assert node.ask("reload") == {"restart_needed_for": ["racs.listen"]}
            assert client.list() == ()
            until(lambda: node.element_status("key1.com")["holder"] is None)
            wrong = {**OPERATOR, "verbs": ["FLY"]}
            node.configure(1, racs=racs_table(rules=[wrong]))
            refused = node.request("reload")["error"]
            assert "racs.rules, number 1: FLY" in refused["message"]
        assert len(details(node, "RELOAD")) == 2


def test_a_node_without_a_rule_lets_nobody_do_anything(tmp_path: Path):
    with configured_node(tmp_path, 1, racs={"listen": FREE}) as node, session(node) as client:
        assert client.list() == ()
        with pytest.raises(RacsRefusedError):
            client.power_on(node["key1.com"].seid)


def test_published_clients_are_let_in_where_that_is_asked_for(tmp_path: Path):
    legacy = [require_peer("openssl"), "s_client", "-quiet", "-tls1_2"]
    legacy += ["-noservername", "-cipher", "AES128-GCM-SHA256"]
    files = ["-cert", "user.pem", "-key", "user.key", "-CAfile", "ca.pem"]
    request = b"BEGIN\r\nLIST\r\nQUIT\r\nEND\r\n"
    for is_legacy in (False, True):
        table = racs_table(legacy_rsa_kx=is_legacy)
        with configured_node(tmp_path, 1, racs=table) as node:
            done = subprocess.run(
                [*legacy, "-connect", node.racs, *files],
                cwd=node.pki, input=request, capture_output=True, check=False, timeout=30,
            )  # fmt: skip
            assert (b"+012" in done.stdout) is is_legacy
            with session(node) as client:
                assert len(client.list()) == 1


def test_a_broken_audit_log_stops_administration_and_nothing_else(tmp_path: Path):
    (tmp_path / "data").mkdir(mode=0o700)
    with configured_node(tmp_path, 1, racs=racs_table()) as node:
        assert node.element_status("key1.com")["is_served"]
    shutil.rmtree(tmp_path / "data" / "audit")
    (tmp_path / "data" / "audit").write_text("in the way")
    with configured_node(tmp_path, 1, racs=racs_table()) as node:
        assert "keystore" in iose("call", f"{node.uri('key1.com')}?%3F00").stdout
        with session(node) as client, pytest.raises((RacsRefusedError, TransportError)):
            client.power_on(node["key1.com"].seid)
        assert node.ask("status")["administration"]["audit"]["fault"]
        (tmp_path / "data" / "audit").unlink()
        with session(node) as client:
            client.power_on(node["key1.com"].seid)


def test_a_taken_port_is_an_error_that_names_the_option(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        data = ("--data", str(tmp_path / "data"))
        refused = iose("up", *data, "--front", "127.0.0.1:0", "--racs", address)
    assert refused.returncode == 1
    assert f"cannot listen on {address}" in refused.stderr
    assert "--racs" in refused.stderr


def test_a_node_without_an_administration_plane_has_no_certificates(tmp_path: Path):
    with running_node(tmp_path / "data", "--racs", "") as node:
        assert (node.ready["racs"], node.ready["pki"]) == (None, None)
        assert not (tmp_path / "data" / "pki").exists()


def test_sessions_end_in_order_when_the_node_stops(tmp_path: Path):
    with configured_node(tmp_path, 1, racs=racs_table()) as node, session(node) as client:
        client.power_on(node["key1.com"].seid)
        assert iose("node", "stop", "--data", str(node.folder)).returncode == 0
        shown = iose("audit", "show", "--json", "--data", str(node.folder)).stdout
    verbs = [entry["verb"] for entry in json.loads(shown)["entries"]]
    assert verbs == ["START", "CONNECT", "POWERON", "CLOSE", "STOP"]
