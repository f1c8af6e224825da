# SPDX-License-Identifier: Apache-2.0
"""OpenSC's ``opensc-tool`` on the card in the first reader, and what it prints."""

import re
import subprocess

from tests.support.peers import require_peer

ANSWER = re.compile(r"Received \(SW1=0x(..), SW2=0x(..)\)(?::\n((?:(?:[0-9A-F]{2} )+.*\n)+))?")
HEX_LINE = re.compile(r"^(?:[0-9A-F]{2} )+", re.MULTILINE)


def opensc(*arguments: str) -> str:
    """Return what the tool prints; it must not fail."""
    result = subprocess.run(
        [require_peer("opensc-tool"), "--reader", "0", *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def send(*commands: str) -> list[str]:
    """Return the answers to commands sent in one session, status word last."""
    options = [option for command in commands for option in ("-s", command)]
    answers = []
    for sw1, sw2, dump in ANSWER.findall(opensc("--card-driver", "default", *options)):
        data = "".join(HEX_LINE.findall(dump))
        answers.append(data.replace(" ", "") + sw1 + sw2)
    return answers
