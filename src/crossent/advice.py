"""Advice: the loss for a task (`recommend`) and the mistakes in labels and scores (`review`)."""

from collections.abc import Iterable
from typing import Any, cast

import numpy as np

from crossent import _checks
from crossent.decision import Recommendation, gather, make_recommendation, missing
from crossent.errors import ArgumentError, OptionError
from crossent.profile import Family, Kind, Profile
from crossent.rules import Finding, findings

__all__ = ["Finding", "Recommendation", "recommend", "review"]


def recommend(
    *,
    labels: Any = None,
    logits: Any = None,
    probs: Any = None,
    log_probs: Any = None,
    exclusive: bool | None = None,
    true_per_row: str | None = None,
    num_classes: int | None = None,
    unlabeled: bool | str | None = None,
    ignore_index: int | None = None,
    imbalance: float | bool | None = None,
    rare_missed: bool | None = None,
    ordinal: bool | None = None,
    noisy: float | bool | None = None,
    retrieval: bool | str | None = None,
    impossible_classes: bool | None = None,
    layout: str | None = None,
    costs_differ: bool | None = None,
    full_softmax_too_slow: bool | None = None,
    scores: str | None = None,
    columns: int | None = None,
) -> Recommendation:
    """The loss that a task calls for, why, the runner-up and why not, the call in six libraries.

    Give the answers, or the labels: then the answers are found in them and said in `evidence`. An
    answer given beside the labels wins. Do not use it to judge a model: that is `review`.

    Args:
        labels: the labels themselves, or their kind: "index", "one_hot", "distribution", "votes",
            "multi_hot", "binary" (0/1), "signed" (-1/+1), "rate" (fractions of yes), "real".
        logits, probs, log_probs: scores that belong to the labels; only their shape is looked at,
            and crossent's call takes their kind.
        exclusive: whether the classes exclude each other.
        true_per_row: "one", "at_most_one" or "any" number of true classes in a row.
        num_classes: the number of classes, or of labels.
        unlabeled: whether some labels are missing; "as_negative" if they were written as no.
        ignore_index: the value that marks a missing label.
        imbalance: largest class count over smallest (negatives per positive); True if unknown.
        rare_missed: rare classes are ranked badly by a model trained without weights.
        ordinal: the classes are ordered grades and near misses cost less.
        noisy: share of wrong labels; True if it is large but unknown.
        retrieval: an item is to be found among very many: "in_batch" (or True), or "pairs" if
            negatives come with the data.
        impossible_classes: some classes cannot be in some rows.
        layout: "rows", "sequence" or "pixels".
        costs_differ: errors have different costs.
        full_softmax_too_slow: training with all classes takes too long.
        scores: "logits", "probs" or "log_probs", where no scores are passed: what crossent's call
            is to take; "logits" if not said.
        columns: how many columns these scores have, if yes/no labels may have two.

    Shape:
        labels: ids (rows,), (rows, 1) or one per position; other kinds (rows, classes).

    Raises:
        OptionError: answers are missing (all are listed), have no such value or contradict.
        ShapeError, DTypeError, LabelError: these labels fit no loss.
        ArgumentError: more than one kind of scores.

    Source:
        The records of `crossent.catalogue`, each with its paper.

    Example:
        >>> advice = recommend(labels=[[1, 0, 1], [0, 0, 0], [0, 1, 0]])
        >>> advice.loss, advice.runner_up
        ('sigmoid_multilabel', 'softmax_ids')
        >>> print(advice.calls["crossent"])
        loss = xe.sigmoid_cross_entropy(labels=labels, logits=logits)
    """
    given = {
        "exclusive": exclusive,
        "true_per_row": true_per_row,
        "num_classes": num_classes,
        "unlabeled": unlabeled,
        "imbalance": imbalance,
        "rare_missed": rare_missed,
        "ordinal": ordinal,
        "noisy": noisy,
        "retrieval": retrieval,
        "impossible_classes": impossible_classes,
        "layout": layout,
        "costs_differ": costs_differ,
        "full_softmax_too_slow": full_softmax_too_slow,
    }
    passed = {"logits": logits, "probs": probs, "log_probs": log_probs}
    kind, shape = _kind_and_shape(passed, scores)
    gathered = gather(labels, given, scores_shape=shape, ignore_index=ignore_index)
    lacking = missing(gathered.answers)
    if lacking:
        raise OptionError(
            f"{', '.join(lacking)} must be answered; got nothing. "
            "Pass them, or the labels themselves as labels=."
        )
    if shape is not None:
        columns = shape[-1] if len(shape) > 1 else 1
    return make_recommendation(gathered, ignore_index, kind, two_columns=columns == 2)


