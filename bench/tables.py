"""Tables of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column to the left, the others to the right where they are figures."""
    kept = [list(row) for row in rows]
    figures = [
        index > 0 and all(row[index][:1].isdigit() or row[index] in {"", "-"} for row in kept)
        for index in range(len(heads))
    ]
    lines = [list(heads), ["---:" if figure else "---" for figure in figures], *kept]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)
