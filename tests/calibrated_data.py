"""Labels drawn from the scores of made-up models: sound by construction, ready to be broken."""

import math
from typing import Any, NamedTuple

import numpy as np

import crossent as xe

Arguments = dict[str, Any]


class Data(NamedTuple):
    """A calibrated model: the labels are drawn from the softmax of the logits."""

    labels: np.ndarray
    logits: np.ndarray
    probs: np.ndarray
    log_probs: np.ndarray


def calibrated(rows: int, classes: int, *, scale: float = 2.0, seed: int = 7) -> Data:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.0, scale, (rows, classes))
    log_probs = xe.log_softmax(logits)
    labels = (log_probs + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return Data(labels, logits, np.exp(log_probs), log_probs)


def yes_no(rows: int, *, scale: float = 2.0, shift: float = 0.0, seed: int = 7) -> Data:
    rng = np.random.default_rng(seed)
    logits = rng.normal(shift, scale, rows)
    probs = xe.sigmoid(logits)
    return Data((rng.random(rows) < probs).astype(np.int64), logits, probs, np.log(probs))


def put(array: Any, rows: Any, value: Any) -> np.ndarray:
    changed = np.array(array)
    changed[rows] = value
    return changed


TEN = calibrated(400, 10)
TWO = calibrated(400, 2)
ONE = yes_no(600)
TAGS = yes_no(3000).labels.reshape(-1, 6), yes_no(3000).logits.reshape(-1, 6)
ROWS = np.arange(400)
CONFIDENT = calibrated(400, 10, scale=9.0)
# The loss of ten classes, certain and right, after a second softmax.
FLOOR = math.log(math.e + 9) - 1
SIGMOIDS = xe.sigmoid(CONFIDENT.logits - CONFIDENT.logits.max(axis=1, keepdims=True) + 2.0)
SMALL = calibrated(3000, 10, scale=0.2)
THOUSAND = calibrated(60, 1000)
