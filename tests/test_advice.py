"""`recommend`: the decision tree leaf by leaf, the answers that labels give, what it refuses."""

import json
import re

import numpy as np
import pytest

import crossent as xe
from crossent import catalogue
from crossent.decision import missing
from crossent.decision.answers import Answers, completed
from crossent.decision.from_labels import read_labels
from crossent.errors import (
    ArgumentError,
    CrossentError,
    DTypeError,
    LabelError,
    OptionError,
    ShapeError,
)

IDS = {"exclusive": True, "labels": "index", "num_classes": 10}
WHOLE = {"unlabeled": False, "imbalance": 1.0}
PLAIN = {**IDS, **WHOLE}
YES_NO = {"labels": "binary", **WHOLE}
SEVERAL = {"exclusive": False, **WHOLE}

# Letters are those of the tree in section 3 of the design's user research.
LEAVES = [
    ("a real number", {"labels": "real"}, "mean_squared_error", "sigmoid_binary"),
    ("A binary", YES_NO, "sigmoid_binary", "softmax_ids"),
    ("A two classes", {**PLAIN, "num_classes": 2}, "sigmoid_binary", "softmax_ids"),
    ("A -1/+1", {**YES_NO, "labels": "signed"}, "sigmoid_binary", "softmax_ids"),
    ("A rates", {"labels": "rate", "unlabeled": False}, "sigmoid_binary", "softmax_ids"),
    ("B several labels", SEVERAL, "sigmoid_multilabel", "softmax_ids"),
    (
        "B none of them possible",
        {**SEVERAL, "exclusive": True, "true_per_row": "at_most_one", "num_classes": 5},
        "sigmoid_multilabel",
        "softmax_ids",
    ),
    (
        "B exactly one in every row is C",
        {
            **SEVERAL,
            "exclusive": None,
            "labels": "multi_hot",
            "true_per_row": "one",
            "num_classes": 5,
        },
        "softmax_ids",
        "softmax_distribution",
    ),
    ("C ids", PLAIN, "softmax_ids", "softmax_distribution"),
    ("C one-hot", {**PLAIN, "labels": "one_hot"}, "softmax_ids", "softmax_distribution"),
    (
        "C one-hot of two",
        {**PLAIN, "labels": "one_hot", "num_classes": 2},
        "sigmoid_binary",
        "softmax_ids",
    ),
    (
        "D distribution",
        {"labels": "distribution", "num_classes": 10, "unlabeled": False},
        "softmax_distribution",
        "kl_divergence",
    ),
    (
        "D votes",
        {"labels": "votes", "num_classes": 10, "unlabeled": False},
        "softmax_distribution",
        "kl_divergence",
    ),
    ("E grades", {**PLAIN, "ordinal": True}, "ordinal", "softmax_ids"),
    (
        "E two grades are yes/no",
        {**PLAIN, "num_classes": 2, "ordinal": True},
        "sigmoid_binary",
        "softmax_ids",
    ),
    (
        "F 50,000 classes still fit",
        {**PLAIN, "num_classes": 50_000},
        "softmax_ids",
        "softmax_distribution",
    ),
    ("F more do not", {**PLAIN, "num_classes": 50_001}, "softmax_in_blocks", "sampled_softmax"),
    (
        "F too slow",
        {**PLAIN, "num_classes": 50_001, "full_softmax_too_slow": True},
        "sampled_softmax",
        "softmax_in_blocks",
    ),
    ("G in-batch", {"retrieval": True}, "in_batch_softmax", "pairwise_logistic"),
    ("G given negatives", {"retrieval": "pairs"}, "pairwise_logistic", "in_batch_softmax"),
    ("H plain first", {**PLAIN, "imbalance": 30.0}, "softmax_ids", "softmax_weighted"),
    ("H plain first, yes/no", {**YES_NO, "imbalance": 30.0}, "sigmoid_binary", "sigmoid_weighted"),
    (
        "H then weights",
        {**PLAIN, "imbalance": 30.0, "rare_missed": True},
        "softmax_weighted",
        "focal",
    ),
    (
        "H then pos_weight",
        {**YES_NO, "imbalance": True, "rare_missed": True},
        "sigmoid_weighted",
        "focal_binary",
    ),
    (
        "H then pos_weight for several labels",
        {**SEVERAL, "imbalance": 30.0, "rare_missed": True},
        "sigmoid_weighted",
        "focal_binary",
    ),
    (
        "H 1 in 1,000",
        {**YES_NO, "imbalance": 1000.0, "rare_missed": True},
        "focal_binary",
        "sigmoid_weighted",
    ),
    (
        "H 3 to 1 is balanced",
        {**PLAIN, "imbalance": 3.9, "rare_missed": True},
        "softmax_ids",
        "softmax_distribution",
    ),
    ("I 4 % wrong", {**PLAIN, "noisy": 0.04}, "softmax_smoothed", "generalized_cross_entropy"),
    ("I 5 % wrong", {**PLAIN, "noisy": 0.05}, "generalized_cross_entropy", "softmax_smoothed"),
    (
        "I wrong, share unknown",
        {**PLAIN, "noisy": True},
        "generalized_cross_entropy",
        "softmax_smoothed",
    ),
    (
        "I yes/no, 20 % wrong",
        {**YES_NO, "noisy": 0.2},
        "generalized_cross_entropy",
        "softmax_smoothed",
    ),
    ("I yes/no, 1 % wrong", {**YES_NO, "noisy": 0.01}, "sigmoid_binary", "softmax_ids"),
    ("J unlabeled rows", {**PLAIN, "unlabeled": True}, "softmax_ids", "softmax_distribution"),
    ("K costs differ", {**PLAIN, "costs_differ": True}, "softmax_ids", "softmax_distribution"),
    ("L tokens", {**PLAIN, "layout": "sequence"}, "softmax_ids", "softmax_distribution"),
]


