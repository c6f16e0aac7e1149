"""Cells of text to numbers; the first that is none is named with its row and a way out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from crossent.auditing.tables import Column, list_names
from crossent.errors import FileError

_TRUTH = {"True": 1, "true": 1, "TRUE": 1, "False": 0, "false": 0, "FALSE": 0}
_MISSING = {"na", "n/a", "null", "none"}


def label_numbers(
    column: Column, name: str, row: int, id_of_name: Mapping[str, int], *, one_score: bool
) -> npt.NDArray[Any]:
    """Numbers as they are; text by the names of the classes, or as the number it spells."""
    if isinstance(column, np.ndarray):
        return column
    known = _TRUTH | dict(id_of_name)
    try:
        return np.array([known[cell] if cell in known else int(cell) for cell in column], np.int64)
    except (ValueError, OverflowError):
        cells = [str(known.get(cell, cell)) for cell in column]
        return _parsed(cells, name, row, _way_out_of_text(id_of_name, one_score), of_labels=True)


def numbers(column: Column, name: str, row: int, *, of_labels: bool = False) -> npt.NDArray[Any]:
    """Numbers as they are, and text as the number it spells."""
    if isinstance(column, np.ndarray):
        return column
    return _parsed(column, name, row, "", of_labels=of_labels)


def _parsed(
    cells: Sequence[str], name: str, row: int, text_hint: str, *, of_labels: bool
) -> npt.NDArray[np.float64]:
    parsed = np.empty(len(cells))
    for place, cell in enumerate(cells):
        try:
            parsed[place] = float(cell.replace("_", "?"))  # float("1_0") is 10 in Python only
        except ValueError:
            what = f'"{cell}"' if cell else "an empty cell"
            raise FileError(
                f'column "{name}" must hold numbers; got {what} in row {row + place}.'
                f"{_way_out(cell, text_hint, of_labels=of_labels)}"
            ) from None
    return parsed


def _way_out(cell: str, text_hint: str, *, of_labels: bool) -> str:
    if not cell or cell.lower() in _MISSING:
        if of_labels:
            return (
                " Leave such rows out, or fill in a number of its own and name it with "
                "--ignore-index."
            )
        return " Leave such rows out, or fill in a number and mark the label by --ignore-index."
    if cell.endswith("%"):
        return " Strip the % and divide by 100."
    return text_hint


def _way_out_of_text(id_of_name: Mapping[str, int], one_score: bool) -> str:
    if id_of_name:
        return f" Labels may be numbers or the classes {list_names([*id_of_name])}."
    if one_score:
        return " The labels of one score column may be 0 and 1, or true and false."
    return " Text labels need one score column per class, named after it ('p_cat', 'p_dog')."
