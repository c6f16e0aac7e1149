"""Times and checks crossent beside what people use instead, in one process, and writes a result.

    python benchmarks/bench.py                    all cases; writes results/<processor>-<cores>.json
    python benchmarks/bench.py --only 8192x1000   cases whose name has the text; writes nothing
    python benchmarks/bench.py --smoke            every case, tiny; writes nothing
    python benchmarks/bench.py --table            writes tables and plots from the result files

README.md in this directory has the protocol.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Before TensorFlow and torch are imported: no log of TensorFlow's start, and no processes that
# compile ahead for torch while others are timed.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

import numpy as np
from accuracy import REGIMES, accuracy_rows
from cases import CASES, Case, data
from libraries import KEPT, LIBRARIES, cases_of, library_rows, missing
from measuring import InThisProcess, Timed, limits, samples, time_rows, usable_cpus
from memory import peak_bytes
from ours import OURS, competitors, lower_instruction_sets
from plot import write_plots
from tables import HERE, cells, write_tables

import crossent as xe

# Distributions that may bring a library; the first one found counts.
PACKAGES = (
    *("numpy", "ml-dtypes", "autograd", "scipy", "scikit-learn", "torch", "jax", "jaxlib", "optax"),
    *("tensorflow", "tensorflow-cpu", "keras"),
)
# Of the seconds for a competitor: there are many cases, and fewer competitors to compare.
LIBRARY_SHARE = 0.35


def rows_of_case(case: Case, rounds: int, budget: float) -> list[dict[str, Any]]:
    x, y = data(case)
    calls = competitors(case, x, y)
    moved = dict.fromkeys(calls, case.moved_bytes)
    for who, (call, moves) in limits(x, copies=case.wants_gradient).items():
        calls[who], moved[who] = call, moves
    timed: dict[str, Timed] = {who: InThisProcess(call) for who, call in calls.items()}
    if wants_instruction_sets(case):
        with lower_instruction_sets(case) as others:
            seconds = samples(timed | others, rounds, budget)
    else:
        seconds = samples(timed, rounds, budget)
    return time_rows(case, seconds, moved, OURS)


def wants_instruction_sets(case: Case) -> bool:
    return case.problem == "softmax, ids, float32, 2048x32000"


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

    changed = git("status", "--porcelain", "--", "../src", "../native")
    return (git("rev-parse", "--short", "HEAD") or "none") + (" + changes" if changed else "")


def versions() -> dict[str, str]:
    """Of the packages that are installed: a library that is not named here took no part."""
    found = {}
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def environment() -> dict[str, Any]:
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": usable_cpus(),
        "python": platform.python_version(),
        "versions": versions(),
        "kernel": xe.kernel_for(np.zeros((1, 2), np.float32)),
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def result_path(about: dict[str, Any]) -> Path:
    words = re.sub(r"\((r|tm)\)", " ", str(about["processor"]), flags=re.IGNORECASE)
    slug = "-".join(re.findall(r"[a-z0-9.]+", words.lower()))
    return HERE / "results" / f"{slug}-{about['cores']}.json"


def write_result(path: Path, about: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """One row a line, so that a difference between two runs is one between lines."""
    lines = ",\n".join(json.dumps(row, allow_nan=False) for row in rows)
    head = json.dumps(about, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{{\n"environment": {head},\n"rows": [\n{lines}\n]\n}}\n')


def smaller(case: Case) -> Case:
    return case._replace(rows=min(case.rows, 64), classes=min(case.classes, 50))


def measured(only: str, rounds: int, budget: float, smoke: bool) -> list[dict[str, Any]]:
    rows = []
    cases = [case for case in CASES if only in case.name]
    if smoke:
        cases = list(dict.fromkeys(smaller(case) for case in cases))
    for case in cases:
        found = rows_of_case(case, rounds, budget)
        show(case.name, found)
        rows += found
    print("\npeak memory, in another process ...", flush=True)
    peaks = peak_bytes(cases)
    for row in rows:
        peak = peaks.get(f"{row['problem']}, {row['what']}", {}).get(row["who"])
        row["peak_bytes"] = peak
    for library in LIBRARIES:
        rows += measured_on(library, only, rounds, budget, smoke)
    for regime in REGIMES:
        if only in f"accuracy, {regime}":
            found = accuracy_rows(regime, 16 if smoke else 2048)
            for what in dict.fromkeys(row["what"] for row in found):
                show(f"{what}, {regime}", [row for row in found if row["what"] == what])
            rows += found
    return rows


def measured_on(
    library: str, only: str, rounds: int, budget: float, smoke: bool
) -> list[dict[str, Any]]:
    """Crossent on a library's own arrays beside that library's own ways."""
    cases = [case for case in cases_of(library) if only in f"{library}: {case.name}"]
    if smoke:
        cases = [] if library.endswith(KEPT) else tiny(cases)  # tiny, they are the others'
    absent = missing(library)
    if cases and absent:
        print(f"\n{library} is left out: no module {', '.join(absent)}", flush=True)
    if not cases or absent:
        return []
    rows = []
    for found in library_rows(library, cases, rounds, budget * LIBRARY_SHARE):
        show(f"{library}: {found[0]['problem']}, {found[0]['what']}", found)
        rows += found
    # What is kept for the next array would seem to need none.
    peaks = {} if library.endswith(KEPT) else peak_bytes(cases, library)
    for row in rows:
        peak = peaks.get(f"{row['problem']}, {row['what']}", {}).get(row["who"])
        row["peak_bytes"] = peak
    return rows


def tiny(cases: list[Case]) -> list[Case]:
    """Each loss in one dtype: torch.compile takes seconds for each case."""
    dtypes = {"softmax": "float32", "sigmoid": "bfloat16"}
    chosen = [case for case in cases if case.dtype == dtypes[case.loss]]
    return list(dict.fromkeys(case._replace(rows=8, classes=10) for case in chosen))


def show(title: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{title}")
    for row in rows:
        who, *others = cells(row)
        print(f"  {who:<40}" + "".join(f"{cell:>14}" for cell in others), flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name has the text")
    parser.add_argument("--rounds", type=int, default=15, help="most samples of each time")
    parser.add_argument(
        "--budget", type=float, default=1.5, help="seconds for each competitor of a case"
    )
    parser.add_argument("--out", type=Path, help="result file to write")
    parser.add_argument("--smoke", action="store_true", help="tiny cases, nothing written")
    parser.add_argument("--table", action="store_true", help="only write tables and plots again")
    options = parser.parse_args(arguments)
    if options.table:
        write_tables()
        write_plots()
        return
    rounds = 2 if options.smoke else options.rounds
    rows = measured(options.only, rounds, options.budget, options.smoke)
    if not rows:
        sys.exit(f"no case has {options.only!r} in its name")
    about = environment() | {"rounds": rounds}
    path = options.out or (None if options.smoke or options.only else result_path(about))
    if path is not None:
        write_result(path, about, rows)
        print(f"\nwritten: {path}")


if __name__ == "__main__":
    main()
