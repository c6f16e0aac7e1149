"""Labels that are not what a loss takes them for (rules A2, A3, A4, A8, B4 and B7)."""

import math
from collections.abc import Iterator

from crossent._checks import EPSILON
from crossent.profile import SENTINELS, Profile
from crossent.profile.precision import Sums
from crossent.profile.tallies import Hits
from crossent.rules.finding import Finding, places
from crossent.rules.scores import are_percentages, is_one_score_for_classes


def labels_out_of_range(p: Profile) -> Iterator[Finding]:
    """A2: class ids below 0 or beyond the last class."""
    labels = p.labels
    if p.layout != "ids" or p.columns == 1 or not labels.outside.count:
        return
    if _are_signs(p):
        fix = "If the labels are -1 and +1: labels=(labels + 1) // 2."
    elif labels.extent.low < 0 and len(labels.outside_values.counts) == 1:
        mark = int(labels.extent.low)
        fix = f"If {mark} marks rows to skip: ignore_index={mark}."
    else:
        fix = f"Map the labels to 0..{p.columns - 1}, or give the scores a column per class."
    yield Finding(
        code="A2",
        severity="E",
        argument="labels",
        what=f"labels outside [0, {p.columns}): {labels.outside.count} of {labels.values}",
        evidence={
            **places(labels.outside),
            "labels": labels.values,
            "min": labels.extent.low,
            "max": labels.extent.high,
            "values": labels.outside_values.counts,
        },
        why="By library and device this is an error, a NaN, a loss of 0, or another class.",
        fix=fix,
    )


def fractional_ids(p: Profile) -> Iterator[Finding]:
    """A3: class ids that are no whole numbers, or of a dtype that cannot tell the classes apart."""
    labels = p.labels
    if p.layout != "ids":
        return
    if labels.fractional.count:
        are_chances = p.columns == 2 and labels.extent.low >= 0 and labels.extent.high <= 1
        yield Finding(
            code="A3",
            severity="E",
            argument="labels",
            what=f"class ids that are not whole: {labels.fractional.count} of {labels.values}",
            evidence={**places(labels.fractional), "labels": labels.values},
            why="Libraries that truncate them train on another class without a word.",
            fix=(
                "If they are chances of class 1: labels=np.stack([1 - y, y], axis=-1)."
                if are_chances
                else "Pass whole ids, or a distribution of the scores' shape."
            ),
        )
    for dtype in sorted(labels.dtypes & {"float16", "bfloat16", "float32"}):
        largest = int(2 / EPSILON[dtype])
        if p.columns > largest:
            yield Finding(
                code="A3",
                severity="E",
                argument="labels",
                what=f"labels of dtype {dtype} cannot tell {p.columns} classes apart",
                evidence={"dtype": dtype, "classes": p.columns, "exact_up_to": largest},
                why=f"Beyond {largest} neighbouring ids round to one number, so to one class.",
                fix="Keep labels as integers from the file to the loss.",
            )


def no_distribution(p: Profile) -> Iterator[Finding]:
    """A4: labels outside [0, 1]; rows of labels or of probabilities that do not sum to 1."""
    labels = p.labels
    if p.layout != "ids" and labels.outside.count and not is_one_score_for_classes(p):
        yield Finding(
            code="A4",
            severity="E",
            argument="labels",
            what=f"labels outside [0, 1]: {labels.outside.count} of {labels.values}",
            evidence={
                **places(labels.outside),
                "labels": labels.values,
                "min": labels.extent.low,
                "max": labels.extent.high,
                "values": labels.outside_values.counts,
            },
            why="The loss becomes negative and has no lower bound: training runs off.",
            fix=_into_unit_interval(p),
        )
    if p.columns < 2 or p.family != "softmax":
        return
    if p.layout == "matrix" and not labels.outside.count:
        votes = 'Several true per row? loss="sigmoid". Votes? Divide by the row sum.'
        tolerance, off = labels.sums.beyond(labels.written)
        yield from _sums_off("labels", "sum to 1", tolerance, labels.sums, off, votes)
    if p.kind != "logits" and not are_percentages(p):
        sums = p.scores.sums if p.kind == "probs" else p.scores.log_sums
        tolerance, off = sums.beyond(p.scores.written)
        fix = "Pass what the model gave before its softmax as logits=."
        if sums.high <= sums.expected + tolerance:
            fix += " No sum is too large: a column may be missing."
        total = "sum to 1" if p.kind == "probs" else "have log-sum-exp 0"
        yield from _sums_off(p.kind, total, tolerance, sums, off, fix)


def _sums_off(
    argument: str, total: str, tolerance: float, sums: Sums, off: Hits, fix: str
) -> Iterator[Finding]:
    if not off.count:
        return
    yield Finding(
        code="A4",
        severity="E",
        argument=argument,
        what=f"rows of {argument} that do not {total}: {off.rows} of {sums.rows}",
        evidence={
            "count": off.rows,
            "rows": sums.rows,
            "first_rows": off.first_rows,
            "first_sums": off.first_values,
            "lowest_sum": sums.low,
            "highest_sum": sums.high,
            "tolerance": tolerance,
        },
        why="Such rows are no distribution: their loss compares with no other row's or model's.",
        fix=fix,
    )


