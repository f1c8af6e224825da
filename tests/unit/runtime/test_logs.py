# SPDX-License-Identifier: Apache-2.0
"""Logs: one event per line, secrets hidden even by mistake, a file of mode 0600."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from iose.runtime.config import LogSettings
from iose.runtime.errors import ConfigurationError
from iose.runtime.logs import configure_logs, redact, redirect_stderr


@pytest.fixture
def stderr(capfd: pytest.CaptureFixture[str]):
    yield lambda: capfd.readouterr().err

    structlog.reset_defaults()


def test_json_logs_are_one_object_per_event(stderr):
    configure_logs(LogSettings())
    structlog.get_logger("x").info("front.started", elements=3)
    event = json.loads(stderr())
    assert (event["event"], event["elements"], event["level"]) == ("front.started", 3, "info")
    assert event["timestamp"].endswith("Z")


def test_text_logs_are_one_line_per_event(stderr):
    configure_logs(LogSettings(format="text"))
    structlog.get_logger("x").warning("element.failed", error="two\nlines")
    written = stderr()
    assert written.count("\n") == 1
    assert "event=element.failed" in written


def test_events_below_the_level_are_not_written(stderr):
    configure_logs(LogSettings(level="warning"))
    log = structlog.get_logger("x")
    log.info("quiet")
    log.error("loud")
    written = stderr()
    assert "quiet" not in written
    assert "loud" in written


def test_a_line_that_cannot_be_written_is_dropped_and_the_work_goes_on():
    program = (
        "import structlog\n"
        "from iose.runtime.config import LogSettings\n"
        "from iose.runtime.logs import configure_logs\n"
        "configure_logs(LogSettings())\n"
        "structlog.get_logger('x').info('lost', text='\\udc80')\n"
        "print('going on')\n"
    )
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=full, check=False
        )
    assert (done.returncode, done.stdout) == (0, b"going on\n")


@pytest.mark.parametrize("name", ["psk", "user_pin", "PSK", "private_key", "guest_psk", "secret"])
def test_values_with_telling_names_are_hidden(name: str):
    assert redact(None, "info", {"event": "x", name: "0000"})[name] == "[redacted]"


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_secret_logged_by_mistake_is_not_written(stderr, form):
    configure_logs(LogSettings(format=form))
    structlog.get_logger("x").error("element.failed", guest_psk="00112233")
    written = stderr()
    assert "element.failed" in written
    assert "00112233" not in written


def test_other_values_are_not_hidden():
    event = {"event": "x", "listening": ("127.0.0.1", 1), "sen": "key1.com", "opinion": 1}
    assert redact(None, "info", dict(event)) == event


def test_a_log_file_is_appended_to_and_private(tmp_path: Path):
    path = tmp_path / "node.log"
    program = (
        "import sys\nfrom iose.runtime.config import LogSettings\n"
        "from iose.runtime.logs import redirect_stderr\n"
        f"redirect_stderr(LogSettings(file={str(path)!r}))\n"
        "print('line', file=sys.stderr)"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-c", program], check=True, umask=0)
    assert path.read_text() == "line\nline\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_log_file_that_cannot_be_opened_is_named(tmp_path: Path):
    before = os.fstat(2)
    with pytest.raises(ConfigurationError, match="absent"):
        redirect_stderr(LogSettings(file=str(tmp_path / "absent" / "node.log")))
    assert os.fstat(2) == before
