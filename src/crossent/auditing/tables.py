"""What every file format gives: named columns, read in blocks of rows.

Knows no format and no meaning of a column.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from crossent.errors import DTypeError, FileError, ShapeError

Column = npt.NDArray[Any] | list[str]
"""Rows of one column: numbers of shape (rows,) or (rows, width), or text cells."""


class Block(NamedTuple):
    """Consecutive rows of the columns asked for, and how much of the file is behind them."""

    columns: dict[str, Column]
    fraction: float


class Table(Protocol):
    """A readable set of named columns; `rows` is None where only reading to the end tells it."""

    name: str
    columns: list[str]
    rows: int | None

    def width(self, column: str) -> int:
        """Numbers per row of a column: 1, or the length of its lists."""

    def read(self, columns: Sequence[str], batch_rows: int) -> Iterator[Block]:
        """Blocks of at most `batch_rows` rows, from the first row to the last."""


class ArrayTable:
    """Arrays that are in memory already, as columns."""

    def __init__(self, arrays: Mapping[str, npt.ArrayLike]) -> None:
        self.name = "the arrays"
        self._arrays = {name: _as_column(name, array) for name, array in arrays.items()}
        self.columns = list(self._arrays)
        lengths = {name: len(array) for name, array in self._arrays.items()}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name} has {rows}" for name, rows in lengths.items())
            raise ShapeError(f"{' and '.join(lengths)} must have the same number of rows; {listed}")
        self.rows: int | None = next(iter(lengths.values()), 0)

    def width(self, column: str) -> int:
        """Numbers per row of a column."""
        return width_of(self._arrays[column])

    def rows_between(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Some rows of the first array."""
        return self._arrays[self.columns[0]][start:stop]

    def read(self, columns: Sequence[str], batch_rows: int) -> Iterator[Block]:
        """Views of the arrays."""
        rows = self.rows or 0
        for start in range(0, rows, batch_rows):
            stop = min(start + batch_rows, rows)
            yield Block({name: self._arrays[name][start:stop] for name in columns}, stop / rows)


def _as_column(name: str, array: npt.ArrayLike) -> npt.NDArray[Any]:
    """The array, if its rows can be scored at all."""
    try:
        values = np.asarray(array)
    except ValueError:
        raise ShapeError(f"{name} must be an array; got rows of different lengths") from None
    if name == "ids" and values.ndim == 1:
        return values.astype(np.str_)
    if values.dtype.kind not in "biuf":
        raise DTypeError(f"{name} must hold numbers; got dtype {values.dtype}")
    if values.ndim not in (1, 2):
        raise ShapeError(
            f"{name} must have 1 or 2 dimensions, (rows,) or (rows, classes); "
            f"got shape {values.shape}. Put every row on the first axis with reshape(-1, classes)."
        )
    if values.ndim == 2 and values.shape[1] == 0:
        raise ShapeError(f"{name} must have at least one column; got shape {values.shape}")
    return values


def width_of(array: npt.NDArray[Any]) -> int:
    """Numbers per row of an array of 1 or 2 dimensions."""
    return 1 if array.ndim == 1 else int(array.shape[1])


def require_rows(name: str, rows: int) -> None:
    """Refuse a file without a row: no score follows from nothing."""
    if rows == 0:
        raise FileError(f"{name} must hold at least one row; got none")


def first_line(error: BaseException) -> str:
    """What another library says went wrong, in one line."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def list_names(names: Sequence[str]) -> str:
    """Names in quotes for a message; of many, the first and the last."""
    quoted = [f'"{name}"' for name in names]
    if len(quoted) > 12:
        quoted = [*quoted[:8], "...", *quoted[-2:]]
    return ", ".join(quoted) or "none"
