"""Text layout of sections: plain columns, or rich tables on a terminal. Knows no scores."""

import textwrap
from collections.abc import Sequence
from typing import IO, NamedTuple

_WIDTH = 100


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


def plain_text(sections: list[Section]) -> str:
    """All sections as text without colours, at most 100 characters wide where words allow it."""
    parts = []
    for section in sections:
        lines = [section.title]
        lines += _grid_lines(section.grid) if section.grid else []
        for paragraph in section.paragraphs:
            lines += _wrapped(paragraph)
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _grid_lines(grid: Grid) -> list[str]:
    rows = [*([grid.header] if grid.header else []), *grid.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column in grid.numeric else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return lines


def _wrapped(paragraph: str) -> list[str]:
    """Lines of a paragraph; a line break in it stays, with what follows set in."""
    lines = []
    for number, line in enumerate(paragraph.splitlines()):
        indent = "  " if number == 0 else "      "
        lines += textwrap.wrap(
            line.strip(),
            _WIDTH,
            initial_indent=indent,
            subsequent_indent=indent + "  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def write(sections: list[Section], stream: IO[str]) -> None:
    """Write the sections: with rich on a terminal, if it is installed, and plain elsewhere.

    Plain in a pipe too: rich would fold the text at 80 columns there.
    """
    if stream.isatty():
        try:
            _write_rich(sections, stream)
        except ImportError:
            pass
        else:
            return
    stream.write(plain_text(sections))


def _write_rich(sections: list[Section], stream: IO[str]) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = Console(file=stream, highlight=False)
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
