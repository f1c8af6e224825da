# SPDX-License-Identifier: Apache-2.0
"""Logs of our processes: structlog, one JSON object or one line of text per event, on stderr.

A log file is the supervisor's business: it opens it once and makes it everyone's stderr. What the
supervisor of ``iose node run`` logs stands here, too.
"""

import os
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Final

import structlog

from iose.runtime.config import LogSettings
from iose.runtime.errors import ConfigurationError
from iose.runtime.folder import PRIVATE_FILE

SECRET_WORDS: Final = frozenset({"psk", "pin", "key", "secret", "secrets", "passphrase", "private"})
REDACTED: Final = "[redacted]"
STDERR: Final = 2


log: structlog.stdlib.BoundLogger = structlog.get_logger("iose.supervisor")


def redact(
    _logger: object, _method: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    """Return the event with the values of telling names hidden: a last net, not a licence."""
    for name in event:
        if not SECRET_WORDS.isdisjoint(name.lower().split("_")):
            event[name] = REDACTED
    return event


def configure_logs(settings: LogSettings) -> None:
    """Set this process's logging; called again, it changes the level from then on."""
    renderer: structlog.typing.Processor
    if settings.format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"])
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(settings.level),
        logger_factory=lambda *_: _StderrLogger(),
        cache_logger_on_first_use=False,
    )


def redirect_stderr(settings: LogSettings) -> None:
    """Make the log file, if there is one, the stderr of this process and its children.

    Raises:
        ConfigurationError: The file cannot be opened.
    """
    if not settings.file:
        return
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(settings.file, flags, PRIVATE_FILE)
    except OSError as error:
        raise ConfigurationError(
            f"the log file {settings.file} cannot be opened: {error.strerror}"
        ) from error
    os.dup2(descriptor, STDERR)
    os.close(descriptor)


def log_ready(front: list[str], racs: list[str], elements: int, repeated_sens: list[str]) -> None:
    """Log that a node is ready: where it listens, not how its elements are reached."""
    log.info("node.ready", front=front, racs=racs, elements=elements)
    for sen in repeated_sens:
        log.error("element.repeated_name", sen=sen)


def log_process(name: str, what: str, number: int) -> None:
    """Log what became of a process of the node."""
    log.warning("process", process=name, what=what, number=number)


class _StderrLogger:
    """Writes each line at once, whole, and drops one that cannot be written.

    A full disk under the log must not stop a session halfway through its end.
    """

    def msg(self, line: str) -> None:
        with suppress(OSError):
            os.write(STDERR, line.encode(errors="backslashreplace") + b"\n")

    debug = info = warning = error = critical = exception = msg
