# SPDX-License-Identifier: Apache-2.0
"""What the RACS client and the importer are fed by the fuzz targets, and inputs they like."""

import tempfile
from pathlib import Path

from iose.client.racs_script import read_script
from iose.protocols.racs.response import RacsResponse, ResponseParser
from iose.runtime.author_config import ImportedConfig, read_author_config

RESPONSES = (
    b"BEGIN t\r\n+008 001 SEID key1 has been powered on\r\n+006 002 6F0084009000\r\nEND\r\n",
    b"BEGIN \r\n-911 001 no name\r\nBEGIN\r\n+004 001 a b \r\nEND\r\n",
    b"BEGIN x\n-900 001 FOO unknown command...\nEND\n",
)
SCRIPTS = (
    b"// all\nBEGIN a\nPOWERON key1 APPEND\nAPDU key1 00A40400\nEND\n\nBEGIN\nLIST\nEND\n",
    b"BEGIN\nBEGIN\nEND",
)
_NEXT = b"\x1c"  # separates the files of a directory
_NAMES = ("config", "users", "a", "filter", "sen_a", "cardsn", "readersn", "type", "cardconfig")
DIRECTORIES = (
    _NEXT.join(
        (
            b"server_port 0.0.0.0:7777\nse_default_access yes\nserver_timeout 600 (in ms)\n"
            b"use_sen_as_cardsn yes\ncert_file server.pem\ngridhist key1.com\n",
            b"alice 2 a b\nbob all\n",
            b"010203040500 no 1 alice:filter.txt\nA000000003000000 yes 1 bob\ndefault no 0\n",
            b"FFFF0000 00200000\n",
            b"key7.com 010203040500\n",
            b"key1.com card1\n",
            b'12345 a "reader"\n',
        )
    ),
    _NEXT.join(
        (
            b"grid_server 10.0.0.1\ngrid_port 7777\ngrid_first_slot 701 702\ngrid_max_slots 2\n"
            b"gridhist key1.com null\ngridaid 010203040500\ni2c_max_devices 2\n"
            b"i2c_first_adr 72\ni2c_reset_pins 17 d3\ni2c_size 32\n",
            b"bob all\n",
            *(b"",) * 4,
            b'12345 a "reader"\nSN701 b\n99 c other\n',
            b'"reader"\n',
            b"racs h:1/a\nracs COM1/b.c\nseid h:2/key1.com\nca root.pem\nstimeout 9\n"
            b"cmd -h 10.0.0.9 -p 444 -S key2.com -l aesgcm -H noim -H pskAB -H identityx\n",
        )
    ),
    _NEXT.join((b"server_port\nx", b"alice 9 a\nalice all\n", b"default yes 0\n")),
)


def read_responses(data: bytes) -> list[RacsResponse]:
    """Feed a parser whole, then once more byte by byte; both must say the same."""
    found = []
    for size in (len(data) or 1, 1):
        parser = ResponseParser(response_limit=500)
        for start in range(0, len(data), size):
            parser.receive_data(data[start : start + size])
        parser.end_failure()
        responses = []
        while (response := parser.next_response()) is not None:
            responses.append(response)
        found.append(responses)
    assert found[0] == found[1]
    return found[0]


def read_requests(data: bytes) -> list[bytes]:
    """Read a script to its end, and encode what it asks for."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    return [request.encode() for request in read_script(lines)]


def read_directory(data: bytes) -> ImportedConfig:
    """Spread bytes over the files of a directory, and import it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for stem, content in zip(_NAMES, data.split(_NEXT), strict=False):
            (folder / f"{stem}.txt").write_bytes(content)
        return read_author_config(folder)
