# SPDX-License-Identifier: Apache-2.0
"""What the RACS server is fed by the fuzz targets, and inputs it likes."""

from iose.protocols.racs.form import check_request_lines, decode_form, decode_racs_uri, decode_text
from iose.protocols.racs.parameters import decode_apdu_parameters, decode_sen_parameters
from iose.protocols.racs.request import RequestMachine
from iose.protocols.racs.response import ResponseParser
from iose.protocols.racs.status import EventClass, StatusLine, Verb
from iose.servers.racs.firewall import Firewall
from iose.servers.racs.http_pages import HttpRequest, request_lines
from iose.servers.racs.policy import AccessPolicy, Rule
from iose.wire.errors import DecodeError
from tests.support.racs_server import canned

REQUESTS = (
    b"// c\r\nBEGIN a\r\nPOWERON s APPEND\r\nAPDU s 00A40400 MORE=61 CONTINUE=9000\r\nEND\r\n",
    b"BEGIN\nFOO\nLIST\nEND\nBEGIN x\nECHO y\nSEN s n 01\nQUIT\nEND\n",
)
FORMS = (b"BEGIN=&POWERON=999&APDU=999%2000A40400&END=", b"BEGIN=a+b&LIST&END")
TEXTS = (b"BEGIN x\r\nLIST\r\n// c\r\n\r\nEND\r\n",)
URIS = (b"racs://host:7777/1010", b"RACS://[::1]/?BEGIN=&LIST=&END=")
APDUS = (b"00A4040006010203040500", b"84820300080000000000000000")
_RULE = Rule("u", ("*",), ("APDU",), ("isd", "010203040500"), ("00FF0000:00200000",))
_GRANT = AccessPolicy([_RULE]).check(frozenset({"u"}), canned("key1"))


def serve(data: bytes) -> bytes:
    """Feed a machine whole, then once more byte by byte; both must send the same, and RACS."""
    whole = _serve(data, len(data) or 1)
    assert _serve(data, 1) == whole
    assert _serve(data, 1, is_reference=True) == _serve(data, len(data) or 1, is_reference=True)
    parser = ResponseParser(response_limit=1 << 24)
    parser.receive_data(whole)
    return whole


def _serve(data: bytes, size: int, *, is_reference: bool = False) -> bytes:
    machine = RequestMachine(is_reference=is_reference)
    sent = b""
    for start in range(0, len(data), size):
        machine.receive_data(data[start : start + size])
        while (command := machine.next_command()) is not None:
            is_bad = bool(command.fault) or command.verb is Verb.NONE
            for decode in (decode_apdu_parameters, decode_sen_parameters):
                try:
                    decode(command.parameters[1:])
                except DecodeError:
                    is_bad = is_bad or command.verb in {Verb.APDU, Verb.SEN}
            sign = "-" if is_bad else "+"
            line = StatusLine(sign, EventClass.EXECUTION, command.verb, command.line, "x")
            machine.answer(line)
        sent += machine.data_to_send()
        assert not (machine.is_closed and machine.buffered)
    return sent


def judge(data: bytes) -> object:
    """Judge an APDU in hex, whoever asks."""
    try:
        apdu = bytes.fromhex(data.decode("latin-1"))
    except ValueError:
        return None
    if len(apdu) < 4:
        return None
    assert _GRANT is not None
    for is_reference in (False, True):
        firewall = Firewall(is_reference=is_reference)
        apdu = firewall.rewrite(apdu)
        firewall.judge(apdu, _GRANT)
        firewall.note(apdu, 0x9000)
        firewall.judge(apdu, _GRANT)
    return apdu


def page(data: bytes) -> tuple[str, ...]:
    """Read a request of HTTP, as a query and as a form; both must mean the same."""
    text = data.decode("latin-1")
    headers = {"content-type": "application/x-www-form-urlencoded"}
    lines = request_lines(HttpRequest("GET", f"/RACS?{text}", {}), get_acts=True)
    posted = HttpRequest("POST", "/RACS", headers, data)
    assert request_lines(posted, get_acts=False) == lines
    return lines


def form(text: str) -> tuple[str, ...]:
    """Read a form; what comes out is lines that cannot be mistaken for others."""
    lines = decode_form(text)
    assert all(line.isascii() and line.isprintable() for line in lines)
    check_request_lines(lines)
    return lines


def text(data: bytes) -> tuple[str, ...]:
    """Read lines."""
    lines = decode_text(data)
    check_request_lines(lines)
    return lines


def uri(value: str) -> object:
    """Read a URI."""
    return decode_racs_uri(value)
