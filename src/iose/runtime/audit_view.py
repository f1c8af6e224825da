# SPDX-License-Identifier: Apache-2.0
"""The audit log as its reader wants it: each intent with its outcome (docs/audit.md).

An intent without an outcome is ``open`` while the node that wrote it may still run, else
``unknown``: the node ended in the middle of it, and nobody can say whether it was done.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from iose.runtime.audit_chain import is_written, read_entries

OPEN = "open"
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records to show; "" and None for all.

    Attributes:
        user: Common name.
        seid: Element.
        since: Earliest time.
    """

    user: str = ""
    seid: str = ""
    since: datetime | None = None

    def is_met(self, record: "AuditRecord") -> bool:
        """Say whether a record is wanted."""
        if self.since is not None and datetime.fromisoformat(record.time) < self.since:
            return False
        return self.user in {"", record.user} and self.seid in {"", record.seid}


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One intent and how it ended; texts as ``AuditEvent`` and ``AuditOutcome`` describe them.

    Attributes:
        sequence: Number of the intent's line.
        time: When it was asked for.
        kind: ``intent``, or what the log says of itself: ``start``, ``stop``, ``recovered``.
        outcome: ``done``, ``refused``, ``failed``, ``open`` or ``unknown``.
    """

    sequence: int
    time: str
    kind: str
    user: str = ""
    fingerprint: str = ""
    peer: str = ""
    session: int = 0
    plane: str = ""
    verb: str = ""
    seid: str = ""
    header: str = ""
    size: int = 0
    detail: str = ""
    outcome: str = ""
    code: str = ""
    status: str = ""
    answer_size: int = 0
    duration_s: float = 0.0
    preempted: str = ""

    def to_json(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return asdict(self)


def read_records(folder: Path, wanted: Wanted) -> list[AuditRecord]:
    """Return what is wanted of a log, in order; lines that make no sense are left out."""
    is_running = is_written(folder)
    found: dict[int, AuditRecord] = {}
    pending: set[int] = set()
    for entry in read_entries(folder):
        kind = _text(entry, "kind")
        if kind == "outcome":
            number = _number(entry, "of")
            if number in pending:
                pending.discard(number)
                found[number] = _concluded(found[number], entry)
            continue
        record = _record(entry, kind)
        if kind == "start":
            _give_up(found, pending)
        if kind == "intent" and wanted.is_met(record):
            found[record.sequence] = record
            pending.add(record.sequence)
        elif kind != "intent" and wanted == Wanted(since=wanted.since) and wanted.is_met(record):
            found[record.sequence] = record
        if kind == "stop":
            _give_up(found, pending)
    if not is_running:
        _give_up(found, pending)
    return list(found.values())


def _give_up(found: dict[int, AuditRecord], pending: set[int]) -> None:
    for number in pending:
        found[number] = replace(found[number], outcome=UNKNOWN)
    pending.clear()


def _record(entry: Mapping[str, object], kind: str) -> AuditRecord:
    names = ("user", "fingerprint", "peer", "plane", "verb", "seid", "header", "detail")
    record = AuditRecord(
        sequence=_number(entry, "seq"),
        time=_time(entry),
        kind=kind,
        session=_number(entry, "session"),
        size=_number(entry, "size"),
        outcome=OPEN if kind == "intent" else "",
        **{name: _text(entry, name) for name in names},  # type: ignore[arg-type]  # all are texts
    )
    return record if kind == "intent" else replace(record, verb=kind.upper())


def _concluded(record: AuditRecord, entry: Mapping[str, object]) -> AuditRecord:
    duration = entry.get("duration_s")
    return replace(
        record,
        outcome=_text(entry, "outcome"),
        code=_text(entry, "code"),
        status=_text(entry, "status"),
        answer_size=_number(entry, "size"),
        duration_s=float(duration) if isinstance(duration, int | float) else 0.0,
        preempted=_text(entry, "preempted"),
    )


def _time(entry: Mapping[str, object]) -> str:
    text = _text(entry, "time")
    try:
        is_aware = datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        is_aware = False
    return text if is_aware else "1970-01-01T00:00:00Z"


def _text(entry: Mapping[str, object], name: str) -> str:
    value = entry.get(name)
    return value if isinstance(value, str) else ""


def _number(entry: Mapping[str, object], name: str) -> int:
    value = entry.get(name)
    return value if isinstance(value, int) else 0