def _into_unit_interval(p: Profile) -> str:
    labels = p.labels
    if _are_signs(p):
        return "If the labels are -1 and +1: labels=(labels + 1) / 2."
    if labels.extent.low >= 0 and labels.extent.high == 255:
        return "Grey values? labels=labels / 255; if 255 marks what to skip: ignore_index=255."
    if labels.extent.low >= 0 and p.layout == "matrix":
        return "If they are votes or counts: labels=labels / labels.sum(-1, keepdims=True)."
    return "Labels are 0, 1, or a chance between; map them to that."


def _are_signs(p: Profile) -> bool:
    labels = p.labels
    reaches = labels.extent.low == -1 and labels.extent.high == 1
    return reaches and not labels.zeros and not labels.between


def nothing_left(p: Profile) -> Iterator[Finding]:
    """A8: every label is ignored, or there is no row."""
    if p.ignored < p.rows or any(severity == "E" for severity, _, _ in p.problems):
        return
    yield Finding(
        code="A8",
        severity="E",
        argument="labels",
        what="every label is ignored" if p.rows else "there are no rows",
        evidence={"rows": p.rows, "ignored": p.ignored, "ignore_index": p.ignore_index},
        why="Some libraries return NaN here and others 0; neither says anything about the model.",
        fix=(
            "Check ignore_index= and what the labels were filled with."
            if p.rows
            else "Check the file, or the filter that left nothing of it."
        ),
    )


def ignore_sentinel(p: Profile) -> Iterator[Finding]:
    """B4: one value outside the classes that marks labels to skip."""
    labels = p.labels
    values = labels.outside_values
    if len(values.counts) != 1 or not values.complete or labels.fractional.count:
        return
    if p.layout == "matrix" and p.family == "softmax":
        return
    ((value, count),) = values.counts.items()
    share = count / labels.values
    past_end = p.layout == "ids" and value == p.columns > 1 and not _labels_start_at_one(p)
    if not (value in SENTINELS or past_end) or not 0.001 <= share <= 0.95 or _is_coding(p, value):
        return
    yield Finding(
        code="B4",
        severity="E",
        argument="labels",
        what=f"{share:.1%} of the labels are {value:g}: a mark for labels to skip?",
        evidence={
            "value": value,
            "share": share,
            "labels": labels.values,
            **places(labels.outside),
        },
        why="Unnamed it is refused, NaN, a loss of 0, or another class, by library and device.",
        fix=f"ignore_index={value:g}" + (", or give the scores its column." if past_end else "."),
    )


def _is_coding(p: Profile, value: float) -> bool:
    """Whether -1 or 255 is the other class of a -1/+1 or 0/255 coding."""
    labels = p.labels
    is_coding = (value == -1 and not labels.zeros) or (value == 255 and not labels.ones)
    return is_coding and (p.layout != "ids" or p.columns == 2)


def one_based_labels(p: Profile) -> Iterator[Finding]:
    """B7: class ids that start at 1."""
    if not _labels_start_at_one(p):
        return
    s, labels = p.scores, p.labels
    yield Finding(
        code="B7",
        severity="E",
        argument="labels",
        what=f"labels run from 1 to {labels.extent.high:g}: they start at 1, not at 0",
        evidence={
            "labels": labels.values,
            "min": labels.extent.low,
            "max": labels.extent.high,
            "classes": max(p.columns, 2),
            "out_of_range": places(labels.outside),
            "rows_compared": s.shift_judged,
            "argmax_is_label": s.right_as_is,
            "argmax_is_label_minus_1": s.right_shifted,
            "standard_errors_apart": _shift_z(p),
        },
        why="Every class is compared with its neighbour's score, and the last one has none.",
        fix="labels=labels - 1.",
    )


def _labels_start_at_one(p: Profile) -> bool:
    labels = p.labels
    if p.layout == "matrix" or labels.extent.low != 1 or labels.fractional.count or labels.between:
        return False
    last = p.columns if p.layout == "ids" else 2
    if labels.extent.high == last:
        # Scores that agree with the labels as they are speak for a last class without a column.
        return _shift_z(p) > -5
    # A model that says class 0 whatever the row is "one before" every label 1: that proves nothing.
    s = p.scores
    return (
        labels.extent.high < last
        and p.layout == "ids"
        and _shift_z(p) > 5
        and _apart(s.right_shifted_from_2, s.right_as_is_from_2) > 5
    )


def _shift_z(p: Profile) -> float:
    """Standard errors by which argmax is label - 1 more often than label, where it can be both."""
    return _apart(p.scores.right_shifted, p.scores.right_as_is)


def _apart(shifted: int, as_is: int) -> float:
    return (shifted - as_is) / math.sqrt(shifted + as_is) if shifted + as_is else 0.0
