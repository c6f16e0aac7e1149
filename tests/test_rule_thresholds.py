"""Where each rule begins to speak, and what it then advises."""

from typing import Any

import numpy as np
import pytest
from calibrated_data import CONFIDENT, ONE, TAGS, TEN, TWO, calibrated, put, yes_no

import crossent
import crossent as xe

MANY = calibrated(2000, 3)
EQUAL = np.tile(TEN.logits[:1], (400, 1))


def codes(**arguments: Any) -> list[str]:
    return [finding.code for finding in xe.review(**arguments)]


def marked(count: int) -> dict[str, Any]:
    return {"labels": put(MANY.labels, slice(count), -100), "logits": MANY.logits}


def settled(labels: Any, logits: Any, loss: float, count: int = 12) -> dict[str, Any]:
    return {"labels": labels, "logits": logits, "history": [loss] * count}


SURE = CONFIDENT.logits.argmax(axis=1)
# Just before the rule speaks, what is said then; just after, what is said then.
EDGES: dict[str, tuple[dict[str, Any], list[str], dict[str, Any], list[str]]] = {
    "99 % of rows identical": (
        {"labels": TEN.labels, "logits": put(EQUAL, slice(4), TEN.logits[:4] + 1)},
        [],
        {"labels": TEN.labels, "logits": put(EQUAL, slice(3), TEN.logits[:3] + 1)},
        ["A6"],
    ),
    "10 constant rows": (
        {"labels": np.arange(9), "logits": np.full((9, 10), 0.25)},
        [],
        {"labels": np.arange(10), "logits": np.full((10, 10), 0.25)},
        ["A6"],
    ),
    "10 rows identical": (
        {"labels": TEN.labels[:9], "logits": EQUAL[:9]},
        [],
        {"labels": TEN.labels[:10], "logits": EQUAL[:10]},
        ["A6"],
    ),
    "three classes for one score": (
        {"labels": ONE.labels, "logits": ONE.logits},
        [],
        {"labels": put(ONE.labels, slice(9), 2), "logits": ONE.logits},
        ["A6"],
    ),
    "a tenth of the weights": (
        {**MANY._asdict(), "sample_weight": (np.arange(2000) < 200) + 0.0},
        [],
        {**MANY._asdict(), "sample_weight": (np.arange(2000) < 199) + 0.0},
        ["A7"],
    ),
    "0.1 % marked": (marked(1), ["A2"], marked(2), ["B4"]),
    "95 % marked": (marked(1901), ["A2"], marked(1900), ["B4"]),
    "a mark no one uses": (
        {"labels": put(MANY.labels, slice(99), -7), "logits": MANY.logits},
        ["A2"],
        {"labels": put(MANY.labels, slice(99), 254), "logits": MANY.logits},
        ["B4"],
    ),
    "signs": (
        {"labels": 2 * ONE.labels - 1, "logits": ONE.logits},
        ["A4"],
        {"labels": put(2 * ONE.labels - 1, slice(9), 0), "logits": ONE.logits},
        ["B4"],
    ),
    "0/255": (
        {"labels": 255 * ONE.labels, "logits": ONE.logits},
        ["A4"],
        {"labels": put(255 * ONE.labels, slice(9), 1), "logits": ONE.logits},
        ["B4"],
    ),
    "20 rows sum to 1": (
        {"labels": TEN.labels[:19], "logits": TEN.probs[:19]},
        ["B1"],
        {"labels": TEN.labels[:20], "logits": TEN.probs[:20]},
        ["B3"],
    ),
    # Two classes of two decimals sum to 1 within 0.01 by chance 0.02; twice, by 0.0004.
    "sums of 1 by chance": (
        {"labels": [0], "logits": [[0.27, 0.73]]},
        [],
        {"labels": [0, 1], "logits": [[0.27, 0.73], [0.11, 0.9]]},
        ["B1"],
    ),
    "log-sum-exp 0 in one row": (
        {"labels": [0], "logits": TEN.log_probs[:1]},
        [],
        {"labels": [0, 1], "logits": TEN.log_probs[:2]},
        ["B5"],
    ),
    "300 rows of cosines": (
        {"labels": CONFIDENT.labels[:299], "logits": CONFIDENT.logits[:299] / 40},
        [],
        {"labels": CONFIDENT.labels[:300], "logits": CONFIDENT.logits[:300] / 40},
        ["B3c"],
    ),
    "logits a little over 1": (
        {"labels": CONFIDENT.labels, "logits": CONFIDENT.logits / 25},
        [],
        {"labels": CONFIDENT.labels, "logits": CONFIDENT.logits / 33},
        ["B3c"],
    ),
    "20 yes/no scores in [0, 1]": (
        {"labels": ONE.labels[:19], "logits": ONE.probs[:19]},
        [],
        {"labels": ONE.labels[:20], "logits": ONE.probs[:20]},
        ["B1b"],
    ),
    "1 % of rows not one-hot": (
        {"labels": TEN.labels, "logits": put(np.eye(10)[TEN.labels], slice(4), 1.0)},
        ["B3c"],
        {"labels": TEN.labels, "logits": put(np.eye(10)[TEN.labels], slice(3), 1.0)},
        ["B6"],
    ),
    "a score between 0 and 1": (
        {"labels": TEN.labels, "probs": put(np.eye(10)[TEN.labels], 0, 0.1)},
        [],
        {"labels": TEN.labels, "probs": np.eye(10)[TEN.labels]},
        ["B6"],
    ),
    "a zero among labels from 1": (
        {"labels": put(TEN.labels + 1, 0, 0), "logits": TEN.logits},
        ["B4"],
        {"labels": TEN.labels + 1, "logits": TEN.logits},
        ["B7"],
    ),
    "rounding of percentages": (
        {"labels": TEN.labels, "probs": put((100 * TEN.probs).round(1), (0, 0), 90.0)},
        ["B2"],
        {"labels": TEN.labels, "probs": (100 * TEN.probs).round()},
        ["A9"],
    ),
    "rows off, up to half of them": (
        {"labels": TEN.labels, "probs": put(TEN.probs, slice(200), 0.3)},
        ["A4"],
        {"labels": TEN.labels, "probs": put(TEN.probs, slice(201), 0.3)},
        ["B8"],
    ),
    "one row in 200 with several true": (
        {"labels": put(np.eye(10)[TEN.labels], slice(2), 1.0), "logits": TEN.logits},
        ["A4"],
        {"labels": put(np.eye(10)[TEN.labels], slice(3), 1.0), "logits": TEN.logits},
        [],
    ),
    "two classes": (
        {"labels": TWO.labels, "probs": TWO.probs},
        [],
        {"labels": TWO.labels, "probs": put(TWO.probs, 5, 0.4)},
        ["A4"],
    ),
    "half precision above 1": (
        {"labels": [0, 1], "probs": np.float16([[1.001, 0.0], [0.5, 0.5]])},
        [],
        {"labels": [0, 1], "probs": np.float16([[1.01, 0.0], [0.5, 0.5]])},
        ["B2"],
    ),
    "single precision above 1": (
        {"labels": [0, 1], "probs": np.float32([[1.0000004, 0.0], [0.5, 0.5]])},
        [],
        {"labels": [0, 1], "probs": np.float32([[1.000001, 0.0], [0.5, 0.5]])},
        ["B2"],
    ),
    "log-probabilities above 0": (
        {"labels": [0, 1], "log_probs": [[5e-5, -30.0], [-1.0, -0.45867515]]},
        [],
        {"labels": [0, 1], "log_probs": [[2e-4, -30.0], [-1.0, -0.45867515]]},
        ["B2"],
    ),
    "votes of one decimal": (
        {"labels": put(np.zeros((30, 10)), (slice(None), [0, 1]), 0.6), "logits": TEN.logits[:30]},
        [],
        {"labels": put(np.zeros((30, 10)), (slice(None), [0, 1]), 0.7), "logits": TEN.logits[:30]},
        ["A4"],
    ),
    "rates rounded above 1": (
        {"labels": put(ONE.probs, 0, 1.0000004), "logits": ONE.logits},
        [],
        {"labels": put(ONE.probs, 0, 1.000001), "logits": ONE.logits},
        ["A4"],
    ),
    "ten losses": (
        settled(SURE, CONFIDENT.logits, 1.47, 9),
        [],
        settled(SURE, CONFIDENT.logits, 1.47, 10),
        ["B3b"],
    ),
    "one-hot labels, 9 of 10 right": (
        settled(np.eye(10)[put(SURE, slice(41), (SURE[:41] + 1) % 10)], CONFIDENT.logits, 1.47),
        [],
        settled(np.eye(10)[put(SURE, slice(40), (SURE[:40] + 1) % 10)], CONFIDENT.logits, 1.47),
        ["B3b"],
    ),
    "two classes, 97 of 100 right": (
        settled(
            np.arange(100) < 4, np.eye(2)[np.zeros(100, int)] * np.arange(5, 105)[:, None], 0.32
        ),
        [],
        settled(
            np.arange(100) < 3, np.eye(2)[np.zeros(100, int)] * np.arange(5, 105)[:, None], 0.32
        ),
        ["B3b"],
    ),
    "3 % above the floor": (
        settled(SURE, CONFIDENT.logits, 1.5050),
        [],
        settled(SURE, CONFIDENT.logits, 1.5049),
        ["B3b"],
    ),
    "below the floor": (
        settled(SURE, CONFIDENT.logits, 1.4596),
        [],
        settled(SURE, CONFIDENT.logits, 1.4597),
        ["B3b"],
    ),
    "weights of elements": (
        {"labels": TAGS[0], "logits": TAGS[1], "sample_weight": np.ones((500, 6))},
        [],
        {"labels": TAGS[0], "logits": TAGS[1], "sample_weight": np.ones((500, 5))},
        ["A5"],
    ),
    "-inf beside the label": (
        {"labels": [1, 0], "log_probs": [[-np.inf, 0.0], [-1.0, -0.45867515]]},
        [],
        {"labels": [0, 0], "log_probs": [[-np.inf, 0.0], [-1.0, -0.45867515]]},
        ["A1"],
    ),
    "a chance at -inf": (
        {"labels": [[0.0, 1.0]], "logits": [[-np.inf, 0.0]]},
        [],
        {"labels": [[0.1, 0.9]], "logits": [[-np.inf, 0.0]]},
        ["A1"],
    ),
}
for _case in EDGES.values():
    for _arguments in (_case[0], _case[2]):
        if "log_probs" in _arguments and "logits" in _arguments:
            del _arguments["probs"], _arguments["log_probs"]


