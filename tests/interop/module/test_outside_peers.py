# SPDX-License-Identifier: Apache-2.0
"""Identity modules and programs of others: openssl at the far end of what a module computed."""

import asyncio

import pytest

import iose
from iose.applets.tls_im import TLS_IM_AID
from iose.applets.tls_se import TLS_SE_AID
from iose.client.errors import AuthenticationError
from iose.servers.routes import ElementRoute
from iose.transport.software import SoftwareReader
from tests.support.element import Element, demo
from tests.support.front import FrontRig
from tests.support.identity_module import DEMO_PSK, Module, demo_module
from tests.support.openssl_server import openssl_servers
from tests.support.peers import require_peer

pytestmark = pytest.mark.interop

DEADLINE_S = 10.0
OTHER = bytes(range(101, 133))


@pytest.fixture
def credentials(tmp_path):
    return iose.CredentialsStore(tmp_path / "credentials")


@pytest.fixture
def openssl_server(tmp_path):
    """Start ``openssl s_server -rev``, which answers a line with its reverse; gives its port."""
    with openssl_servers(tmp_path, DEMO_PSK) as start:
        yield start


def card_module(personalisation=None, pin=b"0000"):
    module = Module(personalisation or demo_module())
    module.card.power_off()
    return iose.CardModule(SoftwareReader("module", module.card), pin)


@pytest.mark.parametrize(
    "suite",
    ["TLS_AES_128_CCM_SHA256", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"],
)
@pytest.mark.parametrize("group", ["P-256", "X25519"])
def test_openssl_takes_what_a_module_computed(openssl_server, credentials, suite, group):
    port = openssl_server("-ciphersuites", suite, "-groups", group)
    uri = f"keyS://key1.com@127.0.0.1:{port}"
    with iose.connect(uri, module=card_module(), credentials=credentials) as element:
        assert element.command("abc") == b"cba"


def test_asyncio_has_openssl_take_it_too(openssl_server, credentials):
    port = openssl_server()

    async def ask():
        uri = f"keyS://key1.com@127.0.0.1:{port}"
        module = card_module(pin=b"00000000")
        async with iose.connect_async(uri, module=module, credentials=credentials) as element:
            return await element.command("abc")

    assert asyncio.run(ask()) == b"cba"


def test_openssl_refuses_what_another_psk_makes(openssl_server, credentials):
    uri = f"keyS://key1.com@127.0.0.1:{openssl_server()}"
    with pytest.raises(AuthenticationError):
        iose.connect(uri, module=card_module(demo_module(psk=OTHER)), credentials=credentials)


@pytest.mark.parametrize("psk", [OTHER, DEMO_PSK], ids=["right", "wrong"])
def test_openssl_opens_a_session_with_an_element_whose_module_has_the_psk(psk):
    served = demo_module(psk=OTHER, clients=(TLS_SE_AID,))
    element = Element(demo(module=TLS_IM_AID), module=served)
    element.card.power_off()
    route = ElementRoute("se-1", "key1.com", SoftwareReader("se-1", element.card))

    async def session():
        async with FrontRig(object(), routes=(route,)) as rig:
            host, port = rig.front.addresses[0]
            process = await asyncio.create_subprocess_exec(
                *(require_peer("openssl"), "s_client", "-quiet", "-tls1_3", "-psk", psk.hex()),
                *("-connect", f"{host}:{port}", "-servername", "key1.com"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            process.stdin.write(b"?01text\n")
            answer = await asyncio.wait_for(process.stdout.readline(), DEADLINE_S)
            _, trouble = await asyncio.wait_for(process.communicate(b"?02\n"), DEADLINE_S)
            return answer, trouble

    output, trouble = asyncio.run(session())
    if psk == OTHER:
        assert output == b"text\r\n"
    else:
        assert b"decrypt error" in trouble
    assert not element.faults
