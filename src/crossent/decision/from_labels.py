"""The answers that labels themselves give: exclusive or not, ids or rows, classes, gaps, imbalance.

Every answer comes with its evidence. Slips such as ids from 1 are named; the calls repair them.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent.decision.answers import LARGEST_WEIGHT
from crossent.errors import DTypeError, LabelError, OptionError, ShapeError

# What people write for "no label", where it can be no class: 255 only in masks of bytes.
_SENTINELS = (-100, -1, 255)
# Rows that are told apart by rounding alone still sum to 1.
_SUM_TOLERANCE = 1e-3
# Fewer rows prove nothing about labels that are all different.
_ENOUGH_ROWS = 50


@dataclass(slots=True)
class LabelFacts:
    """What labels say about the task.

    Attributes:
        answers: fields of `Answers` and their values.
        rows: rows (or positions) looked at.
        ignore_index: the value that marks a missing label, None if there is none.
        repair: "from_1", "signed" or "mask_255" if the labels need a line before the call.
        pos_weight: negatives / positives, at most 20; a list has one for each label.
        evidence: what was found, one sentence each.
        warnings: what may be a slip.
    """

    answers: dict[str, Any]
    rows: int
    ignore_index: float | None = None
    repair: str | None = None
    pos_weight: float | list[float] | None = None
    evidence: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def read_labels(
    labels: Any,
    *,
    num_classes: int | None = None,
    scores_shape: tuple[int, ...] | None = None,
    ignore_index: int | None = None,
    unlabeled: bool | str | None = None,
) -> LabelFacts:
    """Looks at labels and finds the answers in them.

    Args:
        labels: ids (rows,) or (rows, 1), rows of one-hot, multi-hot, soft or counted labels
            (rows, classes), or class names.
        num_classes: the number of classes, if it is known.
        scores_shape: shape of the scores that belong to the labels, if there are any.
        ignore_index: the value that marks a missing label, if it is known.
        unlabeled: the caller's answer; True makes rows without any true class unlabeled.

    Raises:
        ShapeError: no rows, rows of different length, or a shape that does not fit the scores.
        DTypeError: the labels are no numbers and no names.
        LabelError: values that no label has, such as ids outside the classes.
        OptionError: the labels alone do not tell; the message says which answer does.
    """
    values = _as_array(labels)
    one_per_row, num_classes = _layout(values.shape, num_classes, scores_shape)
    if values.ndim > 1 and values.shape[-1] == 1:
        values = values[..., 0]
    if one_per_row is None:
        one_per_row = values.ndim == 1 or _are_positions(values, num_classes)
    if not one_per_row and values.ndim > 2:
        # Masks of pixels: yes or no at each place, unless the last axis holds the classes.
        one_per_row = not bool(np.all(np.abs(values.sum(axis=-1) - 1) <= _SUM_TOLERANCE))
    facts = LabelFacts(answers={}, rows=values.size if one_per_row else values[..., 0].size)
    if values.dtype.kind in "US":
        values = _from_names(values, facts)
    missing = _find_missing(values, facts, num_classes, ignore_index)
    if one_per_row:
        _read_ids(values[~missing], facts, num_classes)
        if values.ndim > 1:
            facts.answers["layout"] = "sequence" if values.ndim == 2 else "pixels"
    else:
        width = values.shape[-1]
        rows_of_none = unlabeled is True
        _read_rows(values.reshape(-1, width), missing.reshape(-1, width), facts, rows_of_none)
    facts.answers.setdefault("unlabeled", facts.ignore_index is not None)
    return facts


def _as_array(labels: Any) -> NDArray[Any]:
    try:
        values = np.asarray(labels)
    except ValueError:
        raise ShapeError(
            "labels must have rows of the same length; got rows of different lengths. "
            "Lists of true ids become multi-hot rows."
        ) from None
    if values.dtype.kind == "O" and values.size and all(isinstance(v, str) for v in values.flat):
        values = values.astype(np.str_)
    if values.dtype.kind not in "biufUS":
        raise DTypeError(
            f"labels must be numbers or class names; got dtype {values.dtype}. Convert them first."
        )
    if values.dtype.kind == "f" and bool(np.isinf(values).any()):
        raise LabelError(
            f"labels must be finite; got {np.isinf(values).sum():,} infinite ones. "
            "Write a number such as -100 for unlabeled."
        )
    if values.ndim == 0 or values.size == 0:
        raise ShapeError(
            f"labels must have at least one row; got shape {values.shape}. Pass all labels."
        )
    return values


def _layout(
    shape: tuple[int, ...], num_classes: int | None, scores_shape: tuple[int, ...] | None
) -> tuple[bool | None, int | None]:
    """Whether labels are one per row, as far as the scores tell, and the number of classes."""
    if scores_shape is None:
        return None, num_classes
    if scores_shape == shape:
        return len(shape) == 1 or shape[-1] == 1, num_classes
    if scores_shape[:-1] in (shape, shape[:-1] if shape[-1] == 1 else None):
        return True, scores_shape[-1] if scores_shape[-1] > 1 else num_classes
    raise ShapeError(
        f"labels must have shape {scores_shape[:-1]} or {scores_shape} to match the scores; "
        f"got {shape}. Check that both hold the same rows."
    )


def _are_positions(values: NDArray[Any], num_classes: int | None) -> bool:
    """Whether an array of rows holds one id per position (tokens, pixels)."""
    if values.dtype.kind in "US":
        return True
    is_whole = values.dtype.kind in "biu" or bool(np.all(np.mod(values, 1) == 0))
    if not is_whole or values.max() <= 1 or set(np.unique(values)) <= {0, 255}:
        return False
    if num_classes is None:
        raise OptionError(
            f"num_classes must be given for whole-number labels of shape {values.shape}; got None. "
            f"With num_classes={values.shape[-1]} they are votes per class, else ids."
        )
    return bool(num_classes != values.shape[-1])


def _from_names(values: NDArray[Any], facts: LabelFacts) -> NDArray[Any]:
    names, ids = np.unique(values, return_inverse=True)
    ids = ids.reshape(values.shape).astype(np.int64)
    shown = ", ".join(str(name) for name in names[:3])
    facts.warnings.append(
        f"The labels are names ({shown}, ...): make ids with "
        "names, labels = np.unique(labels, return_inverse=True)."
    )
    if names[0] == "":
        facts.evidence.append("An empty name is read as unlabeled.")
        ids -= 1
    return ids


def _find_missing(
    values: NDArray[Any], facts: LabelFacts, num_classes: int | None, ignore_index: int | None
) -> NDArray[np.bool_]:
    """Where labels are missing: NaN, the given value, or the one that people write for it."""
    missing: NDArray[np.bool_] = (
        np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, dtype=bool)
    )
    if missing.any():
        facts.warnings.append(
            f"Labels that are NaN: {missing.sum():,}. Write a number such as -100 for unlabeled."
        )
        facts.ignore_index = -100
    present = {float(value) for value in np.unique(values[~missing])}
    if ignore_index is not None:
        marks = [ignore_index]
    else:
        marks = [mark for mark in _SENTINELS if _is_sentinel(mark, present, num_classes)]
    for mark in marks:
        count = int(np.sum(values == mark))
        if count:
            facts.evidence.append(
                f"The label is {mark} at {count:,} of {values.size:,} places: unlabeled."
            )
            facts.ignore_index = mark
            missing |= values == mark
    if len([mark for mark in marks if mark in present]) > 1:
        facts.warnings.append(
            f"{' and '.join(map(str, marks))} both mark missing labels: keep one of them."
        )
    if missing.all():
        raise LabelError(
            f"labels must hold at least one label; got {values.size:,} missing ones. "
            "Say which value marks a missing label with ignore_index."
        )
    return missing


def _is_sentinel(mark: int, present: set[float], num_classes: int | None) -> bool:
    if mark not in present:
        return False
    others = present - {mark}
    if mark == -1:
        # -1 and +1 without a 0 is the other way to write no and yes.
        return others != {1.0}
    if mark == 255:
        largest = max(others, default=0)
        return (num_classes or 0) <= 255 and others not in ({0.0}, set()) and bool(largest < 254)
    return True


def _read_ids(values: NDArray[Any], facts: LabelFacts, num_classes: int | None) -> None:
    """One label per row: yes/no, rate, real number or class id."""
    present, counts = np.unique(values, return_counts=True)
    found = {float(value) for value in present[:3]} if len(present) <= 3 else set()
    if values.dtype.kind == "f" and bool(np.any(np.mod(present, 1) != 0)):
        _read_fractions(present, facts)
    elif found == {-1.0, 1.0} or (found in ({0.0, 255.0}, {255.0}) and num_classes is None):
        facts.repair = "signed" if -1.0 in found else "mask_255"
        values_shown = "-1 and +1" if facts.repair == "signed" else "0 and 255"
        facts.warnings.append(f"The labels are {values_shown}: the loss wants 0 and 1.")
        _read_yes_no(values > 0, facts)
    elif found and found <= {0.0, 1.0} and num_classes in (None, 2):
        _read_yes_no(values > 0, facts)
    elif present[0] < 0:
        raise LabelError(
            f"labels must be ids from 0 on; got {present[0]:g} in {counts[0]:,} rows. If it marks "
            f"missing labels, say ignore_index={present[0]:g}; quantities are not labels."
        )
    else:
        _read_class_ids(present.astype(np.int64), counts, facts, num_classes)


def _read_fractions(present: NDArray[Any], facts: LabelFacts) -> None:
    low, high = float(present[0]), float(present[-1])
    if low >= 0 and high <= 1:
        facts.answers.update(labels="rate", imbalance=1.0)
        facts.evidence.append(f"One fraction per row, from {low:g} to {high:g}: rates.")
    else:
        facts.answers.update(labels="real")
        facts.evidence.append(f"Real numbers from {low:g} to {high:g}: quantities, no classes.")


def _read_yes_no(positive: NDArray[np.bool_], facts: LabelFacts) -> None:
    positives = int(positive.sum())
    negatives = positive.size - positives
    facts.answers.update(labels="binary", num_classes=2)
    facts.answers["imbalance"] = _ratio(max(positives, negatives), min(positives, negatives))
    facts.evidence.append(f"One yes or no per row: {positives:,} of {positive.size:,} are yes.")
    if not positives or not negatives:
        facts.warnings.append("Only one of the two answers occurs: nothing can be learned.")
    facts.pos_weight = _capped(negatives / max(positives, 1))


def _read_class_ids(
    present: NDArray[np.int64], counts: NDArray[Any], facts: LabelFacts, num_classes: int | None
) -> None:
    smallest, largest = int(present[0]), int(present[-1])
    starts_at_1 = smallest == 1 if num_classes is None else smallest >= 1 and largest == num_classes
    if starts_at_1:
        facts.repair = "from_1"
        facts.warnings.append(
            f"The ids run from {smallest} to {largest}: subtract 1, if {largest} is the number of "
            f"classes. If class 0 is only absent here, say num_classes={largest + 1}."
        )
        num_classes = largest
    elif num_classes is not None and largest >= num_classes:
        raise LabelError(
            f"labels must lie in [0, {num_classes}); got {largest} in {counts[-1]:,} rows. "
            f"Is num_classes {largest + 1}?"
        )
    known = num_classes is not None and facts.repair is None
    num_classes = num_classes or largest + 1
    facts.answers.update(labels="index", num_classes=num_classes)
    facts.evidence.append(
        f"One class id per row, {len(present):,} different ones; {num_classes:,} classes"
        + (", as given or as the scores have." if known else ", from the largest id.")
    )
    if counts.sum() >= _ENOUGH_ROWS and len(present) > counts.sum() / 2:
        facts.warnings.append("Most rows have an id of their own: are these quantities or keys?")
    if len(present) < num_classes:
        facts.warnings.append(
            f"Classes that never occur: {num_classes - len(present):,} of {num_classes:,}."
        )
    facts.answers["imbalance"] = _ratio(int(counts.max()), int(counts.min()))
    facts.evidence.append(
        f"The largest class has {counts.max():,} rows, the smallest {counts.min():,}."
    )


def _read_rows(
    values: NDArray[Any], missing: NDArray[np.bool_], facts: LabelFacts, rows_of_none: bool
) -> None:
    """One number per class in each row."""
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
        facts.answers["imbalance"] = _ratio(int(positives.max()), int(occurring.min()))
    else:
        negatives = (~missing).sum(axis=0) - positives
        worst = max(
            (max(n, p) / max(min(n, p), 1) for n, p in zip(negatives, positives, strict=True)),
            default=1.0,
        )
        facts.answers["imbalance"] = float(max(worst, 1.0))
        facts.pos_weight = [
            _capped(n / max(p, 1)) for n, p in zip(negatives, positives, strict=True)
        ]
    if len(occurring):
        facts.evidence.append(
            f"The commonest class is true in {positives.max():,} rows, the rarest in "
            f"{occurring.min():,}."
        )


def _read_soft_rows(values: NDArray[Any], missing: NDArray[np.bool_], facts: LabelFacts) -> None:
    if values[~missing].max() > 1:
        facts.answers.update(labels="real")
        facts.evidence.append("Rows of real numbers, some above 1: quantities, no classes.")
        return
    sums = np.where(missing, 0.0, values).sum(axis=1)
    empty = sums == 0
    if not missing.any() and bool(np.all(empty | (np.abs(sums - 1) <= _SUM_TOLERANCE))):
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


def _ratio(larger: int, smaller: int) -> float:
    return float(larger) / max(smaller, 1)


def _capped(ratio: float) -> float:
    return float(f"{min(max(float(ratio), 1 / LARGEST_WEIGHT), LARGEST_WEIGHT):.3g}")
