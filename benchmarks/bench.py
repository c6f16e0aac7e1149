"""Times and checks crossent beside what people use instead, in one process, and writes a result.

    python benchmarks/bench.py                    all cases; writes results/<processor>-<cores>.json
    python benchmarks/bench.py --only 8192x1000   cases whose name has the text; writes nothing
    python benchmarks/bench.py --smoke            every case, tiny; writes nothing
    python benchmarks/bench.py --table            writes the tables from the newest result file

README.md in this directory has the protocol.
"""

import argparse
import importlib.metadata
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import mpmath
import numpy as np
from scipy.special import expit, log_softmax, logsumexp, softmax
from sklearn.metrics import log_loss
from tables import HERE, OURS, cells, write_tables

import crossent as xe

Competitors = dict[str, Callable[[], Any]]
SECONDS_PER_SAMPLE = 0.01
# How often each limit passes over the logits.
LIMITS = {"limit: x.max()": 1, "limit: x.copy()": 2}


class Case(NamedTuple):
    """One problem in float32; `what` is "loss" or "loss + gradient"."""

    loss: str
    labels: str
    what: str
    rows: int
    classes: int

    @property
    def name(self) -> str:
        return f"{self.loss}, {self.labels}, {self.what}, {self.rows}x{self.classes}"

    @property
    def moved_bytes(self) -> int:
        """The least that must move: the logits in, a gradient out, a distribution or labels in."""
        arrays = 1 + (self.what != "loss") + (self.labels != "ids")
        return 4 * arrays * self.rows * self.classes


CASES = [
    Case(loss, labels, what, rows, classes)
    for loss, labels, rows, classes in (
        ("softmax", "ids", 128, 10),
        ("softmax", "ids", 8192, 1000),
        ("softmax", "ids", 2048, 32000),
        ("softmax", "distributions", 2048, 1000),
        ("sigmoid", "yes/no", 8192, 1000),
    )
    for what in ("loss", "loss + gradient")
]


# ---- what people write


def numpy_softmax(x: Any, y: Any, gradient: bool) -> Any:
    """Log-sum-exp with the peak subtracted, in the dtype of the logits."""
    peak = x.max(axis=1, keepdims=True)
    exp = np.exp(x - peak)
    total = exp.sum(axis=1, keepdims=True)
    lse = np.log(total) + peak
    rows = np.arange(len(x))
    is_ids = y.ndim == 1
    loss = ((lse[:, 0] - x[rows, y]) if is_ids else ((lse - x) * y).sum(axis=1)).mean()
    if not gradient:
        return loss
    exp /= total
    if is_ids:
        exp[rows, y] -= 1
    else:
        exp -= y
    exp /= len(x)
    return loss, exp


def scipy_softmax(x: Any, y: Any, gradient: bool) -> Any:
    rows = np.arange(len(x))
    if y.ndim == 1:
        loss = (logsumexp(x, axis=1) - x[rows, y]).mean()
    else:
        loss = -(y * log_softmax(x, axis=1)).sum(axis=1).mean()
    if not gradient:
        return loss
    p = softmax(x, axis=1)
    if y.ndim == 1:
        p[rows, y] -= 1
    else:
        p -= y
    p /= len(x)
    return loss, p


def numpy_sigmoid(x: Any, z: Any, gradient: bool) -> Any:
    """TensorFlow's documented form, and the sigmoid as it is usually written."""
    loss = (np.maximum(x, 0) - x * z + np.log1p(np.exp(-np.abs(x)))).mean()
    return (loss, (1 / (1 + np.exp(-x)) - z) / x.size) if gradient else loss


def scipy_sigmoid(x: Any, z: Any, gradient: bool) -> Any:
    loss = (np.logaddexp(0, x) - x * z).mean()
    return (loss, (expit(x) - z) / x.size) if gradient else loss


def problem(case: Case) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((case.rows, case.classes), np.float32) * np.float32(3)
    if case.labels == "ids":
        return x, rng.integers(0, case.classes, case.rows)
    if case.labels == "distributions":
        y = rng.random(x.shape, np.float32)
        return x, y / y.sum(axis=1, keepdims=True)
    return x, rng.integers(0, 2, x.shape).astype(np.float32)


