"""Rules: one function per mistake, with a stable code, evidence, why it bites and the way out.

A rule reads a `Profile` and yields findings; it changes no data and applies nothing. A new rule is
a function in `labels`, `scores`, `kinds` or `tables`, a line in `RULES`, and two fixtures: one that
fires in `tests/broken_data.py`, one that must not in `tests/sound_data.py`. A codes are hard facts,
whatever the model is; B codes say that something is not what it was passed as.
"""

from collections.abc import Callable, Iterable, Iterator

from crossent.errors import OptionError
from crossent.profile import KINDS, Profile
from crossent.rules import kinds, labels, scores, tables
from crossent.rules.finding import Finding

Rule = Callable[[Profile], Iterator[Finding]]

RULES: dict[str, Rule] = {
    "A1": scores.non_finite_scores,
    "A2": labels.labels_out_of_range,
    "A3": labels.fractional_ids,
    "A4": labels.no_distribution,
    "A5": tables.shapes_do_not_fit,
    "A6": scores.degenerate_scores,
    "A7": tables.bad_weights,
    "A8": labels.nothing_left,
    "A9": tables.not_numbers,
    "A10": tables.wrong_ids,
    "B1": kinds.probabilities,
    "B1b": kinds.one_column_of_probabilities,
    "B2": scores.logits_as_probabilities,
    "B3": kinds.double_softmax,
    "B3b": kinds.double_softmax_plateau,
    "B3c": kinds.squeezed_logits,
    "B4": labels.ignore_sentinel,
    "B5": kinds.log_probabilities,
    "B6": scores.hard_predictions,
    "B7": labels.one_based_labels,
    "B8": kinds.sigmoid_outputs,
}

# A finding about this subject is left out where one of these explains it: one mistake, one finding.
_EXPLAINED_BY = {
    "A2 labels": {"B4 labels", "B7 labels"},
    "A4 labels": {"B4 labels", "B7 labels"},
    "A4 scores": {"B1 scores", "B2 scores", "B5 scores", "B6 scores", "B8 scores"},
    "A6 scores": {"B6 scores"},
    "B1 scores": {"A6 scores", "B6 scores"},
    "B1b scores": {"B3 scores", "B6 scores"},
    "B2 scores": {"B1 scores", "B5 scores", "B6 scores"},
    "B3 scores": {"A6 scores", "B6 scores"},
    "B3c scores": {"B1 scores", "B1b scores", "B3 scores", "B6 scores", "B8 scores"},
    "B8 scores": {"A4 labels", "B6 scores"},
}


def findings(profile: Profile, *, silence: Iterable[str] = ()) -> list[Finding]:
    """Every mistake the rules see, gravest first; a mistake that explains another stands for both.

    Args:
        profile: what was gathered from the data.
        silence: codes of rules to leave out.

    Raises:
        OptionError: `silence` names no rule.

    Example:
        >>> profile = Profile("probs")
        >>> profile.update(labels=[0, 1], scores=[[3.0, -1.0], [0.5, 0.5]])
        >>> for finding in findings(profile):
        ...     print(finding.severity, finding.code, finding.what)
        E B2 probs outside [0, 1]: 2 of 4
    """
    silenced = _known_codes(silence)
    found = [finding for rule in RULES.values() for finding in rule(profile)]
    names = {_name(finding) for finding in found}
    kept = [
        finding
        for finding in found
        if finding.code not in silenced and not names & _EXPLAINED_BY.get(_name(finding), set())
    ]
    # Sorting is stable: within a severity the order is that of RULES.
    return sorted(kept, key=lambda finding: "EWI".index(finding.severity))


def _name(finding: Finding) -> str:
    return f"{finding.code} {'scores' if finding.argument in KINDS else finding.argument}"


def _known_codes(silence: Iterable[str]) -> set[str]:
    codes = {silence} if isinstance(silence, str) else set(silence)
    if unknown := codes - RULES.keys():
        raise OptionError(
            f"silence must name rules among {', '.join(RULES)}; got {', '.join(sorted(unknown))}. "
            "Codes stand at the head of each finding."
        )
    return codes


__all__ = ["RULES", "Finding", "Profile", "Rule", "findings"]
