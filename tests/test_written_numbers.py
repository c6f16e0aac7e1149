"""Numbers as people write them: rounded, shortened, in half precision, as text."""

from typing import Any

import numpy as np
import pytest

import crossent as xe
from crossent.profile.precision import (
    Precision,
    log_sum_thresholds,
    percent_thresholds,
    sum_thresholds,
)


@pytest.mark.parametrize(
    ("classes", "level", "threshold"),
    [
        (10, "float", 1e-5),
        (100_000, "float", 0.01),
        (3, "d3", 0.0015),
        (10, "d3", 0.005),
        (100, "d4", 0.005),
        (1000, "d3", 0.5),
        (10, "s3", 0.005),
        (10, "float16", 2**-9 + 1e-5 + 10 * 2**-24),
        (10, "bfloat16", 2**-6 + 1e-5),
    ],
)
def test_sums_of_probabilities_may_be_off_by(classes: int, level: str, threshold: float) -> None:
    # A millionth more: sums of decimals are themselves rounded.
    assert sum_thresholds(classes, most=0.5)[level] == pytest.approx(threshold, rel=1.1e-6)


def test_other_sums_may_be_off_by() -> None:
    logs, percents = log_sum_thresholds(10), percent_thresholds(10)
    spread = 1 + np.log(10)
    assert logs["float"] == pytest.approx(1.1e-4)
    assert logs["d2"] == pytest.approx(0.005)
    assert logs["s3"] == pytest.approx(0.005 * spread)
    assert logs["float16"] == pytest.approx(1.1e-4 + 2**-10 * spread)
    assert logs["bfloat16"] == pytest.approx(1.1e-4 + 2**-7 * spread)
    assert [percents[name] for name in ("float", "d0", "d1", "d3")] == [0.005, 0.05, 0.005, 0.005]


@pytest.mark.parametrize(
    ("numbers", "dtype", "expected"),
    [
        ([1.0, 3.0], "float64", (0, 2, True, True)),
        ([0.5, 0.125], "float64", (3, 3, True, True)),
        ([0.1, 0.25], "float64", (2, 2, False, False)),
        ([0.1, 0.25], "float32", (2, 2, False, False)),
        ([0.0123, 0.9], "float64", (4, 3, False, False)),
        ([1 / 3, 0.1], "float64", (None, None, False, False)),
        ([1e-200, 1.2e200], "float64", (None, 2, False, False)),
        ([0.1, 0.9], "float16", (1, 2, True, False)),
    ],
)
def test_how_numbers_were_written(numbers: list[float], dtype: str, expected: Any) -> None:
    written = Precision()
    written.see(np.array(numbers, dtype).astype(np.float64), dtype)
    found = (written.decimals, written.digits, written.is_float16, written.is_bfloat16)
    assert found == expected


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("1.5", "numbers written as text"),
        (" -3e2 ", "numbers written as text"),
        ("12%", "percentages"),
        ("12,5 %", "percentages"),
        ("1,234", "thousands separators"),
        ("1'234'567.8", "thousands separators"),
        ("0,5", "decimal commas"),
        ("n/a", "missing values"),
        ("", "missing values"),
        (None, "missing values"),
        ("twelve", "entries that are no numbers"),
        ("1.2.3", "entries that are no numbers"),
    ],
)
def test_text_is_told_apart(text: str | None, form: str) -> None:
    for arguments in (
        {"labels": [0, 1], "logits": [[0.3, text], [1.0, 2.5]]},
        {"labels": [0, text], "logits": [[0.3, 0.4], [1.0, 2.5]], "loss": "softmax"},
    ):
        (finding,) = (f for f in xe.review(**arguments) if f.code == "A9")
        assert form in finding.evidence
