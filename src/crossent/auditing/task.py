"""What the labels of a file say about the task, and the loss that it calls for.

The answers come from tallies over all rows; the tree over them is `crossent.advice`.
"""

from typing import NamedTuple

from crossent.advice import Recommendation, recommend
from crossent.auditing.exact import as_float
from crossent.auditing.tally import Tally
from crossent.profile import Profile

# Rows of a one-hot table with none or several ones that count as slips, not as another kind.
_SLIPS = 0.005


class Advice(NamedTuple):
    """The loss that the data call for, and what in the labels led to it."""

    recommendation: Recommendation
    evidence: str


def advise(profile: Profile, tally: Tally) -> Advice | None:
    """The advice for the labels that were read; None if no row could be scored."""
    if not tally.total_weight():
        return None
    kind = _label_kind(profile)
    imbalance = _imbalance(kind, tally)
    recommendation = recommend(
        labels=kind,
        num_classes=2 if kind in ("binary", "rate") else tally.settings.classes,
        unlabeled=tally.ignored > 0,
        imbalance=imbalance,
        scores=profile.kind,
        columns=profile.columns,
    )
    return Advice(recommendation, _evidence(kind, imbalance, tally))


def _label_kind(profile: Profile) -> str:
    """The kind of labels in the words of `recommend`."""
    labels = profile.labels
    if profile.columns == 1:
        return "rate" if labels.between else "binary"
    if profile.layout == "ids":
        return "index"
    if labels.between:
        return "distribution" if profile.family == "softmax" else "multi_hot"
    others = labels.rows - labels.single_positive_rows
    return "multi_hot" if others > _SLIPS * labels.rows else "one_hot"


def _imbalance(kind: str, tally: Tally) -> float | None:
    """Weight of the commonest class over the rarest that occurs; of multi-hot labels no to yes."""
    masses, total = tally.label_mass(), tally.total_weight()
    if kind in ("distribution", "rate"):
        return None
    if kind == "multi_hot":
        yes = sum(masses.values())
        return max(as_float((total - yes) / yes), 1.0) if yes else True
    if kind == "binary" and tally.settings.family == "sigmoid":
        yes = masses.get(0, total)
        masses = {0: total - yes, 1: yes}
    present = [mass for mass in masses.values() if mass]
    return as_float(max(present) / min(present))


_DESCRIBED = {
    "index": "one class id per row",
    "one_hot": "exactly one class true in every row",
    "distribution": "a distribution over the classes in every row",
    "multi_hot": "none or several classes true in a row",
    "binary": "one yes or no per row",
    "rate": "one number between 0 and 1 per row",
}


def _evidence(kind: str, imbalance: float | None, tally: Tally) -> str:
    """What was seen, in one sentence."""
    parts = [_DESCRIBED[kind]]
    if kind not in ("binary", "rate"):
        parts.append(f"{tally.settings.classes:,} classes")
    if imbalance is not None:
        against = "no to yes" if kind == "multi_hot" else "commonest to rarest class"
        parts.append(f"{against} {imbalance:.3g} to 1")
    if tally.ignored:
        parts.append(f"{tally.ignored:,} ignored")
    return "The labels: " + ", ".join(parts) + "."
