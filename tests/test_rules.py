"""Rules fire on broken data, with the numbers they rest on, and on no sound data."""

import json
import re
from collections.abc import Iterator

import numpy as np
import pytest
from broken_data import BROKEN
from calibrated_data import FLOOR, TEN, calibrated, put
from sound_data import SOUND

import crossent as xe
from crossent.rules import RULES


@pytest.mark.parametrize("name", BROKEN)
def test_broken_data_are_named(name: str) -> None:
    graded, arguments, evidence = BROKEN[name]
    found = xe.review(**arguments)
    assert [f"{f.severity} {f.code}" for f in found] == [graded], [str(f) for f in found]
    shown = found[0].to_dict()["evidence"]
    for key, value in evidence.items():
        expected = shown[key] | value if isinstance(value, dict) and key != "values" else value
        assert shown[key] == expected, shown


@pytest.mark.parametrize("name", SOUND)
def test_sound_data_pass(name: str) -> None:
    _, arguments = SOUND[name]
    assert [str(finding) for finding in xe.review(**arguments)] == []


def test_every_rule_has_a_broken_and_a_sound_fixture() -> None:
    assert {graded.split()[1] for graded, _, _ in BROKEN.values()} == RULES.keys()
    assert {code for code, _ in SOUND.values()} == RULES.keys()


def test_every_rule_is_described_under_its_code() -> None:
    for code, rule in RULES.items():
        assert (rule.__doc__ or "").startswith(f"{code}: ")


@pytest.mark.parametrize("name", BROKEN)
def test_findings_are_complete_plain_data(name: str) -> None:
    (finding,) = xe.review(**BROKEN[name][1])
    data = finding.to_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert list(data) == ["code", "severity", "argument", "what", "evidence", "why", "fix"]
    assert data["what"]
    assert data["evidence"]
    assert data["why"].endswith(".")
    # A call, or a sentence.
    assert re.search(r"[.)\]1]$", data["fix"])
    assert all(text in str(finding) for text in (data["what"], data["why"], data["fix"]))


@pytest.mark.parametrize("name", BROKEN)
def test_evidence_is_one_line_of_words(name: str) -> None:
    (finding,) = xe.review(**BROKEN[name][1])
    head, why, fix = str(finding).splitlines()
    shown = head.removeprefix(f"{finding.severity} {finding.code} {finding.what}")
    assert shown.startswith(" (")
    assert shown.endswith(")")
    assert not set(shown) & set("{}[]")
    assert not re.search(r"[a-z]_[a-z]", shown), shown
    assert (why.split(":")[0].strip(), fix.split(":")[0].strip()) == ("why", "fix")


def test_places_are_shown_as_counts_rows_and_values() -> None:
    (finding,) = xe.review(labels=[0, 1, 1], logits=np.eye(3, 2), sample_weight=[1.0, -0.5, -2.0])
    assert "negative 2, in 2 rows, the first 1, 2 with -0.5, -2" in str(finding)


def arrays_of(arguments: object) -> Iterator[np.ndarray]:
    if isinstance(arguments, np.ndarray):
        yield arguments
    elif isinstance(arguments, dict):
        for value in arguments.values():
            yield from arrays_of(value)


@pytest.mark.parametrize("name", BROKEN)
def test_data_are_never_changed(name: str) -> None:
    arrays = list(arrays_of(BROKEN[name][1]))
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.setflags(write=False)
    xe.review(**BROKEN[name][1])
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("name", BROKEN)
def test_a_silenced_rule_says_nothing(name: str) -> None:
    graded, arguments, _ = BROKEN[name]
    assert xe.review(**arguments, silence=[graded.split()[1]]) == []
    assert xe.review(**arguments, silence=graded.split()[1]) == []


def test_silence_must_name_a_rule() -> None:
    with pytest.raises(xe.OptionError, match=r"silence must name rules among A1, .*; got A11, Z\."):
        xe.review(labels=[0], logits=[[1.0, 2.0]], silence=("Z", "A11"))


def test_scores_must_be_of_one_kind() -> None:
    with pytest.raises(xe.ArgumentError, match="exactly one of logits, probs, log_probs"):
        xe.review(labels=[0], logits=[[1.0, 2.0]], probs=[[0.5, 0.5]])
    with pytest.raises(xe.ArgumentError, match="exactly one of logits, probs, log_probs"):
        xe.review(labels=[0])


