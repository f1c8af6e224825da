# SPDX-License-Identifier: Apache-2.0
"""A client that reaches an element through another one, and never holds the element's PSK.

Two nodes in two data folders. The hop keeps the PSK of the target (?A2) and computes with it; the
memory of the client's process is searched for it while sessions run.
"""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

import iose
from tests.acceptance.memory import found_in, psk_secrets
from tests.support.running_node import running_node

pytestmark = pytest.mark.timeout(90)

CLIENT = """
import sys
import iose
target, hop, folder = (sys.stdin.readline().strip() for _ in range(3))
store = iose.CredentialsStore(__import__("pathlib").Path(folder, "credentials"))
hop = iose.ElementUri.decode(hop)
store.save(iose.Credential(hop.address, hop.psk))
module = iose.HopModule(iose.ElementUri.decode(f"keyS://{hop.address}"))
for line in sys.stdin:
    with iose.connect(target, module=module, credentials=store, timeout_s=20) as element:
        print("open", flush=True)
        sys.stdin.readline()
        print(element.command(line.strip()).decode(), flush=True)
"""


class Client:
    """A process that opens a session for each line it is sent, waits, and sends the line."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def say(self, line: str) -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def read(self) -> str:
        return self.process.stdout.readline().strip()


@contextmanager
def client(*lines):
    command = [sys.executable, "-c", CLIENT]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            made = Client(process)
            for line in lines:
                made.say(line)
            yield made
        finally:
            process.kill()


@pytest.fixture
def nodes(tmp_path):
    """The nodes of target and hop; the hop has the target's PSK for its clients."""
    with (
        running_node(tmp_path / "target", "--elements", "1") as target,
        running_node(tmp_path / "hop", "--elements", "1") as hop,
    ):
        with iose.connect(hop.ready["elements"][0]["uri"], timeout_s=20) as element:
            element.set_module_psk(bytes.fromhex(target.psk()))
        yield target, hop


def without_psk(uri: str) -> str:
    parsed = iose.ElementUri.decode(uri)
    return f"{parsed.scheme}://{parsed.address}/"


def test_a_client_of_two_hops_never_holds_the_psk(nodes, tmp_path):
    target, hop = nodes
    secrets = psk_secrets(bytes.fromhex(target.psk()))
    uris = (without_psk(target.ready["elements"][0]["uri"]), hop.ready["elements"][0]["uri"])
    with client(*uris, str(tmp_path)) as asking:
        for text in ("first", "second"):
            asking.say(f"?01{text}")
            assert asking.read() == "open"
            assert found_in(asking.process.pid, secrets) == set()
            asking.say("go on")
            assert asking.read() == text
        # the twin: the same search finds the key that the client does hold, that of the hop
        asking.say("?00")
        assert asking.read() == "open"
        assert found_in(asking.process.pid, {"hop's PSK": bytes.fromhex(hop.psk())})
        assert found_in(asking.process.pid, secrets) == set()
        asking.say("go on")
        assert asking.read()


def test_a_hop_that_lost_the_psk_opens_no_session(nodes, tmp_path):
    target, hop = nodes
    uri = hop.ready["elements"][0]["uri"]
    with iose.connect(uri, timeout_s=20) as element:
        element.set_module_psk(os.urandom(32))
    store = iose.CredentialsStore(tmp_path / "credentials")
    module = iose.HopModule(iose.ElementUri.decode(uri))
    with pytest.raises(iose.AuthenticationError):
        iose.connect(
            without_psk(target.ready["elements"][0]["uri"]),
            module=module,
            credentials=store,
            timeout_s=20,
        )


def test_the_credentials_name_the_hop_and_the_command_line_goes_through_it(nodes, tmp_path):
    target, hop = nodes
    environment = {**os.environ, "IOSE_CREDENTIALS": str(tmp_path / "credentials")}
    uri = without_psk(target.ready["elements"][0]["uri"])
    hop_uri = hop.ready["elements"][0]["uri"]

    def iose_command(*arguments: str, text: str = "") -> str:
        program = [sys.executable, "-c", "from iose.cli.main import main; main()", *arguments]
        done = subprocess.run(
            program, input=text, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    iose_command("credentials", "set", "--from-uri", "-", text=hop_uri + "\n")
    iose_command("credentials", "set", uri, "--module", without_psk(hop_uri))
    assert iose_command("call", f"{uri}??01through") == "through\n"
    listed = iose_command("credentials", "list")
    assert without_psk(hop_uri).partition("@")[2].rstrip("/") in listed
    assert target.psk() not in listed + (tmp_path / "credentials").read_text()
