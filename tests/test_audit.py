"""The scores of an audit, against numbers computed another way."""

import json
import math
from pathlib import Path

import mpmath
import numpy as np
import pytest
from prediction_files import random_problem

import crossent as xe

DIGITS = Path(__file__).parents[1] / "examples" / "digits"


# ---- against other computations


def exact_mean_loss(labels, probs):
    """Mean of -log p(label) in 40 digits."""
    with mpmath.workdps(40):
        terms = [
            -mpmath.log(mpmath.mpf(float(row[y]))) for y, row in zip(labels, probs, strict=True)
        ]
        return float(mpmath.fsum(terms) / len(terms))


def plain_calibration_error(confidence, outcome, bins):
    """Expected calibration error, bin by bin in plain Python."""
    total = 0.0
    for b in range(bins):
        inside = [
            i
            for i, c in enumerate(confidence)
            if b / bins <= c < (b + 1) / bins or (b == bins - 1 and c == 1.0)
        ]
        gap = math.fsum(confidence[i] for i in inside) - math.fsum(outcome[i] for i in inside)
        total += abs(gap)
    return total / len(confidence)


def test_softmax_scores_agree_with_plain_computations():
    labels, _, probs = random_problem()
    scores = xe.audit(labels=labels, probs=probs).scores
    one_hot = np.eye(5)[labels]
    frequencies = np.bincount(labels, minlength=5) / len(labels)
    hits = (probs.argmax(axis=1) == labels).astype(float)
    assert scores.mean_loss == pytest.approx(exact_mean_loss(labels, probs), rel=4e-16)
    assert scores.mean_loss_bits == pytest.approx(scores.mean_loss / math.log(2), rel=1e-15)
    assert scores.perplexity == pytest.approx(math.exp(scores.mean_loss), rel=1e-15)
    assert scores.accuracy == hits.mean()
    assert scores.brier == pytest.approx(((probs - one_hot) ** 2).sum(axis=1).mean(), rel=1e-14)
    assert scores.calibration_error == pytest.approx(
        plain_calibration_error(probs.max(axis=1).tolist(), hits.tolist(), 15), rel=1e-12
    )
    assert scores.uniform_loss == math.log(5)
    assert scores.prior_loss == pytest.approx(-(frequencies * np.log(frequencies)).sum(), rel=1e-14)


def test_softmax_scores_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="compares with scikit-learn")
    labels, logits, probs = random_problem(seed=1)
    weights = np.random.default_rng(2).uniform(0, 3, len(labels))
    for given_scores in ({"probs": probs}, {"logits": logits}, {"log_probs": np.log(probs)}):
        scores = xe.audit(labels=labels, sample_weight=weights, **given_scores).scores
        expected = metrics.log_loss(labels, probs, sample_weight=weights)
        assert scores.mean_loss == pytest.approx(expected, rel=1e-13)
        expected = metrics.accuracy_score(labels, probs.argmax(axis=1), sample_weight=weights)
        assert scores.accuracy == pytest.approx(expected, rel=1e-14)


def test_binary_scores_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="compares with scikit-learn")
    rng = np.random.default_rng(3)
    logits = rng.normal(scale=2, size=500)
    probs = 1 / (1 + np.exp(-logits))
    labels = (rng.random(500) < probs).astype(int)
    by_logits, by_probs = (
        xe.audit(labels=labels, **{kind: values}).scores
        for kind, values in (("logits", logits), ("probs", probs))
    )
    assert by_probs.mean_loss == pytest.approx(metrics.log_loss(labels, probs), rel=1e-13)
    assert by_probs.brier == pytest.approx(metrics.brier_score_loss(labels, probs), rel=1e-13)
    assert by_logits.mean_loss == pytest.approx(by_probs.mean_loss, rel=1e-13)
    assert by_probs.calibration_error == pytest.approx(
        plain_calibration_error(probs.tolist(), labels.tolist(), 15), rel=1e-12
    )
    rate = labels.mean()
    entropy = -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
    assert by_probs.prior_loss == pytest.approx(entropy, rel=1e-14)
    assert by_probs.uniform_loss == math.log(2)


