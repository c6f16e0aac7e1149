"""Which columns hold labels, scores and weights, and the batches of rows made of them.

Names are guessed only where one guess is possible; class order is the file's, never sorted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from crossent.auditing import cells
from crossent.auditing.classes import (
    Numbering,
    class_names,
    labels_are_numbers,
    numbers_of,
    paired,
)
from crossent.auditing.files import open_table
from crossent.auditing.npy import NpyTable
from crossent.auditing.tables import Column, Table, list_names
from crossent.errors import ArgumentError, FileError

ScoreKind = Literal["logits", "probs", "log_probs"]
SCORE_KINDS: tuple[ScoreKind, ...] = ("logits", "probs", "log_probs")
_LABEL_NAMES = ("label", "labels", "y", "target", "targets", "y_true")

# Temporary float64 arrays of one batch stay near 8 MB each, whatever the number of classes.
_BATCH_NUMBERS = 1 << 20
_BATCH_ROWS = 8192


class LabelRows(Protocol):
    """Labels kept apart from the scores, by row number."""

    name: str
    rows: int | None

    def rows_between(self, start: int, stop: int) -> npt.NDArray[Any]:
        """The labels of some rows."""


class Batch(NamedTuple):
    """Consecutive rows: labels (rows,) or (rows, classes), scores (rows, classes)."""

    first_row: int
    labels: npt.NDArray[Any]
    scores: npt.NDArray[Any]
    weights: npt.NDArray[np.float64] | None
    ids: Column | None
    fraction: float


@dataclass(frozen=True)
class Selection:
    """The columns of a table by their meaning."""

    kind: ScoreKind
    scores: tuple[str, ...]
    labels: tuple[str, ...]
    weights: str | None = None
    ids: str | None = None
    label_rows: LabelRows | None = None
    class_names: tuple[str, ...] = ()
    numbering: Numbering | None = None
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        """Everything to read, each once."""
        single = [name for name in (self.weights, self.ids) if name is not None]
        return list(dict.fromkeys([*self.labels, *self.scores, *single]))

    def id_of_name(self) -> dict[str, int]:
        """Class ids by name; empty where all names are numbers, for a number may be an id."""
        if numbers_of(self.class_names) is not None:
            return {}
        return {name: position for position, name in enumerate(self.class_names)}


def select(
    table: Table,
    *,
    scores: Mapping[ScoreKind, str],
    labels: str | None = None,
    weights: str | None = None,
    ids: str | None = None,
    label_rows: LabelRows | None = None,
) -> Selection:
    """Find the columns that were named, and guess those that were not.

    Raises:
        FileError: a column is not there, or cannot be guessed.
        ArgumentError: scores of more than one kind were named.
    """
    if len(scores) > 1:
        raise ArgumentError(
            f"exactly one kind of scores must be named; got {' and '.join(scores)}. "
            "Audit them one after the other."
        )
    label_names: tuple[str, ...] = ()
    if label_rows is None and labels is not None:
        if labels.endswith(".npy") and labels not in table.columns:
            label_rows = _open_labels(Path(labels))
        else:
            label_names = _matching(table, labels, "--labels", taken=())
    elif label_rows is None:
        label_names = (_guess_label(table),)
    weight_name, id_name = _one(table, weights, "--weights"), _one(table, ids, "--ids")
    taken = (*label_names, *(name for name in (weight_name, id_name) if name is not None))
    kind, pattern = next(iter(scores.items()), None) or _guess_scores(table, taken)
    score_names = _matching(table, pattern, f"--{kind.replace('_', '-')}", taken=taken)
    names = class_names(pattern, score_names) if len(score_names) > 1 else ()
    if labels is not None and len(label_names) > 1 and len(score_names) > 1:
        label_names = paired(label_names, labels, score_names, pattern)
    _require_length(table, label_rows, table.rows, whole=True)
    return Selection(kind, score_names, label_names, weight_name, id_name, label_rows, names)


def with_class_numbers(
    table: Table, selection: Selection, ignore_index: int | None, batch_rows: int
) -> Selection:
    """Decide whether labels are the numbers that the score columns are named after.

    Where these are not 0 to K-1, only all the labels tell, so they are read once more.

    Raises:
        FileError: some labels can only be numbers of columns and others only positions.
    """
    numbers = numbers_of(selection.class_names)
    count = len(selection.class_names)
    if numbers is None or len(selection.labels) > 1 or numbers == list(range(count)):
        return selection
    numbering = Numbering(tuple(numbers), ignore_index)
    if sorted(numbers) == list(range(count)):
        return replace(selection, numbering=numbering)
    labels = (part for part in _label_parts(table, selection, batch_rows) if part.ndim == 1)
    if labels_are_numbers(numbers, labels, ignore_index):
        return replace(selection, numbering=numbering)
    note = (
        f"Labels are scored by position, for they are not the numbers of the score columns: label "
        f'0 by "{selection.scores[0]}", label {count - 1} by "{selection.scores[-1]}".'
    )
    # The names would be read as labels, and are other numbers than those.
    return replace(selection, class_names=(), notes=(note,))


def _label_parts(table: Table, selection: Selection, batch_rows: int) -> Iterator[npt.NDArray[Any]]:
    """The labels alone, in batches."""
    row = 0
    if selection.label_rows is not None:
        rows = selection.label_rows.rows or 0
        for row in range(0, rows, batch_rows):
            yield _labels({}, selection, row, min(row + batch_rows, rows), one_score=False)
        return
    for block in table.read(selection.labels, batch_rows):
        stop = row + len(block.columns[selection.labels[0]])
        yield _labels(block.columns, selection, row, stop, one_score=False)
        row = stop


def _open_labels(path: Path) -> NpyTable:
    table = open_table(path)
    if not isinstance(table, NpyTable) or table.columns != [path.stem]:
        raise FileError(f"{path.name} must be an NPY file of one plain array of labels")
    return table


def _matching(table: Table, pattern: str, flag: str, taken: Sequence[str]) -> tuple[str, ...]:
    """The column of that exact name, or those that fit the pattern, in the file's order."""
    if pattern in table.columns:
        return (pattern,)
    if isinstance(table, NpyTable) and table.is_plain and not taken and flag != "--labels":
        # One array without a name of its own: nothing else can be meant.
        return tuple(table.columns)
    found = [name for name in table.columns if fnmatchcase(name, pattern) and name not in taken]
    if not found:
        raise FileError(
            f'{table.name} has no column "{pattern}"; it has {list_names(table.columns)}. '
            f"Name one of them with {flag}, or several by a pattern such as 'p_*'."
        )
    return tuple(found)