def test_loss_must_be_a_family() -> None:
    with pytest.raises(xe.OptionError, match='loss must be "softmax", "sigmoid" or None; got 5'):
        xe.review(labels=[0], logits=[[1.0, 2.0]], loss=5)  # type: ignore[arg-type]


def test_gravest_findings_come_first() -> None:
    found = xe.review(
        labels=put(TEN.labels, [5], 17),
        logits=TEN.probs,
        ids=np.zeros(400),
        sample_weight=put(np.ones(400), 1, -1),
    )
    assert [f"{f.severity} {f.code}" for f in found] == ["E A2", "E A7", "W A10", "W B3"]


def test_one_mistake_does_not_hide_another() -> None:
    """B4 stands for the A2 of the same labels, not for what is wrong with the scores."""
    found = xe.review(labels=put(TEN.labels, slice(50), -1), probs=2 * TEN.logits)
    assert [finding.code for finding in found] == ["B2", "B4"]
    names = xe.review(labels=TEN.labels.astype(str), probs=2 * TEN.logits)
    assert [finding.code for finding in names] == ["A9", "B2"]


def test_the_floor_of_a_double_softmax_is_its_lowest_loss() -> None:
    certain = xe.softmax_cross_entropy(labels=[3], logits=np.eye(10)[[3]])
    assert float(certain) == pytest.approx(FLOOR, rel=1e-15)


def test_a_calibrated_model_has_multiplier_1() -> None:
    """The fit behind B3c and B8 finds the factor that was put in."""
    data = calibrated(400, 10, seed=0)
    (finding,) = xe.review(labels=data.labels, logits=data.logits / 30)
    assert finding.code == "B3c"
    best, low = finding.evidence["multiplier"], finding.evidence["multiplier_at_least"]

    def loss(multiplier: float) -> float:
        logits = multiplier * data.logits / 30
        return float(xe.softmax_cross_entropy(labels=data.labels, logits=logits))

    # The likelihood interval ends where 2 * 400 * the excess is 25: five standard errors.
    assert 800 * (loss(low) - loss(best)) == pytest.approx(25, rel=1e-3)
    # 30 within its 95 % interval, nearly symmetric for 400 rows.
    assert low < 30 < best + 1.2 * (best - low)


def test_agreement_tells_a_missing_column_from_labels_that_start_at_1() -> None:
    absent = np.maximum(TEN.logits.argmax(axis=1), 1)
    found = xe.review(labels=put(absent, slice(40), 10), logits=TEN.logits)
    assert [finding.code for finding in found] == ["B4"]
    assert found[0].fix == "ignore_index=10, or give the scores its column."


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint64", "float32", "float64", "O"])
def test_labels_of_any_dtype_are_read(dtype: str) -> None:
    assert xe.review(labels=TEN.labels.astype(dtype), logits=TEN.logits) == []
    shifted = xe.review(labels=(TEN.labels + 1).astype(dtype), logits=TEN.logits)
    assert [finding.code for finding in shifted] == ["B7"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_scores_of_any_dtype_are_read(dtype: str) -> None:
    if dtype == "bfloat16":
        ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 is not NumPy's own")
        dtype = ml_dtypes.bfloat16
    assert xe.review(labels=TEN.labels, probs=TEN.probs.astype(dtype)) == []
    (finding,) = xe.review(labels=TEN.labels, logits=TEN.probs.astype(dtype))
    assert finding.code == "B3"


ODD = [None, "x", "", 1 + 2j, [], [[]], [[0], [1, 2]], {"a": 1}, np.datetime64("NaT"), b"1"]


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_nothing_in_the_data_raises(odd: object) -> None:
    """Whatever it is, it is reported."""
    assert xe.review(labels=[0, odd], logits=[[1.0, 2.0], [0.5, 0.1]])
    assert xe.review(labels=[0, 1], logits=[[1.0, odd], [0.5, 0.1]])
    assert xe.review(labels=odd, logits=[[1.0, 2.0]])
    assert xe.review(labels=[1], logits=odd if odd is not None else [None])
