"""Labels and scores that come near a mistake and make none."""

import numpy as np
from calibrated_data import (
    CONFIDENT,
    ONE,
    ROWS,
    SMALL,
    TAGS,
    TEN,
    THOUSAND,
    TWO,
    Arguments,
    calibrated,
    put,
)

import crossent as xe

# Sound data that come near a rule; no rule may fire.
SOUND: dict[str, tuple[str, Arguments]] = {
    "-inf masks": (
        "A1",
        {"labels": np.zeros(50, int), "logits": put(calibrated(50, 4).logits, (..., 3), -np.inf)},
    ),
    "infinitely right": ("A1", {"labels": [1, 0, 1], "logits": [np.inf, -np.inf, 3.0]}),
    "certain and right": (
        "A1",
        {"labels": [0, 0], "log_probs": [[0.0, -np.inf], [-0.1, -2.35217]]},
    ),
    "NaN where ignored": (
        "A1",
        {
            "labels": put(TEN.labels, 3, -100),
            "logits": put(TEN.logits, 3, np.nan),
            "ignore_index": -100,
        },
    ),
    "NaN of weight 0": (
        "A1",
        {
            "labels": TEN.labels,
            "logits": put(TEN.logits, 3, np.nan),
            "sample_weight": put(np.ones(400), 3, 0.0),
        },
    ),
    "the last class": ("A2", {"labels": put(TEN.labels, 0, 9), "logits": TEN.logits}),
    "bool ids": ("A2", {"labels": TWO.labels.astype(bool), "logits": TWO.logits}),
    "whole float ids": ("A3", {"labels": TEN.labels.astype(np.float32), "logits": TEN.logits}),
    "distributions": ("A4", {"labels": TEN.probs.astype(np.float32), "logits": TEN.logits}),
    "one-hot bools": ("A4", {"labels": np.eye(10, dtype=bool)[TEN.labels], "logits": TEN.logits}),
    "several true": ("A4", {"labels": TAGS[0], "logits": TAGS[1]}),
    "three decimals": ("A4", {"labels": TEN.labels, "probs": TEN.probs.round(3)}),
    "four digits": (
        "A4",
        {"labels": TEN.labels, "probs": np.vectorize(lambda p: float(f"{p:.3e}"))(TEN.probs)},
    ),
    "half precision, widened": (
        "A4",
        {"labels": TEN.labels, "probs": TEN.probs.astype(np.float16).astype(np.float32)},
    ),
    "a thousand classes, 5 decimals": (
        "A4",
        {"labels": THOUSAND.labels, "probs": THOUSAND.probs.round(5)},
    ),
    "rates": ("A4", {"labels": ONE.probs, "logits": ONE.logits}),
    "the classes in axis 1": (
        "A5",
        {
            "labels": TEN.labels.reshape(4, 100),
            "logits": np.moveaxis(TEN.logits.reshape(4, 100, 10), 2, 1),
            "axis": 1,
        },
    ),
    "one column, twice": ("A5", {"labels": ONE.labels[:, None], "logits": ONE.logits[:, None]}),
    "equal rows by chance": ("A6", {"labels": [0, 1, 0], "logits": [[1.0, 2.0]] * 3}),
    "9 of 10 rows equal": (
        "A6",
        {
            "labels": TEN.labels,
            "logits": put(np.tile(TEN.logits[:1], (400, 1)), ROWS[::10], TEN.logits[::10]),
        },
    ),
    "a rare yes, two decimals": (
        "A6",
        {"labels": ROWS == 7, "probs": put(np.zeros(400), [7, 9], [0.9, 0.2])},
    ),
    "uneven weights": (
        "A7",
        {"labels": TEN.labels, "logits": TEN.logits, "sample_weight": np.geomspace(1, 9, 400)},
    ),
    "some ignored": (
        "A8",
        {"labels": put(TEN.labels, 0, -1), "logits": TEN.logits, "ignore_index": -1},
    ),
    "large scores": ("A9", {"labels": TEN.labels, "logits": 10 * TEN.probs + 5}),
    "ids": ("A10", {"labels": TEN.labels, "logits": TEN.logits, "ids": [f"r{i}" for i in ROWS]}),
    "ids of two places": (
        "A10",
        {
            "labels": TEN.labels,
            "logits": TEN.logits,
            "ids": {"labels": ROWS, "scores": ROWS.astype(str)},
        },
    ),
    "log-probabilities": ("B1", {"labels": TEN.labels, "log_probs": TEN.log_probs}),
    "two classes, one row, a sum of 1": ("B1", {"labels": [0], "logits": [[0.31, 0.695]]}),
    "logits in [0, 1]": (
        "B1b",
        {
            "labels": (np.random.default_rng(3).random(2000) < xe.sigmoid(np.linspace(0, 1, 2000))),
            "logits": np.linspace(0, 1, 2000),
        },
    ),
    "rounding above 1": (
        "B2",
        {"labels": [0, 1], "probs": np.float32([[1.0000002, 0], [0.3, 0.7]])},
    ),
    "logits of a ReLU": ("B3", {"labels": TEN.labels, "logits": np.maximum(TEN.logits, 0)}),
    "sparse logits": (
        "B3",
        {"labels": TEN.labels, "logits": np.where(abs(TEN.logits) < 4, 0.0, TEN.logits)},
    ),
    "logits in [0, 1], sums vary": ("B3", {"labels": SMALL.labels, "logits": SMALL.logits % 1}),
    "a loss below the floor": (
        "B3b",
        {
            "labels": CONFIDENT.logits.argmax(axis=1),
            "logits": CONFIDENT.logits,
            "history": [2.3, 1.9, 1.45, 1.3, *[1.47] * 10],
        },
    ),
    "a plateau of a bad model": (
        "B3b",
        {"labels": TEN.labels, "logits": TEN.logits, "history": [2.3, 1.9, 1.6, *[1.47] * 10]},
    ),
    "small calibrated logits": (
        "B3c",
        {"labels": SMALL.labels, "logits": np.clip(SMALL.logits, -1, 1)},
    ),
    "-1 is named": (
        "B4",
        {"labels": put(TEN.labels, slice(50), -1), "logits": TEN.logits, "ignore_index": -1},
    ),
    "saturated logits": ("B5", {"labels": TEN.labels, "logits": 60 * TEN.logits}),
    "shifted to peak 0": (
        "B5",
        {"labels": TEN.labels, "logits": TEN.logits - TEN.logits.max(axis=1, keepdims=True)},
    ),
    "saturated": ("B6", {"labels": TEN.labels, "probs": xe.softmax(8.0 * TEN.logits)}),
    "whole logits": ("B6", {"labels": TEN.labels, "logits": np.rint(3 * TEN.logits)}),
    "class 0 absent": (
        "B7",
        {
            "labels": np.maximum(CONFIDENT.labels, 1),
            "logits": put(CONFIDENT.logits, (..., 0), -9.0),
        },
    ),
    "sums near 1": ("B8", {"labels": TEN.labels, "probs": TEN.probs.round(2)}),
}
