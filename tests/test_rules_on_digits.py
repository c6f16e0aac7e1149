"""Rules on real predictions, scikit-learn's digits, cross-validated and broken as people do."""

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import crossent as xe

pytestmark = pytest.mark.slow


class Predictions(NamedTuple):
    """1,797 digits: labels, probabilities and logits of a softmax regression, sigmoids of ten."""

    labels: np.ndarray
    probs: np.ndarray
    logits: np.ndarray
    sigmoids: np.ndarray


@pytest.fixture(scope="module")
def digits(request: pytest.FixtureRequest) -> Predictions:
    """Out-of-fold predictions, kept between runs."""
    kept = Path(request.config.cache.mkdir("digits")) / "predictions.npz"
    try:
        with np.load(kept) as arrays:
            return Predictions(*(arrays[name] for name in Predictions._fields))
    except (FileNotFoundError, KeyError, zipfile.BadZipFile):
        predictions = predict_digits()
        np.savez(kept, **predictions._asdict())
        return predictions


def predict_digits() -> Predictions:
    pytest.importorskip("sklearn", reason="the predictions are scikit-learn's")
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.multiclass import OneVsRestClassifier

    pixels, labels = load_digits(return_X_y=True)
    model = LogisticRegression(C=0.1, max_iter=400)

    def predicted(model: object, method: str) -> np.ndarray:
        return cross_val_predict(model, pixels / 16, labels, cv=4, method=method)

    one_by_one = predicted(OneVsRestClassifier(model), "decision_function")
    return Predictions(
        labels,
        predicted(model, "predict_proba"),
        predicted(model, "decision_function"),
        xe.sigmoid(one_by_one),
    )


def codes(**arguments: object) -> list[str]:
    return [finding.code for finding in xe.review(**arguments)]


def test_sound_predictions_pass(digits: Predictions) -> None:
    labels, probs, logits, sigmoids = digits
    assert codes(labels=labels, probs=probs) == []
    assert codes(labels=labels, logits=logits) == []
    assert codes(labels=labels, log_probs=np.log(probs)) == []
    assert codes(labels=np.eye(10)[labels], logits=logits) == []
    assert codes(labels=np.eye(10)[labels], probs=sigmoids, loss="sigmoid") == []
    for digit in range(10):
        is_digit = labels == digit
        assert codes(labels=is_digit, probs=sigmoids[:, digit]) == []
        assert codes(labels=is_digit, logits=xe.logit(sigmoids[:, digit])) == []


@pytest.mark.parametrize("decimals", range(1, 8))
def test_rounded_predictions_pass(digits: Predictions, decimals: int) -> None:
    assert codes(labels=digits.labels, probs=digits.probs.round(decimals)) == []
    assert codes(labels=digits.labels, log_probs=np.log(digits.probs).round(decimals)) == []


@pytest.mark.parametrize("digits_kept", range(2, 8))
def test_shortened_predictions_pass(digits: Predictions, digits_kept: int) -> None:
    shorten = np.vectorize(lambda p: float(f"{p:.{digits_kept - 1}e}"))
    assert codes(labels=digits.labels, probs=shorten(digits.probs)) == []


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_narrow_predictions_pass(digits: Predictions, dtype: str) -> None:
    for probs in (digits.probs.astype(dtype), digits.probs.astype(dtype).astype(np.float64)):
        assert codes(labels=digits.labels, probs=probs) == []
        assert codes(labels=digits.labels, logits=probs) == ["B3"]
    assert codes(labels=digits.labels, log_probs=np.log(digits.probs).astype(dtype)) == []


