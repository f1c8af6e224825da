# SPDX-License-Identifier: Apache-2.0
"""Programs of others that tests talk to; an absent one skips, or fails where all are expected."""

import os
import shutil

import pytest

HINTS = {
    "openssl": "openssl",
    "gnutls-cli": "gnutls-bin",
    "gnutls-serv": "gnutls-bin",
    "coap-client-openssl": "libcoap3-bin",
    "pcscd": "pcscd",
    "opensc-tool": "opensc",
    "pcsc_scan": "pcsc-tools",
    "java": "default-jre-headless",
    "unzip": "unzip",
    "mosquitto": "mosquitto",
    "curl": "curl",
}


def all_peers_expected() -> bool:
    """Return whether an absent peer is a failure (CI, or IOSE_EXPECT_ALL_PEERS)."""
    return os.environ.get("CI") == "true" or os.environ.get("IOSE_EXPECT_ALL_PEERS") == "1"


def require_peer(program: str) -> str:
    """Return the path of a program, or skip the test; fail it where all peers are expected."""
    path = shutil.which(program)
    if path is not None:
        return path
    reason = f"{program} is not installed (Debian package {HINTS.get(program, program)})"
    if all_peers_expected():
        pytest.fail(reason)
    pytest.skip(reason)
