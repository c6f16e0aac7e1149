"""CSV files with a header line, read with the standard library in blocks of rows.

Cells are text here; a column becomes numbers where its meaning is known.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from crossent.auditing.tables import Block, first_line, list_names
from crossent.errors import FileError


class CsvTable:
    """One CSV file; the separator is the first of comma, semicolon and tab in its header line."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path
        self._bytes = path.stat().st_size
        self.rows: int | None = None
        self._separator = ","
        self.columns = self._read_header()

    def _read_header(self) -> list[str]:
        try:
            with self._path.open(encoding="utf-8-sig", newline="") as stream:
                line = stream.readline()
        except (UnicodeDecodeError, OSError) as error:
            raise self._unreadable(error) from None
        self._separator = next((mark for mark in ",;\t" if mark in line), ",")
        names = [name.strip() for name in next(csv.reader([line], delimiter=self._separator), [])]
        if all(_is_number(name) for name in names):
            raise FileError(
                f"{self.name} must begin with a header line that names the columns; "
                f"got {list_names(names)}"
            )
        return names

    def _unreadable(self, error: Exception) -> FileError:
        return FileError(f"{self.name} must be a CSV file in UTF-8; {first_line(error)}")

    def width(self, column: str) -> int:  # noqa: ARG002 - the same question as for other formats
        """A cell holds one number."""
        return 1

    def read(self, columns: Sequence[str], batch_rows: int) -> Iterator[Block]:
        """Blocks of cells, each with the share of the file's bytes read so far."""
        places = [self._place(name) for name in columns]
        with self._path.open(encoding="utf-8-sig", newline="") as stream:
            # The text itself cannot be told its position while it is iterated over.
            position = cast("BinaryIO", stream.buffer)
            reader = csv.reader(stream, delimiter=self._separator)
            next(reader)
            row, cells = 0, self._empty(columns)
            for record in self._records(reader):
                self._require_cells(record, row)
                for name, place in zip(columns, places, strict=True):
                    cells[name].append(record[place].strip())
                row += 1
                if row % batch_rows == 0:
                    yield Block(dict(cells), position.tell() / self._bytes)
                    cells = self._empty(columns)
            if row % batch_rows:
                yield Block(dict(cells), 1.0)
        if row == 0:
            raise FileError(f"{self.name} must hold at least one row below its header; got none")

    @staticmethod
    def _empty(columns: Sequence[str]) -> dict[str, list[str]]:
        return {name: [] for name in columns}

    def _records(self, reader: Iterator[list[str]]) -> Iterator[list[str]]:
        """The lines that hold something; blank ones, often the last, are no rows."""
        try:
            for record in reader:
                if record:
                    yield record
        except (csv.Error, UnicodeDecodeError, OSError) as error:
            raise self._unreadable(error) from None

    def _require_cells(self, record: list[str], row: int) -> None:
        if len(record) != len(self.columns):
            raise FileError(
                f"{self.name} must have {len(self.columns)} cells in every row, as its header "
                f"has; row {row} has {len(record)}"
            )

    def _place(self, name: str) -> int:
        if self.columns.count(name) > 1:
            raise FileError(f'{self.name} must have one column "{name}"; its header names it twice')
        return self.columns.index(name)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
