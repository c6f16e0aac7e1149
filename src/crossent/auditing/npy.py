"""NPY and NPZ files, read in slices; pickled objects are refused from the header alone.

Uses NumPy's reader for headers only: they are parsed as literals, never executed.
"""

import math
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from crossent.auditing.tables import Block, Column, first_line, require_rows, width_of
from crossent.errors import FileError

MAGIC = b"\x93NUMPY"


class _Header(NamedTuple):
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran_order: bool

    @property
    def row_shape(self) -> tuple[int, ...]:
        return self.shape[1:]

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.row_shape)


# What the readers of headers and of archives raise for damaged bytes.
_DAMAGE = (
    ValueError,
    OSError,
    EOFError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def _read_header(stream: IO[bytes], name: str) -> _Header:
    """Shape and dtype of the array that follows; the stream is left at its first byte."""
    try:
        header = _parsed_header(stream)
    except _DAMAGE as error:
        raise FileError(f"{name} must be a readable NPY array; {first_line(error)}") from None
    if header.dtype.hasobject:
        raise FileError(
            f"{name} must hold numbers; got pickled Python objects, which could run code when "
            "loaded. Save it again with a numeric dtype."
        )
    if len(header.shape) not in (1, 2):
        raise FileError(
            f"{name} must have 1 or 2 dimensions, (rows,) or (rows, classes); got shape "
            f"{header.shape}. Put every row on the first axis with reshape(-1, classes)."
        )
    require_rows(name, header.shape[0])
    if min(header.shape) < 0 or header.row_bytes == 0:
        raise FileError(
            f"{name} must hold numbers in every row; got shape {header.shape} of {header.dtype}"
        )
    return header


def _parsed_header(stream: IO[bytes]) -> _Header:
    version = np.lib.format.read_magic(stream)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"version {version} instead of (1, 0) or (2, 0)")
    with warnings.catch_warnings():
        # NumPy warns of headers that Python 2 wrote; they are read all the same.
        warnings.simplefilter("ignore", UserWarning)
        shape, fortran_order, dtype = readers[version](stream)
    return _Header(dtype, shape, fortran_order)


def _as_column(array: npt.NDArray[Any], name: str) -> Column:
    """Numbers as they are, text as a list; anything else is refused."""
    if array.dtype.kind in "biuf":
        return array
    if array.dtype.kind == "U" and array.ndim == 1:
        return [str(cell) for cell in array]
    raise FileError(
        f"{name} must hold numbers; got dtype {array.dtype}. Save it as float32 (bfloat16 is "
        "stored by NumPy as raw bytes)."
    )


class NpyTable:
    """One NPY file: the fields of a structured array, or one column named after the file."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path
        with path.open("rb") as stream:
            self._header = _read_header(stream, self.name)
            self._offset = stream.tell()
        rows, needed = self._header.shape[0], self._header.shape[0] * self._header.row_bytes
        present = path.stat().st_size - self._offset
        if present < needed:
            raise FileError(
                f"{self.name} must hold {needed} bytes of array, by its header; got {present}. "
                "The file was cut short: write or copy it again."
            )
        self.rows: int | None = rows
        self._fields = self._header.dtype.names or ()
        if self._fields and len(self._header.shape) != 1:
            raise FileError(f"{self.name} must have 1 dimension if it has fields; got 2")
        self.columns = list(self._fields) or [path.stem]

    @property
    def is_plain(self) -> bool:
        """Whether the file is one array without fields."""
        return not self._fields

    def rows_between(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows from the memory-mapped file.

        Each slice is a map of its own: pages go back to the system with it, and the memory in
        use stays that of one batch however large the file is.
        """
        header = self._header
        if header.fortran_order:
            whole = np.memmap(self._path, header.dtype, "r", self._offset, header.shape, "F")
            return np.ascontiguousarray(whole[start:stop])
        offset = self._offset + start * header.row_bytes
        shape = (stop - start, *header.row_shape)
        return np.memmap(self._path, header.dtype, "r", offset, shape)

    def width(self, column: str) -> int:
        """Numbers per row of a column."""
        return width_of(self._select(self.rows_between(0, 1), column))

    def read(self, columns: Sequence[str], batch_rows: int) -> Iterator[Block]:
        """Blocks of the mapped file."""
        rows = self._header.shape[0]
        for start in range(0, rows, batch_rows):
            stop = min(start + batch_rows, rows)
            block = self.rows_between(start, stop)
            yield Block(
                {name: _as_column(self._select(block, name), name) for name in columns},
                stop / rows,
            )

    def _select(self, block: npt.NDArray[Any], column: str) -> npt.NDArray[Any]:
        return block[column] if self._fields else block


