"""Parquet files, read in batches; the only module that imports pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from crossent.auditing.tables import Block, Column, first_line, require_rows
from crossent.errors import FileError, MissingLibraryError

if TYPE_CHECKING:
    import pyarrow as pa

MAGIC = b"PAR1"


class ParquetTable:
    """One Parquet file; list and fixed-size list columns have a row of numbers per row."""

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise MissingLibraryError(
                'reading Parquet needs pyarrow: pip install "crossent[audit]"'
            ) from None
        self.name = path.name
        # What pyarrow raises for damaged files; a ValueError for damaged text in them.
        self._damage = (pa.ArrowException, OSError, ValueError)
        try:
            # Read-ahead costs three times the memory and saves no time (pre_buffer=False).
            self._file = pq.ParquetFile(path, pre_buffer=False)
        except self._damage as error:
            raise self._damaged(error) from None
        self.columns = list(self._file.schema_arrow.names)
        self.rows: int | None = self._file.metadata.num_rows
        require_rows(self.name, self.rows)

    def _damaged(self, error: BaseException) -> FileError:
        return FileError(f"{self.name} must be a readable Parquet file; {first_line(error)}")

    def width(self, column: str) -> int:
        """Numbers per row, from the first row."""
        for block in self.read([column], 1):
            first = block.columns[column]
            return int(first.shape[1]) if isinstance(first, np.ndarray) and first.ndim == 2 else 1
        raise FileError(f"{self.name} must hold at least one row; got none")

    def read(self, columns: Sequence[str], batch_rows: int) -> Iterator[Block]:
        """Batches of the file; numbers are views of Arrow's memory."""
        rows, done = self.rows or 0, 0
        batches = self._file.iter_batches(batch_rows, columns=list(columns), use_threads=False)
        while True:
            try:
                batch = next(batches, None)
            except self._damage as error:
                raise self._damaged(error) from None
            if batch is None:
                break
            if batch.num_rows:
                block = {name: _to_numpy(batch.column(name), name, done) for name in columns}
                done += batch.num_rows
                yield Block(block, done / rows)
        if done != rows:
            raise FileError(f"{self.name} must hold {rows} rows, by its footer; got {done}")


def _to_numpy(column: pa.Array[Any], name: str, first_row: int) -> Column:
    """Numbers of shape (rows,) or (rows, width), or text; nulls and ragged lists are refused."""
    import pyarrow as pa

    if isinstance(column, pa.DictionaryArray):
        column = column.dictionary_decode()
    _refuse_nulls(column, name, first_row)
    if isinstance(column, pa.FixedSizeListArray | pa.ListArray | pa.LargeListArray):
        width = _list_width(np.asarray(column.value_lengths()), name, first_row)
        values = column.flatten()
        if values.null_count:
            row = first_row + _first_null(values) // width
            raise FileError(
                f'column "{name}" must hold a number in every place; row {row} has a null'
            )
        return _numbers(values, name).reshape(-1, width)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return [str(cell) for cell in column.to_pylist()]
    return _numbers(column, name)


def _numbers(values: pa.Array[Any], name: str) -> npt.NDArray[Any]:
    import pyarrow as pa

    kind = values.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        numbers: npt.NDArray[Any] = values.to_numpy(zero_copy_only=False)
        return numbers
    raise FileError(f'column "{name}" must hold numbers; got Parquet type {kind}')


def _refuse_nulls(column: pa.Array[Any], name: str, first_row: int) -> None:
    if column.null_count:
        row = first_row + _first_null(column)
        raise FileError(
            f'column "{name}" must have a value in every row; row {row} is null. Leave such rows '
            "out, or give them a label of their own and name it with --ignore-index."
        )


def _first_null(values: pa.Array[Any]) -> int:
    return int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))


def _list_width(lengths: npt.NDArray[Any], name: str, first_row: int) -> int:
    """The common length of the lists; the first row of another length is named."""
    width = int(lengths[0])
    other = np.flatnonzero(lengths != width)
    if len(other):
        raise FileError(
            f'the lists of column "{name}" must be equally long; row {first_row} has {width} '
            f"numbers and row {first_row + int(other[0])} has {int(lengths[other[0]])}"
        )
    if width == 0:
        raise FileError(
            f'the lists of column "{name}" must hold a number per class; got empty ones'
        )
    return width