def test_digits_file_scores_as_its_readme_says():
    pytest.importorskip("pyarrow", reason="reads Parquet")
    report = xe.audit(DIGITS / "predictions.parquet")
    assert report.scores.rows == report.scores.scored == 1797
    assert f"{report.scores.mean_loss:#.7g}" in (DIGITS / "README.md").read_text()
    assert f"{report.scores.mean_loss:#.7g}" in report.text()


@pytest.mark.slow
def test_digits_file_is_what_its_script_makes(tmp_path, monkeypatch):
    pytest.importorskip("sklearn", reason="fits the classifier of the example")
    parquet = pytest.importorskip("pyarrow.parquet", reason="reads Parquet")
    monkeypatch.syspath_prepend(str(DIGITS))
    import make

    make.write(tmp_path / "again.parquet")
    again, kept = (
        parquet.read_table(p) for p in (tmp_path / "again.parquet", DIGITS / "predictions.parquet")
    )
    assert again.schema == kept.schema
    assert again["label"].equals(kept["label"])
    new, old = (np.array(table["probs"].to_pylist()) for table in (again, kept))
    # float32 keeps 24 bits; the fit is converged further than that.
    np.testing.assert_allclose(new, old, rtol=2.0**-20, atol=2.0**-24)


@pytest.mark.parametrize("bins", [1, 2, 10, 15, 100])
def test_a_constant_predictor_is_off_by_the_same_amount_for_all_bins(bins):
    labels = np.array([0, 1] * 50)
    two_columns = xe.audit(labels=labels, probs=[[0.9, 0.1]] * 100, bins=bins).scores
    one_column = xe.audit(labels=labels, probs=[0.9] * 100, bins=bins).scores
    assert two_columns.calibration_error == pytest.approx(0.4, rel=1e-14)
    assert one_column.calibration_error == pytest.approx(0.4, rel=1e-14)


def test_probabilities_0_and_1_fall_into_the_first_and_last_bin():
    scores = xe.audit(labels=[0, 1, 1, 0], probs=[0.0, 0.04, 0.96, 1.0], bins=10).scores
    # In each of two bins the errors partly cancel: 0 - 0.96, and 1 - 0.04. A third bin would show.
    assert scores.calibration_error == pytest.approx(2 * 0.96 / 4, rel=1e-12)


def test_ties_go_to_the_lowest_class():
    scores = xe.audit(labels=[0, 1], probs=[[0.5, 0.5], [0.5, 0.5]])
    assert [row.predicted for row in scores.scores.worst] == [0, 0]
    assert scores.scores.accuracy == 0.5
    for scores in ({"probs": [0.5, 0.5]}, {"logits": [0.0, 0.0]}):
        rows = xe.audit(labels=[0, 1], **scores).scores.worst
        assert [row.predicted for row in rows] == [0, 0]


def test_one_hot_labels_score_as_class_ids():
    labels, logits, _ = random_problem(seed=4)
    one_hot = np.eye(5, dtype=int)[labels]
    by_id, by_row = (xe.audit(labels=y, logits=logits).scores for y in (labels, one_hot))
    assert by_id == by_row


def test_soft_labels():
    labels = np.array([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]])
    probs = np.array([[0.2, 0.5, 0.3], [0.0, 0.5, 0.5]])
    scores = xe.audit(labels=labels, probs=probs).scores
    expected = [-(math.log(0.2) + math.log(0.5)) / 2, math.log(2)]
    assert scores.mean_loss == pytest.approx(sum(expected) / 2, rel=1e-15)
    assert scores.brier == pytest.approx((0.09 + 0.09 + 0.0625 + 0.0625) / 2, rel=1e-14)
    mean = labels.mean(axis=0)
    assert scores.prior_loss == pytest.approx(-(mean * np.log(mean)).sum(), rel=1e-14)
    # Of the predicted class 1 the labels have 0.5 and 0.25, in the same bin of [0.5, 1].
    one_bin = xe.audit(labels=labels, probs=probs, bins=2).scores
    assert one_bin.calibration_error == pytest.approx((0.5 + 0.5 - 0.5 - 0.25) / 2, rel=1e-14)
    assert scores.accuracy == 0.0  # predicted 1 and 1; the labels lean to 0 (a tie) and to 2