class NpzTable:
    """An NPZ archive: its arrays are the columns, each streamed out of the archive."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path
        with self._archive() as archive:
            members = [name for name in archive.namelist() if name.endswith(".npy")]
        self._member_of = {name.removesuffix(".npy"): name for name in members}
        self.columns = list(self._member_of)
        self.rows: int | None = None

    def _archive(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self._path)
        except (*_DAMAGE, NotImplementedError) as error:
            raise FileError(
                f"{self.name} must be an NPZ archive; it is damaged ({first_line(error)})"
            ) from None

    def width(self, column: str) -> int:
        """Numbers per row of an array, from its header."""
        with self._archive() as archive:
            shape = _open_member(archive, self._member_of[column], column)[1].shape
        return shape[1] if len(shape) == 2 else 1

    def read(self, columns: Sequence[str], batch_rows: int) -> Iterator[Block]:
        """Blocks of all arrays together; they must be equally long."""
        with self._archive() as archive:
            parts = {name: _MemberRows(archive, self._member_of[name], name) for name in columns}
            lengths = {name: part.rows for name, part in parts.items()}
            if len(set(lengths.values())) > 1:
                listed = ", ".join(f'"{name}" has {rows}' for name, rows in lengths.items())
                raise FileError(
                    f"the arrays of {self.name} must have the same number of rows; {listed}"
                )
            rows = next(iter(lengths.values()))
            for start in range(0, rows, batch_rows):
                stop = min(start + batch_rows, rows)
                yield Block(
                    {
                        name: _as_column(part.take(stop - start), name)
                        for name, part in parts.items()
                    },
                    stop / rows,
                )


def _open_member(archive: zipfile.ZipFile, member: str, name: str) -> tuple[IO[bytes], _Header]:
    """The stream of one array, positioned after its header."""
    try:
        stream = archive.open(member)
    except (*_DAMAGE, NotImplementedError, RuntimeError) as error:
        raise FileError(f'array "{name}" must be readable; got {first_line(error)}') from None
    header = _read_header(stream, f'array "{name}"')
    if header.shape[0] * header.row_bytes > archive.getinfo(member).file_size:
        raise FileError(
            f'array "{name}" must hold {header.shape[0]} rows, by its header; it ends early'
        )
    return stream, header


class _MemberRows:
    """The rows of one array of an archive, taken from first to last."""

    def __init__(self, archive: zipfile.ZipFile, member: str, name: str) -> None:
        self._name = name
        self._stream, self._header = _open_member(archive, member, name)
        self.rows = self._header.shape[0]
        self._whole: npt.NDArray[Any] | None = None
        self._taken = 0

    def take(self, rows: int) -> npt.NDArray[Any]:
        """The next rows."""
        header, start = self._header, self._taken
        self._taken += rows
        if not header.fortran_order:
            return self._next_bytes(rows).reshape(rows, *header.row_shape)
        # Columns come one after another in the stream: the first row is complete at the very end.
        if self._whole is None:
            self._whole = self._next_bytes(self.rows).reshape(header.shape, order="F")
        return np.ascontiguousarray(self._whole[start : start + rows])

    def _next_bytes(self, rows: int) -> npt.NDArray[Any]:
        needed = rows * self._header.row_bytes
        try:
            data = self._stream.read(needed)
        except _DAMAGE as error:
            raise FileError(
                f'array "{self._name}" must be readable; got {first_line(error)}'
            ) from None
        if len(data) < needed:
            raise FileError(
                f'array "{self._name}" must hold {self.rows} rows, by its header; it ends early'
            )
        return np.frombuffer(data, self._header.dtype)
