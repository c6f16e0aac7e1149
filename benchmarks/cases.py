"""What is measured: losses, label kinds, dtypes and sizes, and the data of each."""

from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


class Case(NamedTuple):
    """One problem; `what` is "loss" or "loss + gradient", `rows_are` "random" or "confident"."""

    loss: str
    labels: str
    dtype: str
    rows: int
    classes: int
    what: str
    rows_are: str = "random"

    @property
    def problem(self) -> str:
        confident = ", confident rows" if self.rows_are == "confident" else ""
        return f"{self.loss}, {self.labels}, {self.dtype}, {self.rows}x{self.classes}{confident}"

    @property
    def name(self) -> str:
        return f"{self.problem}, {self.what}"

    @property
    def wants_gradient(self) -> bool:
        return self.what != "loss"

    @property
    def logits_bytes(self) -> int:
        return DTYPES[self.dtype].itemsize * self.rows * self.classes

    @property
    def moved_bytes(self) -> int:
        """The least that must move: the logits in, a gradient out, labels of that size in."""
        return self.logits_bytes * (1 + self.wants_gradient + (self.labels != "ids"))


CASES = [
    Case(*problem, what, rows_are)
    for rows_are, problems in (
        (
            "random",
            [
                *(
                    ("softmax", "ids", dtype, rows, classes)
                    for rows, classes in ((128, 10), (8192, 1000), (2048, 32000), (256, 151936))
                    for dtype in DTYPES
                ),
                ("softmax", "ids", "float32", 65536, 10),
                ("softmax", "distributions", "float32", 2048, 32000),
                ("sigmoid", "yes/no", "float32", 8192, 1000),
                ("sigmoid", "yes/no", "bfloat16", 8192, 1000),
            ],
        ),
        ("confident", [("softmax", "ids", "float32", 2048, 32000)]),
    )
    for problem in problems
    for what in ("loss", "loss + gradient")
]


def data(case: Case) -> tuple[Any, Any]:
    """Logits of standard deviation 3 and labels."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((case.rows, case.classes), np.float32)
    x *= 3
    if case.labels == "ids":
        y = rng.integers(0, case.classes, case.rows)
        if case.rows_are == "confident":
            make_confident(x, y, rng, least=1e-9, most=1e-3)
    elif case.labels == "distributions":
        y = rng.random(x.shape, np.float32)
        y /= y.sum(axis=1, keepdims=True)
    else:
        y = rng.integers(0, 2, x.shape).astype(np.float32)
    x = x.astype(DTYPES[case.dtype], copy=False)
    return x, y if case.labels == "ids" else y.astype(x.dtype, copy=False)


def make_confident(x: Any, y: Any, rng: Any, *, least: float, most: float) -> None:
    """Raises the label's logit until the loss of each row is about a number in [least, most]."""
    rows = np.arange(len(x))
    x[rows, y] = -np.inf
    peak = x.max(axis=1)
    others = np.log(np.exp(x - peak[:, None]).sum(axis=1)) + peak
    x[rows, y] = others + rng.uniform(-np.log(most), -np.log(least), len(x))
