"""Labels and scores with one mistake each, and what a review must say of them."""

import numpy as np
from calibrated_data import (
    CONFIDENT,
    FLOOR,
    ONE,
    ROWS,
    SIGMOIDS,
    TAGS,
    TEN,
    TWO,
    Arguments,
    calibrated,
    put,
    yes_no,
)

import crossent as xe

# What was done, the code that says so, numbers its evidence must hold.
BROKEN: dict[str, tuple[str, Arguments, Arguments]] = {
    "NaN": (
        "E A1",
        {"labels": TEN.labels, "logits": put(TEN.logits, ([3, 3, 9], [0, 1, 2]), np.nan)},
        {"NaN": {"count": 3, "rows": 2, "first_rows": [3, 9], "first_values": ["nan", "nan"]}},
    ),
    "+inf": (
        "E A1",
        {"labels": TEN.labels, "logits": put(TEN.logits, (5, 1), np.inf)},
        {"+inf": {"count": 1, "rows": 1, "first_rows": [5], "first_values": ["inf"]}},
    ),
    "-inf at the label": (
        "E A1",
        {"labels": TEN.labels, "logits": put(TEN.logits, (8, TEN.labels[8]), -np.inf)},
        {"rows_scored": 400},
    ),
    "a row of -inf": (
        "E A1",
        {"labels": np.eye(10)[TEN.labels], "logits": put(TEN.logits, 2, -np.inf)},
        {"all -inf": {"count": 1, "rows": 1, "first_rows": [2], "first_values": ["-inf"]}},
    ),
    "sigmoid infinitely wrong": (
        "E A1",
        {"labels": [1, 0, 1, 0], "logits": [-np.inf, np.inf, 2.0, -np.inf]},
        {"rows_scored": 4},
    ),
    "label of the future": (
        "E A2",
        {"labels": put(TEN.labels, [4, 7], [12, 31]), "logits": TEN.logits},
        {"count": 2, "first_rows": [4, 7], "first_values": [12, 31], "max": 31.0, "min": 0.0},
    ),
    "negative labels": (
        "E A2",
        {"labels": put(TEN.labels, [4, 7], [-3, -2]), "probs": TEN.probs},
        {"count": 2, "min": -3.0, "values": {"-3.0": 1, "-2.0": 1}},
    ),
    "one stray -100": (
        "E A2",
        {"labels": put(calibrated(2000, 3).labels, 11, -100), "logits": calibrated(2000, 3).logits},
        {"count": 1, "first_rows": [11], "values": {"-100.0": 1}},
    ),
    "signs for two classes": (
        "E A2",
        {"labels": 2 * TWO.labels - 1, "logits": TWO.logits},
        {"min": -1.0, "max": 1.0},
    ),
    "fractional ids": (
        "E A3",
        {"labels": put(TEN.labels.astype(float), [0, 6], 1.7), "logits": TEN.logits},
        {"count": 2, "first_rows": [0, 6], "first_values": [1.7, 1.7], "labels": 400},
    ),
    "ids in half precision": (
        "E A3",
        {
            "labels": np.float16([5, 2048]),
            "logits": np.random.default_rng(0).normal(size=(2, 2049)),
        },
        {"dtype": "float16", "classes": 2049, "exact_up_to": 2048},
    ),
    "-1/+1 for yes and no": (
        "E A4",
        {"labels": 2 * ONE.labels - 1, "logits": ONE.logits},
        {"min": -1.0, "max": 1.0, "count": int((ONE.labels == 0).sum())},
    ),
    "grey values": (
        "E A4",
        {"labels": 255 * TAGS[0], "logits": TAGS[1]},
        {"max": 255.0, "count": int(TAGS[0].sum())},
    ),
    "votes": (
        "E A4",
        {"labels": 3 * np.eye(10)[TEN.labels] + np.eye(10)[0], "logits": TEN.logits},
        {"min": 0.0, "labels": 4000},
    ),
    "labels that sum to 2": (
        "E A4",
        {"labels": put(TEN.probs, [1, 2], 2 / 10), "logits": TEN.logits},
        {"count": 2, "first_rows": [1, 2], "first_sums": [2.0, 2.0], "highest_sum": 2.0},
    ),
    "several true with a softmax loss": (
        "E A4",
        {"labels": TAGS[0], "logits": TAGS[1], "loss": "softmax"},
        {"count": int((TAGS[0].sum(axis=1) != 1).sum()), "tolerance": 6e-6},
    ),
    "unnormalised probabilities": (
        "E A4",
        {"labels": TEN.labels, "probs": TEN.probs / 2},
        {"count": 400, "lowest_sum": 0.5, "highest_sum": 0.5, "tolerance": 1e-5},
    ),
    "a column lost": (
        "E A4",
        {"labels": TEN.labels % 9, "probs": TEN.probs[:, :9]},
        {"rows": 400, "first_rows": [0, 1, 2, 3, 4]},
    ),
    "one label short": (
        "E A5",
        {"labels": TEN.labels[:-1], "logits": TEN.logits},
        {"first_row": 0},
    ),
    "(rows, 1) labels": ("W A5", {"labels": ONE.labels[:, None], "logits": ONE.logits}, {}),
    "(rows, 1) ids": ("I A5", {"labels": TEN.labels[:, None], "logits": TEN.logits}, {}),
    "another number of classes": (
        "E A5",
        {"labels": TEN.labels, "logits": TEN.logits, "num_classes": 11},
        {"first_row": 0},
    ),
    "weights of other rows": (
        "E A5",
        {"labels": TEN.labels, "logits": TEN.logits, "sample_weight": np.ones(10)},
        {},
    ),
    "ids of other rows": (
        "E A5",
        {"labels": TEN.labels, "logits": TEN.logits, "ids": np.arange(399)},
        {},
    ),
    "ragged": ("E A5", {"labels": [0, 1], "logits": [[1.0, 2.0], [3.0]]}, {}),
    "no classes": ("E A5", {"labels": [0, 0], "logits": np.zeros((2, 0))}, {}),
    "softmax over one": (
        "E A6",
        {"labels": ONE.labels, "logits": ONE.logits[:, None], "loss": "softmax"},
        {"columns": 1, "labels_max": 1.0},
    ),
    "one score for ten classes": (
        "E A6",
        {"labels": TEN.labels, "logits": TEN.logits[:, 0]},
        {"columns": 1, "labels_max": 9.0},
    ),
    "constant scores": (
        "W A6",
        {"labels": TEN.labels, "logits": np.full((400, 10), 0.3)},
        {"rows": 400, "only_value": 0.3},
    ),
    "identical rows": (
        "W A6",
        {"labels": TEN.labels, "logits": put(np.tile(TEN.logits[:1], (400, 1)), [7, 9], 1.5)},
        {"rows": 400, "rows_compared": 400, "identical": 398},
    ),
    "negative weight": (
        "E A7",
        {"labels": TEN.labels, "logits": TEN.logits, "sample_weight": put(np.ones(400), 9, -1.0)},
        {"negative": {"count": 1, "rows": 1, "first_rows": [9], "first_values": [-1.0]}},
    ),
    "NaN weight": (
        "E A7",
        {"labels": TEN.labels, "logits": TEN.logits, "sample_weight": put(np.ones(400), 9, np.nan)},
        {"not_finite": {"count": 1, "rows": 1, "first_rows": [9], "first_values": ["nan"]}},
    ),
    "all weights 0": (
        "E A7",
        {"labels": TEN.labels, "logits": TEN.logits, "sample_weight": np.zeros(400)},
        {"weights": 400, "zeros": 400},
    ),
    "a few heavy rows": (
        "W A7",
        {"labels": TEN.labels, "logits": TEN.logits, "sample_weight": put(np.ones(400), 0, 1e4)},
        {"weights": 400, "effective_size": float(f"{10399**2 / (1e8 + 399):.6g}")},
    ),
    "all ignored": (
        "E A8",
        {"labels": np.full(400, -100), "logits": TEN.logits, "ignore_index": -100},
        {"rows": 400, "ignored": 400, "ignore_index": -100},
    ),
    "no rows": ("E A8", {"labels": np.zeros(0, int), "logits": np.zeros((0, 3))}, {"rows": 0}),
    "labels as text": (
        "E A9",
        {"labels": TEN.labels.astype(str), "logits": TEN.logits},
        {},
    ),
    "class names": (
        "E A9",
        {"labels": np.array(["cat", "dog"])[TWO.labels], "logits": TWO.logits},
        {"entries that are no numbers": {"count": 400, "rows": 400}},
    ),
    "NaN label": (
        "E A9",
        {"labels": put(TEN.labels.astype(float), 3, np.nan), "logits": TEN.logits},
        {"NaN or infinite": {"count": 1, "rows": 1, "first_rows": [3], "first_values": ["nan"]}},
    ),
    "missing label": (
        "E A9",
        {"labels": [0, None, 1], "logits": [[1.0, 0.1], [0.3, 2.0], [0.2, 0.9]]},
        {"missing values": {"count": 1, "rows": 1, "first_rows": [1], "first_values": [None]}},
    ),
    "thousands": (
        "E A9",
        {"labels": [0, 1], "logits": [["1,234", "-2"], ["0.5", "3"]]},
        {
            "thousands separators": {
                "count": 1,
                "rows": 1,
                "first_rows": [0],
                "first_values": ["1,234"],
            }
        },
    ),
    "dates": ("E A9", {"labels": np.array(["2020-01-01"], "M8[D]"), "logits": [[1.0, 2.0]]}, {}),
    "percent signs": (
        "E A9",
        {"labels": [0, 1], "probs": [["88%", "12%"], ["1 %", "99 %"]]},
        {
            "percentages": {
                "count": 4,
                "rows": 2,
                "first_rows": [0, 1],
                "first_values": ["88%", "1 %"],
            }
        },
    ),
    "percentages": (
        "E A9",
        {"labels": TEN.labels, "probs": (100 * TEN.probs).round(1)},
        {"rows": 400, "tolerance": 0.5},
    ),
    "an id twice": (
        "W A10",
        {"labels": TEN.labels, "logits": TEN.logits, "ids": put(ROWS, [5, 8], 2)},
        {"ids": 400, "repeated_ids": 1, "surplus_rows": 2, "first_pairs_of_rows": [[2, 5]]},
    ),
    "ids on one side only": (
        "E A10",
        {"labels": TEN.labels, "logits": TEN.logits, "ids": {"labels": ROWS, "scores": ROWS + 1}},
        {"labels_only": 1, "scores_only": 1, "first_rows_of_labels": [0]},
    ),
    "another order": (
        "E A10",
        {"labels": TEN.labels, "logits": TEN.logits, "ids": {"labels": ROWS, "scores": ROWS[::-1]}},
        {"count": 400, "first_rows": [0, 1, 2, 3, 4]},
    ),
    "probabilities as log-probabilities": (
        "E B1",
        {"labels": TEN.labels, "log_probs": TEN.probs},
        {"rows": 400, "tolerance": 1e-5},
    ),
    "a few probabilities as logits": (
        "I B1",
        {"labels": TEN.labels[:6], "logits": TEN.probs[:6]},
        {"rows": 6},
    ),
    "double sigmoid": (
        "W B1b",
        {"labels": ONE.labels, "logits": ONE.probs},
        {"rows": 600, "rows_compared": 600},
    ),
    "small logits of a ReLU, a yes is rare": (
        "I B1b",
        {
            "labels": np.arange(2000) % 20 == 0,
            "logits": np.clip(np.random.default_rng(3).normal(0.1, 0.3, 2000), 0, 1),
        },
        {"rows": 2000, "min": 0.0, "max": 1.0, "mean_label": 0.05},
    ),
    "a few numbers in [0, 1]": (
        "I B1b",
        {"labels": ONE.labels[:25], "logits": ONE.probs[:25]},
        {"rows": 25},
    ),
    "logits as probabilities": (
        "E B2",
        {"labels": [0, 1, 0], "probs": [[3.0, -2.0], [0.4, 0.6], [0.2, 1.1]]},
        {"rows": 3, "min": -2.0, "max": 3.0},
    ),
    "logits as log-probabilities": (
        "E B2",
        {"labels": TEN.labels, "log_probs": TEN.logits},
        {"max": float(f"{TEN.logits.max():.6g}")},
    ),
    "double softmax": (
        "W B3",
        {"labels": TEN.labels, "logits": TEN.probs},
        {"rows": 400, "loss_floor": float(f"{FLOOR:.6g}"), "tolerance": 1e-5},
    ),
    "double softmax, two classes, 3 decimals": (
        "W B3",
        {"labels": TWO.labels[:20], "logits": TWO.probs[:20].round(3)},
        {"rows": 20, "tolerance": 0.001},
    ),
    "softmax before a sigmoid loss": (
        "W B3",
        {"labels": TAGS[0], "logits": xe.softmax(TAGS[1])},
        {"rows": 500},
    ),
    "settled on the double softmax": (
        "W B3b",
        {
            "labels": CONFIDENT.logits.argmax(axis=1),
            "logits": CONFIDENT.logits,
            "history": [2.3, 2.0, 1.8, 1.6, 1.5, 1.48, 1.475, 1.474, 1.473, 1.473, 1.472, 1.472],
        },
        {"losses": 12, "settled_at": 1.473, "loss_floor": float(f"{FLOOR:.6g}")},
    ),
    "settled on the double sigmoid": (
        "W B3b",
        {
            "labels": [1, 0] * 20,
            "logits": [4.5, -3.5] * 20,
            "history": [0.7, 0.6, 0.55, 0.53, 0.52, 0.51, 0.507, 0.506, 0.506, 0.505, 0.505],
        },
        {"settled_at": 0.506, "accuracy": 1.0, "loss_floor": 0.503204},
    ),
    "cosines": (
        "W B3c",
        {"labels": CONFIDENT.labels, "logits": np.tanh(CONFIDENT.logits / 20)},
        {"rows_fitted": 400},
    ),
    "squeezed yes/no": (
        "W B3c",
        {
            "labels": yes_no(2000, scale=6.0).labels,
            "logits": np.tanh(yes_no(2000, scale=6.0).logits / 9),
        },
        {"rows_fitted": 2000},
    ),
    "-100 marks padding": (
        "E B4",
        {"labels": put(TEN.labels, slice(0, None, 8), -100), "logits": TEN.logits},
        {"value": -100.0, "share": 0.125, "count": 50, "first_rows": [0, 8, 16, 24, 32]},
    ),
    "255 marks the border": (
        "E B4",
        {"labels": put(TEN.labels, slice(0, 40), 255).astype(np.uint8), "logits": TEN.logits},
        {"value": 255.0, "share": 0.1},
    ),
    "the class after the last": (
        "E B4",
        {"labels": put(TEN.labels, slice(0, 40), 10), "logits": TEN.logits},
        {"value": 10.0, "share": 0.1},
    ),
    "unknown tags": (
        "E B4",
        {"labels": put(TAGS[0], (slice(0, 50), 1), -1), "logits": TAGS[1]},
        {"value": -1.0, "count": 50, "labels": 3000},
    ),
    "log-probabilities as logits": (
        "I B5",
        {"labels": TEN.labels, "logits": TEN.log_probs},
        {"rows": 400},
    ),
    "log-probabilities as probabilities": (
        "E B5",
        {"labels": TEN.labels, "probs": TEN.log_probs},
        {"rows": 400},
    ),
    "log-probabilities before a sigmoid": (
        "W B5",
        {"labels": TAGS[0], "logits": xe.log_softmax(TAGS[1])},
        {"rows": 500},
    ),
    "one-hot predictions": (
        "W B6",
        {"labels": TEN.labels, "probs": np.eye(10)[TEN.probs.argmax(axis=1)]},
        {"rows": 400, "one_hot_rows": 400},
    ),
    "predicted ids": (
        "W B6",
        {"labels": TEN.labels, "probs": TEN.probs.argmax(axis=1)},
        {"rows": 400, "max": 9.0},
    ),
    "predicted yes or no": (
        "W B6",
        {"labels": ONE.labels, "logits": (ONE.logits > 0).astype(float)},
        {"rows": 600},
    ),
    "labels from 1 to the last": (
        "E B7",
        {"labels": TEN.labels + 1, "logits": TEN.logits},
        {"min": 1.0, "max": 10.0, "classes": 10, "rows_compared": int((TEN.labels < 9).sum())},
    ),
    "labels from 1, the last class absent": (
        "E B7",
        {"labels": np.minimum(TEN.labels, 8) + 1, "logits": TEN.logits},
        {"min": 1.0, "max": 9.0},
    ),
    "1 and 2 for no and yes": (
        "E B7",
        {"labels": ONE.labels + 1, "logits": ONE.logits},
        {"min": 1.0, "max": 2.0, "classes": 2},
    ),
    "sigmoids as logits": (
        "W B8",
        {"labels": CONFIDENT.labels, "logits": SIGMOIDS},
        {"rows": 400, "rows_fitted": 400},
    ),
    "sigmoids as probabilities": (
        "E B8",
        {"labels": CONFIDENT.labels, "probs": SIGMOIDS},
        {"rows": 400},
    ),
    "log-sigmoids as log-probabilities": (
        "E B8",
        {"labels": CONFIDENT.labels, "log_probs": np.log(SIGMOIDS)},
        {"rows": 400},
    ),
}
