# SPDX-License-Identifier: Apache-2.0
"""A whole node as its user meets it: ``iose up``, OpenSSL as the client, processes killed."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest

from tests.support.peers import require_peer
from tests.support.running_node import (
    FREE_PORTS,
    PROGRAM,
    RunningNode,
    iose,
    is_alive,
    running_node,
    until,
)

pytestmark = [pytest.mark.interop, pytest.mark.timeout(60)]

LAST_LINE = "Stop with Ctrl-C.\n"


def openssl_command(node: RunningNode, index: int = 0) -> list[str]:
    """Return the ``openssl s_client`` that opens a session with one element."""
    element = node.ready["elements"][index]
    return [
        require_peer("openssl"), "s_client", "-quiet", "-tls1_3",
        "-connect", node.ready["front"], "-servername", element["sen"],
        "-groups", "P-256", "-ciphersuites", "TLS_AES_128_CCM_SHA256",
        "-psk_identity", element["psk_identity"], "-psk", node.psk(index),
    ]  # fmt: skip


def ask_with_openssl(node: RunningNode, *lines: str, index: int = 0) -> list[str]:
    """Return the answers of one element to some commands."""
    answers = []
    with subprocess.Popen(
        openssl_command(node, index),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as client:
        for line in lines:
            client.stdin.write(line + "\n")
            client.stdin.flush()
            answers.append(client.stdout.readline().strip())
        client.kill()
    return answers


@pytest.fixture
def node(tmp_path: Path):
    """A node that a test may hurt."""
    with running_node(tmp_path / "data") as node:
        yield node


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory):
    """A node that is only looked at."""
    with running_node(tmp_path_factory.mktemp("shared") / "data") as node:
        yield node


def processes(node: RunningNode) -> dict[str, int]:
    return {item["name"]: item["pid"] for item in node.status()["processes"]}


def test_up_announces_one_line_with_the_documented_fields(shared: RunningNode):
    assert shared.ready.keys() == {"ready", "front", "racs", "pki", "elements"}
    assert shared.ready["ready"] is True
    assert shared.ready["pki"] == str(shared.data / "pki")
    certificates = {"user.pem", "user.key", "ca.pem"}
    assert certificates <= {path.name for path in (shared.data / "pki").iterdir()}
    assert [item["sen"] for item in shared.ready["elements"]] == [
        "key1.com",
        "key2.com",
        "key3.com",
    ]
    for item in shared.ready["elements"]:
        assert item.keys() == {"seid", "sen", "uri", "psk_identity"}
        uri = rf"keyS://{item['sen']}:[0-9a-f]{{64}}@{shared.ready['front']}/"
        assert re.fullmatch(uri, item["uri"])


@pytest.mark.parametrize("is_on_path", [True, False])
def test_what_up_tells_to_try_works_as_printed(tmp_path: Path, is_on_path):
    program = Path(sys.executable).parent / "iose"
    path = f"{program.parent}:/usr/bin:/bin" if is_on_path else "/usr/bin:/bin"
    environment = {"PATH": path, "HOME": str(tmp_path)}
    command = [program, "up", *FREE_PORTS, "--elements", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            printed = "".join(takewhile(lambda line: line != LAST_LINE, process.stdout))
            (call,) = re.findall(r"^  (\S*iose call .*)$", printed, re.MULTILINE)
            (client,) = re.findall(r"^  (openssl(?:.*\\\n)*.*)$", printed, re.MULTILINE)
            for line in (call, f"(echo '?00'; sleep 1; echo '?02') | {client}"):
                done = subprocess.run(
                    ["sh", "-c", line], env=environment, capture_output=True, text=True, check=False
                )
                assert "keystore" in done.stdout, done
        finally:
            process.terminate()
    assert call.startswith("iose call" if is_on_path else f"{program} call")


def test_openssl_is_answered_by_every_element(shared: RunningNode):
    for index in range(3):
        assert "keystore" in ask_with_openssl(shared, "?00", index=index)[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_everything_cleanly(node: RunningNode, number: int):
    children = processes(node).values()
    assert node.stop(number) == 0
    assert not any(map(is_alive, children))
    left = {item.name for item in node.data.iterdir()}
    assert left == {
        *("elements", "folder.json", "index.json", "lock"),
        *("audit", "pki", "pki.lock"),
    }
    assert not list((node.data / "elements").glob("*-wal"))


def test_a_signal_during_the_start_stops_it_too(tmp_path: Path):
    command = [*PROGRAM, "up", "--data", str(tmp_path / "data"), *FREE_PORTS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until((tmp_path / "data" / "lock").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) in (0, -signal.SIGTERM)


def test_keys_are_kept_between_runs(tmp_path: Path):
    with running_node(tmp_path / "data") as first:
        keys = [first.psk(index) for index in range(3)]
        answer = ask_with_openssl(first, "g00", "p00")[1]
    with running_node(tmp_path / "data") as second:
        assert [second.psk(index) for index in range(3)] == keys
        assert ask_with_openssl(second, "p00")[0] == answer


def test_a_killed_host_comes_back_and_its_elements_serve_again(node: RunningNode):
    hosts = {name: pid for name, pid in processes(node).items() if "host" in name}
    for pid in hosts.values():
        os.kill(pid, signal.SIGKILL)
    until(lambda: all(pid not in processes(node).values() for pid in hosts.values()))
    until(lambda: all(processes(node).values()))
    for index in range(3):
        until(lambda index=index: "keystore" in ask_with_openssl(node, "?00", index=index)[0])
    assert [item["restarts"] for item in node.status()["processes"] if "host" in item["name"]] == [
        1 for _ in hosts
    ]


def test_a_killed_node_process_comes_back_on_the_same_port(node: RunningNode):
    first = processes(node)["node"]
    os.kill(first, signal.SIGKILL)
    assert "keystore" in ask_with_openssl(node, "?00")[0]
    assert processes(node)["node"] not in (first, None)


def test_no_process_outlives_a_killed_supervisor(node: RunningNode):
    children = processes(node).values()
    node.process.kill()
    until(lambda: not any(map(is_alive, children)))
    with running_node(node.data) as again:
        assert [item["uri"].partition("@")[0] for item in again.ready["elements"]] == [
            item["uri"].partition("@")[0] for item in node.ready["elements"]
        ]


def test_a_second_node_on_the_same_folder_is_refused_with_the_pid_of_the_first(shared: RunningNode):
    result = iose("up", "--data", str(shared.data), *FREE_PORTS)
    assert result.returncode == 1
    assert f"in use by process {shared.process.pid}" in result.stderr
    assert "next:" in result.stderr


def test_a_taken_port_is_an_error_and_leaves_nothing_running(shared: RunningNode, tmp_path: Path):
    result = iose(
        "up", "--data", str(tmp_path / "other"), "--front", shared.ready["front"], "--racs", ""
    )
    assert result.returncode == 1
    assert "cannot listen" in result.stderr
    assert not (tmp_path / "other" / "control.sock").exists()


def test_the_status_shows_who_holds_an_element_and_who_waits(shared: RunningNode):
    seid = shared.ready["elements"][0]["seid"]
    assert "keystore" in ask_with_openssl(shared, "?00")[0]
    status = shared.status()
    assert status["front"] == [shared.ready["front"]]
    assert status["counters"]["opened"] >= 1
    element = next(item for item in status["elements"] if item["seid"] == seid)
    assert element.keys() == {
        "seid", "sen", "state", "is_served", "holder", "waiting",
        "sessions", "failures", "is_degraded", "retry_in_s",
    }  # fmt: skip
    assert (element["is_served"], element["state"]) == (True, "ready")
    assert shared.psk() not in str(status)


def test_elements_come_and_go_while_the_node_runs(node: RunningNode):
    data = str(node.data)
    made = iose("element", "create", "--sen", "new.com", "--json", "--data", data)
    assert made.returncode == 0
    served = {item["sen"] for item in node.status()["elements"] if item["is_served"]}
    assert served == {"key1.com", "key2.com", "key3.com", "new.com"}
    assert iose("element", "rename", "key1.com", "first.com", "--data", data).returncode == 0
    node.ready["elements"][0]["sen"] = "first.com"
    assert "keystore" in ask_with_openssl(node, "?00")[0]
    assert iose("element", "delete", "new.com", "--yes", "--data", data).returncode == 0
    served = {item["sen"] for item in node.status()["elements"] if item["is_served"]}
    assert served == {"first.com", "key2.com", "key3.com"}


def test_node_stop_stops_it(node: RunningNode):
    result = iose("node", "stop", "--data", str(node.data))
    assert result.returncode == 0, result.stderr
    assert node.process.wait(10) == 0


def test_an_encrypted_folder_needs_its_passphrase(tmp_path: Path):
    words = tmp_path / "words"
    words.write_text("a long passphrase\n")
    with running_node(tmp_path / "data", "--passphrase-file", str(words)) as node:
        assert "keystore" in ask_with_openssl(node, "?00")[0]
        psk = bytes.fromhex(node.psk())
    for path in (tmp_path / "data").rglob("*"):
        assert path.is_dir() or path.is_socket() or psk not in path.read_bytes()
    result = iose("up", "--data", str(tmp_path / "data"), *FREE_PORTS)
    assert result.returncode == 1
    assert "is encrypted" in result.stderr
    listed = iose(
        "element", "list", "--data", str(tmp_path / "data"), IOSE_PASSPHRASE_FILE=str(words)
    )
    assert "key1.com" in listed.stdout


def test_node_run_takes_a_file_and_reloads_it(tmp_path: Path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config, log = tmp_path / "node.toml", tmp_path / "node.log"
    text = (
        f'data = "{tmp_path / "data"}"\nelements = 1\n'
        f'[front]\nlisten = ["127.0.0.1:{port}"]\n[log]\nfile = "{log}"\n'
    )
    config.write_text(text)
    data = ("--data", str(tmp_path / "data"))
    with subprocess.Popen([*PROGRAM, "node", "run", "--config", str(config)]) as process:
        try:
            until(lambda: log.exists() and "node.ready" in log.read_text())
            config.write_text(text + '[element."key1.com"]\naliases = ["other.example.com"]\n')
            process.send_signal(signal.SIGHUP)
            until(lambda: "reloaded" in log.read_text())
            config.write_text(text + "[elemnt]\n")
            refused = iose("node", "reload", *data)
            assert (refused.returncode, "'elemnt'" in refused.stderr) == (1, True)
            assert iose("node", "status", *data).returncode == 0
            assert iose("node", "stop", *data).returncode == 0
            assert process.wait(10) == 0
        finally:
            process.kill()
    assert log.stat().st_mode & 0o777 == 0o600
    assert "psk" not in log.read_text()


def test_of_two_first_starts_on_one_folder_one_has_it_and_nothing_is_lost(tmp_path: Path):
    words = tmp_path / "words"
    words.write_text("a long passphrase\n")
    options = [*FREE_PORTS, "--elements", "1", "--passphrase-file", str(words)]
    command = [*PROGRAM, "up", "--json", "--data", str(tmp_path / "data"), *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as one, subprocess.Popen(command, **pipes) as other:
        until(lambda: one.poll() is not None or other.poll() is not None)
        loser, winner = (one, other) if one.poll() is not None else (other, one)
        assert (loser.returncode, "in use by process" in loser.stderr.read()) == (1, True)
        ready = json.loads(winner.stdout.readline())
        winner.terminate()
    with running_node(tmp_path / "data", *options[2:]) as again:
        assert again.ready["elements"][0]["seid"] == ready["elements"][0]["seid"]
        assert again.psk() == ready["elements"][0]["uri"].split(":")[2].partition("@")[0]