def competitors(case: Case) -> Competitors:
    x, y = problem(case)
    gradient = case.what != "loss"
    is_softmax = case.loss == "softmax"
    ours = xe.softmax_cross_entropy if is_softmax else xe.sigmoid_cross_entropy
    written = numpy_softmax if is_softmax else numpy_sigmoid
    scipy_form = scipy_softmax if is_softmax else scipy_sigmoid
    calls: Competitors = {
        OURS: (lambda: xe.numpy.value_and_grad(ours, labels=y, logits=x))
        if gradient
        else (lambda: ours(labels=y, logits=x)),
        "NumPy formula": lambda: written(x, y, gradient),
        "NumPy formula, float64": lambda: written(x.astype(np.float64), y, gradient),
        "scipy.special": lambda: scipy_form(x, y, gradient),
    }
    # It starts from probabilities, given here for free, and makes a dense one-hot array of ids.
    if case.labels == "ids" and not gradient and case.classes <= 1000:
        p, classes = softmax(x, axis=1), np.arange(case.classes)
        calls["sklearn log_loss"] = lambda: log_loss(y, p, labels=classes)
    calls["limit: x.max()"] = x.max
    calls["limit: x.copy()"] = x.copy
    return calls


# ---- time and memory


def timed(calls: Competitors, repeats: int) -> dict[str, list[float]]:
    """Seconds per call; every round measures each competitor once, so drift hits all alike."""
    count = {}
    for who, call in calls.items():
        call()  # warm-up: imports, first touch of the memory
        start = time.perf_counter()
        call()
        count[who] = max(1, math.ceil(SECONDS_PER_SAMPLE / (time.perf_counter() - start + 1e-9)))
    seconds: dict[str, list[float]] = {who: [] for who in calls}
    for _ in range(repeats):
        for who, call in calls.items():
            start = time.perf_counter()
            for _ in range(count[who]):
                call()
            seconds[who].append((time.perf_counter() - start) / count[who])
    return seconds


