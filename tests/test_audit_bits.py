"""The scores of an audit are the same to the last bit however the rows are cut and merged."""

import itertools
import math
import tracemalloc
from collections import defaultdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prediction_files import random_problem

import crossent as xe
from crossent.auditing.columns import batches, select
from crossent.auditing.exact import ExactSums
from crossent.auditing.scoring import Scorer
from crossent.auditing.tables import ArrayTable
from crossent.auditing.tally import Tally, TallySettings

finite_floats = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.tuples(st.integers(-3, 3), finite_floats), max_size=60), st.randoms())
def test_exact_sums_are_exact_and_merge(pairs, random):
    expected = defaultdict(Fraction)
    parts = [ExactSums() for _ in range(3)]
    for key, value in pairs:
        expected[key] += Fraction(value)
        random.choice(parts).add(key, np.array([value]))
    random.shuffle(parts)
    total = ExactSums()
    for part in parts:
        total.merge(part)
    whole = ExactSums()
    if pairs:
        whole.add([key for key, _ in pairs], np.array([value for _, value in pairs]))
    for key, value in expected.items():
        assert total.finite(key) == whole.finite(key) == value
    assert total.finite() == sum(expected.values())


def test_exact_sums_keep_infinities_apart():
    sums = ExactSums()
    sums.add([0, 0, 1], np.array([1.0, np.inf, np.inf]))
    assert sums.mean(Fraction(2), 0) == math.inf
    sums.add(1, np.array([-np.inf]))
    assert math.isnan(sums.mean(Fraction(2), 1))
    assert sums.mean(Fraction(0), 0) is None
    huge = ExactSums()
    huge.add(0, np.array([1.7e308, 1.7e308]))
    assert huge.mean(Fraction(1)) == math.inf
    assert huge.mean(Fraction(2)) == 1.7e308


def ugly_problem(seed):
    """Ids, scores and weights with everything in them that an audit must cope with."""
    rng = np.random.default_rng(seed)
    rows, classes = 97, 4
    logits = rng.normal(scale=5, size=(rows, classes)).astype(np.float32)
    logits[rng.random(rows) < 0.05, 0] = -np.inf
    logits[3, 1], logits[5] = np.nan, -np.inf
    labels = rng.integers(0, classes, rows)
    labels[[7, 11]], labels[13] = -100, 9
    weights = rng.choice([0.0, 0.1, 1.0, 2.5], rows)
    weights[17] = -1
    return {"labels": labels, "scores": logits, "weights": weights}


def tally_of(arrays, start, stop, family, kind, first_row=0):
    table = ArrayTable({name: array[start:stop] for name, array in arrays.items()})
    weights = "weights" if "weights" in arrays else None
    selection = select(table, scores={kind: "scores"}, labels="labels", weights=weights)
    classes = arrays["scores"].shape[1] if arrays["scores"].ndim == 2 else 1
    tally = Tally(TallySettings(family, classes))
    ignored = None if arrays["labels"].ndim == 2 and family == "softmax" else -100
    for batch in batches(table, selection, 1000):
        batch = batch._replace(first_row=batch.first_row + start)
        tally.update(Scorer(family, kind, ignored).score(batch))
    return tally


def everything(tally):
    return tally.scores(), tally.unscorable, tally.first_unscorable


@pytest.mark.parametrize("family", ["softmax", "soft labels", "sigmoid", "binary"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 5), cuts=st.sets(st.integers(1, 96), max_size=8), random=st.randoms())
def test_scores_are_the_same_for_any_split_and_merge_order(family, seed, cuts, random):
    arrays = ugly_problem(seed)
    if family == "soft labels":
        rng = np.random.default_rng(seed)
        arrays["labels"] = rng.dirichlet(np.ones(4), 97)
        arrays["labels"][5, 0] += 1
    elif family == "sigmoid":
        arrays["labels"] = np.random.default_rng(seed).integers(0, 2, (97, 4))
    elif family == "binary":
        arrays["labels"], arrays["scores"] = arrays["labels"] % 2, arrays["scores"][:, 0]
    loss = "sigmoid" if family in ("sigmoid", "binary") else "softmax"
    whole = tally_of(arrays, 0, 97, loss, "logits")
    assert whole.scores().unscorable > 0
    edges = [0, *sorted(cuts), 97]
    parts = [tally_of(arrays, a, b, loss, "logits") for a, b in itertools.pairwise(edges)]
    random.shuffle(parts)
    merged = parts[0]
    for part in parts[1:]:
        merged.merge(part)
    assert everything(merged) == everything(whole)


@pytest.mark.parametrize("batch_rows", [1, 2, 7, 64, 397, 10_000])
@pytest.mark.parametrize("classes", [2, 3, 9, 17, 130])
def test_batch_size_changes_no_bit(batch_rows, classes):
    labels, logits, probs = random_problem(rows=397, classes=classes, seed=classes)
    for first_id, kind, scores in (
        (0, "logits", logits),
        (0, "probs", probs),
        (0, "logits", logits.astype(np.float32)),
        (1, "logits", probs),  # two mistakes: what is found is the same too
    ):
        whole = xe.audit(labels=labels + first_id, **{kind: scores})
        cut = xe.audit(labels=labels + first_id, batch_rows=batch_rows, **{kind: scores})
        assert cut.to_dict() == whole.to_dict()
        assert cut.is_suspicious == (first_id == 1)


def test_tallies_of_different_settings_do_not_merge():
    one, other = Tally(TallySettings("softmax", 3)), Tally(TallySettings("softmax", 4))
    with pytest.raises(xe.ArgumentError, match="tallies must have the same settings"):
        one.merge(other)


def test_memory_layout_changes_no_bit():
    labels, logits, probs = random_problem(classes=130, seed=10)
    for kind, rowwise in (("logits", logits), ("probs", probs)):
        expected = xe.audit(labels=labels, **{kind: rowwise}).scores
        for array in (np.asfortranarray(rowwise), np.repeat(rowwise, 2, axis=1)[:, ::2]):
            assert xe.audit(labels=labels, **{kind: array}).scores == expected


def test_memory_does_not_grow_with_the_rows():
    labels, logits, _ = random_problem(rows=80_000, classes=3, seed=11)
    peaks = []
    for rows in (40_000, 80_000):
        tracemalloc.start()
        xe.audit(labels=labels[:rows], logits=logits[:rows], batch_rows=1000)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The sample of rows for the findings is full by then; one float64 per row would be 320 kB more.
    assert peaks[1] - peaks[0] < 100_000
