# SPDX-License-Identifier: Apache-2.0
"""What the supervisor of ``iose node run`` logs, and where everyone's log goes."""

import os
from typing import Final

import structlog

from iose.runtime.config import LogSettings
from iose.runtime.errors import ConfigurationError
from iose.runtime.folder import PRIVATE_FILE
from iose.runtime.supervisor import Supervisor

STDERR: Final = 2

log: structlog.stdlib.BoundLogger = structlog.get_logger("iose.supervisor")


async def announce_node(supervisor: Supervisor) -> None:
    """Log that a node is ready: where it listens, not how its elements are reached."""
    elements = len(supervisor.depot.records)
    log.info("node.ready", front=supervisor.addresses, elements=elements)
    for sen in supervisor.depot.repeated_sens():
        log.error("element.repeated_name", sen=sen)


def report_process(name: str, what: str, number: int) -> None:
    """Log what became of a process of the node."""
    log.warning("process", process=name, what=what, number=number)


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
