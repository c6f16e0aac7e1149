"""What was found in labels, and the numbers and words that all who look at labels share."""

from dataclasses import dataclass, field
from typing import Any

from crossent.decision.answers import LARGEST_WEIGHT


@dataclass(slots=True)
class LabelFacts:
    """What labels say about the task.

    Attributes:
        answers: fields of `Answers` and their values.
        rows: rows (or positions) looked at.
        ignore_index: the value that marks a missing label, None if there is none.
        repair: a key of `catalogue.REPAIRS` if the labels need a line before the call.
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


def ratio(larger: int, smaller: int) -> float:
    """How many times larger; an empty class counts as one row."""
    return float(larger) / max(smaller, 1)


def capped(weight: float) -> float:
    """A weight that lets no row dominate, with the digits that a person would write."""
    return float(f"{min(max(float(weight), 1 / LARGEST_WEIGHT), LARGEST_WEIGHT):.3g}")


def counted(rows: int) -> str:
    """A number of rows in words.

    Example:
        >>> counted(1), counted(1200)
        ('1 row', '1,200 rows')
    """
    return f"{rows:,} row" if rows == 1 else f"{rows:,} rows"
