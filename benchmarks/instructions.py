"""Counts the instructions of the native kernels; a rise over 5 % fails.

    python benchmarks/instructions.py             compare with instructions.json
    python benchmarks/instructions.py --record    write the counts of this build there

Times on a shared machine spread by more than a kernel's slow decay; counts do not spread at all.
Callgrind runs one Python process for each instruction set, on one thread. `os.getppid`, which
nobody else calls, makes it write down what it has counted so far, so every kernel's second call
has a file of its own. Of that file what the compiled module itself executed counts, and no Python.
Valgrind does not know AVX-512: x86-64-v4 is not counted. Counts depend on the compiler: those of
each stand beside each other.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import crossent as xe
from crossent._doctor import examine

RECORD = Path(__file__).with_name("instructions.json")
MODULE = "/crossent/_native."
ALLOWED_RISE = 0.05
MARK = "getppid"
Counts = dict[str, int]


# ---- what is counted


def kernels() -> dict[str, Callable[[], Any]]:
    """One call for each kernel; sizes that take more than one block of a vector and a tail."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 1000), np.float32) * np.float32(3)
    ids = rng.integers(0, 1000, 64)
    q = rng.random(x.shape, np.float32)
    q /= q.sum(axis=1, keepdims=True)
    sure = x.copy()
    sure[np.arange(64), ids] = 40
    few, few_ids = np.ascontiguousarray(x[:, :640].reshape(-1, 10)), rng.integers(0, 10, 4096)
    long_row = rng.standard_normal((1, 150_000), np.float32)
    yes = rng.integers(0, 2, x.shape).astype(np.float32)
    softmax, sigmoid = xe.softmax_cross_entropy, xe.sigmoid_cross_entropy

    def loss(logits: Any, labels: Any, of: Any = softmax) -> Callable[[], Any]:
        return lambda: of(labels=labels, logits=logits)

    def gradient(logits: Any, labels: Any, of: Any = softmax, **options: Any) -> Callable[[], Any]:
        call = {"labels": labels, "logits": logits, "out": np.ones_like(logits), **options}
        return lambda: xe.numpy.value_and_grad(of, **call)

    return {
        "ids, float32, 64x1000, loss": loss(x, ids),
        "ids, float32, 64x1000, loss + gradient": gradient(x, ids),
        "ids, float32, 64x1000, confident rows, loss": loss(sure, ids),
        "ids, float32, 64x1000, confident rows, loss + gradient": gradient(sure, ids),
        "ids, float32, 4096x10, loss": loss(few, few_ids),
        "ids, float32, 4096x10, loss + gradient": gradient(few, few_ids),
        "weighted ids, float32, 4096x10, loss + gradient": gradient(
            few, few_ids, class_weight=np.arange(1.0, 11), ignore_index=3
        ),
        "ids, float32, 10x4096 transposed, loss": loss(np.asfortranarray(few), few_ids),
        "ids, float32, 1x150000, loss": loss(long_row, ids[:1]),
        "ids, float32, 1x150000, loss + gradient": gradient(long_row, ids[:1]),
        "ids, float64, 64x1000, loss + gradient": gradient(x.astype(np.float64), ids),
        "ids, float16, 64x1000, loss + gradient": gradient(x.astype(np.float16), ids),
        "ids, bfloat16, 64x1000, loss": loss(x.astype(ml_dtypes.bfloat16), ids),
        "ids, bfloat16, 64x1000, loss + gradient": gradient(x.astype(ml_dtypes.bfloat16), ids),
        "softcap, float32, 64x1000, loss + gradient": gradient(x, ids, softcap=30.0),
        "smoothing, float32, 64x1000, loss + gradient": gradient(x, ids, label_smoothing=0.1),
        "distributions, float32, 64x1000, loss": loss(x, q),
        "distributions, float32, 64x1000, loss + gradient": gradient(x, q),
        "sigmoid, float32, 64x1000, loss": loss(x, yes, sigmoid),
        "sigmoid, float32, 64x1000, loss + gradient": gradient(x, yes, sigmoid),
    }


