# SPDX-License-Identifier: Apache-2.0
"""openssl s_client and gnutls-cli through the front: sessions, and the alerts as they name them."""

import asyncio

import pytest

from tests.support.engine_pair import KEY
from tests.support.peers import require_peer

pytestmark = [pytest.mark.anyio, pytest.mark.interop]

PATIENCE_S = 10.0
PSK = KEY.hex()
CHIP_OPTIONS = ("-groups", "P-256", "-ciphersuites", "TLS_AES_128_CCM_SHA256")


async def s_client(rig, *options, line=b"?02\n", psk=PSK):
    """Run one session; return what s_client printed of data, and of trouble."""
    host, port = rig.front.addresses[0]
    process = await asyncio.create_subprocess_exec(
        *(require_peer("openssl"), "s_client", "-quiet", "-tls1_3", "-psk", psk),
        *("-connect", f"{host}:{port}", *options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    process.stdin.write(line)
    output, trouble = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    return output, trouble.decode()


@pytest.mark.parametrize("name", ["key1.com", "KEY2.com"])
@pytest.mark.parametrize(
    "suite", ["TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_CCM_SHA256"]
)
@pytest.mark.parametrize("group", ["P-256", "X25519"])
async def test_openssl_opens_a_session_and_is_told_goodbye(rig, name, suite, group):
    options = ("-groups", group, "-ciphersuites", suite, "-servername", name)
    assert await s_client(rig, *options) == (b"", "")
    (line,) = rig.logged("session.ended")
    assert (line["reason"], line["status"], line["sen"]) == ("element_closed", "9002", name.lower())


@pytest.mark.parametrize(
    ("options", "alert"),
    [
        (("-servername", "key9.com", *CHIP_OPTIONS), "unrecognized name"),
        (("-noservername", *CHIP_OPTIONS), "missing extension"),
        (("-servername", "key1.com", "-psk_identity", "somebody", *CHIP_OPTIONS), "decrypt error"),
        (("-servername", "key1.com", "-groups", "P-384"), "handshake failure"),
        (
            ("-servername", "key1.com", "-ciphersuites", "TLS_AES_256_GCM_SHA384"),
            "handshake failure",
        ),
    ],
    ids=["unknown name", "no name", "wrong identity", "no common group", "no common suite"],
)
async def test_openssl_is_told_why_not(rig, options, alert):
    _, trouble = await s_client(rig, *options)
    assert f"alert {alert}" in trouble or f"tlsv1 {alert}" in trouble, trouble


async def test_openssl_with_a_wrong_key_is_told_decrypt_error(rig):
    _, trouble = await s_client(rig, "-servername", "key1.com", *CHIP_OPTIONS, psk="00" * 32)
    assert "alert decrypt error" in trouble


async def test_gnutls_opens_a_session_and_is_told_goodbye(rig):
    host, port = rig.front.addresses[0]
    process = await asyncio.create_subprocess_exec(
        *(require_peer("gnutls-cli"), "--sni-hostname=key1.com", f"--port={port}", host),
        *("--pskusername=Client_identity", f"--pskkey={KEY.hex()}", "--no-ca-verification"),
        "--priority=NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-PSK:-GROUP-ALL:+GROUP-SECP256R1",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    process.stdin.write(b"?01from gnutls\n")
    await rig.until(lambda: rig.front.counters.opened)
    process.stdin.write(b"?02\n")
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert b"from gnutls" in output, output
