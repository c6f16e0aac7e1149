"""The audit of predictions: files -> batches -> a tally that merges -> scores -> a report.

`audit` is the whole pipeline; each step is a module of its own.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from crossent.auditing.columns import (
    Batch,
    ScoreKind,
    Selection,
    batch_rows_for,
    batches,
    select,
    with_class_numbers,
)
from crossent.auditing.files import open_table
from crossent.auditing.report import Report
from crossent.auditing.scoring import LossFamily, Scorer
from crossent.auditing.tables import ArrayTable, Table
from crossent.auditing.tally import Tally, TallySettings
from crossent.errors import ArgumentError, FileError, OptionError
from crossent.profile import Profile

__all__ = ["Report", "audit"]


def audit(
    path: str | os.PathLike[str] | None = None,
    *,
    labels: Any = None,
    logits: Any = None,
    probs: Any = None,
    log_probs: Any = None,
    sample_weight: Any = None,
    ids: Any = None,
    loss: LossFamily | None = None,
    ignore_index: int | None = None,
    batch_rows: int | None = None,
    worst: int = 10,
    bins: int = 15,
    progress: Callable[[float], None] | None = None,
) -> Report:
    """Score predictions, and say what is suspicious about them.

    Reads a file in batches, in memory that does not grow with its rows, or takes arrays. Every
    score is the same to the last bit however the rows are cut into batches. Nothing is clipped or
    renormalised: rows that no loss is defined for are left out and counted.

    Not for a training loop, where a loss is enough, and not for a few rows: the findings need many.

    Args:
        path: a Parquet, CSV, NPY or NPZ file; None where arrays are given.
        labels: with a path the name of a column, a pattern of several ("y_*"), the path of an NPY
            file, or an array; without a path an array. Class ids, or one number per class. Column
            names are guessed where None is given and one guess is possible.
        logits: scores before softmax or sigmoid: with a path a column or a pattern of several
            ("p_*", in the file's order), else an array. Give at most one of the three kinds. Of
            an NPY file that is one array, any name selects it. Labels are matched with what the *
            stands for, where that is names or numbers.
        probs: scores after softmax or sigmoid.
        log_probs: logarithms of those.
        sample_weight: one weight per row: with a path a column, else an array.
        ids: one id per row, looked at for duplicates: with a path a column, else an array.
        loss: "softmax" or "sigmoid"; None decides by all the data: sigmoid for one score per row,
            or where several classes are true at once. It takes each score for an output of its own.
        ignore_index: label value of rows to leave out.
        batch_rows: rows read at once; None keeps a batch near 8 MB.
        worst: how many of the rows with the highest loss to list.
        bins: bins of the calibration error.
        progress: called after each batch with the share of the work that is done.

    Returns:
        A `Report`: `scores`, `findings`, `recommendation`, `to_dict()` for JSON, `text()` to read.

    Shape:
        labels (rows,) or (rows, classes); scores (rows, classes), or (rows,) for one sigmoid
        output; sample_weight and ids (rows,).

    Raises:
        FileError: the file cannot be read or does not hold what was asked for.
        MissingLibraryError: the format needs a library that is not installed.
        ArgumentError: scores of no kind or of several kinds are given as arrays.
        ShapeError: labels, scores and weights do not fit each other.
        OptionError: an option has a value that it cannot have.

    Source:
        Brier 1950, Verification of forecasts expressed in terms of probability. Naeini, Cooper and
        Hauskrecht 2015, Obtaining well calibrated probabilities using Bayesian binning (the
        calibration error). Kulisch 2013, Computer arithmetic and validity (exact sums).

    Example:
        >>> import numpy as np, crossent as xe
        >>> probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
        >>> report = xe.audit(labels=[0, 1, 1], probs=probs)
        >>> report.scores.rows, round(report.scores.mean_loss, 6), round(report.scores.accuracy, 4)
        (3, 0.414932, 0.6667)
    """
    _check_options(loss, batch_rows, worst, bins)
    scores = _scores_given({"logits": logits, "probs": probs, "log_probs": log_probs})
    if path is None:
        table, selection = _from_arrays(labels, scores, sample_weight, ids)
    else:
        table = open_table(Path(path))
        selection = _from_table(table, labels, scores, sample_weight, ids)
    rows_at_once = batch_rows or batch_rows_for(table, selection)
    selection = with_class_numbers(table, selection, ignore_index, rows_at_once)
    if selection.numbering is not None:
        ignore_index = selection.numbering.ignored_id

    def run(family: LossFamily | None) -> tuple[Tally, Profile]:
        parts = batches(table, selection, rows_at_once)
        return _gather(parts, selection.kind, family, ignore_index, bins, worst, progress)

    tally, profile = run(loss)
    if loss is None and profile.family != tally.settings.family:
        # Several ones per row of labels: each score is a yes or no of its own, which only all rows
        # together can tell.
        tally, profile = run(profile.family)
    return Report.of(table.name, selection, tally, profile)


def _gather(
    parts: Iterable[Batch],
    kind: ScoreKind,
    loss: LossFamily | None,
    ignore_index: int | None,
    bins: int,
    worst: int,
    progress: Callable[[float], None] | None,
) -> tuple[Tally, Profile]:
    """One pass over all rows."""
    profile = Profile(kind, loss=loss, ignore_index=ignore_index)
    scorer = tally = None
    for batch in parts:
        classes = batch.scores.shape[1]
        if scorer is None or tally is None:
            family = loss or _family_by_shape(batch, ignore_index)
            scorer = Scorer(family, kind, ignore_index)
            tally = Tally(TallySettings(family, classes, bins, worst))
        tally.update(scorer.score(batch))
        profile.update(
            labels=batch.labels,
            scores=batch.scores[:, 0]
            if scorer.family == "sigmoid" and classes == 1
            else batch.scores,
            sample_weight=batch.weights,
            ids=batch.ids,
            first_row=batch.first_row,
        )
        if progress is not None:
            progress(batch.fraction)
    if tally is None:
        raise FileError("the predictions must hold at least one row; got none")
    return tally, profile


def _family_by_shape(batch: Batch, ignore_index: int | None) -> LossFamily:
    """A first guess; labels that can be ignored one by one belong to outputs of their own."""
    several_labels = batch.labels.ndim == 2 and ignore_index is not None
    return "sigmoid" if batch.scores.shape[1] == 1 or several_labels else "softmax"


def _scores_given(scores: dict[ScoreKind, Any]) -> dict[ScoreKind, Any]:
    return {kind: value for kind, value in scores.items() if value is not None}


def _check_options(loss: str | None, batch_rows: int | None, worst: int, bins: int) -> None:
    if loss not in (None, "softmax", "sigmoid"):
        raise OptionError(
            f'loss must be "softmax" or "sigmoid"; got {loss!r}. Leave it out to go by the number '
            "of scores per row."
        )
    smallest = {"batch_rows": (batch_rows, 1), "worst": (worst, 0), "bins": (bins, 1)}
    for name, (value, low) in smallest.items():
        if value is not None and value < low:
            raise OptionError(f"{name} must be at least {low}; got {value}")


def _from_arrays(
    labels: Any, scores: dict[ScoreKind, Any], sample_weight: Any, ids: Any
) -> tuple[Table, Selection]:
    """Arrays as a table whose columns bear the names of the arguments."""
    if labels is None or len(scores) != 1:
        given = [*(["labels"] if labels is not None else []), *scores]
        raise ArgumentError(
            "without a path, labels and exactly one of logits, probs and log_probs must be given "
            f"as arrays; got {', '.join(given) or 'none'}"
        )
    beside = {"sample_weight": sample_weight, "ids": ids}
    extra = {name: value for name, value in beside.items() if value is not None}
    kind, values = next(iter(scores.items()))
    table = ArrayTable({"labels": labels, kind: values, **extra})
    names = {name: name if name in extra else None for name in beside}
    return table, select(
        table,
        scores={kind: kind},
        labels="labels",
        weights=names["sample_weight"],
        ids=names["ids"],
    )


def _from_table(
    table: Table, labels: Any, scores: dict[ScoreKind, Any], sample_weight: Any, ids: Any
) -> Selection:
    """Columns by name; labels may also be an array beside the file."""
    named = [*scores.items(), ("sample_weight", sample_weight), ("ids", ids)]
    for name, value in named:
        if value is not None and not isinstance(value, str):
            raise ArgumentError(
                f"{name} must name a column of {table.name}; got {type(value).__name__}. Leave the "
                "path out to audit arrays."
            )
    label_rows = None
    if isinstance(labels, os.PathLike):
        labels = os.fspath(labels)
    elif labels is not None and not isinstance(labels, str):
        labels, label_rows = None, ArrayTable({"labels": labels})
    return select(
        table, scores=scores, labels=labels, weights=sample_weight, ids=ids, label_rows=label_rows
    )