def run_kernels() -> None:
    """What callgrind looks at: marks around the second call of each kernel, the first warms up."""
    for call in kernels().values():
        call()
        os.getppid()
        call()
        os.getppid()


# ---- callgrind


def counted(instruction_set: str) -> Counts:
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "out"
        run_callgrind(instruction_set, out)
        # Part 1 ends at the first mark; from then on every other part lies between two marks.
        names = list(kernels())
        parts = [out.with_name(f"out.{2 * i + 2}").read_text() for i in range(len(names))]
    return {name: instructions_of(part) for name, part in zip(names, parts, strict=True)}


def run_callgrind(instruction_set: str, out: Path) -> None:
    options = ["--tool=callgrind", f"--dump-before={MARK}", f"--callgrind-out-file={out}"]
    done = subprocess.run(
        ["valgrind", *options, sys.executable, Path(__file__), "--run"],
        # The same hashes, and no other threads: the same instructions in every run.
        env={
            **os.environ,
            "CROSSENT_MAX_ISA": instruction_set,
            "CROSSENT_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONHASHSEED": "0",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"valgrind must run the kernels; it ended with:\n{done.stderr[-2000:]}")


def instructions_of(dump: str, module: str = MODULE) -> int:
    """Instructions executed in functions of a shared object, without what they called elsewhere.

    The format is described in Valgrind's manual, "Callgrind Format Specification": `ob=` names the
    object of the functions that follow, `(number) name` at its first mention and `(number)` later;
    the line after `calls=` holds what the callee took, all others what the function itself took.
    """
    names: dict[str, str] = {}
    total, is_inside, is_callee = 0, False, False
    for line in dump.splitlines():
        if mentioned := re.match(r"(c?ob)=\((\d+)\)(?: (.*))?$", line):
            kind, number, name = mentioned.groups()
            names[number] = name or names[number]
            is_inside = module in names[number] if kind == "ob" else is_inside
        elif line.startswith("calls="):
            is_callee = True
        elif re.match(r"[+*\d-]", line):
            total += int(line.split()[1]) if is_inside and not is_callee else 0
            is_callee = False
    return total


# ---- the record


def rises(recorded: Counts, now: Counts) -> list[str]:
    """What is wrong, one line for each kernel; a kernel that is on one side only is wrong too."""
    found = []
    for name in {**recorded, **now}:
        if name not in now or name not in recorded:
            where = "recorded" if name in recorded else "counted"
            found.append(f"{name}: only {where}. Record again with --record.")
            continue
        if not now[name]:
            found.append(f"{name}: no instruction of the native core ran.")
        elif now[name] > recorded[name] * (1 + ALLOWED_RISE):
            percent = 100 * (now[name] / recorded[name] - 1)
            found.append(
                f"{name}: {now[name]:,} instructions, {percent:.1f} % more than the "
                f"{recorded[name]:,} on record; {100 * ALLOWED_RISE:.0f} % are allowed. "
                "Find the cause, or record again with --record and say why."
            )
    return found


def instruction_sets() -> list[str]:
    """Those that Valgrind can run."""
    return ["x86-64-v2", "x86-64-v3"] if platform.machine() == "x86_64" else ["arm64"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="write the counts of this build")
    parser.add_argument("--run", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run_kernels()
        return
    native = examine().native
    if native is None or shutil.which("valgrind") is None:
        sys.exit("counting needs the native core and Valgrind; build the one, install the other")
    every = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    now = {name: counted(name) for name in instruction_sets()}
    for name, counts in now.items():
        print(name, *(f"  {count:>12,}  {kernel}" for kernel, count in counts.items()), sep="\n")
    if options.record:
        RECORD.write_text(json.dumps({**every, native.compiler: now}, indent=1) + "\n")
        print(f"written: {RECORD.name}, {native.compiler}")
        return
    if native.compiler not in every:
        sys.exit(f"no counts of {native.compiler} are on record; write them with --record")
    wrong = [
        f"{name}, {line}"
        for name in {**every[native.compiler], **now}
        for line in rises(every[native.compiler].get(name, {}), now.get(name, {}))
    ]
    sys.exit("\n".join(wrong) or 0)


if __name__ == "__main__":
    main()
