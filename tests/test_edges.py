"""Single points that no regime of the other tests hits, each the place of a fault in mutants.py."""

import numpy as np
import pytest
import torch
from exact_arithmetic import mp
from ulp import assert_ulp

import crossent as xe
from crossent import _torch_formula
from crossent._row_stats import RowOptions


@pytest.mark.parametrize("skip", [{"ignore_index": -1}, {"sample_weight": [1.0, 0.0, 1.0]}])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_skipped_row_of_nan_beside_kept_rows_has_gradient_0(skip, smoothing):
    logits = np.array([[1.0, 2.0], [np.nan, np.inf], [0.5, 0.0]])
    labels = [0, -1 if "ignore_index" in skip else 1, 1]
    value, gradient = xe.numpy.value_and_grad(
        xe.softmax_cross_entropy,
        labels=labels,
        logits=logits,
        label_smoothing=smoothing,
        **skip,
    )
    kept = [0, 2]
    want = xe.numpy.value_and_grad(
        xe.softmax_cross_entropy, labels=[0, 1], logits=logits[kept], label_smoothing=smoothing
    )
    assert value == want[0]
    assert gradient[1].tolist() == [0.0, 0.0]
    assert np.array_equal(gradient[kept], want[1])


def test_a_normalizer_gets_no_gradient():
    # d(sum / n) / dn would be -sum / n^2; see the note on `normalizer` in losses.py.
    value, gradient = xe.numpy.value_and_grad(
        xe.softmax_cross_entropy,
        wrt="normalizer",
        labels=[0],
        logits=np.zeros((1, 2)),
        reduction="sum",
        normalizer=np.array(2.0),
    )
    assert value > 0
    assert gradient == 0


def test_the_logit_of_a_probability_next_to_one_half():
    # Not closer: there both logarithms are rounded alike and the errors cancel.
    p = 0.5 + np.array([3.8e-5, -1.3e-4, 1e-3, -0.01])
    exact = np.array([mp.log(mp.mpf(float(v))) - mp.log(1 - mp.mpf(float(v))) for v in p])
    assert_ulp(xe.logit(p), exact, np.float64, 4)


def test_a_confidence_on_the_edge_belongs_to_the_upper_bin():
    # In one bin 0.5, right, and 0.75, wrong, make up for each other but for 1/4.
    scores = xe.audit(labels=[0, 1], probs=[[0.5, 0.5], [0.75, 0.25]], bins=2).scores
    assert scores.calibration_error == 0.125


def test_the_worst_percent_of_150_rows_are_two():
    p = np.array([0.01, 0.1, *[0.9] * 148])
    scores = xe.audit(labels=np.zeros(150, int), probs=np.stack([p, 1 - p], axis=1)).scores
    want = -np.log(p[:2]).sum() / -np.log(p).sum()
    assert scores.worst_percent_share == pytest.approx(want, rel=1e-12)


def test_a_confident_row_keeps_the_digits_of_its_gradient_where_the_formula_is_differentiated():
    # By x - peak, differentiated as 1 - 1 at the peak, the label's entry would be 0 below 1e-16.
    logits = torch.tensor([[40.0, 0.0, -1.0]], requires_grad=True)
    xp = _torch_formula.namespace(logits)
    xp.row_statistics(logits, torch.tensor([0]), None, RowOptions()).nll.sum().backward()
    others = [mp.exp(-40) / (1 + mp.exp(-40)), mp.exp(-41) / (1 + mp.exp(-41))]
    assert_ulp(logits.grad.numpy()[0], np.array([-sum(others), *others]), np.float32, 1)