def peak_bytes(call: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def time_rows(case: Case, repeats: int) -> list[dict[str, Any]]:
    calls = competitors(case)
    seconds = timed(calls, repeats)
    ours = statistics.median(seconds[OURS])
    rows = []
    for who, samples in seconds.items():
        median = statistics.median(samples)
        passes = LIMITS.get(who)
        moved = passes * 4 * case.rows * case.classes if passes else case.moved_bytes
        low, _, high = statistics.quantiles(samples, n=4) if len(samples) > 1 else (median,) * 3
        rows.append(
            {
                "kind": "time",
                "case": case.name,
                "who": who,
                "median_s": round(median, 9),
                "iqr_s": round(high - low, 9),
                "ratio_to_ours": round(median / ours, 3),
                "bytes_per_s": round(moved / median),
                "peak_bytes": peak_bytes(calls[who]),
            }
        )
    return rows


# ---- accuracy


def exact_losses(x: Any, y: Any) -> list[Any]:
    """-log softmax of the label in 60 digits."""
    with mpmath.workdps(60):
        # Not log of the whole sum less x_y: relative to the label, 1 + a small rest.
        return [
            mpmath.log1p(
                mpmath.fsum(
                    mpmath.exp(mpmath.mpf(float(v)) - float(row[label]))
                    for j, v in enumerate(row)
                    if j != label
                )
            )
            for row, label in zip(x, y.tolist(), strict=True)
        ]


def accuracy_problem(kind: str, rows: int) -> tuple[Any, Any]:
    """Random rows of 100 classes, or rows whose label is so sure that the loss is about 1e-12."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((rows, 100), np.float32) * np.float32(3)
    y = rng.integers(0, 100, rows)
    if kind == "confident":
        x = np.minimum(x, np.float32(6))
        x[np.arange(rows), y] = 36 + rng.random(rows, np.float32)
    return x, y


def accuracy_competitors(x: Any, y: Any) -> Competitors:
    rows, classes = np.arange(len(x)), np.arange(x.shape[1])

    def written(logits: Any) -> Any:
        peak = logits.max(axis=1, keepdims=True)
        return (np.log(np.exp(logits - peak).sum(axis=1)) + peak[:, 0]) - logits[rows, y]

    def by_sklearn() -> Any:
        p = softmax(x, axis=1)
        one = slice(None)
        return [
            log_loss([label], q[None, one], labels=classes) for label, q in zip(y, p, strict=True)
        ]

    return {
        OURS: lambda: xe.softmax_cross_entropy(labels=y, logits=x, reduction="none"),
        "NumPy formula": lambda: written(x),
        "NumPy formula, float64": lambda: written(x.astype(np.float64)),
        "scipy.special": lambda: -log_softmax(x, axis=1)[rows, y],
        "sklearn log_loss": by_sklearn,
    }


def accuracy_rows(kind: str, rows: int) -> list[dict[str, Any]]:
    x, y = accuracy_problem(kind, rows)
    exact = exact_losses(x, y)
    high = np.array([float(e) for e in exact])
    # All are judged as the float32 that the logits are: a float64 result is rounded to it.
    ulp = np.spacing(high.astype(np.float32)).astype(np.float64)
    result = []
    for who, call in accuracy_competitors(x, y).items():
        error = np.abs(np.asarray(call(), np.float32).astype(np.float64) - high)
        result.append(
            {
                "kind": "accuracy",
                "case": f"softmax, ids, {kind} rows, {rows}x100",
                "who": who,
                "median_loss": float(f"{np.median(high):.3g}"),
                "max_ulp": float(f"{(error / ulp).max():.3g}"),
                "median_ulp": float(f"{np.median(error / ulp):.3g}"),
                "max_relative_error": float(f"{(error / high).max():.3g}"),
            }
        )
    return result


# ---- the result file


def processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def commit() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=HERE, capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    changed = git("status", "--porcelain", "--", "../src")
    return (git("rev-parse", "--short", "HEAD") or "none") + (" + changes" if changed else "")


def environment(repeats: int) -> dict[str, Any]:
    packages = ("numpy", "scipy", "scikit-learn", "autograd")
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "kernel": xe.kernel_for(np.zeros((1, 2), np.float32)),
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "repeats": repeats,
    }


def result_path(about: dict[str, Any]) -> Path:
    words = re.sub(r"\((r|tm)\)", " ", str(about["processor"]), flags=re.IGNORECASE)
    slug = "-".join(re.findall(r"[a-z0-9.]+", words.lower()))
    return HERE / "results" / f"{slug}-{about['cores']}.json"


def measured(only: str, repeats: int, smoke: bool) -> list[dict[str, Any]]:
    rows = []
    cases = [case for case in CASES if only in case.name]
    if smoke:
        small = [c._replace(rows=min(c.rows, 64), classes=min(c.classes, 50)) for c in cases]
        cases = list(dict.fromkeys(small))
    for case in cases:
        rows += time_rows(case, repeats)
        show(case.name, rows)
    for kind in ("random", "confident"):
        if only in f"softmax, ids, {kind} rows":
            rows += accuracy_rows(kind, 8 if smoke else 256)
            show(rows[-1]["case"], rows)
    return rows


def show(case: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{case}")
    for row in (row for row in rows if row["case"] == case):
        print("  " + "  ".join(f"{cell:>18}" for cell in cells(row)))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name has the text")
    parser.add_argument("--repeats", type=int, default=11, help="samples of each time")
    parser.add_argument("--out", type=Path, help="result file to write")
    parser.add_argument("--smoke", action="store_true", help="tiny cases, nothing written")
    parser.add_argument("--table", action="store_true", help="only write the tables again")
    options = parser.parse_args(arguments)
    if options.table:
        write_tables()
        return
    repeats = 2 if options.smoke else options.repeats
    rows = measured(options.only, repeats, options.smoke)
    if not rows:
        sys.exit(f"no case has {options.only!r} in its name")
    about = environment(repeats)
    path = options.out or (None if options.smoke or options.only else result_path(about))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"environment": about, "rows": rows}, indent=1) + "\n")
        print(f"\nwritten: {path}")


if __name__ == "__main__":
    main()
