"""Scores of one kind passed as another (rules B1, B1b, B3, B3b, B3c, B5 and B8)."""

import math
from collections.abc import Iterator
from typing import Any

from crossent.profile import Profile
from crossent.rules.finding import Finding
from crossent.rules.fits import Comparison, as_probs_or_logits, fitted_multiplier

# Fewer rows than this decide nothing about the kind of scores.
_MIN_ROWS = 20
# A sum of 1 in every row is no accident below the first chance, and worth a note below the second.
_ACCIDENT = 1e-6
_ODD = 1e-3
_DOUBLE_SIGMOID = "A sigmoid makes .5 to .73 of them: a sure yes still costs .313, a sure no .693."


def probabilities(p: Profile) -> Iterator[Finding]:
    """B1: probabilities passed as log-probabilities; or as logits, with too few rows to be sure."""
    if p.kind == "probs" or not _rows_sum_to_one(p):
        return
    is_certain = p.kind == "log_probs"
    if not is_certain and (_accident(p) > _ODD or _is_no_accident(p)):
        return
    yield Finding(
        code="B1",
        severity="E" if is_certain else "I",
        argument=p.kind,
        what=f"{p.kind} look like probabilities: all rows lie in [0, 1] and sum to 1",
        evidence=_sum_evidence(p),
        why=(
            "No log-probability is positive: the loss comes out negative."
            if is_certain
            else "Too few rows to tell; if they are probabilities, softmax is applied twice."
        ),
        fix="probs=scores, if they come from a softmax.",
    )


def one_column_of_probabilities(p: Profile) -> Iterator[Finding]:
    """B1b: yes/no scores in [0, 1] passed as logits: are they probabilities?"""
    s = p.scores
    if p.kind != "logits" or p.family != "sigmoid" or not s.all_in(0, 1):
        return
    if s.rows < _MIN_ROWS or s.extent.low == s.extent.high:
        return
    fit = as_probs_or_logits(p)
    is_decided = fit.rows >= 200 and fit.z > 4 and _fits_as_probabilities(p, fit)
    if not is_decided and fit.z < -4:
        return
    yield Finding(
        code="B1b",
        severity="W" if is_decided else "I",
        argument="logits",
        what=(
            "logits are probabilities: sigmoid is applied twice"
            if is_decided
            else "logits all lie in [0, 1]: small logits or probabilities? undecided"
        ),
        evidence={
            "rows": s.rows,
            "rows_compared": fit.rows,
            "loss_as_logits": fit.as_logits,
            "loss_as_probs": fit.as_probs,
            "standard_errors_apart": fit.z,
            "mean_score": fit.mean_score,
            "mean_label": fit.mean_label,
            "min": s.extent.low,
            "max": s.extent.high,
        },
        why=_DOUBLE_SIGMOID,
        fix="probs=scores, or take the model's output before its sigmoid as logits=.",
    )


def _fits_as_probabilities(p: Profile, fit: Comparison) -> bool:
    """Whether more than a better loss speaks for probabilities.

    Where a yes is rare, any small numbers beat their own sigmoid. So they must also reach both ends
    or have the mean of the labels, and not owe their success to the exact zeros of a ReLU.
    """
    reaches_ends = p.scores.extent.low < 0.05 and p.scores.extent.high > 0.95
    close = abs(fit.mean_score - fit.mean_label) < 0.1 * fit.mean_label
    return (reaches_ends or close) and not _is_rectified(p)


def _is_rectified(p: Profile) -> bool:
    """Whether exact zeros pile up among unrounded numbers, as they do behind a ReLU."""
    return p.scores.zeros > 0.2 * p.scores.finite and p.scores.written.decimals is None


def double_softmax(p: Profile) -> Iterator[Finding]:
    """B3: probabilities passed as logits."""
    if p.kind != "logits" or not _rows_sum_to_one(p) or not _is_no_accident(p):
        return
    evidence = _sum_evidence(p)
    if p.family == "softmax":
        floor = _double_softmax_floor(p.columns)
        what = "logits are probabilities: softmax is applied twice"
        why = (
            f"With {p.columns} classes the loss stays above {floor:.4f}; training is slow and bad."
        )
        evidence |= {"loss_floor": floor, "ln_classes": math.log(p.columns)}
    else:
        what = "logits are probabilities: a sigmoid is applied after the softmax"
        why = _DOUBLE_SIGMOID
    yield Finding(
        code="B3",
        severity="W",
        argument="logits",
        what=what,
        evidence=evidence,
        why=why,
        fix="probs=scores, or take the model's output before its softmax as logits=.",
    )


