# SPDX-License-Identifier: Apache-2.0
"""What is encrypted at rest: right passphrase, wrong passphrase, one changed byte."""

import base64
import json

import pytest

from iose.runtime.elements.archive import (
    ArchiveHeader,
    new_passphrase_key,
    passphrase_key,
    read_archive_fields,
    read_archive_header,
)
from iose.runtime.elements.seal import (
    Archive,
    decode_archive,
    element_key,
    encode_archive,
    unwrap_data_key,
    wrap_new_data_key,
)
from iose.runtime.errors import ConfigurationError

WORDS = "correct horse"
ARCHIVE = Archive(
    "se-00000001",
    "e1",
    is_copy=False,
    objects={"card/registry": b"\x01", "x/object/psk": b"secret!"},
)


class CountingRng:
    def __init__(self) -> None:
        self.calls = 0

    def random_bytes(self, count: int) -> bytes:
        self.calls += 1
        return self.calls.to_bytes(count, "big")


@pytest.fixture(autouse=True)
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("iose.crypto.passphrase.ScryptParameters.__init__.__defaults__", (4,))


def encode(words: str = WORDS) -> bytes:
    return encode_archive(ARCHIVE, new_passphrase_key(words, CountingRng()), CountingRng())


def decode(content: bytes, words: str = WORDS) -> Archive:
    return decode_archive(content, passphrase_key(words, read_archive_fields(content)))


def test_a_data_key_comes_back_with_its_passphrase():
    key, kept = wrap_new_data_key(WORDS, CountingRng())
    assert unwrap_data_key(WORDS, json.loads(json.dumps(kept))) == key
    assert key.hex() not in json.dumps(kept)


def test_a_wrong_passphrase_opens_no_folder():
    _, kept = wrap_new_data_key(WORDS, CountingRng())
    with pytest.raises(ConfigurationError, match="wrong"):
        unwrap_data_key("correct horsf", kept)


@pytest.mark.parametrize(
    "damage", [{"salt": "zz"}, {"cost_log2": 40}, {"wrapped": None}, {"nonce": ""}]
)
def test_a_damaged_description_opens_no_folder(damage):
    _, kept = wrap_new_data_key(WORDS, CountingRng())
    with pytest.raises(ConfigurationError):
        unwrap_data_key(WORDS, {**kept, **damage})


def test_short_passphrases_are_refused():
    with pytest.raises(ConfigurationError, match="at least 8"):
        wrap_new_data_key("1234567", CountingRng())
    with pytest.raises(ConfigurationError, match="at least 8"):
        encode("1234567")


def test_each_element_has_a_key_of_its_own():
    assert len(element_key(b"k" * 32, "se-00000001")) == 32
    assert element_key(b"k" * 32, "se-00000001") != element_key(b"k" * 32, "se-00000002")


def test_an_archive_comes_back_with_its_passphrase():
    content = encode()
    assert decode(content) == ARCHIVE
    assert read_archive_header(content) == ArchiveHeader("se-00000001", "e1", is_copy=False)
    assert b"psk" not in content
    assert base64.b64encode(b"secret!") not in content


def test_an_archive_refuses_a_wrong_passphrase_and_every_changed_field():
    content = encode()
    with pytest.raises(ConfigurationError, match="passphrase is wrong"):
        decode(content, WORDS + "!")
    header = json.loads(content)
    for name, other in (
        ("seid", "se-00000002"),
        ("copy", True),
        ("export_id", "e2"),
        ("nonce", "00" * 12),
        ("salt", "00" * 16),
        ("cost_log2", 5),
        ("version", 2),
        ("format", "other"),
    ):
        with pytest.raises(ConfigurationError):
            decode(json.dumps({**header, name: other}).encode())


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"format": "iose-element"}'])
def test_other_files_are_no_archives(content: bytes):
    with pytest.raises(ConfigurationError):
        decode(content)


def test_a_key_is_not_in_what_is_printed_of_it():
    made = new_passphrase_key(WORDS, CountingRng())
    assert made.key.hex() not in repr(made)
    assert repr(made.key) not in repr(made)


def test_a_truncated_archive_is_refused():
    content = encode()
    for size in range(0, len(content) - 1, 7):
        with pytest.raises(ConfigurationError):
            decode(content[:size])


def test_an_archive_that_asks_for_a_gigantic_scrypt_is_refused():
    header = json.loads(encode())
    with pytest.raises(ConfigurationError, match="damaged"):
        decode(json.dumps({**header, "cost_log2": 30}).encode())
