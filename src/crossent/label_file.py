"""Reads the labels out of a file: a column of a table, several columns, or lines of text."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent.auditing.files import open_table
from crossent.auditing.tables import Table, list_names
from crossent.errors import FileError

# Names of a label column, for files that hold more than one column.
_NAMES = ("label", "labels", "y", "y_true", "target", "targets")
_BLOCK_ROWS = 1 << 16


def read_label_file(path: Path, column: str | None = None) -> NDArray[Any]:
    """The labels in a file, (rows,) or (rows, classes).

    Args:
        path: NPY, NPZ, CSV, TSV, Parquet, or text (.txt) with one row per line.
        column: the column, or a pattern such as "y_*" for one column per class.

    Raises:
        FileError: the file cannot be read or has no such column.
        MissingLibraryError: Parquet without pyarrow.
    """
    if path.suffix.lower() == ".txt":
        return _read_lines(path)
    table = open_table(path)
    names = _columns(table, column)
    blocks: dict[str, list[Any]] = {name: [] for name in names}
    for block in table.read(names, _BLOCK_ROWS):
        for name in names:
            blocks[name].append(block.columns[name])
    parts = [_joined(blocks[name]) for name in names]
    return parts[0] if len(parts) == 1 else np.stack(parts, axis=1)


def _columns(table: Table, column: str | None) -> list[str]:
    if column is not None:
        names = [name for name in table.columns if fnmatchcase(name, column)]
        if not names:
            raise FileError(
                f'{table.name} has no column "{column}"; it has {list_names(table.columns)}. '
                "Name one with --column."
            )
        return names
    if len(table.columns) == 1:
        return list(table.columns)
    names = [name for name in table.columns if name.lower() in _NAMES]
    if len(names) != 1:
        raise FileError(
            f"{table.name} must have one column of labels; got {list_names(table.columns)}. "
            "Name it with --column."
        )
    return names


def _joined(blocks: list[Any]) -> NDArray[Any]:
    """One array of a column's blocks; text cells become numbers where all of them are."""
    if isinstance(blocks[0], list):
        return _as_numbers([cell for block in blocks for cell in block])
    return np.concatenate(blocks)


def _as_numbers(cells: list[str]) -> NDArray[Any]:
    """Ids or numbers; an empty cell among numbers is NaN. Names stay names."""
    try:
        return np.array([int(cell) for cell in cells])
    except ValueError:
        pass
    try:
        return np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError:
        return np.array(cells)


def _read_lines(path: Path) -> NDArray[Any]:
    if not path.is_file():
        raise FileError(f"{path} must be a file; there is none of this name")
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path.name} must be a text file in UTF-8; {error}") from None
    rows = [line.replace(",", " ").split() for line in lines if line.strip()]
    if not rows:
        raise FileError(f"{path.name} must hold one row of labels per line; it is empty")
    widths = {len(row) for row in rows}
    if len(widths) > 1:
        raise FileError(
            f"{path.name} must have the same number of labels in every line; "
            f"got {min(widths)} to {max(widths)}. Write multi-hot rows of 0 and 1."
        )
    cells = _as_numbers([cell for row in rows for cell in row])
    return cells.reshape(len(rows), -1)
