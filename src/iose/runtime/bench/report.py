# SPDX-License-Identifier: Apache-2.0
"""What a run found: rows of ours beside the reference's, the same for the table and for JSON."""

import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

FORMAT = 1
"""Of the JSON document; a field that changes its meaning changes this number."""

_PERCENTILE = 95


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity, measured here or published elsewhere.

    Attributes:
        what: What it was measured on.
        value: The median of the samples, in the row's unit.
        p95: The 95th percentile; None where only one figure exists.
        samples: How many measurements; 0 for a published figure.
        published: It was measured elsewhere, by others.
    """

    what: str
    value: float
    p95: float | None = None
    samples: int = 0
    published: bool = False


@dataclass(frozen=True, slots=True)
class Added:
    """What ours adds to a reference that is a part of it.

    Attributes:
        apdus: Commands in each measurement.
        ms: What is added to each of them, in milliseconds.
        percent: The same in hundredths of the reference.
    """

    apdus: int
    ms: float
    percent: float


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report.

    Attributes:
        id: Stable name.
        work: What was done.
        unit: Of every figure of the row.
        ours: An element of this machine.
        references: What it is compared with; the first one makes ``ratio``.
        aim: What the project aims at, in words.
        met: Whether this run met it.
        added: What ours adds to the first reference; None where it does not contain it.
    """

    id: str
    work: str
    unit: str
    ours: Figure
    references: tuple[Figure, ...]
    aim: str
    met: bool
    added: Added | None = None

    @property
    def ratio(self) -> float | None:
        """Ours divided by the first reference; None without one."""
        return self.ours.value / self.references[0].value if self.references else None


@dataclass(frozen=True, slots=True)
class Report:
    """All rows of one run, and the machine they hold for."""

    openssl: str
    cores: int
    rows: list[Row] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """Return the report as one JSON document with stable names."""
        return {
            "format": FORMAT,
            "iose": metadata.version("iose"),
            "machine": {
                "cores": self.cores,
                "processor": _processor(),
                "python": platform.python_version(),
                "openssl": self.openssl,
            },
            "rows": [asdict(row) | {"ratio": row.ratio} for row in self.rows],
        }


def figure(what: str, samples: Sequence[float]) -> Figure:
    """Return the figure of some samples: their median and 95th percentile."""
    p95 = None
    if len(samples) > 1:
        p95 = statistics.quantiles(samples, n=100, method="inclusive")[_PERCENTILE - 1]
    return Figure(what, statistics.median(samples), p95, len(samples))


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