@pytest.mark.parametrize(
    ("answers", "loss", "runner_up"),
    [leaf[1:] for leaf in LEAVES],
    ids=[leaf[0] for leaf in LEAVES],
)
def test_leaf_of_the_tree(answers, loss, runner_up):
    advice = xe.recommend(**answers)
    assert (advice.loss, advice.runner_up) == (loss, runner_up)
    assert advice.why
    assert advice.why_not
    assert tuple(advice.calls) == catalogue.LIBRARIES


def test_every_loss_but_the_tuned_ones_is_a_leaf_or_a_runner_up():
    reached = {name for leaf in LEAVES for name in leaf[2:]}
    # Poly loss is plain cross-entropy with one more number to search for: no answer calls for it.
    assert set(catalogue.LOSSES) - reached == {"poly"}


NOTES = [
    (
        {"labels": "rate", "unlabeled": False},
        "sample_weight, and report the loss minus the entropy",
    ),
    ({"labels": "votes", "num_classes": 3, "unlabeled": False}, "number of votes of each row"),
    ({"labels": "distribution", "num_classes": 3, "unlabeled": False}, "T squared"),
    ({**PLAIN, "unlabeled": True}, "adds nothing to value, gradient or denominator"),
    ({**YES_NO, "unlabeled": "as_negative"}, "positive and unlabeled data"),
    ({**YES_NO, "imbalance": 20.0}, "compare thresholds on the plain loss"),
    ({**PLAIN, "costs_differ": True}, "cost matrix on calibrated probabilities"),
    ({**PLAIN, "noisy": 0.1}, "Judge on cleaned labels"),
    ({**YES_NO, "noisy": 0.01}, "label_smoothing=0.1"),
    ({**PLAIN, "impossible_classes": True}, "set their logits to -inf"),
    ({**PLAIN, "layout": "sequence"}, "Shift the labels once"),
    ({**PLAIN, "layout": "pixels"}, "255 for unlabeled"),
    ({**PLAIN, "ordinal": True}, "exp(-|k - y| / tau)"),
    (SEVERAL, "Keras averages over the labels"),
]


@pytest.mark.parametrize(("answers", "text"), NOTES, ids=[note[1][:25] for note in NOTES])
def test_note_for_an_answer_is_there_with_it_and_only_then(answers, text):
    assert text in " ".join(xe.recommend(**answers).notes)
    assert text not in " ".join(xe.recommend(**PLAIN).notes)


def test_layout_moves_the_classes_to_axis_1_for_pytorch_only():
    advice = xe.recommend(**PLAIN, layout="pixels")
    assert advice.calls["PyTorch"] == "loss = F.cross_entropy(logits.movedim(-1, 1), labels)"
    assert advice.calls["Optax"] == xe.recommend(**PLAIN).calls["Optax"]


# Answers that are missing, impossible or contradict -----------------------------------------------


@pytest.mark.parametrize(
    ("answers", "lacking"),
    [
        ({}, ("exclusive", "num_classes", "labels", "unlabeled", "imbalance")),
        ({"exclusive": True}, ("num_classes", "labels", "unlabeled", "imbalance")),
        ({"exclusive": True, "num_classes": 2}, ("unlabeled", "imbalance")),
        ({"exclusive": False}, ("unlabeled", "imbalance")),
        ({"true_per_row": "any", "imbalance": 2.0}, ("unlabeled",)),
        ({"labels": "index"}, ("num_classes", "unlabeled", "imbalance")),
        ({"labels": "distribution", "num_classes": 3}, ("unlabeled",)),
        ({"labels": "binary"}, ("unlabeled", "imbalance")),
        ({"labels": "real"}, ()),
        ({"retrieval": "pairs"}, ()),
    ],
)
def test_only_answers_that_matter_are_missing(answers, lacking):
    assert missing(Answers(**answers)) == lacking
    if lacking:
        with pytest.raises(
            OptionError, match=re.escape(f"{', '.join(lacking)} must be answered; got nothing.")
        ):
            xe.recommend(**answers)


