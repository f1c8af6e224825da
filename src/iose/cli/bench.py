# SPDX-License-Identifier: Apache-2.0
"""``iose bench``: measure this machine, print a table or JSON."""

from typing import Annotated

import typer
from rich.console import Console

from iose.cli.output import print_json, print_table
from iose.runtime.bench.measure import run
from iose.runtime.bench.plan import FULL, QUICK
from iose.runtime.bench.report import Figure, Report, Row

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def bench(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer repetitions, less sure.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Measure this machine: elements beside openssl s_server, in the same run."""
    console = Console(stderr=True)
    with console.status("starting") as status:
        report = run(QUICK if quick else FULL, lambda work: status.update(f"measuring {work}"))
    if as_json:
        print_json(report.to_json())
    else:
        _print(report)


def _print(report: Report) -> None:
    print(f"{report.cores} cores, {report.openssl}; medians, 95th percentile in brackets")
    columns = ("work", "here", "compared with", "ratio", "aim")
    print_table(columns, map(_cells, report.rows))


def _cells(row: Row) -> tuple[str, ...]:
    references = "; ".join(f"{_words(row, other)} {_source(other)}" for other in row.references)
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    added = ""
    if row.added is not None:
        added = f", {row.added.ms:.3g} ms an APDU, {row.added.percent:.2g} %"
    aim = f"{row.aim}: {'met' if row.met else 'missed'}{added}"
    return row.work, _words(row, row.ours), references, ratio, aim


def _words(row: Row, figure: Figure) -> str:
    spread = "" if figure.p95 is None else f" ({figure.p95:.3g})"
    return f"{figure.value:.4g}{spread} {row.unit}"


def _source(figure: Figure) -> str:
    return f"{figure.what} (published)" if figure.published else figure.what
