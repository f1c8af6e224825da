# SPDX-License-Identifier: Apache-2.0
"""An identity module in an element of a node, used by a client over the administration plane.

The module is loaded and personalised through its security domain, as an operator would; the
client process holds neither the PSK nor anything made of it.
"""

import asyncio
import json
import os
import subprocess
import sys

import pytest

import iose
from iose.applets.tls_im import TLS_IM_AID, ModulePersonalisation
from iose.applets.tls_se import Personalisation
from iose.client.access import SystemRng
from iose.client.card.channel import Tools
from iose.client.card.failed_keys import FailedKeys
from iose.client.card.installation import InstallationRequest, plan_installation
from iose.client.card.key_files import CardKeys
from iose.client.card.manager import CardManager
from iose.crypto.pyca import PycaCrypto
from iose.iso7816.aid import Aid
from iose.runtime.packages import shipped_packages
from iose.transport.racs_client import RacsEndpoint, RacsReader
from tests.acceptance.memory import found_in, psk_secrets
from tests.support.running_node import PROGRAM, running_node

pytestmark = pytest.mark.timeout(90)

PIN = b"4711"
CLIENT = """
import sys
import iose
target = sys.stdin.readline().strip()
with iose.connect(target, timeout_s=20) as element:
    print("open", flush=True)
    sys.stdin.readline()
    print(element.command("?01text").decode(), flush=True)
"""


class Site:
    """A node, a client's files, and the commands a user types."""

    def __init__(self, node, folder) -> None:
        self.node = node
        self.folder = folder
        self.environment = {**os.environ, "IOSE_CREDENTIALS": str(folder / "credentials")}
        self.target = self.address_of(0)
        self.psk = bytes.fromhex(node.psk(0))

    def address_of(self, index):
        uri = iose.ElementUri.decode(self.node.ready["elements"][index]["uri"])
        return f"keyS://{uri.address}/"

    def seid(self, index):
        return self.node.ready["elements"][index]["seid"]

    def iose(self, *arguments, text=""):
        data = ("--data", str(self.node.data)) if arguments[0] != "call" else ()
        return subprocess.run(
            [*PROGRAM, *arguments, *data],
            input=text,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def secrets(self, index):
        path = self.folder / f"secrets{index}"
        done = self.iose("element", "secrets", self.seid(index), "--out", str(path))
        assert done.returncode == 0, done.stderr
        return json.loads(path.read_text())

    def install_module(self, index, given):
        """Load the module onto an element and personalise it through its security domain."""
        kept = self.secrets(index)
        keys = CardKeys(
            *(bytes.fromhex(kept[f"isd_{name}"]) for name in ("enc", "mac", "dek")),
            version=int(kept["isd_key_version"], 16),
        )
        package = shipped_packages()["tls-im"]
        request = InstallationRequest(
            package.load_file, TLS_IM_AID, TLS_IM_AID, package.name, parameters=given.encode()
        )
        pki = self.node.pki
        endpoint = RacsEndpoint(*self.node.racs, pki / "user.pem", pki / "user.key", pki / "ca.pem")

        async def install():
            reader = RacsReader(endpoint, self.seid(index))
            connection = await reader.connect()
            try:
                tools = Tools(
                    PycaCrypto(), SystemRng(), FailedKeys(PycaCrypto(), self.folder / "failed")
                )
                manager = await CardManager.open(connection, (keys,), tools, name=self.seid(index))
                await manager.apply(plan_installation(await manager.inventory(), request, 200))
            finally:
                await connection.close()

        asyncio.run(install())


@pytest.fixture
def site(tmp_path):
    with running_node(tmp_path / "data", "--elements", "2") as node:
        yield Site(node, tmp_path)


def test_a_client_uses_a_module_behind_racs_and_never_holds_its_psk(site):
    site.install_module(1, ModulePersonalisation(psk=site.psk, user_pin=PIN))
    place = ("--module", site.seid(1))
    done = site.iose("credentials", "set", site.target, *place, text=PIN.decode() + "\n")
    assert done.returncode == 0, done.stderr
    assert site.iose("call", f"{site.target}??01through").stdout == "through\n"
    secrets = psk_secrets(site.psk)
    with subprocess.Popen(
        [sys.executable, "-c", CLIENT],
        env=site.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        client.stdin.write(site.target + "\n")
        client.stdin.flush()
        assert client.stdout.readline() == "open\n"
        assert found_in(client.pid, secrets) == set()
        client.stdin.write("go on\n")
        client.stdin.flush()
        assert client.stdout.readline() == "text\n"


def test_a_wrong_pin_is_tried_once_however_often_one_calls(site):
    site.install_module(1, ModulePersonalisation(psk=site.psk, user_pin=PIN))
    place = ("--module", f"racs://127.0.0.1:{site.node.racs[1]}/{site.seid(1)}")
    assert site.iose("credentials", "set", site.target, *place, text="1111\n").returncode == 0
    first, second = (site.iose("call", f"{site.target}??00") for _ in range(2))
    assert "the PIN was refused, 2 tries are left" in first.stderr
    assert "no PIN is kept for the module" in second.stderr
    assert first.returncode == second.returncode == 1
    set_again = ("credentials", "set", site.target, *place, "--replace")
    assert site.iose(*set_again, text=PIN.decode() + "\n").returncode == 0
    assert site.iose("call", f"{site.target}??01through").stdout == "through\n"


def test_a_second_server_of_a_card_serves_with_the_psk_of_the_cards_module(site):
    server = Aid.from_hex("010203040501")
    psk = bytes(range(60, 92))
    module = ModulePersonalisation(psk=psk, user_pin=PIN, clients=(server,))
    instance = Personalisation(b"other.com", module=TLS_IM_AID)
    keys = site.folder / "keys"
    done = site.iose("element", "secrets", site.seid(1), "--out", str(keys))
    assert done.returncode == 0, done.stderr
    for package, given, more in (
        ("tls-im", module, ()),
        ("tls-se", instance, ("--aid", str(server))),
    ):
        options = ("--keys", str(keys), "--yes", "--params", given.encode().hex(), *more)
        done = site.iose("card", "install", site.seid(1), package, *options)
        assert done.returncode == 0, done.stdout + done.stderr
    host, port = site.node.address
    uri = f"keyS://other.com@{host}:{port}/"
    store = iose.CredentialsStore(site.folder / "credentials")
    with iose.connect(uri, psk=psk, credentials=store, timeout_s=20) as element:
        assert element.command("?01text") == b"text"
        with pytest.raises(iose.KeystoreError):
            element.change_psk()
    with pytest.raises(iose.AuthenticationError):
        iose.connect(uri, psk=site.psk, credentials=store, timeout_s=20)
    shown = site.iose("element", "secrets", site.seid(1), "--again", "--out", str(keys) + "2")
    assert shown.returncode == 0, shown.stderr
    listed = json.loads((site.folder / "keys2").read_text())["instances"]
    assert [("psk" in one, one["aid"]) for one in listed] == [
        (False, str(server)),
        (False, str(TLS_IM_AID)),
    ]
