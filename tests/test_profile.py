"""A profile depends on its rows alone: not on batches, workers or order, and stays small."""

import pickle
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from broken_data import BROKEN
from calibrated_data import ONE, TEN, Arguments, calibrated, put
from hypothesis import given, settings
from hypothesis import strategies as st
from sound_data import SOUND

import crossent as xe
from crossent.profile import KINDS, Profile
from crossent.profile.tallies import Hits, IdSample, RowSample, ValueCounts
from crossent.rules import findings

OPTIONS = ("loss", "num_classes", "ignore_index", "history")


EXAMPLES: dict[str, Arguments] = {name: case[1] for name, case in (BROKEN | SOUND).items()}
# Rows that do not pair cannot be cut, and batches have their classes last.
UNCUT = {name for name, case in BROKEN.items() if case[0] == "E A5"}
UNCUT |= {"no rows", "the classes in axis 1"}
CUTTABLE = {name: EXAMPLES[name] for name in EXAMPLES if name not in UNCUT}


def profile_of(arguments: Arguments, rows: slice | None = None) -> Profile:
    """The profile of some of the rows, numbered as in the whole."""
    kind = next(kind for kind in KINDS if kind in arguments)
    profile = Profile(kind, **{key: arguments[key] for key in OPTIONS if key in arguments})
    update(profile, arguments, rows or slice(0, None))
    return profile


def update(profile: Profile, arguments: Arguments, rows: slice) -> None:
    profile.update(
        labels=cut(arguments["labels"], rows),
        scores=cut(arguments[profile.kind], rows),
        sample_weight=cut(arguments.get("sample_weight"), rows),
        ids=cut(arguments.get("ids"), rows),
        first_row=rows.start,
    )


def cut(values: Any, rows: slice) -> Any:
    if values is None:
        return None
    if isinstance(values, dict):
        return {key: cut(value, rows) for key, value in values.items()}
    return np.asarray(values)[rows]


def told(profile: Profile) -> list[dict[str, Any]]:
    return [finding.to_dict() for finding in findings(profile)]


@pytest.mark.parametrize("count", [3, 40])
@pytest.mark.parametrize("name", CUTTABLE)
def test_batches_tell_what_one_shot_tells(name: str, count: int) -> None:
    arguments = CUTTABLE[name]
    rows = len(arguments["labels"])
    whole = profile_of(arguments)
    size = -(-rows // count)
    parts = [slice(start, min(start + size, rows)) for start in range(0, rows, size)]
    streamed = profile_of(arguments, parts[0])
    for part in parts[1:]:
        update(streamed, arguments, part)
    workers = [profile_of(arguments, part) for part in reversed(parts)]
    merged = reduce(Profile.merge, workers)
    assert told(streamed) == told(whole)
    assert told(merged) == told(whole)
    assert told(whole) == [finding.to_dict() for finding in xe.review(**arguments)]


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(sorted(CUTTABLE)),
    cuts=st.lists(st.integers(0, 400), max_size=4),
    order=st.randoms(use_true_random=False),
)
def test_merging_is_associative_and_commutes(name: str, cuts: list[int], order: Any) -> None:
    arguments = CUTTABLE[name]
    rows = len(arguments["labels"])
    edges = [0, *sorted(min(at, rows) for at in cuts), rows]
    parts = [profile_of(arguments, slice(low, high)) for low, high in pairwise(edges) if high > low]
    while len(parts) > 1:
        mine = parts.pop(order.randrange(len(parts)))
        mine.merge(parts.pop(order.randrange(len(parts))))
        parts.append(mine)
    assert told(parts[0]) == told(profile_of(arguments))


def test_merging_leaves_the_other_profile_as_it_is() -> None:
    arguments = BROKEN["NaN"][1]
    first, second = profile_of(arguments, slice(0, 9)), profile_of(arguments, slice(9, 400))
    before = told(second)
    empty = Profile("logits").merge(second)
    empty.merge(first)
    first.merge(second)
    assert told(second) == before
    assert told(first) == told(empty) == told(profile_of(arguments))


def test_a_profile_travels_between_processes() -> None:
    profile = profile_of(BROKEN["unknown tags"][1])
    assert told(pickle.loads(pickle.dumps(profile))) == told(profile)


def test_rows_are_numbered_on() -> None:
    profile = Profile("logits")
    for start in (0, 200):
        rows = slice(start, start + 200)
        profile.update(labels=put(TEN.labels[rows], 5, 99), scores=TEN.logits[rows])
    (finding,) = findings(profile)
    assert finding.evidence["first_rows"] == [5, 205]


def test_only_profiles_alike_merge() -> None:
    with pytest.raises(xe.OptionError, match="other must have kind, loss, num_classes and ignore_"):
        Profile("logits").merge(Profile("probs"))
    ids, column = profile_of(EXAMPLES["ids"]), Profile("logits")
    column.update(labels=ONE.labels, scores=ONE.logits)
    with pytest.raises(xe.ShapeError, match="other must hold ids with 10 columns; got column with"):
        ids.merge(column)


