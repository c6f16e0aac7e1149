"""Our own calls, in this process and, under a lower instruction set, in others."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from cases import Case, data
from measuring import Competitor, InThisProcess
from peers import peers

import crossent as xe
from crossent._doctor import examine

OURS = "crossent"


def our_calls(case: Case, x: Any, y: Any) -> dict[str, Competitor]:
    """The gradient goes into a new array, into a given one, or over the logits."""
    loss = xe.softmax_cross_entropy if case.loss == "softmax" else xe.sigmoid_cross_entropy
    if not case.wants_gradient:
        return {OURS: Competitor(lambda: loss(labels=y, logits=x))}
    given, overwritten = np.ones_like(x), x.copy()
    call = xe.numpy.value_and_grad
    return {
        OURS: Competitor(lambda: call(loss, labels=y, logits=x)),
        f"{OURS}, given out=": Competitor(lambda: call(loss, labels=y, logits=x, out=given)),
        # A second call would find a gradient where the logits were: rows of another kind.
        f"{OURS}, in place": Competitor(
            lambda: call(loss, labels=y, logits=overwritten, out=overwritten),
            restore=lambda: np.copyto(overwritten, x),
        ),
    }


def competitors(case: Case, x: Any, y: Any) -> dict[str, Competitor]:
    """Ours and everybody else's."""
    return our_calls(case, x, y) | peers(case, x, y)


class InstructionSet:
    """A process that takes part in the rounds of this one, its kernels capped by a variable."""

    def __init__(self, name: str, case: Case) -> None:
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__), json.dumps(case)],
            env={**os.environ, "CROSSENT_MAX_ISA": name},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.kernel = self.process.stdout.readline().strip()

    def seconds(self, count: int) -> float:
        print(count, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def stop(self) -> None:
        self.process.stdin.close()  # ends its loop
        self.process.wait()
        self.process.stdout.close()


@contextmanager
def lower_instruction_sets(case: Case) -> Iterator[dict[str, InstructionSet]]:
    """One process for each kernel that this processor runs beside its best."""
    native = examine().native
    names = native.supported_instruction_sets[:-1] if native else []
    workers = [(name, InstructionSet(name, case)) for name in names]
    try:
        yield {
            f"{OURS}, {name}": worker for name, worker in workers if worker.kernel.endswith(name)
        }
    finally:
        for _, worker in workers:
            worker.stop()


def serve(case: Case) -> None:
    """Says which kernel runs; then, for each count that it reads, how long that many calls took."""
    x, y = data(case)
    print(xe.kernel_for(x), flush=True)
    timed = InThisProcess(our_calls(case, x, y)[OURS])
    for line in sys.stdin:
        print(timed.seconds(int(line)), flush=True)


if __name__ == "__main__":
    serve(Case(*json.loads(sys.argv[1])))
