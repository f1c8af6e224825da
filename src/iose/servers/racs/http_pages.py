# SPDX-License-Identifier: Apache-2.0
"""One HTTP request to the administration plane and what it is answered with (racs.md §13).

Pure: what a request asks for, as lines of RACS, and a response as XML or JSON.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from typing import Final

from iose.protocols.racs.form import check_request_lines, decode_form, decode_text
from iose.protocols.racs.response import RacsResponse
from iose.wire.errors import DecodeError, IoseError

PATH: Final = "/RACS"
FORM: Final = "application/x-www-form-urlencoded"
TEXT: Final = "text/plain"
XML: Final = "application/xml"
JSON: Final = "application/json"
LOOKING: Final = frozenset({"BEGIN", "END", "LIST", "GET-VERSION", "ECHO", "GET-SEN"})
SAME_SITE: Final = frozenset({"", "same-origin", "none"})  # Fetch Metadata: who sent the browser


class HttpRefusedError(IoseError):
    """A request that never becomes RACS.

    Attributes:
        status: What HTTP calls it.
    """

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, whole.

    Attributes:
        method: ``GET`` or ``POST``; others are refused.
        target: Path and query.
        headers: By name in lower case; of repeated ones, the last.
        body: What came with it.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""


def request_lines(request: HttpRequest, *, get_acts: bool) -> tuple[str, ...]:
    """Return the RACS request in an HTTP request, BEGIN and END included.

    Args:
        request: It.
        get_acts: GET may do more than look.

    Raises:
        HttpRefusedError: There is none, or it may not come this way.
    """
    path, _, query = request.target.partition("?")
    if path != PATH:
        raise HttpRefusedError(HTTPStatus.NOT_FOUND, f"there is {PATH} and nothing else")
    _check_origin(request.headers)
    try:
        if request.method == "GET":
            lines = decode_form(query)
            is_look = all(line.split(" ", 1)[0] in LOOKING for line in lines)
            if not is_look and not get_acts:
                message = "GET only looks, since addresses are logged; use POST"
                raise HttpRefusedError(HTTPStatus.METHOD_NOT_ALLOWED, message)
        elif request.method == "POST":
            lines = _body_lines(request)
        else:
            raise HttpRefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "there are GET and POST")
        check_request_lines(lines)
    except DecodeError as error:
        raise HttpRefusedError(HTTPStatus.BAD_REQUEST, str(error)) from error
    return lines


def response_page(response: RacsResponse, accept: str) -> tuple[str, bytes]:
    """Return content type and body of a response: JSON when that is asked for, else XML."""
    lines = [(str(line).split(" ", 2)) for line in response.lines]
    if JSON in accept:
        commands = [
            {"status": status, "line": line, "parameters": text} for status, line, text in lines
        ]
        return JSON, json.dumps({"begin": response.name, "responses": commands}).encode()
    body = "".join(
        f"<Cmd-Response><status>{status}</status><line>{line}</line>"
        f"<parameters>{escape(text, quote=False)}</parameters></Cmd-Response>"
        for status, line, text in lines
    )
    begin = f"<begin>{escape(response.name, quote=False)}</begin>"
    return XML, f"<RACS-Response>{begin}{body}<end></end></RACS-Response>".encode()


def _body_lines(request: HttpRequest) -> tuple[str, ...]:
    """Return the lines in a body.

    Raises:
        DecodeError: They cannot be read.
        HttpRefusedError: The body is of another kind.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == TEXT:
        return decode_text(request.body)
    if kind != FORM:
        message = f"expected {FORM} or {TEXT}"
        raise HttpRefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message)
    try:
        return decode_form(request.body.decode("ascii"))
    except UnicodeDecodeError as error:
        raise HttpRefusedError(HTTPStatus.BAD_REQUEST, "a form is ASCII") from error


def _check_origin(headers: Mapping[str, str]) -> None:
    """Refuse what a page of another site makes a browser send with its user's certificate.

    Raises:
        HttpRefusedError: A browser says that it comes from there.
    """
    origin = headers.get("origin", "")
    is_foreign = origin and origin.partition("://")[2] != headers.get("host", "")
    if is_foreign or headers.get("sec-fetch-site", "") not in SAME_SITE:
        raise HttpRefusedError(HTTPStatus.FORBIDDEN, "this comes from another site")