def test_kind_must_be_known() -> None:
    with pytest.raises(xe.OptionError, match='kind must be "logits", "probs" or "log_probs"; got'):
        Profile("scores")  # type: ignore[arg-type]


def test_a_batch_unlike_the_first_is_reported() -> None:
    profile = profile_of(EXAMPLES["ids"])
    profile.update(labels=[0, 1], scores=[[0.1, 0.2], [0.3, 0.1]])
    (finding,) = findings(profile)
    assert finding.code == "A5"
    assert finding.what == "a batch of ids with 2 columns follows ids with 10"
    assert finding.evidence == {"first_row": 400}


def test_the_sample_of_rows_is_bounded_and_fair() -> None:
    whole, parts, stream = RowSample(), RowSample(), RowSample()
    rows = np.arange(30_000)
    whole.add(rows, rows.astype(float)[:, None])
    for part in np.array_split(rows, 31):
        stream.add(part, part.astype(float)[:, None])
    for part in np.array_split(rows[::-1], 17):
        other = RowSample()
        other.add(part, part.astype(float)[:, None])
        parts.merge(other)
    (sampled,) = whole.rows()
    np.testing.assert_array_equal(sampled, parts.rows()[0])
    np.testing.assert_array_equal(sampled, stream.rows()[0])
    assert len(sampled) == RowSample.MAX_ROWS == len(np.unique(sampled))
    # The mean of 10,000 of 30,000 rows has a standard error of 71; 5 of them.
    assert abs(sampled.mean() - 14_999.5) < 355


def test_the_sample_of_rows_is_bounded_in_numbers() -> None:
    sample = RowSample()
    for start in range(0, 300, 50):
        sample.add(np.arange(start, start + 50), np.zeros(50), np.zeros((50, 100_000), np.float32))
    ids, scores = sample.rows()
    assert scores.shape == (19, 100_000)
    assert ids.shape == (19,)


def test_a_profile_stays_small() -> None:
    """Twenty times the rows, the same size: below the bound of the sample, above that of rows."""

    def size(batches: int) -> int:
        profile = Profile("logits")
        data = calibrated(4000, 20)
        for batch in range(batches):
            ids = np.arange(4000) % 1000
            profile.update(
                labels=put(data.labels, [1, 2], -7),
                scores=data.logits,
                ids=ids,
                sample_weight=np.ones(4000),
                first_row=4000 * batch,
            )
            profile.sample.rows(), profile.score_ids.table()
        return len(pickle.dumps(profile))

    assert size(60) < 1.01 * size(3)


def test_ids_beyond_the_bound_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IdSample, "CAPACITY", 500)
    numbers = np.arange(6000)
    ids = np.array([f"id{i % 3000}" for i in numbers])
    whole, parts, last = IdSample(), IdSample(), IdSample()
    whole.add(ids, numbers)
    for part in np.array_split(numbers[::-1], 11):
        other = IdSample()
        other.add(ids[part], part)
        parts.merge(other)
    last.add(ids[3000:], numbers[3000:])
    for mine, theirs in zip(whole.table(), parts.table(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    again, surplus, pairs = whole.duplicated()
    assert (again, surplus, whole.complete, whole.total) == (500, 500, False, 6000)
    assert all(second - first == 3000 for first, second in pairs)
    assert last.missing_from(whole) == (0, [])
    other = IdSample()
    other.add(np.array(["new"]), np.array([9]))
    # Whether a new id would be known depends on its hash alone: it is missing or not looked at.
    assert other.missing_from(whole)[0] in (0, 1)


def test_an_id_is_the_same_in_any_batch() -> None:
    """Padding, dtype and text of an id do not matter."""
    sample = IdSample()
    sample.add(np.array(["7", "a-very-long-id"]), np.array([0, 1]))
    sample.add(np.array([7]), np.array([2]))
    sample.add(np.array(["a-very-long-id", None], dtype=object), np.array([3, 4]))
    assert sample.duplicated() == (2, 2, [(0, 2), (1, 3)])


def test_first_hits_are_the_first_whatever_the_order() -> None:
    hits, later = Hits(), Hits()
    later.add(np.ones(8, bool), np.arange(8.0), np.arange(100, 108))
    hits.merge(later)
    hits.add(np.array([[True, True], [False, True]]), np.eye(2), np.array([3, 7]))
    assert (hits.count, hits.rows) == (11, 10)
    assert hits.first_rows == [3, 7, 100, 101, 102]
    assert hits.first_values == [1.0, 1.0, 0.0, 1.0, 2.0]


def test_value_counts_are_exact_for_the_smallest_values() -> None:
    values = np.random.default_rng(0).integers(-500, 500, 20_000)
    whole, parts = ValueCounts(), ValueCounts()
    whole.add(values)
    for part in np.array_split(values, 13):
        parts.add(part)
    assert whole.counts == parts.counts
    assert not whole.complete
    assert not parts.complete
    assert whole.counts == {float(v): int((values == v).sum()) for v in range(-500, -436)}
