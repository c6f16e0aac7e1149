"""Answers from everywhere: those given, those that the labels give, and where they conflict."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossent.decision.answers import MUCH_NOISE, Answers, completed
from crossent.decision.from_labels import read_labels
from crossent.decision.label_facts import LabelFacts


@dataclass(frozen=True, slots=True)
class Gathered:
    """The answers, what the labels said, and where the two disagree."""

    answers: Answers
    facts: LabelFacts | None
    conflicts: tuple[str, ...]


def gather(
    labels: Any,
    given: Mapping[str, Any],
    *,
    scores_shape: tuple[int, ...] | None = None,
    ignore_index: int | None = None,
) -> Gathered:
    """Puts together what is known; an answer that was given wins over one found in the labels.

    Args:
        labels: a kind of labels by name, an array of labels, or None.
        given: fields of `Answers`; None is not given.
        scores_shape: shape of the scores that belong to the labels.
        ignore_index: the value that marks a missing label.

    Raises:
        ShapeError, DTypeError, LabelError, OptionError: see `read_labels` and `completed`.
    """
    known = _known(given)
    if labels is None or isinstance(labels, str):
        if labels is not None:
            known["labels"] = labels
        if scores_shape is not None and len(scores_shape) > 1 and scores_shape[-1] > 1:
            known.setdefault("num_classes", scores_shape[-1])
        return Gathered(completed(Answers(**known)), None, ())
    facts = read_labels(
        labels,
        num_classes=known.get("num_classes"),
        scores_shape=scores_shape,
        ignore_index=ignore_index,
        unlabeled=known.get("unlabeled"),
    )
    found = dict(facts.answers)
    if found.get("labels") == "one_hot" and _allows_none(known):
        # One class in every row so far; the caller wants to allow rows with none or several.
        found.update(labels="multi_hot", true_per_row=None)
    conflicts = tuple(
        f"{name} is {known[name]!r} as answered, though the labels say {value!r}."
        for name, value in found.items()
        if name in known and known[name] != value and not _is_close(known[name], value)
    )
    return Gathered(completed(Answers(**{**found, **known})), facts, conflicts)


def _known(given: Mapping[str, Any]) -> dict[str, Any]:
    """The answers that were given, without the short forms True and False for noise and ranking."""
    known = {
        # NumPy's own scalars are no JSON, and np.True_ is not True.
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in given.items()
        if value is not None
    }
    if known.get("noisy") is True:
        known["noisy"] = MUCH_NOISE
    if known.get("retrieval") is True:
        known["retrieval"] = "in_batch"
    elif known.get("retrieval") is False:
        del known["retrieval"]
    return known


def _allows_none(known: Mapping[str, Any]) -> bool:
    return known.get("exclusive") is False or known.get("true_per_row") in ("any", "at_most_one")


def _is_close(given: Any, found: Any) -> bool:
    """Whether a ratio was only rounded, or not counted at all."""
    if not isinstance(found, float) or isinstance(given, str):
        return found is None
    return bool(given is True or abs(given - found) <= 0.1 * found)