@pytest.mark.parametrize("name", EDGES)
def test_a_rule_speaks_from_its_threshold_on(name: str) -> None:
    before, said_before, after, said_after = EDGES[name]
    assert codes(**before) == said_before
    assert codes(**after) == said_after


FIXES: dict[str, tuple[dict[str, Any], str]] = {
    "signs as ids": (
        {"labels": 2 * TWO.labels - 1, "logits": TWO.logits},
        "If the labels are -1 and +1: labels=(labels + 1) // 2.",
    ),
    "signs as chances": (
        {"labels": 2 * ONE.labels - 1, "logits": ONE.logits},
        "If the labels are -1 and +1: labels=(labels + 1) / 2.",
    ),
    "a stray mark": (marked(1), "If -100 marks rows to skip: ignore_index=-100."),
    "two stray marks": (
        {"labels": put(TEN.labels, [0, 1], [-1, -100]), "logits": TEN.logits},
        "Map the labels to 0..9, or give the scores a column per class.",
    ),
    "too many classes": (
        {"labels": put(TEN.labels, 0, 11), "logits": TEN.logits},
        "Map the labels to 0..9, or give the scores a column per class.",
    ),
    "chances of class 1": (
        {"labels": ONE.probs[:400], "logits": TWO.logits},
        "If they are chances of class 1: labels=np.stack([1 - y, y], axis=-1).",
    ),
    "fractions of ids": (
        {"labels": TEN.labels + 0.5, "logits": TEN.logits},
        "Pass whole ids, or a distribution of the scores' shape.",
    ),
    "grey values": (
        {"labels": np.arange(256), "logits": np.linspace(-9, 9, 256) - 0.03},
        "For yes/no use sigmoid_cross_entropy; for classes give one score per class.",
    ),
    "grey images": (
        {"labels": np.arange(256).reshape(8, 32), "logits": TEN.logits[:16, :2].reshape(-1, 32)},
        "Pass one label, or one distribution, per row of scores; axis= names the class axis.",
    ),
    "grey masks": (
        {"labels": 255 * TAGS[0], "logits": TAGS[1]},
        "Grey values? labels=labels / 255; if 255 marks what to skip: ignore_index=255.",
    ),
    "votes": (
        {"labels": 3 * TAGS[0], "logits": TAGS[1]},
        "If they are votes or counts: labels=labels / labels.sum(-1, keepdims=True).",
    ),
    "counts of yes": (
        {"labels": 0.5 + ONE.labels, "logits": ONE.logits},
        "Labels are 0, 1, or a chance between; map them to that.",
    ),
    "a column less": (
        {"labels": TEN.labels % 9, "probs": TEN.probs[:, :9]},
        (
            "Pass what the model gave before its softmax as logits=. No sum is too large: "
            "a column may be missing."
        ),
    ),
    "no rows": (
        {"labels": [], "logits": np.zeros((0, 2))},
        "Check the file, or the filter that left nothing of it.",
    ),
    "names": (
        {"labels": ["a", "b"], "logits": TWO.logits[:2]},
        "Name the columns: [columns.index(name) for name in labels]; do not sort them.",
    ),
    "per cent": (
        {"labels": [0, 1], "probs": [["10%", "90%"], ["20%", "80%"]]},
        "Strip the % and divide by 100.",
    ),
    "commas": (
        {"labels": [0, 1], "probs": [["0,1", "0,9"], ["0,2", "0,8"]]},
        "Convert to numbers where the file is read; leave out or fill what is missing.",
    ),
}