def test_several_sigmoid_outputs_are_scored_each():
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(60, 3))
    labels = rng.integers(0, 2, (60, 3))
    scores = xe.audit(labels=labels, logits=logits, loss="sigmoid").scores
    flat = xe.audit(labels=labels.ravel(), logits=logits.ravel()).scores
    for name in ("mean_loss", "brier", "accuracy", "calibration_error"):
        assert getattr(scores, name) == getattr(flat, name), name
    assert (scores.rows, scores.elements, scores.scored, scores.classes) == (60, 180, 180, 3)
    columns = [xe.audit(labels=labels[:, k], logits=logits[:, k]).scores for k in range(3)]
    assert [entry.mean_loss for entry in scores.per_class] == [one.mean_loss for one in columns]
    assert scores.prior_loss == pytest.approx(sum(one.prior_loss for one in columns) / 3, rel=1e-14)


def test_per_class_scores_are_those_of_the_rows_of_the_class():
    labels, logits, _ = random_problem(seed=6)
    scores = xe.audit(labels=labels, logits=logits).scores
    for entry in scores.per_class:
        alone = xe.audit(
            labels=labels[labels == entry.class_id], logits=logits[labels == entry.class_id]
        )
        assert (entry.mean_loss, entry.accuracy) == (alone.scores.mean_loss, alone.scores.accuracy)
    assert sum(entry.rows for entry in scores.per_class) == 400
    assert sum(entry.share for entry in scores.per_class) == pytest.approx(1)


def test_worst_rows_are_listed_by_loss_and_then_by_row():
    probs = np.full((6, 2), 0.5)
    probs[4] = [0.9, 0.1]
    report = xe.audit(labels=[0, 0, 0, 0, 1, 0], probs=probs, worst=3)
    assert [row.row for row in report.scores.worst] == [4, 0, 1]
    worst = report.scores.worst[0]
    assert (worst.label, worst.predicted) == (1, 0)
    assert worst.label_prob == pytest.approx(0.1, rel=1e-14)
    assert worst.loss == pytest.approx(-math.log(0.1), rel=1e-15)


def test_share_of_the_loss_from_the_worst_percent():
    labels, logits, _ = random_problem(rows=2000, seed=7)
    losses = xe.softmax_cross_entropy(labels=labels, logits=logits, reduction="none")
    expected = np.sort(losses)[-20:].sum() / losses.sum()
    share = xe.audit(labels=labels, logits=logits).scores.worst_percent_share
    assert share == pytest.approx(expected, rel=1 / 64)


def test_confident_rows_keep_their_loss():
    scores = xe.audit(labels=[0, 0], logits=np.array([[80.0, 0.0], [90.0, 0.0]], np.float32)).scores
    assert scores.mean_loss == pytest.approx((math.exp(-80) + math.exp(-90)) / 2, rel=1e-12)


# ---- rows that cannot be scored, or only as they stand


def test_rows_that_no_loss_is_defined_for_are_left_out_and_counted():
    probs = np.array([[0.5, 0.5]] * 7)
    probs[1, 0], probs[2] = np.nan, [1.5, -0.5]
    labels = np.array([0.0, 0, 0, 2, -1, 0.5, 1])
    report = xe.audit(labels=labels, probs=probs)
    assert (report.scores.scored, report.scores.unscorable) == (2, 5)
    assert report.scores.mean_loss == pytest.approx(math.log(2))
    reasons = {entry.reason: entry.first_rows for entry in report.unscorable}
    assert reasons == {
        "scores hold NaN": (1,),
        "probabilities are outside [0, 1]": (2,),
        "label is no class id in [0, 2)": (3, 4, 5),
    }
    assert "label is no class id in [0, 2): 3 rows, first 3, 4, 5." in report.text()


