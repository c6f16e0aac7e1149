"""Labels and scores whose values are wrong are refused, and sound ones at the edge are not."""

import numpy as np
import pytest

import crossent as xe

LOGITS = np.zeros((3, 4))


@pytest.mark.parametrize("bad", [-1, -4, -100, 4, 255])
def test_a_class_id_out_of_range_does_not_wrap(bad):
    with pytest.raises(xe.LabelError, match=rf"labels must lie in \[0, 4\); got {bad} at row 1\."):
        xe.softmax_cross_entropy(labels=[3, bad, 0], logits=LOGITS)


def test_only_the_named_value_is_ignored():
    xe.softmax_cross_entropy(labels=[3, -1, 0], logits=LOGITS, ignore_index=-1)
    with pytest.raises(xe.LabelError, match="got -1 at row 1"):
        xe.softmax_cross_entropy(labels=[3, -1, 0], logits=LOGITS, ignore_index=-100)


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "sigmoid_cross_entropy"])
@pytest.mark.parametrize("bad", [-0.01, 1.01])
def test_probabilities_lie_between_0_and_1(name, bad):
    probs = np.array([[bad, 0.5]])
    with pytest.raises(xe.ScoreError, match=r"probs must lie in \[0, 1\]; got"):
        getattr(xe, name)(labels=np.array([[0.0, 1.0]]), probs=probs)


def test_a_sum_may_be_as_far_from_1_as_rounding_takes_it():
    # 2^-23 (4 + 2 sqrt(4)) for four classes, also of float64, which is mostly widened float32.
    tolerance = 2.0**-23 * 8
    probs = np.array([[0.5, 0.25, 0.125, 0.125]])
    first = np.eye(4)[:1]
    xe.softmax_cross_entropy(labels=[0], probs=probs + 0.9 * tolerance * first)
    for sign in (1, -1):
        off = probs + sign * 1.1 * tolerance * first
        with pytest.raises(xe.ScoreError, match="probs must sum to 1"):
            xe.softmax_cross_entropy(labels=[0], probs=off)
        with pytest.raises(xe.LabelError, match="labels must sum to 1"):
            xe.softmax_cross_entropy(labels=off, logits=np.zeros((1, 4)))


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_weights_of_classes_and_positives_are_finite_and_not_negative(bad):
    with pytest.raises(xe.OptionError, match="class_weight must be finite and >= 0"):
        xe.softmax_cross_entropy(labels=[0, 1, 2], logits=LOGITS, class_weight=[1, bad, 1, 1])
    with pytest.raises(xe.OptionError, match="pos_weight must be finite and >= 0"):
        xe.sigmoid_cross_entropy(labels=np.zeros((3, 4)), logits=LOGITS, pos_weight=bad)
