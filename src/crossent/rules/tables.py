"""What went wrong before any model: shapes, weights, text and ids (rules A5, A7, A9 and A10)."""

from collections.abc import Iterator

from crossent.profile import Profile
from crossent.profile.text_numbers import FORMS, NAME, PERCENTAGE
from crossent.rules.finding import Finding, places
from crossent.rules.scores import are_percentages

_SHAPE_FIXES = {
    "labels": "Pass one label, or one distribution, per row of scores; axis= names the class axis.",
    "scores": "Pass one column of scores per class, the same number in every batch.",
    "sample_weight": "Pass one weight per row: sample_weight.shape == labels.shape.",
    "ids": "Pass one id per row.",
}


def shapes_do_not_fit(p: Profile) -> Iterator[Finding]:
    """A5: labels, scores, weights or ids whose shapes do not fit, or fit only by broadcasting."""
    for (severity, argument, what), hits in sorted(p.problems.items()):
        is_error = severity == "E"
        yield Finding(
            code="A5",
            severity=severity,
            argument=p.kind if argument == "scores" else argument,
            what=what,
            evidence={"first_row": min(hits.first_rows)},
            why="Refused, or by broadcasting compared with the scores of other rows.",
            fix=_SHAPE_FIXES[argument]
            if is_error
            else "labels=labels.squeeze(-1), or reshape both.",
        )


def bad_weights(p: Profile) -> Iterator[Finding]:
    """A7: sample weights that are negative, no numbers, all zero, or concentrated on few rows."""
    w = p.weights
    if w.not_finite.count or w.negative.count:
        yield Finding(
            code="A7",
            severity="E",
            argument="sample_weight",
            what=f"weights: {w.negative.count} negative, {w.not_finite.count} not finite",
            evidence={
                "weights": w.count,
                "negative": places(w.negative),
                "not_finite": places(w.not_finite),
            },
            why="A negative weight rewards errors; one NaN makes the whole mean NaN.",
            fix="Leave a row out with weight 0.",
        )
    elif w.count and w.zeros == w.count:
        yield Finding(
            code="A7",
            severity="E",
            argument="sample_weight",
            what="all weights are 0",
            evidence={"weights": w.count, "zeros": w.zeros},
            why="Nothing is left to average: the loss is 0 whatever the scores are.",
            fix="Pass the weights of these rows, or none.",
        )
    elif w.count and w.effective_size < 0.1 * w.count:
        yield Finding(
            code="A7",
            severity="W",
            argument="sample_weight",
            what=f"{w.count} weights count as much as {w.effective_size:.3g} equal ones",
            evidence={"weights": w.count, "zeros": w.zeros, "effective_size": w.effective_size},
            why="A few rows decide the mean, and its error is that of so few rows.",
            fix="If that is not meant, cap the weights: np.minimum(w, 10 * np.median(w)).",
        )


def not_numbers(p: Profile) -> Iterator[Finding]:
    """A9: text, missing values, thousands separators, percentages."""
    for argument, forms in (("labels", p.labels.forms), (p.kind, p.scores.forms)):
        found = {name: forms[form] for form, name in FORMS.items() if forms[form].count}
        if argument == "labels" and p.labels.not_finite.count:
            found["NaN or infinite"] = p.labels.not_finite
        if not found:
            continue
        fix = "Convert to numbers where the file is read; leave out or fill what is missing."
        if forms[PERCENTAGE].count:
            fix = "Strip the % and divide by 100."
        elif argument == "labels" and forms[NAME].count:
            fix = "Name the columns: [columns.index(name) for name in labels]; do not sort them."
        yield Finding(
            code="A9",
            severity="E",
            argument=argument,
            what=f"{argument} hold "
            + ", ".join(f"{name} ({hits.count})" for name, hits in found.items()),
            evidence={name: places(hits) for name, hits in found.items()},
            why="They cannot be computed with; rows without numbers are not looked at further.",
            fix=fix,
        )
    if are_percentages(p):
        percents = p.scores.percents
        yield Finding(
            code="A9",
            severity="W" if p.kind == "logits" else "E",
            argument=p.kind,
            what=f"{p.kind} are percentages: every row sums to 100",
            evidence={
                "rows": p.scores.rows,
                "lowest_sum": 100 * percents.low,
                "highest_sum": 100 * percents.high,
                "tolerance": 100 * percents.beyond(p.scores.written)[0],
                "max": p.scores.extent.high,
            },
            why="As logits they are a hundred times too sure, as probabilities impossible.",
            fix="probs=scores / 100.",
        )


def wrong_ids(p: Profile) -> Iterator[Finding]:
    """A10: ids that occur twice, in one of two places only, or in another order."""
    yield from _unmatched_ids(p)
    for place, ids in (("scores", p.score_ids), ("labels", p.label_ids)):
        again, surplus, pairs = ids.duplicated()
        if again:
            yield Finding(
                code="A10",
                severity="W",
                argument="ids",
                what=f"ids that occur more than once: {again}; rows too many: {surplus}",
                evidence={
                    "of": place,
                    "ids": ids.total,
                    "repeated_ids": again,
                    "surplus_rows": surplus,
                    "first_pairs_of_rows": [list(pair) for pair in pairs],
                    "all_ids_compared": ids.complete,
                },
                why="Rows counted twice weigh twice, and the errors of all means look too small.",
                fix="Drop the repeats, unless you resampled on purpose.",
            )


def _unmatched_ids(p: Profile) -> Iterator[Finding]:
    if not p.label_ids.total:
        return
    labels_only, rows_of_labels = p.label_ids.missing_from(p.score_ids)
    scores_only, rows_of_scores = p.score_ids.missing_from(p.label_ids)
    if labels_only or scores_only:
        yield Finding(
            code="A10",
            severity="E",
            argument="ids",
            what=f"ids with labels only: {labels_only}; ids with scores only: {scores_only}",
            evidence={
                "labels_only": labels_only,
                "scores_only": scores_only,
                "first_rows_of_labels": rows_of_labels,
                "first_rows_of_scores": rows_of_scores,
                "all_ids_compared": p.label_ids.complete and p.score_ids.complete,
            },
            why="Rows are missing on one side; those after the first gap get a stranger's label.",
            fix="Join the two by id before scoring.",
        )
    elif p.misplaced_ids.count:
        yield Finding(
            code="A10",
            severity="E",
            argument="ids",
            what=f"rows with one id as labels, another as scores: {p.misplaced_ids.count}",
            evidence=places(p.misplaced_ids),
            why="Labels and scores are in different orders: every loss compares strangers.",
            fix="Join the two by id, or sort both by it.",
        )
