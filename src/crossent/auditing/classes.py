"""Classes by the names of their columns: what the wildcard of a pattern stands for.

Knows names and labels, and no table. Class order is that of the score columns.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from crossent.auditing.tables import list_names
from crossent.errors import FileError

# Wildcards side by side count as one: "y_??" has one name per column as "y_*" has.
_WILDCARDS = re.compile(r"((?:[*?]|\[[^]]+\])+)")
_NUMBER = re.compile(r"-?[0-9]+")

# A label that no class id can be equal to, whole in float64.
_NO_CLASS = -(2**53)


class Numbering(NamedTuple):
    """Labels that are the numbers in the names of the score columns, not their positions."""

    numbers: tuple[int, ...]
    ignore_index: int | None

    @property
    def ignored_id(self) -> int | None:
        """What an ignored label becomes: the id of no class, where the label would be one."""
        is_id = self.ignore_index is not None and 0 <= self.ignore_index < len(self.numbers)
        return _NO_CLASS if is_id else self.ignore_index

    def to_ids(self, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The position of each label's column; labels that no column is named after stay."""
        order = np.argsort(self.numbers)
        ordered = np.asarray(self.numbers)[order]
        place = np.minimum(np.searchsorted(ordered, labels), len(ordered) - 1)
        ids = np.where(ordered[place] == labels, order[place], labels)
        if self.ignored_id is None:
            return ids
        return np.where(labels == self.ignore_index, self.ignored_id, ids)


def wildcard_parts(pattern: str, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """What the wildcards of the pattern stand for in each name."""
    pieces = _WILDCARDS.split(pattern)
    regex = "".join(
        f"({_as_regex(piece)})" if number % 2 else re.escape(piece)
        for number, piece in enumerate(pieces)
    )
    found = (re.fullmatch(regex, name, re.DOTALL) for name in names)
    return tuple(match.groups() if match else () for match in found)


def _as_regex(wildcards: str) -> str:
    return wildcards.replace("*", ".*").replace("?", ".").replace("[!", "[^")


def class_names(pattern: str, names: Sequence[str]) -> tuple[str, ...]:
    """What the one wildcard stands for; whole names where there are several wildcards."""
    parts = wildcard_parts(pattern, names)
    return tuple(
        part[0] if len(part) == 1 else name for part, name in zip(parts, names, strict=True)
    )


def paired(
    label_names: Sequence[str], label_pattern: str, score_names: Sequence[str], score_pattern: str
) -> tuple[str, ...]:
    """The label columns in the order of the score columns, each beside its own.

    Raises:
        FileError: the patterns give different names, so nothing says what belongs together.
    """
    of_labels = wildcard_parts(label_pattern, label_names)
    of_scores = wildcard_parts(score_pattern, score_names)
    name_of = dict(zip(of_labels, label_names, strict=True))
    if len(of_labels) == len(of_scores) and set(of_labels) == set(of_scores):
        return tuple(name_of[part] for part in of_scores)
    label_numbers, score_numbers = _running(of_labels), _running(of_scores)
    if label_numbers and score_numbers and len(label_numbers) == len(score_numbers):
        first = min(label_numbers) - min(score_numbers)
        by_number = dict(zip(label_numbers, label_names, strict=True))
        return tuple(by_number[number + first] for number in score_numbers)
    raise FileError(
        f'the columns "{label_pattern}" and "{score_pattern}" must have the same names of classes; '
        f"got {_listed(of_labels)} for the labels and {_listed(of_scores)} for the scores. Give "
        "patterns whose wildcard stands for the same names in both."
    )


def _listed(parts: Iterable[tuple[str, ...]]) -> str:
    return list_names(["..".join(part) for part in parts])


def _running(parts: Sequence[tuple[str, ...]]) -> list[int] | None:
    """The names as numbers, if they are some n, n + 1, n + 2 and so on in any order."""
    numbers = numbers_of([part[0] if len(part) == 1 else "" for part in parts])
    if numbers is None or max(numbers) - min(numbers) != len(numbers) - 1:
        return None
    return numbers


def numbers_of(names: Sequence[str]) -> list[int] | None:
    """The names as numbers, if all are numbers that fit 64 bits and no two are equal."""
    if not names or not all(_NUMBER.fullmatch(name) and len(name) < 19 for name in names):
        return None
    numbers = [int(name) for name in names]
    return numbers if len(set(numbers)) == len(numbers) else None


def labels_are_numbers(
    numbers: Sequence[int], labels: Iterable[npt.NDArray[Any]], ignore_index: int | None
) -> bool:
    """Whether labels are the numbers of the columns, or else positions; all labels decide.

    Only a label that is one and not the other speaks for either; labels that are neither stay out
    of range both ways.

    Raises:
        FileError: some labels can only be numbers and others only positions.
    """
    first: dict[bool, float] = {}
    for part in labels:
        as_number = np.isin(part, numbers)
        as_position = np.isin(part, np.arange(len(numbers)))
        counts = as_number != as_position
        if ignore_index is not None:
            counts &= part != ignore_index
        for is_number in (True, False):
            telling = part[counts & (as_number == is_number)]
            if len(telling):
                first.setdefault(is_number, telling[0])
    if len(first) == 2:
        raise FileError(
            f"labels must be the numbers of the score columns ({list_names([*map(str, numbers)])})"
            f" or their positions from 0; got {first[True]:g}, which is no position, and "
            f"{first[False]:g}, which no column is named after. Name the label of rows to leave "
            "out with --ignore-index."
        )
    return False not in first
