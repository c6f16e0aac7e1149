"""Times, and the limits that memory sets: what is read once, what is copied once."""

import math
import os
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np
from cases import Case

SECONDS_PER_SAMPLE = 0.01
LEAST_SAMPLES = 5
# Pool threads of the one before may still spin when it is the next one's turn.
SETTLING_SECONDS = 0.003


class Competitor(NamedTuple):
    call: Callable[[], Any]
    restore: Callable[[], Any] | None = None  # gives back what a call overwrites; never timed


class Timed(Protocol):
    """Something that says how long a number of calls took, in seconds."""

    def seconds(self, count: int) -> float: ...


class InThisProcess:
    def __init__(self, competitor: Competitor) -> None:
        self.call, self.restore = competitor

    def seconds(self, count: int) -> float:
        if self.restore is None:
            start = time.perf_counter()
            for _ in range(count):
                self.call()
            return time.perf_counter() - start
        total = 0.0
        for _ in range(count):
            self.restore()
            start = time.perf_counter()
            self.call()
            total += time.perf_counter() - start
        return total


def usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def limits(x: Any, copies: bool) -> dict[str, tuple[Competitor, int]]:
    """The calls that only read or only copy the logits, and how many bytes each moves."""
    flat = x.reshape(-1).view(np.uint8)
    # The one reduction of NumPy that keeps up with memory: integers of any bits, no NaN to watch.
    words = flat[: flat.size // 8 * 8].view(np.int64)
    threads = usable_cpus() if x.nbytes >= 1 << 20 else 1
    if not copies:
        calls = {"limit: read": (Competitor(lambda: np.bitwise_or.reduce(words)), 1)}
        if threads > 1:
            read = in_threads(np.bitwise_or.reduce, threads, words)
            calls[f"limit: read, {threads} threads"] = (Competitor(read), 1)
    else:
        warm = np.zeros_like(flat)
        warm.fill(1)  # zeroed memory is not there yet
        calls = {
            "limit: x.copy()": (Competitor(x.copy), 2),
            "limit: copy into a warm array": (Competitor(lambda: np.copyto(warm, flat)), 2),
        }
        if threads > 1:
            copy = in_threads(np.copyto, threads, warm, flat)
            calls[f"limit: copy into a warm array, {threads} threads"] = (Competitor(copy), 2)
    return {who: (call, passes * x.nbytes) for who, (call, passes) in calls.items()}


def in_threads(function: Callable[..., Any], threads: int, *arrays: Any) -> Callable[[], None]:
    """NumPy's loops release the GIL, so parts of the arrays run side by side."""
    pool = ThreadPoolExecutor(threads - 1)
    parts = list(zip(*(np.array_split(array, threads) for array in arrays), strict=True))

    def call() -> None:
        others = [pool.submit(function, *part) for part in parts[1:]]
        function(*parts[0])
        for other in others:
            other.result()

    return call


def samples(timed: dict[str, Timed], rounds: int, budget: float) -> dict[str, list[float]]:
    """Seconds per call. A round times each once, in a random order, so that drift hits all alike.

    What would take more than `budget` seconds sits out some of the rounds, evenly spread.
    """
    count, turns = {}, {}
    for who, competitor in timed.items():
        competitor.seconds(1)  # warm-up: compilation, first touch of the memory
        once = competitor.seconds(1)
        count[who] = max(1, math.ceil(SECONDS_PER_SAMPLE / (once + 1e-9)))
        turns[who] = min(rounds, max(LEAST_SAMPLES, int(budget / (once * count[who]))))
    seconds: dict[str, list[float]] = {who: [] for who in timed}
    order = random.Random(0)
    for i in range(rounds):
        taking_part = [w for w in timed if i * turns[w] // rounds < (i + 1) * turns[w] // rounds]
        for who in order.sample(taking_part, len(taking_part)):
            time.sleep(SETTLING_SECONDS)
            seconds[who].append(timed[who].seconds(count[who]) / count[who])
    return seconds


def time_rows(
    case: Case, seconds: dict[str, list[float]], moved: dict[str, int], ours: str
) -> list[dict[str, Any]]:
    """A row of the result for everyone who was timed; `moved` has bytes other than the case's."""
    unit = statistics.median(seconds[ours])
    rows = []
    for who, taken in seconds.items():
        median = statistics.median(taken)
        low, _, high = statistics.quantiles(taken, n=4) if len(taken) > 1 else (median,) * 3
        rows.append(
            {
                "kind": "time",
                "what": case.what,
                "problem": case.problem,
                "who": who,
                "median_s": round(median, 9),
                "iqr_s": round(high - low, 9),
                "samples": len(taken),
                "ratio_to_ours": round(median / unit, 3),
                "bytes_per_s": round(moved.get(who, case.moved_bytes) / median),
            }
        )
    return rows
