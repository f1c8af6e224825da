# SPDX-License-Identifier: Apache-2.0
"""Where a passphrase comes from: a file or the terminal, twice when nothing can correct it."""

from pathlib import Path

import pytest

from iose.cli.passphrase import PassphraseOptions, read_passphrase_file
from iose.runtime.errors import ConfigurationError


def type_in(monkeypatch: pytest.MonkeyPatch, *typed: str) -> list[str]:
    """Answer prompts of a terminal; return the prompts."""
    prompts, answers = [], iter(typed)

    def answer(prompt: str) -> str:
        prompts.append(prompt)
        return next(answers)

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("iose.cli.passphrase.getpass", answer)
    return prompts


def test_a_known_passphrase_is_asked_for_once_and_a_new_one_twice(monkeypatch):
    options = PassphraseOptions(is_asked=True)
    prompts = type_in(monkeypatch, "known words", "new words", "new words")
    assert options.read(is_new=False) == "known words"
    assert options.read(is_new=True) == "new words"
    assert len(prompts) == 3


def test_a_new_passphrase_typed_in_two_ways_is_refused(monkeypatch):
    type_in(monkeypatch, "new words", "new wodrs")
    with pytest.raises(ConfigurationError, match="differ"):
        PassphraseOptions(is_asked=True).read(is_new=True)


def test_nothing_announced_is_no_passphrase():
    assert PassphraseOptions().read(is_new=True) is None


@pytest.mark.parametrize("content", [b"the words", b"the words\n", b"the words\r\nmore\n"])
def test_the_first_line_of_a_file_is_the_passphrase(tmp_path: Path, content: bytes):
    (tmp_path / "words").write_bytes(content)
    assert PassphraseOptions(tmp_path / "words").read(is_new=True) == "the words"


@pytest.mark.parametrize("content", [b"", b"\nsecond", b"\xff\xfe"])
def test_a_file_without_a_passphrase_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "words").write_bytes(content)
    with pytest.raises(ConfigurationError, match="passphrase file"):
        read_passphrase_file(tmp_path / "words")


@pytest.mark.parametrize(("mode", "is_warned"), [(0o600, False), (0o640, True), (0o604, True)])
def test_a_file_that_others_can_read_is_warned_of(tmp_path: Path, capsys, mode, is_warned):
    file = tmp_path / "words"
    file.write_text("the words\n")
    file.chmod(mode)
    assert read_passphrase_file(file) == "the words"
    err = capsys.readouterr().err
    assert ("can be read by others" in err) == is_warned
    assert "the words" not in err