def test_sigmoid_entries_that_no_loss_is_defined_for_are_left_out():
    probs, log_probs = [0.5, 1.5, -0.5, np.nan, 0.5], [-1.0, 0.25, 0.25, np.nan, -1.0]
    for kind, values, outside in (
        ("probs", probs, "probabilities are outside [0, 1]"),
        ("log_probs", log_probs, "log-probabilities are above 0"),
    ):
        report = xe.audit(labels=[1, 0, 1, 1, 2], **{kind: values})
        assert report.scores.scored == 1
        reasons = {entry.reason: entry.first_rows for entry in report.unscorable}
        assert reasons == {
            outside: (1, 2),
            "scores are NaN, or +-inf against a soft label": (3,),
            "label is outside [0, 1]": (4,),
        }


def test_logits_without_a_softmax_are_left_out():
    logits = np.array([[-np.inf, -np.inf], [np.inf, 0.0], [-np.inf, 0.0], [0.0, 0.0]])
    scores = xe.audit(labels=[0, 0, 1, 1], logits=logits).scores
    assert (scores.scored, scores.unscorable) == (2, 2)
    assert scores.mean_loss == pytest.approx(math.log(2) / 2)


def test_bad_weights_and_bad_label_rows_are_left_out():
    probs = [[0.5, 0.5]] * 4
    report = xe.audit(labels=[0, 1, 0, 1], probs=probs, sample_weight=[1, -1, np.nan, 2])
    assert (report.scores.scored, report.scores.weight) == (2, 3.0)
    rows = [[1, 0], [1, 1], [2, -1], [0.4, 0.4]]
    report = xe.audit(labels=rows, probs=probs, loss="softmax")
    reasons = {entry.reason: entry.first_rows for entry in report.unscorable}
    assert reasons == {
        "label entries do not sum to 1": (1, 3),
        "label entries are outside [0, 1]": (2,),
    }


def test_probabilities_that_do_not_sum_to_1_are_scored_as_they_stand():
    probs = np.array([[0.5, 0.3], [0.5, 0.5], [0.2, 0.2]])
    unscorable = [[0.9, 0.9]]  # for its label is no class: not counted among the others
    report = xe.audit(labels=[0, 0, 1, 2], probs=[*probs, *unscorable])
    expected = -(2 * math.log(0.5) + math.log(0.2)) / 3
    assert report.scores.mean_loss == pytest.approx(expected, rel=1e-15)
    assert report.scores.unnormalised == 2
    assert "do not sum to 1: 2 rows" in report.text()
    soft = xe.audit(labels=[[0.5, 0.5]] * 3, probs=probs).scores
    surprisal = -np.log(probs).sum() / 2 / 3
    assert soft.mean_loss == pytest.approx(surprisal, rel=1e-14)


def test_a_label_of_probability_0_makes_the_mean_infinite_and_is_said():
    report = xe.audit(labels=[0, 1], probs=[[0.5, 0.5], [1.0, 0.0]])
    assert report.scores.mean_loss == math.inf
    assert report.scores.mean_finite_loss == pytest.approx(math.log(2))
    assert report.scores.zero_prob == 1
    assert report.to_dict()["scores"]["mean_loss"] == "inf"
    assert "Probability 0 for the label: 1 row; the mean loss is infinite" in report.text()