@pytest.mark.parametrize("seed", range(5))
def test_scores_of_another_kind_are_named(digits: Predictions, seed: int) -> None:
    """On any 300 rows."""
    rows = np.random.default_rng(seed).choice(1797, 300, replace=False)
    labels, probs, logits, sigmoids = (array[rows] for array in digits)
    log_probs = np.log(probs)
    hard = np.eye(10)[probs.argmax(axis=1)]
    assert codes(labels=labels, logits=probs) == ["B3"]
    assert codes(labels=labels, logits=probs.round(3)) == ["B3"]
    assert codes(labels=labels, log_probs=probs) == ["B1"]
    assert codes(labels=labels, probs=logits) == ["B2"]
    assert codes(labels=labels, log_probs=logits) == ["B2"]
    assert codes(labels=labels, logits=log_probs) == ["B5"]
    assert codes(labels=labels, probs=log_probs) == ["B5"]
    assert codes(labels=labels, logits=sigmoids) == ["B8"]
    assert codes(labels=labels, probs=sigmoids) == ["B8"]
    assert codes(labels=labels, log_probs=np.log(sigmoids)) == ["B8"]
    assert codes(labels=labels, probs=hard) == ["B6"]
    assert codes(labels=labels, logits=hard) == ["B6"]
    assert codes(labels=labels, probs=hard.argmax(axis=1)) == ["B6"]
    assert codes(labels=labels, probs=(100 * probs).round(1)) == ["A9"]
    assert codes(labels=labels, logits=np.tanh(logits / 10)) == ["B3c"]


@pytest.mark.parametrize("seed", range(5))
def test_labels_of_another_coding_are_named(digits: Predictions, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.choice(1797, 300, replace=False)
    labels, probs, logits, _ = (array[rows] for array in digits)
    for mark in (-100, -1, 254, 255):
        marked = np.where(rng.random(300) < 0.2, mark, labels)
        (finding,) = xe.review(labels=marked, logits=logits)
        assert (finding.code, finding.fix) == ("B4", f"ignore_index={mark}.")
        assert finding.evidence["count"] == (marked == mark).sum()
        assert codes(labels=marked, logits=logits, ignore_index=mark) == []
    assert codes(labels=labels + 1, probs=probs) == ["B7"]
    assert codes(labels=labels[labels < 9] + 1, logits=logits[labels < 9]) == ["B7"]
    assert codes(labels=2.0 * np.eye(10)[labels] - 1, logits=logits) == ["A4"]
    assert codes(labels=labels.astype(str), logits=logits) == ["A9"]


@pytest.mark.parametrize("digit", range(10))
def test_one_digit_against_the_rest(digits: Predictions, digit: int) -> None:
    """A yes is rare, 1 in 10: small numbers are then easily taken for probabilities."""
    is_digit, probs = digits.labels == digit, digits.sigmoids[:, digit]
    (finding,) = xe.review(labels=is_digit, logits=probs)
    assert (finding.code, finding.severity) == ("B1b", "W")
    assert codes(labels=2 * is_digit - 1, probs=probs) == ["A4"]
    assert codes(labels=is_digit + 1, probs=probs) == ["B7"]
    assert codes(labels=is_digit, probs=probs > 0.5) == ["B6"]
    assert codes(labels=is_digit[:, None], probs=probs) == ["A5"]
    assert codes(labels=is_digit, probs=xe.logit(probs)) == ["B2"]


def test_training_on_a_double_softmax_is_seen_in_its_log(digits: Predictions) -> None:
    """Its loss: that of the digits' own logits, sharpened, behind a softmax too many."""
    is_right = digits.logits.argmax(axis=1) == digits.labels
    rows = is_right | (np.arange(1797) % 3 == 0)
    labels, logits = digits.labels[rows], digits.logits[rows]
    settled = float(xe.softmax_cross_entropy(labels=labels, logits=xe.softmax(12 * logits)))
    history = settled + (np.log(10) - settled) * np.exp(-np.arange(40) / 4)
    (finding,) = xe.review(labels=labels, logits=logits, history=history)
    assert finding.code == "B3b"
    assert finding.evidence["accuracy"] == is_right.sum() / rows.sum()
    assert codes(labels=labels, logits=logits, history=history / 2) == []
