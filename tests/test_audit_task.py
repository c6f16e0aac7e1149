"""What an audit takes the task for, and the loss that it recommends."""

import numpy as np
import pytest
from prediction_files import random_problem

import crossent as xe


def advised(**arguments):
    report = xe.audit(**arguments)
    return report.scores.family, report.advice.recommendation.loss


def test_labels_with_several_ones_are_scored_as_outputs_of_their_own():
    rng = np.random.default_rng(12)
    probs, labels = rng.random((300, 4)), rng.integers(0, 2, (300, 4))
    # Ten batches look like one class per row before one does not.
    labels[:100] = np.eye(4, dtype=int)[rng.integers(0, 4, 100)]
    report = xe.audit(
        labels=labels, probs=probs, batch_rows=10
    )  # ten batches of one-hot rows first
    assert report.to_dict() == xe.audit(labels=labels, probs=probs, loss="sigmoid").to_dict()
    assert report.scores.elements == report.scores.scored == 1200
    assert report.advice.recommendation.loss == "sigmoid_multilabel"
    labels[5, 2] = -1
    ignored = xe.audit(labels=labels, probs=probs, ignore_index=-1).scores
    assert (ignored.family, ignored.scored, ignored.ignored) == ("sigmoid", 1199, 1)


def test_the_loss_that_the_data_call_for():
    labels, logits, probs = random_problem(seed=13)
    one_hot = np.eye(5, dtype=int)[labels]
    assert advised(labels=labels, logits=logits) == ("softmax", "softmax_ids")
    assert advised(labels=one_hot, logits=logits) == ("softmax", "softmax_ids")
    assert advised(labels=one_hot, logits=logits, loss="sigmoid") == ("sigmoid", "softmax_ids")
    assert advised(labels=probs, logits=logits) == ("softmax", "softmax_distribution")
    assert advised(labels=labels % 2, logits=logits[:, 0]) == ("sigmoid", "sigmoid_binary")
    assert advised(labels=probs[:, 0], logits=logits[:, 0]) == ("sigmoid", "sigmoid_binary")
    one_hot[3] = 0  # one slip among 400 rows
    assert advised(labels=one_hot, logits=logits) == ("softmax", "softmax_ids")


def test_advice_counts_classes_and_ignored_rows():
    labels = np.array([0] * 60 + [1] * 15 + [-1] * 5)
    report = xe.audit(labels=labels, logits=np.zeros((80, 3)), ignore_index=-1)
    assert report.advice.evidence == (
        "The labels: one class id per row, 3 classes, commonest to rarest class 4 to 1, 5 ignored."
    )
    assert "ignore_index" in report.advice.recommendation.calls["crossent"]


def test_a_model_worse_than_the_class_frequencies_is_called_that():
    labels, logits, _ = random_problem(seed=14)
    caveat = "always predicting the frequencies of the labels would do better"
    assert caveat in " ".join(xe.audit(labels=labels, logits=-logits).text().split())
    assert caveat not in " ".join(xe.audit(labels=labels, logits=logits).text().split())


@pytest.mark.parametrize("kind", ["logits", "probs", "log_probs"])
def test_the_suggested_call_takes_the_scores_that_were_given(kind):
    labels, logits, probs = random_problem(seed=15)
    scores = {"logits": logits, "probs": probs, "log_probs": np.log(probs)}[kind]
    report = xe.audit(labels=labels, **{kind: scores})
    call = f"loss = xe.softmax_cross_entropy(labels=labels, {kind}={kind})"
    assert report.advice.recommendation.calls["crossent"] == call
    assert call in str(report)
    namespace = {"xe": xe, "labels": labels, kind: scores}
    exec(call, namespace)
    assert float(namespace["loss"]) == pytest.approx(report.scores.mean_loss, rel=1e-12)


def test_the_rule_of_prediction_is_that_of_the_loss():
    labels, logits, probs = random_problem(seed=16)
    lowest, threshold = "of equal scores the lowest class counts", "yes where the {} is above {}"
    assert lowest in xe.audit(labels=labels, logits=logits).text()
    for text, expected in (
        (xe.audit(labels=labels % 2, logits=logits[:, 0]).text(), threshold.format("logit", 0)),
        (
            xe.audit(labels=labels % 2, probs=probs[:, 0]).text(),
            threshold.format("probability", "1/2"),
        ),
    ):
        assert expected in text
        assert lowest not in text


def test_a_report_prints_as_its_text():
    report = xe.audit(labels=[0, 1], probs=[[0.9, 0.1], [0.2, 0.8]])
    assert str(report) == report.text()
