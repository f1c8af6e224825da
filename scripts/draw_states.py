# SPDX-License-Identifier: Apache-2.0
"""Draw the states of the TLS engine from its transition table into ``docs/architecture.md``.

``python scripts/draw_states.py`` writes; ``--check`` fails when the drawing is not current.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from iose.tls.states import TRANSITIONS, State

PAGE = Path(__file__).resolve().parent.parent / "docs" / "architecture.md"
BEGIN, END = "<!-- states: drawn by scripts/draw_states.py -->\n", "<!-- end of states -->\n"


def words(name: str) -> str:
    """Return a name of the table as prose."""
    return name.lower().replace("_", " ")


def moves(role: str) -> Iterator[str]:
    """Return one line of Mermaid for each move of a role, in the table's order."""
    for state, ways in TRANSITIONS.items():
        for given, following in ways.items():
            for end in sorted(following, key=lambda state: state.value):
                if state.name.startswith(role):
                    yield f"    {state.name} --> {end.name}: {words(given.name)}\n"


def diagram(role: str) -> str:
    """Return the diagram of one role; every state may also end in CLOSED, which is left out."""
    states = [state for state in State if state.name.startswith(role)]
    names = "".join(
        f"    {state.name}: {words(state.name.removeprefix(role + '_'))}\n" for state in states
    )
    first = f"    [*] --> {states[0].name}\n"
    return f"```mermaid\nstateDiagram-v2\n{names}{first}{''.join(moves(role))}```\n"


def drawn(page: str) -> str:
    """Return the page with the diagrams of today between the two marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    text = (
        "An error or close_notify leads from every state to `CLOSED`, which is not drawn.\n\n"
        f"The client:\n\n{diagram('CLIENT')}\nThe server:\n\n{diagram('SERVER')}"
    )
    return f"{before}{BEGIN}{text}{END}{after}"


def main() -> int:
    """Write the page, or compare it; the exit status is 1 when it is not current."""
    page = PAGE.read_text()
    if "--check" not in sys.argv:
        PAGE.write_text(drawn(page))
    elif drawn(page) != page:
        print(f"{PAGE.name} is not current: run python scripts/draw_states.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