def _double_softmax_floor(num_classes: int) -> float:
    """The loss of a certain and right prediction: logits 1 for the label, 0 for the others."""
    return math.log(math.e + num_classes - 1) - 1


def double_softmax_plateau(p: Profile) -> Iterator[Finding]:
    """B3b: training settled on the floor of a double softmax or sigmoid, though the model is right.

    The last quarter of the losses (5 at least) is flat and within 3 % above the floor, none fell
    below it, and the predictions are right far more often than such a loss allows.
    """
    losses = [loss for loss in p.history if math.isfinite(loss)]
    reached = _floor_and_accuracy(p)
    if len(losses) < 10 or reached is None:
        return
    floor, accuracy, needed = reached
    tail = sorted(losses[-max(5, len(losses) // 4) :])
    settled = tail[len(tail) // 2]
    is_flat = tail[-1] - tail[0] <= 0.03 * floor
    is_floor = min(losses) >= 0.999 * floor and settled <= 1.03 * floor
    if not (is_flat and is_floor and accuracy >= needed):
        return
    yield Finding(
        code="B3b",
        severity="W",
        argument="history",
        what=f"training settled at {settled:.4g}, the floor of a double softmax or sigmoid",
        evidence={
            "losses": len(losses),
            "settled_at": settled,
            "lowest": min(losses),
            "loss_floor": floor,
            "accuracy": accuracy,
            "accuracy_needed": needed,
            "rows_judged": p.scores.judged,
        },
        why="A model right as often as this one has a far lower loss unless it is squashed twice.",
        fix="Drop the softmax or sigmoid of the model's last layer, or pass its outputs as probs=.",
    )


def _floor_and_accuracy(p: Profile) -> tuple[float, float, float] | None:
    """The floor of the doubled loss, the accuracy, and the accuracy that rules out a true loss."""
    s, labels = p.scores, p.labels
    if not s.judged:
        return None
    if p.columns > 1 and p.family == "softmax":
        needed = 0.97 if p.columns == 2 else 0.9
        return _double_softmax_floor(p.columns), s.right / s.judged, needed
    if p.columns > 1 or labels.between or not labels.values:
        return None
    yes = labels.ones / labels.values
    right = s.right_at_half if p.kind == "probs" or s.all_in(0, 1) else s.right
    # A certain yes costs log(1 + 1/e) after a second sigmoid, a certain no log 2.
    return yes * math.log1p(math.exp(-1)) + (1 - yes) * math.log(2), right / s.judged, 0.97


def squeezed_logits(p: Profile) -> Iterator[Finding]:
    """B3c: logits within [-1, 1] that fit the labels only when multiplied by far more than 1.

    Fitted multipliers measured on calibrated logits: .93 to 1.12 from 300 rows on; on
    probabilities used as logits: 3.0 for 2 classes, 5.7 for 10, 13.7 for 100.
    """
    s = p.scores
    if p.kind != "logits" or not s.all_in(-1, 1) or s.extent.low == s.extent.high:
        return
    fit = fitted_multiplier(p, p.family)
    if fit.rows < 300 or fit.best <= 2.5 or fit.low <= 1.5:
        return
    yield Finding(
        code="B3c",
        # Logits that hardly leave 0 are more often a model that has only begun to learn.
        severity="W" if max(abs(s.extent.low), abs(s.extent.high)) >= 0.5 else "I",
        argument="logits",
        what=f"logits lie within [-1, 1] and fit best when multiplied by {fit.best:.3g}",
        evidence={
            "multiplier": fit.best,
            "multiplier_at_least": fit.low,
            "rows_fitted": fit.rows,
            "min": s.extent.low,
            "max": s.extent.high,
        },
        why="Squashed scores (cosines, tanh), or a model early in training: the loss stays high "
        "however right the model is.",
        fix="Multiply them by a fixed or learned scale in the model; temperature=1/scale here.",
    )


def log_probabilities(p: Profile) -> Iterator[Finding]:
    """B5: log-probabilities passed as logits or as probabilities."""
    s = p.scores
    if p.kind == "log_probs" or p.columns < 2 or s.log_sums.rows < 2 or s.above_zero.count:
        return
    tolerance, off = s.log_sums.beyond(s.written)
    if off.count or s.extent.low >= 0:
        return
    severity, why = _use_of_log_probabilities(p)
    yield Finding(
        code="B5",
        severity=severity,
        argument=p.kind,
        what=f"{p.kind} are log-probabilities: none is positive, every row has log-sum-exp 0",
        evidence={
            "rows": s.log_sums.rows,
            "lowest_log_sum": s.log_sums.low,
            "highest_log_sum": s.log_sums.high,
            "tolerance": tolerance,
            "min": s.extent.low,
            "max": s.extent.high,
        },
        why=why,
        fix="log_probs=scores.",
    )


def _use_of_log_probabilities(p: Profile) -> tuple[Any, str]:
    if p.kind == "probs":
        return "E", "Negative numbers are no probabilities."
    if p.family == "softmax":
        return "I", "softmax of log-probabilities gives the probabilities back: this loss is right."
    return "W", "sigmoid of log p is p / (1 + p), not p."


def sigmoid_outputs(p: Profile) -> Iterator[Finding]:
    """B8: independent yes/no probabilities, one per class, with labels naming one class per row."""
    s = p.scores
    if p.family != "softmax" or p.columns < 2 or s.rows < _MIN_ROWS:
        return
    is_log = p.kind == "log_probs"
    sums = s.log_sums if is_log else s.sums
    tolerance, off = sums.beyond(s.written)
    in_range = not s.above_zero.count if is_log else s.all_in(0, 1)
    is_varied = sums.high - sums.low > 0.05 and sums.high > sums.expected + tolerance
    if not in_range or not is_varied or off.rows <= 0.5 * sums.rows:
        return
    evidence = {
        "rows": s.rows,
        "rows_off": off.rows,
        "lowest_sum": sums.low,
        "highest_sum": sums.high,
        "tolerance": tolerance,
        "max": s.extent.high,
    }
    if p.kind == "logits":
        # Small logits lie in [0, 1] too; but those of a fitted model fit as they are.
        fit = fitted_multiplier(p, "softmax")
        evidence |= {
            "multiplier": fit.best,
            "multiplier_at_least": fit.low,
            "rows_fitted": fit.rows,
        }
        if fit.best <= 2.5 or fit.low <= 2 or s.extent.high < 0.5 or _is_rectified(p):
            return
    yield Finding(
        code="B8",
        severity="W" if p.kind == "logits" else "E",
        argument=p.kind,
        what=f"{p.kind} are independent yes/no probabilities, but each row has one class",
        evidence=evidence,
        why="A softmax loss needs one distribution per row; these rows have sums of their own.",
        fix="Take the outputs before the sigmoid as logits=, or use sigmoid_cross_entropy.",
    )


def _rows_sum_to_one(p: Profile) -> bool:
    s = p.scores
    if p.columns < 2 or not s.all_in(0, 1) or not s.sums.rows:
        return False
    return s.sums.beyond(s.written)[1].count == 0


def _is_no_accident(p: Profile) -> bool:
    return p.scores.sums.rows >= _MIN_ROWS and _accident(p) < _ACCIDENT


def _accident(p: Profile) -> float:
    """The chance that rows uniform in [0, 1] all sum to 1 within the tolerance.

    Their sum has density 1 / (classes - 1)! at 1 (Irwin-Hall).
    """
    tolerance, _ = p.scores.sums.beyond(p.scores.written)
    log_chance = min(0.0, math.log(2 * tolerance) - math.lgamma(p.columns))
    return math.exp(max(log_chance * p.scores.sums.rows, -700.0))


def _sum_evidence(p: Profile) -> dict[str, Any]:
    sums = p.scores.sums
    return {
        "rows": sums.rows,
        "min": p.scores.extent.low,
        "max": p.scores.extent.high,
        "lowest_sum": sums.low,
        "highest_sum": sums.high,
        "tolerance": sums.beyond(p.scores.written)[0],
        "chance_of_accident": _accident(p),
    }