def _one(table: Table, name: str | None, flag: str) -> str | None:
    """A column that was named by its exact name."""
    if name is None or name in table.columns:
        return name
    raise FileError(
        f'{table.name} has no column "{name}"; it has {list_names(table.columns)}. '
        f"Name one of them with {flag}."
    )


def _guess_label(table: Table) -> str:
    found = [name for name in _LABEL_NAMES if name in table.columns]
    if len(found) == 1:
        return found[0]
    problem = "several columns that may hold the labels" if found else "no column named label"
    raise FileError(
        f"{table.name} has {problem}; it has {list_names(table.columns)}. Name the labels with "
        "--labels COLUMN, or --labels FILE.npy."
    )


def _guess_scores(table: Table, taken: Sequence[str]) -> tuple[ScoreKind, str]:
    """The kind and its columns, if exactly one kind is named by the columns themselves."""
    found: dict[ScoreKind, str] = {}
    for kind in SCORE_KINDS:
        for pattern in (kind, f"{kind}_*"):
            if any(fnmatchcase(name, pattern) and name not in taken for name in table.columns):
                found.setdefault(kind, pattern)
    if len(found) == 1:
        return next(iter(found.items()))
    problem = (
        f"columns of several kinds of scores ({', '.join(found)})"
        if found
        else "no column named logits, probs or log_probs"
    )
    raise FileError(
        f"{table.name} has {problem}; it has {list_names(table.columns)}. Say what the scores are "
        "with --logits, --probs or --log-probs and a column name, or a pattern such as 'p_*'."
    )


