"""Reads numbers from whatever a table held, and says of each entry that was none what it was."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What an entry was. All but NUMBER are reported.
NUMBER, TEXT_NUMBER, PERCENTAGE, THOUSANDS, DECIMAL_COMMA, MISSING, NAME = range(7)
FORMS = {
    TEXT_NUMBER: "numbers written as text",
    PERCENTAGE: "percentages",
    THOUSANDS: "thousands separators",
    DECIMAL_COMMA: "decimal commas",
    MISSING: "missing values",
    NAME: "entries that are no numbers",
}
_MISSING_WORDS = {"", "na", "n/a", "nan", "null", "none", "?", "-"}
_PATTERNS = (
    (PERCENTAGE, re.compile(r"[+-]?\d+([.,]\d+)?\s*%")),
    (THOUSANDS, re.compile(r"[+-]?\d{1,3}([,' ]\d{3})+(\.\d+)?")),
    (DECIMAL_COMMA, re.compile(r"[+-]?\d+,\d+")),
)


def read_numbers(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int8] | None]:
    """Numbers, NaN where there is none, and the form of each entry; None if all are numbers.

    Integers and bools keep their dtype, floats become float64; dates and complex are no numbers.
    """
    if values.dtype.kind in "biu":
        return values, None
    # By name: bfloat16 and its kin, registered with NumPy from outside, are of kind "V".
    if "float" in values.dtype.name:
        return values.astype(np.float64), None
    if values.dtype.kind in "OUST":
        return _read_text(values)
    return np.full(values.shape, np.nan), np.full(values.shape, NAME, np.int8)


def _read_text(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int8] | None]:
    numbers = np.full(values.size, np.nan)
    forms = np.zeros(values.size, np.int8)
    for i, value in enumerate(values.reshape(-1).tolist()):
        numbers[i], forms[i] = _read(value)
    if not forms.any():
        whole = np.isfinite(numbers) & (numbers == np.rint(numbers)) & (np.abs(numbers) < 2**53)
        is_integer = bool(whole.all()) and not any(isinstance(v, float) for v in values.flat)
        numbers = numbers.astype(np.int64) if is_integer else numbers
        return numbers.reshape(values.shape), None
    return numbers.reshape(values.shape), forms.reshape(values.shape)


def _read(value: Any) -> tuple[float, int]:
    if value is None:
        return np.nan, MISSING
    is_text = isinstance(value, str | bytes)
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    text = text.strip()
    if is_text and text.lower() in _MISSING_WORDS:
        return np.nan, MISSING
    try:
        return float(text if is_text else value), TEXT_NUMBER if is_text else NUMBER
    except (TypeError, ValueError, OverflowError):
        forms = [form for form, pattern in _PATTERNS if is_text and pattern.fullmatch(text)]
        return np.nan, forms[0] if forms else NAME
