"""Text layout of sections: plain columns, or rich tables on a terminal. Knows no scores."""

import shutil
import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from typing import IO, NamedTuple

_WIDTH = 100
# Text narrower than this is harder to read than a line that is too long.
_NARROWEST = 8


class Grid(NamedTuple):
    """Rows of cells under an optional header. `numeric` columns are set flush right."""

    rows: Sequence[tuple[str, ...]]
    header: tuple[str, ...] = ()
    numeric: frozenset[int] = frozenset()


class Section(NamedTuple):
    """A title, then a table or paragraphs, then notes."""

    title: str
    grid: Grid | None = None
    paragraphs: tuple[str, ...] = ()


def plain_text(sections: list[Section], width: int = _WIDTH) -> str:
    """All sections as text without colours, at most that wide where words and numbers allow it."""
    parts = []
    for section in sections:
        lines = _folded(section.title, width, "  ")
        lines += _grid_lines(section.grid, width) if section.grid else []
        for paragraph in section.paragraphs:
            lines += _wrapped(paragraph, width)
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _grid_lines(grid: Grid, width: int) -> list[str]:
    rows = [*([grid.header] if grid.header else []), *grid.rows]
    widths = _column_widths(rows, grid.numeric, width)
    lines = []
    for row in rows:
        cells = [
            [cell] if column in grid.numeric else _folded(cell, widths[column])
            for column, cell in enumerate(row)
        ]
        for parts in zip_longest(*cells, fillvalue=""):
            laid = [
                part.rjust(room) if column in grid.numeric else part.ljust(room)
                for column, (part, room) in enumerate(zip(parts, widths, strict=True))
            ]
            lines.append(("  " + "  ".join(laid)).rstrip())
    return lines


def _column_widths(
    rows: Sequence[tuple[str, ...]], numeric: frozenset[int], width: int
) -> list[int]:
    """What each column needs; where that is too much, the widest of text give way."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    text = [column for column in range(len(widths)) if column not in numeric]
    while sum(widths) + 2 * len(widths) > width:
        widest = max(text, key=widths.__getitem__, default=None)
        if widest is None or widths[widest] <= _NARROWEST:
            break
        widths[widest] -= 1
    return widths


def _wrapped(paragraph: str, width: int) -> list[str]:
    """Lines of a paragraph; a line break in it stays, with what follows set in."""
    lines = []
    for number, line in enumerate(paragraph.splitlines()):
        indent = "  " if number == 0 else "      "
        lines += textwrap.wrap(
            line.strip(),
            width,
            initial_indent=indent,
            subsequent_indent=indent + "  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def _folded(text: str, width: int, indent: str = "") -> list[str]:
    """Lines of a title or a cell; names without a space are cut, for they may be of any length."""
    if len(text) <= width:
        return [text]
    return textwrap.wrap(text, width, subsequent_indent=indent, break_on_hyphens=False)


def _terminal_width() -> int:
    return min(_WIDTH, shutil.get_terminal_size().columns)


def write(sections: list[Section], stream: IO[str]) -> None:
    """Write the sections: with rich on a terminal, if it is installed, and plain elsewhere.

    Plain in a pipe too: rich would fold the text at 80 columns there.
    """
    if not stream.isatty():
        stream.write(plain_text(sections))
        return
    width = _terminal_width()
    try:
        _write_rich(sections, stream, width)
    except ImportError:
        stream.write(plain_text(sections, width))


def _write_rich(sections: list[Section], stream: IO[str], width: int) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = Console(file=stream, highlight=False, width=width)
    for section in sections:
        console.print(Text(section.title, "bold"))
        if section.grid:
            # Text, not str: rich reads square brackets in a str as markup.
            table = Table(box=None, show_header=bool(section.grid.header), pad_edge=False)
            for column in range(len(section.grid.rows[0])):
                title = section.grid.header[column] if section.grid.header else ""
                table.add_column(
                    Text(title),
                    justify="right" if column in section.grid.numeric else "left",
                    header_style="dim",
                )
            for row in section.grid.rows:
                table.add_row(*(Text(cell) for cell in row))
            console.print(Padding(table, (0, 0, 0, 2)))
        for paragraph in section.paragraphs:
            console.print(Padding(Text(paragraph), (0, 0, 0, 2)))
        console.print()