def test_missing_answers_name_the_way_out():
    with pytest.raises(OptionError, match="or the labels themselves as labels=\\."):
        xe.recommend(exclusive=True)


WRONG = [
    (
        {"labels": "index", "exclusive": False},
        'exclusive must be True for labels "index"; got False',
    ),
    (
        {"exclusive": True, "true_per_row": "any"},
        'true_per_row must agree with exclusive=True; got "any"',
    ),
    (
        {"exclusive": False, "true_per_row": "one"},
        'true_per_row must agree with exclusive=False; got "one"',
    ),
    (
        {"labels": "index", "true_per_row": "any"},
        'true_per_row must be "one" for labels "index"; got "any"',
    ),
    ({"labels": "ids"}, "labels must be one of 'index', .*; got 'ids'"),
    ({"true_per_row": "two"}, "true_per_row must be one of 'one', .*; got 'two'"),
    ({"unlabeled": "maybe"}, "unlabeled must be one of True, False, 'as_negative'; got 'maybe'"),
    ({"layout": "grid"}, "layout must be one of 'rows', .*; got 'grid'"),
    ({"retrieval": "all"}, "retrieval must be one of 'in_batch', 'pairs'; got 'all'"),
    ({"noisy": 1.0}, r"noisy must be a share of wrong labels in \[0, 1\); got 1.0"),
    ({"noisy": -0.1}, r"noisy must be a share of wrong labels in \[0, 1\); got -0.1"),
    ({"imbalance": 0.5}, "imbalance must be at least 1; got 0.5"),
    ({"num_classes": 0}, "num_classes must be at least 1; got 0"),
    (
        {"exclusive": True, "num_classes": 1},
        "num_classes must be at least 2 for exclusive classes; got 1",
    ),
    ({"labels": "binary", "num_classes": 3}, 'num_classes must be 2 for labels "binary"; got 3'),
]


@pytest.mark.parametrize(("answers", "message"), WRONG, ids=[str(case[0]) for case in WRONG])
def test_answers_that_cannot_be_are_errors(answers, message):
    with pytest.raises(OptionError, match=message) as caught:
        xe.recommend(**answers)
    assert isinstance(caught.value, (ValueError, CrossentError))
    assert "\n" not in str(caught.value)


def test_one_label_that_can_be_true_or_not_is_a_yes_or_no():
    assert xe.recommend(exclusive=False, num_classes=1, **WHOLE).loss == "sigmoid_binary"


def test_answers_imply_others():
    answers = completed(Answers(true_per_row="any"))
    assert (answers.exclusive, answers.labels) == (False, "multi_hot")
    answers = completed(Answers(exclusive=True, num_classes=2))
    assert (answers.labels, answers.true_per_row) == ("binary", "one")
    assert completed(Answers(labels="rate")).num_classes == 2
    assert completed(answers) == answers


# Answers found in labels --------------------------------------------------------------------------


def found(labels, **known):
    return read_labels(np.asarray(labels), **known)


