"""Scores that no model can mean (rules A1, A6, B2 and B6)."""

from collections.abc import Iterator
from typing import Any

from crossent.profile import SENTINELS, Profile
from crossent.rules.finding import Finding, places
from crossent.rules.fits import commonest_label, commonest_row

# Fewer equal or whole rows than this are an example, not a sign.
_MIN_ROWS = 10


def non_finite_scores(p: Profile) -> Iterator[Finding]:
    """A1: NaN or infinite scores, but not -inf as a mask or an infinity on the right side."""
    s = p.scores
    found = {"NaN": s.nan}
    if p.kind == "logits" and p.family == "sigmoid":
        found["infinite on the wrong side"] = s.wrong_inf
    elif p.kind == "probs":
        found |= {"+inf": s.plus_inf, "-inf": s.minus_inf}
    else:
        found |= {"+inf": s.plus_inf, "-inf at the label": s.minus_inf_at_label}
        if p.family == "softmax":
            found["all -inf"] = s.all_minus_inf
    found = {name: hits for name, hits in found.items() if hits.count}
    if not found:
        return
    yield Finding(
        code="A1",
        severity="E",
        argument=p.kind,
        what=f"{p.kind} by rows: " + ", ".join(f"{hits.rows} {n}" for n, hits in found.items()),
        evidence={"rows_scored": s.rows, **{name: places(hits) for name, hits in found.items()}},
        why="The loss of such a row is NaN or infinite, and so is every mean it enters.",
        fix="Find where the model overflows; sample_weight=0 leaves a row out until then.",
    )


def degenerate_scores(p: Profile) -> Iterator[Finding]:
    """A6: one score for a choice among classes; scores that do not depend on the row."""
    if is_one_score_for_classes(p):
        yield Finding(
            code="A6",
            severity="E",
            argument=p.kind,
            what="one score per row for a choice among classes",
            evidence={
                "columns": p.columns,
                "labels_min": p.labels.extent.low,
                "labels_max": p.labels.extent.high,
            },
            why="softmax over one score is always 1: the loss is 0 and so is the gradient.",
            fix="For yes/no use sigmoid_cross_entropy; for classes give one score per class.",
        )
    evidence = _sameness(p)
    if evidence is not None:
        yield Finding(
            code="A6",
            severity="W",
            argument=p.kind,
            what=f"{p.kind} do not depend on the row",
            evidence=evidence,
            why="A dead layer, a wrong column, or a model before training: nothing is predicted.",
            fix="Follow two different rows through the model up to its last layer.",
        )


def _sameness(p: Profile) -> dict[str, Any] | None:
    s = p.scores
    if s.rows < _MIN_ROWS or not s.finite:
        return None
    if s.extent.low == s.extent.high:
        return {"rows": s.rows, "only_value": s.extent.low}
    if p.columns == 1:
        return None
    if bool((s.columns.low == s.columns.high).all()):
        return {"rows": s.rows, "rows_compared": s.rows, "identical": s.rows}
    same, sampled = commonest_row(p)
    if sampled < _MIN_ROWS or same <= 0.99 * sampled:
        return None
    # Where one class is nearly all of the labels, rounded scores of a good model are as alike.
    if commonest_label(p) >= same:
        return None
    return {"rows": s.rows, "rows_compared": sampled, "identical": same}


def is_one_score_for_classes(p: Profile) -> bool:
    """Whether the loss is a softmax, or the labels name three classes or more, for one score."""
    if p.columns != 1 or not p.labels.rows:
        return False
    distinct = len(_class_ids_above_one(p)) + (p.labels.zeros > 0) + (p.labels.ones > 0)
    return p.family == "softmax" or (p.labels.written.decimals == 0 and distinct > 2)


def _class_ids_above_one(p: Profile) -> list[float]:
    return [v for v in p.labels.outside_values.counts if v > 1 and v not in SENTINELS]


def logits_as_probabilities(p: Profile) -> Iterator[Finding]:
    """B2: numbers that no probability can be: outside [0, 1] as probs, positive as log_probs."""
    s = p.scores
    if p.kind == "probs" and not are_percentages(p) and s.below_zero.count + s.above_one.count:
        what = f"probs outside [0, 1]: {s.below_zero.count + s.above_one.count} of {s.finite}"
        evidence = {"below_0": places(s.below_zero), "above_1": places(s.above_one)}
    elif p.kind == "log_probs" and s.above_zero.count:
        what = f"log_probs above 0: {s.above_zero.count} of {s.finite}"
        evidence = {"above_0": places(s.above_zero)}
    else:
        return
    yield Finding(
        code="B2",
        severity="E",
        argument=p.kind,
        what=what,
        evidence={**evidence, "rows": s.rows, "min": s.extent.low, "max": s.extent.high},
        why="Clipped, as Keras does, they have gradient 0; unclipped, a negative loss.",
        fix="If they are outputs before softmax or sigmoid: logits=scores.",
    )


def are_percentages(p: Profile) -> bool:
    """Whether all scores lie in [0, 100] and rows sum to 100, within half a percent or rounding."""
    percents = p.scores.percents
    if p.columns < 2 or percents.rows < 2:
        return False
    tolerance, off = percents.beyond(p.scores.written)
    return off.count == 0 and p.scores.all_in(0, 100 + 100 * tolerance)


def hard_predictions(p: Profile) -> Iterator[Finding]:
    """B6: predicted classes instead of scores."""
    s = p.scores
    if s.rows < _MIN_ROWS or s.written.decimals != 0 or s.extent.low == s.extent.high:
        return
    evidence: dict[str, Any] = {"rows": s.rows, "min": s.extent.low, "max": s.extent.high}
    if s.all_in(0, 1):
        what = f"{p.kind} are predicted labels: only 0 and 1 occur"
        if p.columns > 1 and p.family == "softmax":
            evidence["one_hot_rows"] = s.sums.rows - s.sums.off["float"].rows
            if evidence["one_hot_rows"] <= 0.99 * s.sums.rows:
                return
    elif p.columns == 1 and s.extent.low >= 0 and p.labels.extent.low >= 0:
        what = f"{p.kind} are predicted class ids"
        if p.labels.written.decimals != 0 or not _class_ids_above_one(p):
            return
    else:
        return
    yield Finding(
        code="B6",
        severity="W",
        argument=p.kind,
        what=what,
        evidence=evidence,
        why="Nothing says how sure the model was: a miss costs infinity, or some chosen epsilon.",
        fix="Save predict_proba or the logits, not predict.",
    )
