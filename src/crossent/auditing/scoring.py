"""One batch of rows to one record per row: its loss, its prediction, what calibration needs.

Losses come from `crossent.losses`; everything is float64. Nothing is clipped or renormalised: a row
that no loss is defined for is left out, by row number and with the reason.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from crossent import _checks, information, losses
from crossent.auditing.columns import Batch, ScoreKind
from crossent.errors import OptionError, ShapeError

LossFamily = Literal["softmax", "sigmoid"]

# Why a row falls out that holds a number which is no probability; any number is a logit.
_OUTSIDE: dict[ScoreKind, str] = {
    "logits": "",
    "probs": "probabilities are outside [0, 1]",
    "log_probs": "log-probabilities are above 0",
}

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]


class ScoredRows(NamedTuple):
    """Scored rows of a batch, one entry each; of several sigmoid outputs each is a row here.

    `owner` is what the per-class table counts by: the label's class; with several sigmoid outputs
    the output. `outcome` is what `confidence` claims the probability of.
    """

    row: _Ints
    owner: _Ints
    label: _Ints
    predicted: _Ints
    loss: _Floats
    label_prob: _Floats
    brier: _Floats
    confidence: _Floats
    outcome: _Floats
    weight: _Floats
    # Where labels are no class ids: (class or output, weight times the label's probability of it).
    label_mass: tuple[_Ints, _Floats] | None


class ScoredBatch(NamedTuple):
    """What one batch adds to the tally; `unscorable` has entries and rows by reason."""

    rows: int
    elements: int
    ignored: int
    unscorable: dict[str, tuple[int, _Ints]]
    unnormalised: int
    scored: ScoredRows


class Scorer(NamedTuple):
    """How a batch is scored; the same for all batches of an audit."""

    family: LossFamily
    kind: ScoreKind
    ignore_index: int | None = None

    def score(self, batch: Batch) -> ScoredBatch:
        """Score one batch.

        Raises:
            ShapeError: labels and scores do not have the same number of classes.
            OptionError: ignore_index beside labels that are distributions.
        """
        return (_score_softmax if self.family == "softmax" else _score_sigmoid)(self, batch)


class _Screen:
    """Which rows are still in; each that falls out has one reason."""

    def __init__(self, numbers: _Ints, ignored: _Bools) -> None:
        self._numbers = numbers
        self.ignored = int(np.count_nonzero(ignored))
        self.kept: _Bools = ~ignored
        self.reasons: dict[str, tuple[int, _Ints]] = {}

    def drop(self, bad: _Bools, reason: str) -> None:
        """Take rows out, if they are still in."""
        bad = bad & self.kept
        if bad.any():
            self.reasons[reason] = (int(np.count_nonzero(bad)), np.unique(self._numbers[bad]))
            self.kept = self.kept & ~bad


def _score_softmax(how: Scorer, batch: Batch) -> ScoredBatch:
    scores = batch.scores.astype(np.float64)
    rows, classes = scores.shape
    row = np.arange(batch.first_row, batch.first_row + rows)
    labels = _softmax_labels(batch.labels, classes, how.ignore_index)
    screen = _Screen(row, _is_ignored(batch.labels, how.ignore_index))
    _drop_bad_labels(screen, batch.labels, classes)
    weights = _screened_weights(screen, batch.weights, rows)
    off = _drop_bad_scores(screen, how.kind, batch.scores)
    loss = np.full(rows, np.nan)
    plain = screen.kept & ~off
    loss[plain] = losses.softmax_cross_entropy(
        labels=labels[plain], reduction="none", **_named(how.kind, scores[plain])
    )
    as_it_stands = screen.kept & off
    loss[as_it_stands] = _loss_as_it_stands(labels[as_it_stands], how.kind, scores[as_it_stands])
    screen.drop(np.isnan(loss), "logits hold +inf, or are all -inf")
    kept = screen.kept
    scored = _softmax_rows(
        how.kind, row[kept], labels[kept], scores[kept], loss[kept], weights[kept]
    )
    unnormalised = int(np.count_nonzero(kept & _unnormalised(how.kind, batch.scores)))
    return ScoredBatch(rows, rows, screen.ignored, screen.reasons, unnormalised, scored)


def _softmax_rows(
    kind: ScoreKind,
    row: _Ints,
    labels: npt.NDArray[Any],
    scores: _Floats,
    loss: _Floats,
    weight: _Floats,
) -> ScoredRows:
    """Records of rows that are known to be good."""
    probs = information.softmax(scores) if kind == "logits" else _as_probs(kind, scores)
    place = np.arange(len(row))
    # argmax takes the lowest index among equals; of the scores, for softmax may round two to one.
    predicted = scores.argmax(axis=1)
    miss, mass = probs.copy(), None
    if labels.ndim == 2:
        target = labels.astype(np.float64)
        label = target.argmax(axis=1)
        miss -= target
        label_prob = np.where(target[place, label] == 1, np.exp(-loss), probs[place, label])
        outcome = target[place, predicted]
        where, of_class = np.nonzero(target)
        mass = (of_class, (target * weight[:, None])[where, of_class])
    else:
        label = labels.astype(np.int64)
        miss[place, label] -= 1.0
        label_prob = np.exp(-loss)
        outcome = (predicted == label).astype(np.float64)
    return ScoredRows(
        row,
        label,
        label,
        predicted,
        loss,
        label_prob,
        np.square(miss).sum(axis=1),
        probs[place, predicted],
        outcome,
        weight,
        mass,
    )


def _score_sigmoid(how: Scorer, batch: Batch) -> ScoredBatch:
    """Every element is a row of its own; they are numbered row by row."""
    rows, outputs = batch.scores.shape
    labels = batch.labels if batch.labels.ndim == 2 else batch.labels[:, None]
    if labels.shape != batch.scores.shape:
        one_per_row = labels.shape[1] == 1
        hint = (
            "Class ids go with the softmax family: loss softmax."
            if one_per_row
            else "Check which columns are labels and which are scores."
        )
        raise ShapeError(
            f"labels must have one entry for each of the {outputs} sigmoid outputs; got "
            f"{labels.shape[1]}. {hint}"
        )
    row = np.arange(batch.first_row, batch.first_row + rows).repeat(outputs)
    output = np.tile(np.arange(outputs), rows)
    flat, scores = labels.ravel(), batch.scores.astype(np.float64).ravel()
    screen = _Screen(row, _is_ignored(flat, how.ignore_index))
    target = flat.astype(np.float64)
    screen.drop(~((target >= 0) & (target <= 1)), "label is outside [0, 1]")
    weights = _screened_weights(screen, batch.weights, rows, repeat=outputs)
    screen.drop(_outside(how.kind, scores, 0.0), _OUTSIDE[how.kind])
    loss = np.full(len(scores), np.nan)
    kept = screen.kept
    loss[kept] = losses.sigmoid_cross_entropy(
        labels=target[kept], reduction="none", **_named(how.kind, scores[kept])
    )
    screen.drop(np.isnan(loss), "scores are NaN, or +-inf against a soft label")
    kept = screen.kept
    scored = _sigmoid_rows(
        how.kind,
        row[kept],
        output[kept] if outputs > 1 else None,
        target[kept],
        scores[kept],
        loss[kept],
        weights[kept],
    )
    return ScoredBatch(rows, rows * outputs, screen.ignored, screen.reasons, 0, scored)


def _sigmoid_rows(
    kind: ScoreKind,
    row: _Ints,
    output: _Ints | None,
    target: _Floats,
    scores: _Floats,
    loss: _Floats,
    weight: _Floats,
) -> ScoredRows:
    """Records of elements that are known to be good; a probability of exactly 1/2 predicts 0."""
    prob = information.sigmoid(scores) if kind == "logits" else _as_probs(kind, scores)
    predicted = (scores > 0 if kind == "logits" else prob > 0.5).astype(np.int64)
    label = (target > 0.5).astype(np.int64)
    # From the loss where it says it: 1 - p has lost the digits of a small one.
    is_soft = (target > 0) & (target < 1)
    label_prob = np.where(is_soft, np.where(label == 1, prob, 1.0 - prob), np.exp(-loss))
    return ScoredRows(
        row,
        label if output is None else output,
        label,
        predicted,
        loss,
        label_prob,
        np.square(prob - target),
        prob,
        target,
        weight,
        (np.zeros_like(label) if output is None else output, weight * target),
    )


def _softmax_labels(
    labels: npt.NDArray[Any], classes: int, ignore_index: int | None
) -> npt.NDArray[Any]:
    """Class ids as int64 (what is no id becomes 0, and is left out), or distributions."""
    if labels.ndim == 2:
        if labels.shape[1] != classes:
            raise ShapeError(
                f"labels must hold class ids, or one number for each of the {classes} classes; "
                f"got {labels.shape[1]} numbers per row. Check which columns are the scores."
            )
        if ignore_index is not None:
            raise OptionError(
                "ignore_index must be absent where labels are distributions; give those rows "
                "weight 0 instead"
            )
        return labels
    return np.where(_bad_ids(labels, classes), 0, labels).astype(np.int64)


def _bad_ids(labels: npt.NDArray[Any], classes: int) -> _Bools:
    # Compared as float64, which is exact for every id that can be in range; NaN compares false.
    number = labels.astype(np.float64)
    is_id: _Bools = (number >= 0) & (number < classes) & (number == np.floor(number))
    return ~is_id


def _drop_bad_labels(screen: _Screen, labels: npt.NDArray[Any], classes: int) -> None:
    if labels.ndim == 1:
        screen.drop(_bad_ids(labels, classes), f"label is no class id in [0, {classes})")
        return
    target = labels.astype(np.float64)
    is_share: _Bools = (target >= 0) & (target <= 1)
    screen.drop(~np.asarray(is_share.all(axis=1)), "label entries are outside [0, 1]")
    tolerance = _checks.sum_tolerance(labels.dtype.name, classes)
    screen.drop(~(np.abs(target.sum(axis=1) - 1) <= tolerance), "label entries do not sum to 1")


def _is_ignored(labels: npt.NDArray[Any], ignore_index: int | None) -> _Bools:
    if ignore_index is None or labels.ndim == 2:
        return np.zeros(len(labels), np.bool_)
    return np.asarray(labels == ignore_index)


def _screened_weights(
    screen: _Screen, weights: _Floats | None, rows: int, repeat: int = 1
) -> _Floats:
    if weights is None:
        return np.ones(rows * repeat)
    weights = weights.repeat(repeat)
    screen.drop(~((weights >= 0) & np.isfinite(weights)), "weight is negative, infinite or NaN")
    return weights


def _drop_bad_scores(screen: _Screen, kind: ScoreKind, scores: npt.NDArray[Any]) -> _Bools:
    """Take out rows that are no probabilities; returns the rows that the loss itself would refuse.

    A probability may lie 4 ulp above 1, which is rounding.
    """
    screen.drop(np.asarray(np.isnan(scores).any(axis=1)), "scores hold NaN")
    if kind == "logits":
        return np.zeros(len(scores), np.bool_)
    slack = 4 * _checks.EPSILON.get(scores.dtype.name, 0.0)
    wide = scores.astype(np.float64)
    screen.drop(
        np.asarray(_outside(kind, wide, slack).any(axis=1)),
        _OUTSIDE[kind],
    )
    return np.asarray(_outside(kind, wide, 0.0).any(axis=1) | _unnormalised(kind, wide))


def _outside(kind: ScoreKind, scores: _Floats, slack: float) -> _Bools:
    """Entries that are no probability; NaN is a matter of its own."""
    if kind == "logits":
        return np.zeros(scores.shape, np.bool_)
    return scores > slack if kind == "log_probs" else (scores < 0) | (scores > 1 + slack)


def _unnormalised(kind: ScoreKind, scores: npt.NDArray[Any]) -> _Bools:
    """Rows whose probabilities do not sum to 1, by the tolerance of their dtype."""
    if kind == "logits":
        return np.zeros(len(scores), np.bool_)
    sums = _as_probs(kind, scores.astype(np.float64)).sum(axis=1)
    tolerance = _checks.sum_tolerance(scores.dtype.name, scores.shape[1])
    return np.asarray(np.abs(sums - 1) > tolerance)


def _loss_as_it_stands(labels: npt.NDArray[Any], kind: ScoreKind, scores: _Floats) -> _Floats:
    """-log p of the label from rows that do not sum to 1, which the losses refuse.

    p is taken as the file has it: dividing by the sum would score another prediction.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        surprisal = -scores if kind == "log_probs" else -np.log(scores)
        if labels.ndim == 2:
            return np.asarray(np.where(labels == 0, 0.0, labels * surprisal).sum(axis=1))
    return surprisal[np.arange(len(labels)), labels.astype(np.int64)]


def _named(kind: ScoreKind, scores: _Floats) -> dict[str, Any]:
    return {kind: scores}


def _as_probs(kind: ScoreKind, scores: _Floats) -> _Floats:
    return np.exp(scores) if kind == "log_probs" else scores
