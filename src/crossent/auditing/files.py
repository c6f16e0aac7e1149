"""Which reader opens a file: by its suffix, or else by its first bytes."""

from pathlib import Path

from crossent.auditing import npy, parquet
from crossent.auditing.csv_file import CsvTable
from crossent.auditing.npy import NpyTable, NpzTable
from crossent.auditing.parquet import ParquetTable
from crossent.auditing.tables import Table, first_line
from crossent.errors import FileError

_ZIP_MAGIC = b"PK"
_FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".npy": "npy",
    ".npz": "npz",
}
_MAGIC = {"parquet": parquet.MAGIC, "npy": npy.MAGIC, "npz": _ZIP_MAGIC}


def open_table(path: Path) -> Table:
    """Open a file of predictions.

    Raises:
        FileError: nothing can be read there; the message says why in one line.
        MissingLibraryError: the format needs a library that is not installed.
    """
    first_bytes = _first_bytes(path)
    kind = _FORMATS.get(path.suffix.lower()) or _format_of(first_bytes)
    if kind is None:
        raise FileError(
            f"{path.name} must be a Parquet, CSV, NPY or NPZ file; its name ends in none of "
            ".parquet, .csv, .npy and .npz, and its first bytes are those of none"
        )
    magic = _MAGIC.get(kind, b"")
    if not first_bytes.startswith(magic):
        raise FileError(
            f"{path.name} must be a {kind.upper()} file, by its name; its first bytes are "
            f"{first_bytes[: len(magic)]!r} instead of {magic!r}"
        )
    if kind == "parquet":
        return ParquetTable(path)
    if kind == "csv":
        return CsvTable(path)
    return NpyTable(path) if kind == "npy" else NpzTable(path)


def _first_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise FileError(f"{path} must be a file; got a directory. Name one file in it.")
    try:
        with path.open("rb") as stream:
            first_bytes = stream.read(8)
    except FileNotFoundError:
        raise FileError(f"{path} must be a file; there is none of this name") from None
    except (OSError, ValueError) as error:
        raise FileError(f"{path} must be readable; got {first_line(error)}") from None
    if not first_bytes:
        raise FileError(f"{path.name} must hold predictions; it is empty")
    return first_bytes


def _format_of(first_bytes: bytes) -> str | None:
    return next((kind for kind, magic in _MAGIC.items() if first_bytes.startswith(magic)), None)
