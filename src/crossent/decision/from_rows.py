"""The answers in labels that have one number per class: one-hot, multi-hot, soft or counted."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent.decision.label_facts import LabelFacts, capped, counted, ratio

# Rows that are told apart by rounding alone still sum to 1.
SUM_TOLERANCE = 1e-3


def read_rows(
    values: NDArray[Any], missing: NDArray[np.bool_], facts: LabelFacts, rows_of_none: bool
) -> None:
    """Finds the answers in one number per class in each row.

    Args:
        values: (rows, classes).
        missing: the same shape, True where there is no label.
        facts: what is known so far; grows.
        rows_of_none: rows without a true class are unlabeled.
    """
    labelled = ~missing.all(axis=1)
    values, missing = values[labelled], missing[labelled]
    facts.answers["num_classes"] = values.shape[1]
    known = values[~missing].astype(np.float64)
    present = set(np.unique(known).tolist()) if known.size else set()
    whole = bool(np.all(np.mod(known, 1) == 0))
    if present == {-1.0, 1.0} or (255.0 in present and present <= {0.0, 255.0}):
        facts.repair = "signed" if -1.0 in present else "mask_255"
        facts.warnings.append(
            f"The labels are {' and '.join(f'{v:g}' for v in sorted(present))}: "
            "the loss wants 0 and 1."
        )
        _read_zeros_and_ones(values > 0, missing, facts, rows_of_none)
    elif present <= {0.0, 1.0}:
        _read_zeros_and_ones(values > 0, missing, facts, rows_of_none)
    elif min(present) < 0:
        facts.answers.update(labels="real")
        facts.evidence.append("Rows of real numbers, some below 0: quantities, no classes.")
    elif whole and not missing.any():
        facts.answers.update(labels="votes")
        facts.evidence.append(f"Rows of counts up to {max(present):g}: votes for each class.")
    else:
        _read_soft_rows(values, missing, facts)


def _read_zeros_and_ones(
    true: NDArray[np.bool_], missing: NDArray[np.bool_], facts: LabelFacts, rows_of_none: bool
) -> None:
    true = true & ~missing
    per_row = true.sum(axis=1)
    none = int(np.sum(per_row == 0))
    partly = int(missing.any(axis=1).sum())
    if partly:
        facts.evidence.append(f"Rows that lack some of their labels: {partly:,}.")
    if per_row.max() > 1 or partly:
        kind, what = "any", f"From {per_row.min()} to {per_row.max()} classes are true in a row."
    elif none == 0 or (rows_of_none and none < len(true)):
        kind, what = "one", "Exactly one class is true in every labelled row."
    else:
        kind, what = "at_most_one", f"At most one class is true in a row; rows with none: {none:,}."
        facts.warnings.append(
            f"Rows without a true class: {none:,}. If they are unlabeled rather than 'none of "
            "them', say unlabeled=True."
        )
    facts.answers.update(labels="one_hot" if kind == "one" else "multi_hot", true_per_row=kind)
    not_one = float(np.mean(per_row != 1))
    facts.evidence.append(f"{what} In {not_one:.1%} of the rows the labels do not sum to 1.")
    _read_balance(true, missing, facts, exclusive=kind == "one")


def _read_balance(
    true: NDArray[np.bool_], missing: NDArray[np.bool_], facts: LabelFacts, *, exclusive: bool
) -> None:
    positives = true.sum(axis=0)
    occurring = positives[positives > 0]
    if len(occurring) < len(positives):
        facts.warnings.append(f"Classes that are never true: {np.sum(positives == 0):,}.")
    if exclusive:
        facts.answers["imbalance"] = ratio(int(positives.max()), int(occurring.min()))
    else:
        negatives = (~missing).sum(axis=0) - positives
        worst = max(
            (max(n, p) / max(min(n, p), 1) for n, p in zip(negatives, positives, strict=True)),
            default=1.0,
        )
        facts.answers["imbalance"] = float(max(worst, 1.0))
        facts.pos_weight = [
            capped(n / max(p, 1)) for n, p in zip(negatives, positives, strict=True)
        ]
    if len(occurring):
        facts.evidence.append(
            f"The commonest class is true in {counted(positives.max())}, the rarest in "
            f"{occurring.min():,}."
        )


def _read_soft_rows(values: NDArray[Any], missing: NDArray[np.bool_], facts: LabelFacts) -> None:
    if values[~missing].max() > 1:
        facts.answers.update(labels="real")
        facts.evidence.append("Rows of real numbers, some above 1: quantities, no classes.")
        return
    sums = np.where(missing, 0.0, values).sum(axis=1)
    empty = sums == 0
    if not missing.any() and bool(np.all(empty | (np.abs(sums - 1) <= SUM_TOLERANCE))):
        facts.answers.update(labels="distribution")
        facts.evidence.append("Every row is a distribution: fractions that sum to 1.")
        if empty.any():
            facts.answers["unlabeled"] = True
            facts.evidence.append(f"Rows that are all 0, read as unlabeled: {empty.sum():,}.")
    else:
        facts.answers.update(labels="multi_hot", true_per_row="any", imbalance=1.0)
        facts.evidence.append(
            f"Fractions whose rows sum to {sums.min():.3g} up to {sums.max():.3g}: each label is "
            "a rate of its own."
        )
