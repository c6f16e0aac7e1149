"""Which label belongs to which scores, by shape; what does not pair is said, not raised.

Knows nothing of values.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Layout = Literal["ids", "matrix", "column"]


@dataclass(frozen=True)
class Pairing:
    """Labels and scores, one row each: labels (rows,) or (rows, columns), scores (rows, columns).

    Layout: "ids" is one class id per row of scores, "matrix" one label per score, "column" one
    score per row. `leading` is the shape the rows had; `oddity` says what other libraries would
    make of the shapes, if not the same.
    """

    layout: Layout
    labels: NDArray[Any]
    scores: NDArray[Any]
    leading: tuple[int, ...]
    oddity: str | None = None


def pair(labels: NDArray[Any], scores: NDArray[Any], loss: str | None, axis: int) -> Pairing | str:
    """Labels and scores row by row, the class axis last; or what keeps them from pairing."""
    if scores.ndim == 0:
        return "the scores are a single number: they have no rows"
    if not -scores.ndim <= axis < scores.ndim:
        return f"scores {scores.shape} have no axis {axis}"
    if labels.ndim == scores.ndim:
        labels = np.moveaxis(labels, axis, -1)
    scores = np.moveaxis(scores, axis, -1)
    # A vector of scores is a column of yes/no scores, unless its labels make it a row of classes.
    if scores.ndim == 1 and loss != "softmax" and labels.ndim > 0:
        return _pair_columns(labels, scores)
    *leading, columns = scores.shape
    if columns == 0:
        return f"scores {scores.shape} have no classes along axis {axis}"
    rows = tuple(leading)
    if columns == 1 and loss != "softmax":
        return _pair_columns(labels, scores)
    if labels.shape == scores.shape and not (columns == 1 and labels.dtype.kind in "iub"):
        return _paired("matrix", labels.reshape(-1, columns), scores, rows)
    if loss != "sigmoid" and labels.shape == rows:
        return _paired("ids", labels.reshape(-1), scores, rows)
    if loss != "sigmoid" and labels.shape == (*rows, 1):
        oddity = (
            "labels have a class axis of 1 beside scores with one score per class: "
            "read as class ids here, refused or broadcast by other libraries"
        )
        return _paired("ids", labels.reshape(-1), scores, rows, oddity)
    return f"labels {labels.shape} do not fit scores {scores.shape}"


def _pair_columns(labels: NDArray[Any], scores: NDArray[Any]) -> Pairing | str:
    rows = scores.shape[:-1] if scores.ndim > 1 else scores.shape
    oddity = None
    if labels.shape != scores.shape:
        if labels.shape not in (rows, (*rows, 1)):
            return f"labels {labels.shape} do not fit scores {scores.shape}"
        # No numbers of rows in here: the same data in other batches must read the same.
        oddity = (
            f"labels {_shape_of_rows(labels, rows)} beside scores {_shape_of_rows(scores, rows)}: "
            "a library that broadcasts makes (rows, rows) losses of them"
        )
    return _paired("column", labels.reshape(-1), scores.reshape(-1, 1), rows, oddity)


def _shape_of_rows(array: NDArray[Any], rows: tuple[int, ...]) -> str:
    return "(rows,)" if array.shape == rows else "(rows, 1)"


def _paired(
    layout: Layout,
    labels: NDArray[Any],
    scores: NDArray[Any],
    leading: tuple[int, ...],
    oddity: str | None = None,
) -> Pairing:
    return Pairing(layout, labels, scores.reshape(-1, scores.shape[-1]), leading, oddity)
