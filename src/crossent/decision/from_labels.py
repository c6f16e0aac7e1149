"""The answers that labels themselves give: exclusive or not, ids or rows, classes, gaps, imbalance.

Every answer comes with its evidence. Slips such as ids from 1 are named; the calls repair them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent.decision.from_rows import SUM_TOLERANCE, read_rows
from crossent.decision.label_facts import LabelFacts, capped, counted, ratio
from crossent.errors import DTypeError, LabelError, OptionError, ShapeError

# What people write for "no label", where it can be no class: 255 only in masks of bytes.
_SENTINELS = (-100, -1, 255)
# Fewer rows prove nothing about labels that are all different.
_ENOUGH_ROWS = 50


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
        one_per_row = not bool(np.all(np.abs(values.sum(axis=-1) - 1) <= SUM_TOLERANCE))
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
        read_rows(values.reshape(-1, width), missing.reshape(-1, width), facts, rows_of_none)
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
    facts.repair = "names"
    if names[0] == "":
        facts.evidence.append("An empty name is read as unlabeled.")
        facts.repair = "names_or_none"
        names = names[1:]
        ids -= 1
    shown = ", ".join(str(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
    yes = f' Of the two, "{names[1]}" is the yes.' if len(names) == 2 else ""
    facts.warnings.append(
        f"The labels are names ({shown}). The call makes ids in their sorted order, and the "
        f"columns of the scores must stand in that order: if yours do not, use your own.{yes}"
    )
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
            f"labels must be ids from 0 on; got {present[0]:g} in {counted(counts[0])}. If it "
            f"marks missing labels, say ignore_index={present[0]:g}; quantities are not labels."
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
    facts.answers["imbalance"] = ratio(max(positives, negatives), min(positives, negatives))
    facts.evidence.append(f"One yes or no per row: {positives:,} of {positive.size:,} are yes.")
    if not positives or not negatives:
        facts.warnings.append("Only one of the two answers occurs: nothing can be learned.")
    facts.pos_weight = capped(negatives / max(positives, 1))


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
            f"labels must lie in [0, {num_classes}); got {largest} in {counted(counts[-1])}. "
            f"Is num_classes {largest + 1}?"
        )
    facts.answers.update(labels="index", num_classes=num_classes or largest + 1)
    facts.evidence.append(_classes_seen(len(present), num_classes, facts))
    num_classes = num_classes or largest + 1
    if counts.sum() >= _ENOUGH_ROWS and len(present) > counts.sum() / 2:
        facts.warnings.append("Most rows have an id of their own: are these quantities or keys?")
    if len(present) < num_classes:
        facts.warnings.append(
            f"Classes that never occur: {num_classes - len(present):,} of {num_classes:,}."
        )
    facts.answers["imbalance"] = ratio(int(counts.max()), int(counts.min()))
    facts.evidence.append(
        f"The largest class has {counted(counts.max())}, the smallest {counts.min():,}."
    )


def _classes_seen(present: int, num_classes: int | None, facts: LabelFacts) -> str:
    """How many classes there are and how that is known; `num_classes` is None if it was not."""
    by_name = (facts.repair or "").startswith("names")
    what = "name" if by_name else "id"
    source = "as given or as the scores have"
    if num_classes is None or facts.repair == "from_1":
        source = "one for each name" if by_name else "from the largest id"
    total = facts.answers["num_classes"]
    return f"One class {what} per row, {present:,} different ones; {total:,} classes, {source}."