def ids(*counts):
    """Class ids with the given number of rows for each class, mixed."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(0).permutation(labels)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)], ids=["(N,)", "(N, 1)"])
@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, np.float32])
def test_class_ids(shape, dtype):
    facts = found(ids(20, 30, 10).astype(dtype).reshape(shape))
    assert facts.answers == {
        "labels": "index",
        "num_classes": 3,
        "imbalance": 3.0,
        "unlabeled": False,
    }
    assert facts.rows == 60
    assert facts.repair is None
    assert "The largest class has 30 rows, the smallest 10." in facts.evidence


def test_number_of_classes_comes_from_the_scores_before_the_largest_id():
    advice = xe.recommend(labels=ids(5, 5, 5), logits=np.zeros((15, 7)))
    assert advice.answers["num_classes"] == 7
    assert any("never occur: 4 of 7" in warning for warning in advice.warnings)
    assert xe.recommend(labels=ids(5, 5, 5)).answers["num_classes"] == 3


@pytest.mark.parametrize("scores", ["logits", "probs", "log_probs"])
def test_scores_may_be_of_any_kind(scores):
    assert (
        xe.recommend(labels=[0, 1, 2, 0], **{scores: np.zeros((4, 5))}).answers["num_classes"] == 5
    )


@pytest.mark.parametrize(
    "labels", [[0, 1, 1, 0], [False, True, True, False], [[0.0], [1], [1], [0]]]
)
def test_yes_or_no(labels):
    facts = found(labels)
    assert facts.answers == {
        "labels": "binary",
        "num_classes": 2,
        "imbalance": 1.0,
        "unlabeled": False,
    }
    assert facts.pos_weight == 1.0


def test_zeros_and_ones_are_ids_where_the_scores_have_more_classes():
    assert found([0, 1, 1, 0], scores_shape=(4, 3)).answers["labels"] == "index"
    assert found([0, 1, 1, 0], scores_shape=(4, 2)).answers["labels"] == "binary"
    assert found([0, 1, 1, 0], scores_shape=(4, 1)).answers["labels"] == "binary"
    assert found([0, 1, 1, 0], scores_shape=(4,)).answers["labels"] == "binary"


def test_one_hot_rows():
    facts = found(np.eye(4, dtype=int)[ids(9, 3, 3, 1)])
    assert facts.answers == {
        "num_classes": 4,
        "labels": "one_hot",
        "true_per_row": "one",
        "imbalance": 9.0,
        "unlabeled": False,
    }
    advice = xe.recommend(labels=np.eye(4)[ids(9, 3, 3, 1)])
    assert advice.loss == "softmax_ids"
    assert advice.calls["crossent"].startswith("labels = np.argmax(labels, axis=-1)\n")


def test_one_hot_of_two_is_a_yes_or_no():
    advice = xe.recommend(labels=np.eye(2, dtype=int)[ids(9, 8)])
    assert advice.loss == "sigmoid_binary"
    assert advice.calls["PyTorch"].startswith("labels = labels[:, 1]\n")


def test_multi_hot_rows_as_in_the_user_story():
    rng = np.random.default_rng(0)
    labels = (rng.random((1000, 20)) < 0.08).astype(int)
    labels[labels.sum(1) > 4] = 0
    advice = xe.recommend(labels=labels, logits=rng.standard_normal((1000, 20)))
    share = np.mean(labels.sum(1) != 1)
    assert advice.loss == "sigmoid_multilabel"
    assert advice.runner_up == "softmax_ids"
    line = f"From 0 to 4 classes are true in a row. In {share:.1%} of the rows the labels do not"
    assert f"{line} sum to 1." in advice.evidence
    assert (
        advice.calls["Keras"]
        == "loss = keras.losses.BinaryCrossentropy(from_logits=True)(labels, logits)"
    )


def test_at_most_one_true_asks_whether_the_others_are_unlabeled():
    labels = np.eye(3, dtype=int)[ids(5, 5, 5)]
    labels[[2, 7]] = 0
    facts = found(labels)
    assert facts.answers["true_per_row"] == "at_most_one"
    assert any(warning.startswith("Rows without a true class: 2.") for warning in facts.warnings)
    advice = xe.recommend(labels=labels, unlabeled=True)
    assert advice.answers["labels"] == "one_hot"
    assert advice.calls["crossent"].startswith("keep = labels.sum(-1) > 0\n")


def test_soft_rows_are_distributions_and_others_rates():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(5), 30).astype(np.float32)
    assert found(shares).answers["labels"] == "distribution"
    assert xe.recommend(labels=shares).loss == "softmax_distribution"
    facts = found(rng.random((30, 5)))
    assert facts.answers["labels"] == "multi_hot"
    assert "each label is a rate of its own" in facts.evidence[0]
    shares[3] = 0
    facts = found(shares)
    assert facts.answers == {"num_classes": 5, "labels": "distribution", "unlabeled": True}


@pytest.mark.parametrize(("total", "kind"), [(1.0008, "distribution"), (1.002, "multi_hot")])
def test_sums_may_miss_1_by_rounding_only(total, kind):
    assert found([[0.5, total - 0.5], [0.25, total - 0.25]]).answers["labels"] == kind


def test_votes_need_the_number_of_classes():
    votes = np.array([[3, 1, 0], [0, 0, 2], [1, 1, 2]])
    with pytest.raises(
        OptionError, match=r"num_classes must be given for whole-number labels .*\(3, 3\)"
    ):
        xe.recommend(labels=votes)
    advice = xe.recommend(labels=votes, num_classes=3)
    assert advice.loss == "softmax_distribution"
    assert advice.calls["crossent"].startswith("labels = labels / labels.sum(-1, keepdims=True)\n")
    tokens = xe.recommend(labels=votes, num_classes=9)
    assert tokens.answers["layout"] == "sequence"
    assert tokens.loss == "softmax_ids"


def test_positions_are_told_by_the_scores():
    tokens = np.random.default_rng(0).integers(9, size=(2, 5))
    facts = found(tokens, scores_shape=(2, 5, 9))
    assert (facts.rows, facts.answers["num_classes"], facts.answers["layout"]) == (
        10,
        9,
        "sequence",
    )
    pixels = np.random.default_rng(0).integers(4, size=(2, 5, 6)).astype(np.uint8)
    pixels[0, 0] = 255
    facts = found(pixels, scores_shape=(2, 5, 6, 4))
    assert facts.answers["layout"] == "pixels"
    assert facts.ignore_index == 255
    mask = pixels == 1
    assert found(mask, scores_shape=mask.shape).answers["labels"] == "binary"


def test_rates_and_quantities():
    assert found([0.2, 0.0, 1.0, 0.7]).answers["labels"] == "rate"
    assert xe.recommend(labels=[0.2, 0.0, 1.0, 0.7]).loss == "sigmoid_binary"
    assert found([0.2, -3.0, 17.5]).answers["labels"] == "real"
    assert xe.recommend(labels=[[0.5, -2.0], [1.5, 0.1]]).loss == "mean_squared_error"


@pytest.mark.parametrize("mark", [-100, -1, 255])
def test_marks_of_missing_labels(mark):
    labels = ids(30, 20, 10)
    labels[:7] = mark
    advice = xe.recommend(labels=labels)
    assert advice.answers["unlabeled"] is True
    assert advice.answers["num_classes"] == 3
    assert f"The label is {mark} at 7 of 60 places: unlabeled." in advice.evidence
    assert advice.calls["crossent"].endswith(f"ignore_index={mark})")
    assert f"ignore_class={mark}" in advice.calls["Keras"]


def test_255_is_a_class_where_it_can_be_one():
    assert found(np.arange(256)).ignore_index is None
    assert found([0, 3, 255], num_classes=256).ignore_index is None
    assert found([0, 254, 255]).ignore_index is None
    assert found([0, 3, 253, 255]).ignore_index == 255


def test_missing_elements_of_several_labels():
    labels = (np.random.default_rng(0).random((40, 6)) < 0.3).astype(int)
    labels[4, 2] = labels[9, 1] = -1
    advice = xe.recommend(labels=labels)
    assert advice.loss == "sigmoid_multilabel"
    assert "Rows that lack some of their labels: 2." in advice.evidence
    assert advice.calls["crossent"].endswith("ignore_index=-1)")


def test_nan_marks_a_missing_label():
    labels = ids(30, 20, 10).astype(float)
    labels[:3] = np.nan
    facts = found(labels)
    assert facts.answers["unlabeled"] is True
    assert facts.ignore_index == -100
    assert facts.warnings[0].startswith("Labels that are NaN: 3.")


def test_a_mark_of_ones_own():
    labels = ids(30, 20, 10)
    labels[:3] = 99
    assert found(labels, ignore_index=99).answers["num_classes"] == 3
    assert "labels == 99" not in xe.recommend(labels=labels, ignore_index=99).calls["Optax"]
    assert "keep = labels != 99" in xe.recommend(labels=labels, ignore_index=99).calls["Optax"]


def test_two_marks_are_one_too_many():
    labels = ids(30, 20, 10)
    labels[:2], labels[2:5] = -1, -100
    assert any("both mark missing labels" in warning for warning in found(labels).warnings)


def test_ids_from_1_are_repaired_by_the_call():
    labels = ids(30, 20, 10) + 1
    advice = xe.recommend(labels=labels, logits=np.zeros((60, 3)))
    assert advice.answers["num_classes"] == 3
    assert advice.calls["crossent"] == (
        "labels = labels - 1\nloss = xe.softmax_cross_entropy(labels=labels, logits=logits)"
    )
    assert any("run from 1 to 3: subtract 1" in warning for warning in advice.warnings)
    # Without a class 1 nothing says that they start there; with four scores 1 to 3 are ids too.
    assert found(ids(30, 20, 10) + 2).repair is None
    assert xe.recommend(labels=labels, logits=np.zeros((60, 4))).warnings == (
        "Classes that never occur: 1 of 4.",
    )


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        ([-1, 1, 1, -1], "labels = (labels + 1) / 2"),
        (np.array([0, 255, 0], np.uint8), "labels = labels / 255"),
    ],
)
def test_other_ways_to_write_no_and_yes(labels, line):
    advice = xe.recommend(labels=labels)
    assert advice.loss == "sigmoid_binary"
    assert advice.calls["TensorFlow 2"].startswith(f"{line}\n")
    assert any("the loss wants 0 and 1" in warning for warning in advice.warnings)


def test_a_repaired_call_runs_on_the_labels_that_were_given():
    scope = {"np": np, "xe": xe, "labels": ids(30, 20, 10) + 1, "logits": np.zeros((60, 3))}
    exec(xe.recommend(labels=scope["labels"], logits=scope["logits"]).calls["crossent"], scope)
    assert scope["loss"] == pytest.approx(np.log(3))


def test_imbalance_and_the_weight_for_it():
    advice = xe.recommend(labels=ids(90, 10))
    assert advice.answers["imbalance"] == 9.0
    assert (advice.loss, advice.runner_up) == ("sigmoid_binary", "sigmoid_weighted")
    weighted = xe.recommend(labels=ids(90, 10), rare_missed=True)
    assert weighted.loss == "sigmoid_weighted"
    assert weighted.calls["crossent"].endswith("pos_weight=9.0)")
    capped = xe.recommend(labels=ids(990, 10), rare_missed=True)
    assert capped.calls["crossent"].endswith("pos_weight=20.0)")


def test_weight_of_each_label():
    labels = np.zeros((100, 3), dtype=int)
    labels[:50, 0] = labels[:5, 1] = labels[:1, 2] = 1
    advice = xe.recommend(labels=labels, rare_missed=True)
    assert advice.loss == "sigmoid_weighted"
    assert any(note.endswith("at most 20: 1, 19, 20.") for note in advice.notes)
    # One weight per label stays a name: the numbers are in the note.
    assert advice.calls["crossent"].endswith("pos_weight=pos_weight)")


def test_imbalance_starts_at_four_to_one():
    assert xe.recommend(labels=ids(80, 20)).runner_up == "sigmoid_weighted"
    assert xe.recommend(labels=ids(79, 20)).runner_up == "softmax_ids"


def test_names_of_classes():
    facts = found(["dog", "cat", "bird", "dog"])
    assert facts.answers["labels"] == "index"
    assert facts.answers["num_classes"] == 3
    assert facts.warnings[0].startswith("The labels are names (bird, cat, dog).")
    facts = found(["dog", "", "bird", "cat"])
    assert facts.answers == {
        "labels": "index",
        "num_classes": 3,
        "imbalance": 1.0,
        "unlabeled": True,
    }
    assert found(np.array(["no", "yes", "no"], dtype=object)).answers["labels"] == "binary"


def test_labels_that_are_all_different_may_be_quantities():
    assert any("quantities or keys" in warning for warning in found(np.arange(100)).warnings)


def test_one_sided_yes_no():
    assert found([0, 0, 0]).warnings == [
        "Only one of the two answers occurs: nothing can be learned."
    ]
    assert found([1, 1]).answers["labels"] == "binary"


BAD_LABELS = [
    ([], ShapeError, "labels must have at least one row"),
    (3, ShapeError, "labels must have at least one row"),
    ([[1, 0], [1]], ShapeError, "labels must have rows of the same length"),
    ([1j, 2j], DTypeError, "labels must be numbers or class names; got dtype complex128"),
    ([0, 1, -7], LabelError, "labels must be ids from 0 on; got -7 in 1 row."),
    ([-1, -1], LabelError, "labels must hold at least one label; got 2 missing ones"),
    ([0.0, np.inf], LabelError, "labels must be finite; got 1 infinite ones"),
]


@pytest.mark.parametrize(
    ("labels", "error", "message"), BAD_LABELS, ids=[str(case[2])[:45] for case in BAD_LABELS]
)
def test_labels_that_fit_no_loss(labels, error, message):
    with pytest.raises(error, match=re.escape(message)):
        xe.recommend(labels=labels)


def test_labels_outside_the_classes():
    with pytest.raises(
        LabelError, match=r"labels must lie in \[0, 3\); got 5 in 1 row. Is num_classes 6"
    ):
        xe.recommend(labels=[0, 5, 1], num_classes=3)


def test_scores_that_do_not_belong_to_the_labels():
    with pytest.raises(
        ShapeError,
        match=r"labels must have shape \(4,\) or \(4, 3\) to match the scores; got \(5,\)",
    ):
        xe.recommend(labels=[0, 1, 2, 0, 1], logits=np.zeros((4, 3)))
    with pytest.raises(ArgumentError, match="scores must be of one kind; got logits and probs"):
        xe.recommend(labels=[0, 1], logits=np.zeros((2, 3)), probs=np.zeros((2, 3)))


def test_an_answer_wins_over_the_labels_and_the_conflict_is_said():
    labels = ids(50, 50, 50)
    advice = xe.recommend(labels=labels, imbalance=30.0)
    assert advice.runner_up == "softmax_weighted"
    assert advice.warnings == ("imbalance is 30.0 as answered, though the labels say 1.0.",)
    one_hot = np.eye(3, dtype=int)[labels]
    assert xe.recommend(labels=one_hot).loss == "softmax_ids"
    assert xe.recommend(labels=one_hot, exclusive=False).loss == "sigmoid_multilabel"


def test_a_ratio_that_was_rounded_is_no_conflict():
    assert xe.recommend(labels=ids(95, 10), imbalance=9.0).warnings == ()
    assert xe.recommend(labels=ids(95, 10), imbalance=True).warnings == ()


# The recommendation -------------------------------------------------------------------------------


@pytest.mark.parametrize("answers", [leaf[1] for leaf in LEAVES], ids=[leaf[0] for leaf in LEAVES])
def test_json_round_trip(answers):
    advice = xe.recommend(**answers)
    content = advice.to_dict()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["loss"] == advice.loss
    assert content["calls"] == dict(advice.calls)
    is_sigmoid = advice.loss.startswith("sigmoid") or advice.loss == "ordinal"
    measured = catalogue.pos_weight_rows() if is_sigmoid or "binary" in advice.loss else None
    assert content.get("pos_weight_measured") == measured


def test_numbers_from_numpy_become_json_too():
    labels = np.eye(3, dtype=np.int8)[ids(9, 3, 1)]
    json.dumps(xe.recommend(labels=labels, rare_missed=np.bool_(True)).to_dict())
    json.dumps(xe.recommend(labels=np.float32([[0, 1, 1], [1, 0, 0]])).to_dict())


@pytest.mark.parametrize("answers", [PLAIN, {**YES_NO, "imbalance": 9.0}, SEVERAL])
def test_text_has_everything_in_short_lines(answers):
    advice = xe.recommend(**answers)
    text = str(advice)
    joined = " ".join(text.split())
    for part in (
        advice.why,
        advice.why_not,
        catalogue.LOSSES[advice.runner_up].title,
        *advice.notes,
    ):
        assert part in joined
    for library, call in advice.calls.items():
        assert f"{library}: {catalogue.IMPORTS[library]}" in text
        assert call in text.replace("\n    ", "\n")
    assert catalogue.SQUARED_ERROR in joined
    calls = {line.strip() for call in advice.calls.values() for line in call.splitlines()}
    assert max(len(line) for line in text.splitlines() if line.strip() not in calls) <= 96


def test_text_tells_what_pos_weight_does():
    weighted = str(xe.recommend(**YES_NO))
    assert all(f"{row['precision']:.3f}" in weighted for row in catalogue.pos_weight_rows())
    assert "pos_weight" not in str(xe.recommend(**PLAIN))


def test_text_tells_what_labels_and_logits_weigh():
    advice = xe.recommend(**{**PLAIN, "num_classes": 50_000})
    assert catalogue.memory_note(50_000) in advice.notes
    assert "per 1,000 rows x 50,000 classes" in catalogue.memory_note(50_000)
    assert any("for training only" in note for note in advice.notes)
    advice = xe.recommend(labels=ids(20, 20, 20))
    assert catalogue.memory_note(3, 60) in advice.notes


def test_recommendation_is_frozen():
    with pytest.raises(AttributeError):
        xe.recommend(**PLAIN).loss = "focal"


@pytest.mark.parametrize("answers", [{"labels": "real"}, {"retrieval": True}])
def test_what_only_classes_have_is_not_told_of_quantities_and_rankings(answers):
    text = " ".join(xe.recommend(**answers).notes)
    for word in ("pos_weight", "Squared error", "Sampled", "memory"):
        assert word not in text


def test_text_fits_a_narrow_terminal():
    for answers in (PLAIN, SEVERAL):
        advice = xe.recommend(**answers)
        code = {line.strip() for call in advice.calls.values() for line in call.splitlines()}
        code |= {f"{library}: {line}" for library, line in advice.imports.items()}
        lines = [line for line in advice.text(60).splitlines() if line.strip() not in code]
        assert max(map(len, lines)) <= 60


# The kind of scores -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["probs", "log_probs"])
def test_call_takes_the_scores_that_were_given(kind):
    scores = np.full((4, 3), 1 / 3)
    advice = xe.recommend(labels=[0, 1, 2, 0], **{kind: scores})
    assert advice.scores == kind
    assert advice.calls["crossent"].endswith(f"(labels=labels, {kind}={kind})")
    assert advice.calls["PyTorch"] == "loss = F.cross_entropy(logits, labels)"
    assert any(f"Only crossent's call takes {kind}" in note for note in advice.notes)
    named = xe.recommend(**PLAIN, scores=kind)
    assert named.calls["crossent"] == advice.calls["crossent"]
    assert not any("Only crossent" in note for note in xe.recommend(**PLAIN).notes)


def test_kind_of_scores_that_cannot_be():
    with pytest.raises(OptionError, match=r"scores must be one of .*; got 'odds'"):
        xe.recommend(**PLAIN, scores="odds")
    with pytest.raises(OptionError, match="scores must be \"logits\"; got 'probs'"):
        xe.recommend(labels=[0, 1, 2], logits=np.zeros((3, 3)), scores="probs")


# Names, marks and answers that lose ---------------------------------------------------------------


def test_a_call_on_names_runs():
    labels = np.array(["dog", "", "bird", "cat", "dog"])
    logits = np.random.default_rng(0).standard_normal((5, 3))
    advice = xe.recommend(labels=labels)
    assert "3 different ones; 3 classes, one for each name." in " ".join(advice.evidence)
    assert "sorted order" in advice.warnings[0]
    scope = {"np": np, "xe": xe, "labels": labels, "logits": logits}
    exec(advice.calls["crossent"], scope)
    ids = np.array([2, -1, 0, 1, 2])
    expected = xe.softmax_cross_entropy(labels=ids, logits=logits, ignore_index=-1)
    assert scope["loss"] == expected
    assert '"yes" is the yes' in found(["no", "yes", "no"]).warnings[0]


def test_a_mark_that_nobody_gave_is_said():
    gaps = {**PLAIN, "unlabeled": True}
    assert any("taken to be -100" in note for note in xe.recommend(**gaps).notes)
    for answers in ({**gaps, "ignore_index": -1}, {**gaps, "labels": "one_hot"}, PLAIN):
        assert not any("taken to be" in note for note in xe.recommend(**answers).notes)


def test_answers_that_lost_are_said():
    lost = xe.recommend(**{**PLAIN, "imbalance": 9.0}, noisy=0.3, rare_missed=True, ordinal=True)
    assert lost.loss == "generalized_cross_entropy"
    assert any("leaves aside: ordinal=True, rare_missed=True." in note for note in lost.notes)
    for heard in ({"ordinal": True}, {"noisy": 0.3}, {"noisy": 0.01}):
        notes = xe.recommend(**PLAIN, **heard).notes
        assert not any("leaves aside" in note for note in notes)
    assert not any("aside" in note for note in xe.recommend(**YES_NO, noisy=0.01).notes)


def test_one_row_is_not_one_rows():
    text = " ".join(found([0, 1, 2]).evidence)
    assert "The largest class has 1 row, the smallest 1." in text


@pytest.mark.parametrize("code", [lambda y: y, lambda y: 2 * y - 1, lambda y: 255 * y])
@pytest.mark.parametrize("scores", ["logits", "probs", "log_probs"])
def test_noisy_yes_no_labels_get_two_outputs(code, scores):
    y, logits = np.array([0, 1] * 30), np.linspace(-2, 2, 60)
    given = {
        "logits": logits,
        "probs": xe.sigmoid(logits),
        "log_probs": xe.log_sigmoid(logits),
    }
    found = xe.recommend(labels=code(y), noisy=0.3, **{scores: given[scores]})
    names = {"np": np, "xe": xe, "labels": code(y), scores: given[scores]}
    exec(found.calls["crossent"], names)
    p = xe.sigmoid(np.where(y == 1, logits, -logits))
    assert names["loss"] == pytest.approx(np.mean((1 - p**0.7) / 0.7), rel=1e-12)


def test_rare_positives_are_weighed_also_where_a_row_has_at_most_one():
    found = xe.recommend(
        labels="multi_hot",
        exclusive=True,
        true_per_row="at_most_one",
        num_classes=5,
        unlabeled=False,
        imbalance=10,
        rare_missed=True,
    )
    assert found.loss == "sigmoid_weighted"


@pytest.mark.parametrize("scores", ["logits", "probs", "log_probs"])
@pytest.mark.parametrize("more", [{}, {"noisy": 0.3}, {"imbalance": 30.0, "rare_missed": True}])
@pytest.mark.parametrize("code", [lambda y: y, lambda y: 2 * y - 1, lambda y: np.eye(2)[y]])
def test_yes_no_labels_beside_two_columns_get_a_call_that_runs(code, more, scores):
    y, logits = np.array([0, 1] * 30), np.random.default_rng(0).normal(size=(60, 2))
    given = {"logits": logits, "probs": xe.softmax(logits), "log_probs": xe.log_softmax(logits)}
    found = xe.recommend(labels=code(y), unlabeled=False, **more, **{scores: given[scores]})
    names = {"np": np, "xe": xe, "labels": code(y), scores: given[scores]}
    exec(found.calls["crossent"], names)
    if not more:
        plain = xe.softmax_cross_entropy(labels=y, logits=logits)
        assert names["loss"] == pytest.approx(plain, rel=1e-12)
    assert np.isfinite(names["loss"])