def _require_length(
    table: Table, label_rows: LabelRows | None, rows: int | None, *, whole: bool
) -> None:
    """Refuse labels of another number of rows than the scores, as early as it is known."""
    if label_rows is None or label_rows.rows is None or rows is None:
        return
    if rows > label_rows.rows or (whole and rows < label_rows.rows):
        more = "" if whole else " or more"
        raise FileError(
            f"{label_rows.name} must have one label for each of the {rows}{more} rows of "
            f"{table.name}; got {label_rows.rows}"
        )


def batch_rows_for(table: Table, selection: Selection) -> int:
    """Rows per batch that keep the memory in use small whatever the number of classes."""
    width = sum(table.width(name) for name in selection.scores)
    return max(1, min(_BATCH_ROWS, _BATCH_NUMBERS // max(width, 1)))


def batches(table: Table, selection: Selection, batch_rows: int) -> Iterator[Batch]:
    """The rows of a table in order, as arrays."""
    row, width = 0, None
    for block in table.read(selection.columns, batch_rows):
        scores = _scores(block.columns, selection, row)
        width = width or scores.shape[1]
        if scores.shape[1] != width:
            raise FileError(
                f"the scores of {table.name} must have the same number of classes in every row; "
                f"rows before {row} have {width}, row {row} has {scores.shape[1]}"
            )
        stop = row + len(scores)
        _require_length(table, selection.label_rows, stop, whole=False)
        yield Batch(
            row,
            _labels(block.columns, selection, row, stop, one_score=width == 1),
            scores,
            _weights(block.columns, selection, row),
            block.columns[selection.ids] if selection.ids is not None else None,
            block.fraction,
        )
        row = stop
    _require_length(table, selection.label_rows, row, whole=True)


def _scores(columns: Mapping[str, Column], selection: Selection, row: int) -> npt.NDArray[Any]:
    """Scores of shape (rows, classes), C-contiguous.

    The order in memory decides the order in which a row is summed, and so its last bit: it must
    not depend on the format or on the batch.
    """
    parts = [cells.numbers(columns[name], name, row) for name in selection.scores]
    if len(parts) > 1 and any(part.ndim > 1 for part in parts):
        raise FileError(
            f"scores must be one column of lists or several of numbers; got several columns with "
            f"lists among {list_names(selection.scores)}. Name one of them."
        )
    scores = parts[0] if len(parts) == 1 else np.stack(parts, axis=1)
    return np.ascontiguousarray(scores.reshape(len(scores), -1))


def _weights(
    columns: Mapping[str, Column], selection: Selection, row: int
) -> npt.NDArray[np.float64] | None:
    if selection.weights is None:
        return None
    weights = cells.numbers(columns[selection.weights], selection.weights, row)
    if weights.ndim > 1:
        raise FileError(f'"{selection.weights}" must hold one weight per row; got lists')
    return weights.astype(np.float64)


def _labels(
    columns: Mapping[str, Column], selection: Selection, start: int, stop: int, *, one_score: bool
) -> npt.NDArray[Any]:
    """Class ids (rows,), or one number per class (rows, classes)."""
    names = selection.labels
    if selection.label_rows is not None:
        labels = selection.label_rows.rows_between(start, stop)
        if labels.dtype.kind not in "biuf":
            raise FileError(f"{selection.label_rows.name} must hold numbers; got {labels.dtype}")
    elif len(names) > 1:
        parts = [cells.numbers(columns[name], name, start, of_labels=True) for name in names]
        return np.stack(parts, axis=1)
    else:
        labels = cells.label_numbers(
            columns[names[0]], names[0], start, selection.id_of_name(), one_score=one_score
        )
    if labels.ndim == 2:
        return labels[:, 0] if labels.shape[1] == 1 else labels
    return labels if selection.numbering is None else selection.numbering.to_ids(labels)
