# SPDX-License-Identifier: Apache-2.0
"""An element is installed on a shared card, given away, taken over, used, locked and deleted.

Operator and user are two people: programs of their own, two homes. What each step says is
believed only together with what the other side, the card and the audit log say.
"""

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.node import LoggedNode, configured_node
from tests.support.peers import require_peer
from tests.support.running_node import iose

SEN = "shop.example"
OPERATOR = {"user": "operator", "elements": ["*"], "verbs": ["*"], "aids": ["*"]}
UNRECOGNIZED_NAME = "alert number 112"
SELECT_TO_DELETE = {"A4", "50", "82", "F2", "E6", "E2", "F0", "E4"}
NOT_SERVED = 1

pytestmark = pytest.mark.timeout(120)  # each step starts a program


class Person:
    """Somebody with a home, who knows nothing of anybody else's."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir()
        self._environment = {
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_STATE_HOME": str(home / "state"),
            "IOSE_DATA": str(home / "data"),
        }

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return iose(*arguments, **self._environment)

    def does(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def told(self, *arguments: str) -> dict:
        return json.loads(self.does(*arguments, "--json"))


def alert_for(front: str, name: str) -> str:
    """Return what openssl is told that asks the front for a name."""
    command = [require_peer("openssl"), "s_client", "-tls1_3", "-connect", front]
    command += ["-servername", name, "-psk", "00" * 32]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=30
    )
    return done.stderr.decode()


class Shop:
    """The new element: what the operator knows of it, and where it is served."""

    def __init__(self, node: LoggedNode, operator: Person, user: Person) -> None:
        self.node, self.operator, self.user = node, operator, user
        self.uri = f"keyS://{SEN}@{node.front}/"
        self.keys = str(operator.home / "domain.json")
        self.secrets = operator.home / "shop.json"
        operator.does("element", "secrets", "key1.com", "--out", self.keys, "--again")
        self.before = self.contents()

    @property
    def given(self) -> dict[str, str]:
        return json.loads(self.secrets.read_text())

    def contents(self) -> dict[str, str]:
        """Return states by AID, as the card says."""
        listed = self.operator.told("card", "list", "key1.com", "--keys", self.keys)
        return {one["aid"]: one["state"] for one in listed["contents"]}

    def change(self, verb: str, *arguments: str) -> None:
        told = self.operator.told(
            "card", verb, "key1.com", *arguments, "--keys", self.keys, "--yes"
        )
        assert told["applied"]

    def install(self) -> None:
        assert UNRECOGNIZED_NAME in alert_for(self.node.front, SEN)
        self.change("install", "tls-se", "--sen", SEN, "--secrets-out", str(self.secrets))
        assert self.contents() == {**self.before, self.given["aid"]: "selectable"}
        assert self.secrets.stat().st_mode & 0o077 == 0

    def certify(self) -> None:
        ca = str(self.operator.home / "provider.key")
        self.operator.does("element", "certify", "--new-ca", ca)
        self.operator.does("credentials", "set", self.uri, "--psk-file", str(self.secrets))
        self.operator.does("element", "certify", self.uri, "--ca-key", ca)
        (self.user.home / "psk").write_text(self.given["psk"] + "\n")
        (self.user.home / "ca.pub").write_text(Path(f"{ca}.pub").read_text())

    def take_over(self) -> None:
        """The user does, from a home that holds the PSK and the public key and nothing else."""
        ca, evidence = str(self.user.home / "ca.pub"), str(self.user.home / "evidence.json")
        psk = ("--psk-file", str(self.user.home / "psk"))
        self.user.does("credentials", "set", self.uri, *psk)
        attest = ("attest", self.uri, "--ca", ca, "--require-statement")
        taken = self.user.told(*attest, "--take-over", "--out", evidence)
        assert taken["error"] is None
        assert taken["taken_over"]
        stated = taken["statement"]
        assert (stated["sen"], stated["seid"]) == (SEN, self.node["key1.com"].seid)
        assert (stated["module"], stated["copy"]) == ("tls_se", False)
        assert self.user.told("attest", "--verify", evidence, "--ca", ca)["error"] is None

    def use(self) -> None:
        assert self.user.does("call", f"{self.uri}?n00&g00&p00").splitlines()
        refused = self.operator.run("call", f"{self.uri}??00")
        assert refused.returncode == NOT_SERVED
        assert "refused the PSK" in refused.stderr

    def lock_and_delete(self) -> None:
        aid = self.given["aid"]
        self.change("lock", aid)
        assert UNRECOGNIZED_NAME in alert_for(self.node.front, SEN)
        self.change("unlock", aid)
        assert self.user.does("call", f"{self.uri}??00")
        self.change("delete", aid)
        assert self.contents() == self.before
        assert UNRECOGNIZED_NAME in alert_for(self.node.front, SEN)

    def look_at_the_audit(self, head: str) -> None:
        assert self.operator.told("audit", "verify", "--since", head)["whole"]
        seid = self.node["key1.com"].seid
        entries = self.operator.told("audit", "show", "--seid", seid)["entries"]
        assert {one["user"] for one in entries} == {"operator"}
        instructions = {one["header"][2:4] for one in entries if one["header"]}
        assert instructions >= SELECT_TO_DELETE
        written = b"".join(
            one.read_bytes() for one in (self.node.folder / "audit").glob("*.jsonl")
        ).lower()
        pins = [self.given[name].encode().hex() for name in ("user_pin", "admin_pin")]
        assert not any(one.encode() in written for one in (self.given["psk"], *pins))


def test_an_element_goes_from_its_operator_to_its_user_and_in_the_end_from_the_card(
    tmp_path: Path,
):
    operator, user = Person(tmp_path / "operator"), Person(tmp_path / "user")
    racs = {"listen": ["127.0.0.1:0"], "rules": [OPERATOR]}
    with configured_node(operator.home, 1, racs=racs) as node:
        head = operator.told("audit", "head")["head"]
        shop = Shop(node, operator, user)
        shop.install()
        shop.certify()
        shop.take_over()
        shop.use()
        shop.lock_and_delete()
        shop.look_at_the_audit(head)
    assert not (user.home / "data").exists()
