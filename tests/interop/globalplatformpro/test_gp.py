# SPDX-License-Identifier: Apache-2.0
"""GlobalPlatformPro manages one of our cards through PC/SC, and loads a package of ours.

It is no Debian package: IOSE_GP_JAR names a copy of gp.jar. Without one these tests skip and say
so, in CI as well.
"""

import os
import subprocess
from pathlib import Path

import pytest

from iose.client.cap_file import write_cap
from iose.runtime.packages import shipped_packages
from tests.support.peers import require_peer
from tests.support.virtual_card import VirtualCard

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

PUBLISHED_KEY = bytes(range(0x40, 0x50)).hex().upper()
SERVER = "010203040500"
MODULE = "010203040800"
PACKAGE = "0102030408"


@pytest.fixture(scope="module")
def jar() -> Path:
    named = os.environ.get("IOSE_GP_JAR")
    if not named:
        pytest.skip("no GlobalPlatformPro: IOSE_GP_JAR does not name a copy of gp.jar")
    return Path(named)


@pytest.fixture
def gp(jar: Path, card: VirtualCard):
    def run(*arguments: str) -> str:
        result = subprocess.run(
            [require_peer("java"), "-jar", jar, "--key", PUBLISHED_KEY, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    return run


def test_it_lists_what_is_on_the_card(gp):
    out = gp("--list")
    assert "A000000151000000" in out
    assert SERVER in out


def test_it_installs_and_deletes_a_package_of_ours(gp, tmp_path: Path):
    file = tmp_path / "tls-im.cap"
    file.write_bytes(write_cap(shipped_packages()["tls-im"].load_file, "iose/tls_im"))
    gp("--install", str(file))
    assert MODULE in gp("--list")
    gp("--delete", PACKAGE, "--force")
    assert MODULE not in gp("--list")