def review(
    *,
    labels: Any,
    logits: Any = None,
    probs: Any = None,
    log_probs: Any = None,
    axis: int = -1,
    sample_weight: Any = None,
    ids: Any = None,
    ignore_index: int | None = None,
    num_classes: int | None = None,
    loss: Family | None = None,
    history: Iterable[float] | None = None,
    silence: Iterable[str] = (),
) -> list[Finding]:
    """The mistakes in labels and scores: hard facts, and scores that are not what they are called.

    What is wrong with the data is reported, never raised, corrected or left out in silence; an
    empty list means that no rule found anything. Run it on a whole validation set, not on one
    batch: few rows decide little. Do not use it inside a training step; the losses do their own
    checks. For data that do not fit in memory, give batches to a `crossent.profile.Profile`.

    Args:
        labels: class ids, a distribution per row, or yes/no labels; text is read, and reported.
        logits, probs, log_probs: exactly one: what the model gave, called what you take it for.
        axis: the class axis.
        sample_weight: one weight per row, or per score; rows of weight 0 are passed over.
        ids: one id per row; or {"labels": ..., "scores": ...} where they come from two places.
        ignore_index: the label that marks what to skip; such rows are passed over.
        num_classes: the number of classes, if it is known apart from the scores.
        loss: "softmax" (classes exclude each other) or "sigmoid" (independent yes/no); without it
            the labels decide: one column, or a 0/1 matrix that is not one-hot, means sigmoid.
        history: training losses, oldest first.
        silence: codes of rules to leave out, e.g. ("A6",).

    Shape:
        scores (*rows, classes) or (rows,); labels (*rows,) or the scores' shape.

    Raises:
        ArgumentError: not exactly one of logits, probs and log_probs.
        OptionError: loss or silence has no such value.

    Source:
        Each rule of `crossent.rules` says what it rests on.

    Example:
        >>> for finding in review(labels=[1, 2, 3, 1], logits=np.eye(4, 3) * 5):
        ...     print(finding.code, finding.what, "->", finding.fix)
        B7 labels run from 1 to 3: they start at 1, not at 0 -> labels=labels - 1.
    """
    kind, scores = _checks.one_of(logits=logits, probs=probs, log_probs=log_probs)
    profile = Profile(
        cast("Kind", kind),
        loss=loss,
        num_classes=num_classes,
        ignore_index=ignore_index,
        history=history,
    )
    profile.update(labels=labels, scores=scores, sample_weight=sample_weight, ids=ids, axis=axis)
    return findings(profile, silence=silence)


def _kind_and_shape(
    arrays: dict[str, Any], named: str | None
) -> tuple[str, tuple[int, ...] | None]:
    """The kind of the scores, passed or only named, and the shape of those passed."""
    passed = {name: value for name, value in arrays.items() if value is not None}
    if len(passed) > 1:
        raise ArgumentError(
            f"scores must be of one kind; got {' and '.join(passed)}. Pass one of them."
        )
    if named is not None and named not in (passed or arrays):
        listed = ", ".join(f'"{name}"' for name in passed or arrays)
        raise OptionError(
            f"scores must be {listed if passed else 'one of ' + listed}; got {named!r}. "
            "Leave it out where scores are passed."
        )
    kind = next(iter(passed), named or "logits")
    return kind, np.shape(passed[kind]) if passed else None