@pytest.mark.parametrize("name", FIXES)
def test_the_fix_fits_the_case(name: str) -> None:
    arguments, fix = FIXES[name]
    assert [finding.fix for finding in xe.review(**arguments)] == [fix]


def test_probabilities_are_told_from_small_logits_of_the_same_range() -> None:
    """B1b goes by the loss: 200 rows and four standard errors, and then some."""
    few, enough = yes_no(199, scale=4.0), yes_no(200, scale=4.0)
    (undecided,) = xe.review(labels=few.labels, logits=few.probs)
    (decided,) = xe.review(labels=enough.labels, logits=enough.probs)
    assert (undecided.code, undecided.severity) == ("B1b", "I")
    assert (decided.code, decided.severity) == ("B1b", "W")
    excess = decided.evidence["loss_as_logits"] - decided.evidence["loss_as_probs"]
    direct = [
        float(xe.sigmoid_cross_entropy(labels=enough.labels, logits=enough.probs)),
        float(xe.sigmoid_cross_entropy(labels=enough.labels, probs=enough.probs)),
    ]
    assert excess == pytest.approx(direct[0] - direct[1], rel=1e-9)
    assert codes(labels=enough.labels, logits=np.round(enough.probs) * 0.9) == ["B1b"]


def test_a_single_row_of_scores_may_come_without_an_axis() -> None:
    assert codes(labels=1, logits=[0.5, 2.0, -1.0]) == []
    assert codes(labels=[0.0, 1.0, 0.0], logits=[0.5, 2.0, -1.0], loss="softmax") == []
    assert codes(labels=0, logits=0.5) == ["A5"]
    assert codes(labels=[0, 1], logits=[[0.5, 1.0], [1.0, 0.2]], axis=5) == ["A5"]


def test_an_absent_class_0_that_the_model_prefers_is_no_1_based_label():
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(1, 5, 300), rng.normal(0, 1, (300, 5))
    logits[:, 0] += 6
    assert "B7" not in [f.code for f in crossent.review(labels=labels, logits=logits)]
    always_0 = np.tile([2.0, 0.0], (40, 1)) + rng.normal(0, 0.1, (40, 2))
    assert crossent.review(labels=np.ones(40, int), logits=always_0) == []


def test_rounded_scores_of_a_rare_class_are_no_dead_layer():
    rng = np.random.default_rng(0)
    p = 1 / (1 + np.exp(-rng.normal(-10, 1, 20_000)))
    labels = (rng.random(20_000) < p).astype(int)
    rounded = np.stack([1 - p, p], axis=1).round(3)
    assert "A6" not in [f.code for f in crossent.review(labels=labels, probs=rounded)]


def test_logits_early_in_training_are_only_worth_a_note():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 500)
    logits = 0.1 * np.eye(5)[labels] + 0.001 * rng.normal(size=(500, 5))
    found = crossent.review(labels=labels, logits=logits)
    assert [(f.code, f.severity) for f in found] == [("B3c", "I")]
