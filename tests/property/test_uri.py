# SPDX-License-Identifier: Apache-2.0
"""Element URIs: decoding is the inverse of encoding, and one declared error comes out."""

from hypothesis import example, given
from hypothesis import strategies as st

from iose.client.errors import ElementUriError
from iose.client.uri import ElementUri

PRINTABLE = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
LINE = st.binary(min_size=1, max_size=40).filter(lambda line: not set(line) & set(b"\r\n"))
HOSTS = st.one_of(
    st.from_regex(r"\A([a-z0-9][a-z0-9-]{0,8}\.){0,2}[a-z]{1,5}\.?\Z"),
    st.ip_addresses().map(str),
)
URIS = st.builds(
    ElementUri,
    scheme=st.from_regex(r"\A[A-Za-z]{1,8}[Ss]\Z"),
    sen=st.text(PRINTABLE, min_size=1, max_size=15),
    host=HOSTS,
    port=st.integers(1, 65_535),
    psk=st.none() | st.binary(min_size=32, max_size=32),
    identity=st.none()
    | st.text(min_size=1, max_size=20).filter(
        lambda text: text.isprintable() and len(text.encode()) <= 128
    ),
    commands=st.lists(LINE, max_size=4).map(tuple),
)


@given(URIS)
def test_decoding_what_was_revealed_gives_the_same_uri(uri: ElementUri) -> None:
    assert ElementUri.decode(uri.reveal()) == uri


@given(URIS)
def test_text_is_ascii_and_holds_no_key(uri: ElementUri) -> None:
    for shown in (str(uri), repr(uri)):
        assert shown.isascii()
        assert uri.psk is None or uri.psk.hex() not in shown


@given(
    st.text(max_size=60) | st.text("keyS://a@[:]%/?&;id=#0f", max_size=40).map("keyS://".__add__)
)
@example("keyS://a@[::1%25]")
@example("keyS://a@b:٣")
def test_any_text_decodes_or_raises_the_declared_error(text: str) -> None:
    try:
        uri = ElementUri.decode(text)
    except ElementUriError:
        return
    assert ElementUri.decode(uri.reveal()) == uri