def test_ignored_rows_change_nothing_but_their_count():
    labels, logits, _ = random_problem(seed=8)
    padded_labels = np.concatenate([labels, [-100] * 50])
    padded = np.concatenate([logits, np.full((50, 5), np.nan)])
    whole = xe.audit(labels=labels, logits=logits).scores
    scores = xe.audit(labels=padded_labels, logits=padded, ignore_index=-100).scores
    assert scores.ignored == 50
    assert scores._replace(ignored=0, rows=400, elements=400) == whole


def test_rows_of_weight_0_change_no_mean():
    labels, logits, _ = random_problem(seed=9)
    weights = np.ones(400)
    weights[300:] = 0
    logits[350, labels[350]] = -np.inf  # an infinite loss, of weight 0
    scores = xe.audit(labels=labels, logits=logits, sample_weight=weights).scores
    part = xe.audit(labels=labels[:300], logits=logits[:300]).scores
    for name in ("mean_loss", "accuracy", "brier", "calibration_error", "prior_loss", "worst"):
        assert getattr(scores, name) == getattr(part, name), name


def test_nothing_scored_has_no_mean():
    report = xe.audit(labels=[7, 8], probs=[[0.5, 0.5]] * 2)
    assert report.scores.mean_loss is None
    assert report.scores.perplexity is None
    assert report.scores.worst == ()
    json.dumps(report.to_dict(), allow_nan=False)
    assert "mean loss" in report.text()


# ---- arguments


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, xe.ArgumentError, "labels and exactly one of logits, probs and log_probs .* got none"),
        ({"labels": [0]}, xe.ArgumentError, "got labels"),
        (
            {"labels": [0], "probs": [[1.0]], "logits": [[1.0]]},
            xe.ArgumentError,
            "got labels, logits, probs",
        ),
        (
            {"labels": [0, 1], "probs": [[0.5, 0.5]]},
            xe.ShapeError,
            "must have the same number of rows; labels has 2, probs has 1",
        ),
        (
            {"labels": [[1, 0, 0]], "probs": [[0.5, 0.5]]},
            xe.ShapeError,
            "one number for each of the 2 classes; got 3 numbers",
        ),
        (
            {"labels": [0], "probs": [[0.5, 0.5]], "loss": "sigmoid"},
            xe.ShapeError,
            "one entry for each of the 2 sigmoid outputs; got 1. Class ids go with the softmax",
        ),
        (
            {"labels": [[1, 0, 1]], "probs": [[0.5, 0.5]], "loss": "sigmoid"},
            xe.ShapeError,
            "one entry for each of the 2 sigmoid outputs; got 3. Check which",
        ),
        ({"labels": [0], "probs": np.zeros((1, 0))}, xe.ShapeError, "at least one column"),
        (
            {"labels": [[1, 0]], "probs": [[0.5, 0.5]], "ignore_index": -1, "loss": "softmax"},
            xe.OptionError,
            "ignore_index must be absent where labels are distributions",
        ),
        ({"labels": [0], "probs": [["a"]]}, xe.DTypeError, "must hold numbers; got dtype <U1"),
        ({"labels": [0], "probs": np.zeros((1, 1, 1))}, xe.ShapeError, "1 or 2 dimensions"),
        ({"labels": [], "probs": []}, xe.FileError, "at least one row; got none"),
        ({"labels": [0], "probs": [0.5], "loss": "hinge"}, xe.OptionError, "got 'hinge'"),
        ({"labels": [0], "probs": [0.5], "batch_rows": 0}, xe.OptionError, "batch_rows must be at"),
        ({"labels": [0], "probs": [0.5], "worst": -1}, xe.OptionError, "worst must be at least 0"),
        ({"labels": [0], "probs": [0.5], "bins": 0}, xe.OptionError, "bins must be at least 1"),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be_right(arguments, error, message):
    with pytest.raises(error, match=message):
        xe.audit(**arguments)


def test_progress_is_reported_up_to_the_end():
    seen = []
    xe.audit(labels=[0] * 10, probs=[0.5] * 10, batch_rows=4, progress=seen.append)
    assert seen == [0.4, 0.8, 1.0]
