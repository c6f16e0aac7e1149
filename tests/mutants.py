"""Puts one fault at a time into a copy of the sources and checks that the named tests notice it.

    python tests/mutants.py [word ...]     all faults, or those whose place or text has a word

The working tree is never touched: each fault gets its own copy in a temporary directory. A fault
counts as killed only if tests fail: no tests found, an import that breaks, a crash or a time limit
do not count. The same tests must pass on a copy without any fault.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("src", "tests", "examples", "docs", "pyproject.toml")
SECONDS = 300


class Fault(NamedTuple):
    """One line of a source file, replaced; `old` must occur in the file exactly once."""

    file: str  # below src/crossent
    old: str
    new: str
    tests: str  # files below tests/, and what else pytest takes


CONTRACT = "test_contract.py"
AUDIT = "test_audit.py test_audit_task.py test_audit_bits.py"
RULES = "test_rules.py test_rule_thresholds.py"

FAULTS = [
    # ---- the formula
    Fault(
        "_row_stats.py",
        "log_sum = xp.log1p(parts.rest) + parts.poison\n    if labels.ndim == logits.ndim",
        "log_sum = xp.log(1 + parts.rest) + parts.poison\n    if labels.ndim == logits.ndim",
        CONTRACT,
    ),
    Fault(
        "_row_stats.py",
        "xp.expm1(xp.pick(parts.gap, labels) - log_sum)",
        "xp.exp(xp.pick(parts.gap, labels) - log_sum) - 1",
        CONTRACT,
    ),
    Fault(
        "_row_stats.py",
        "xp.expm1(xp.pick(parts.gap, largest) - log_sum)",
        "(xp.exp(xp.pick(parts.gap, largest) - log_sum) - 1)",
        "test_contract.py test_same_bits.py",
    ),
    Fault(
        "_row_stats.py",
        "at_peak = xp.arange(x.shape[-1]) == highest[..., None]",
        "at_peak = x == peak",
        CONTRACT,
    ),
    Fault(
        "_row_stats.py",
        "xp.times(target_sum, label_gap), xp.times(target_sum, nll)",
        "xp.times(target_sum, label_gap), nll",
        CONTRACT,
    ),
    Fault("_row_stats.py", "rest, peak - peak, slope", "rest, 0.0 * rest, slope", CONTRACT),
    Fault("_row_stats.py", "gradient * parts.slope", "gradient", CONTRACT),
    Fault(
        "_row_stats.py",
        "sum(terms[1:], terms[0]) / options.temperature",
        "sum(terms[1:], terms[0])",
        CONTRACT,
    ),
    Fault("_row_stats.py", "if options.compensate:", "if not options:", CONTRACT),
    Fault(
        "_row_stats.py",
        "return xp.where(used[..., None], gradient, 0.0)",
        "return gradient",
        "test_edges.py",
    ),
    Fault("_row_stats.py", "xp.where(masked, 0.0, 1.0)", "xp.where(masked, 1.0, 1.0)", CONTRACT),
    Fault(
        "_row_stats.py",
        "unmasked / xp.sum(unmasked, axis=-1, keepdims=True)",
        "unmasked / (xp.sum(unmasked, axis=-1, keepdims=True) - 1)",
        CONTRACT,
    ),
    Fault(
        "_row_stats.py",
        "return 0.0 - (scores if log else xp.log(scores))",
        "return 0.0 - (scores if log else xp.log(scores + 1e-12))",
        CONTRACT,
    ),
    # ---- the losses
    Fault("losses.py", 'if reduction == "mean_all" or (', "if (", CONTRACT),
    Fault(
        "losses.py",
        "losses = xp.where(kept, losses, 0.0)",
        "losses = xp.where(kept, losses, losses)",
        CONTRACT,
    ),
    Fault(
        "losses.py",
        "return xp.sum(weight if kept is None else xp.where(kept, weight, 0.0))",
        "return xp.sum(weight)",
        CONTRACT,
    ),
    Fault(
        "losses.py", "z = xp.widen(z) * (1 - s) + s / 2", "z = xp.widen(z) * (1 - s) + s", CONTRACT
    ),
    Fault(
        "losses.py",
        "_scaled(xp, z * lse * lse, row_weight)",
        "_scaled(xp, z * lse * lse, None)",
        CONTRACT,
    ),
    Fault("_row_stats.py", "* xp.log1p(xp.exp(-size))", "* xp.log(1 + xp.exp(-size))", CONTRACT),
    Fault(
        "_row_stats.py",
        "xp.where((slope == 0) & (size == xp.inf), 0.0, size)",
        "size",
        CONTRACT,
    ),
    Fault(
        "_row_stats.py",
        "x >= 0, z if r is None else r * z\n",
        "x >= 0, z if r is None else r\n",
        CONTRACT,
    ),
    Fault(
        "losses.py",
        "_one_minus_exp(xp, inner) ** gamma * inner",
        "(1 - xp.exp(-inner)) ** gamma * inner",
        CONTRACT,
    ),
    Fault(
        "losses.py",
        "return xp.stop_gradient(xp.widen(value))",
        "return xp.widen(value)",
        "test_edges.py",
    ),
    # ---- measures
    Fault(
        "information.py",
        "value = value + xp.sum(q * xp.log(xp.where(q == 0, 1.0, q)), axis=-1)",
        "value = xp.sum(q * xp.log(xp.where(q == 0, 1.0, q)), axis=-1) - value",
        "test_contract_information.py",
    ),
    Fault(
        "information.py",
        "else math.log(2)",
        "else math.log2(math.e)",
        "test_contract_information.py",
    ),
    Fault(
        "information.py",
        "middle = xp.where(s >= 0, s, -s) < 0.5",
        "middle = xp.where(s >= 0, s, -s) < 0.0",
        "test_edges.py",
    ),
    # ---- the door to NumPy
    Fault(
        "numpy.py",
        "return np.where(weight == 0, 0.0, weight * values)",
        "return weight * values",
        CONTRACT,
    ),
    Fault(
        "numpy.py",
        "x if dtype == np.float64 else x.astype(dtype).astype(np.float64)",
        "x",
        CONTRACT,
    ),
    Fault(
        "numpy.py",
        'return np.array(block, np.float64, order="C")',
        "return np.asarray(block)",
        CONTRACT,
    ),
    # ---- checks of values
    Fault(
        "_checks.py",
        "bad = kept & ~((labels >= 0) & (labels < num_classes))",
        "bad = kept & ~((labels >= -num_classes) & (labels < num_classes))",
        "test_value_checks.py",
    ),
    Fault(
        "_checks.py",
        "return min(epsilon * (4 + 2 * math.sqrt(num_classes)), 0.05)",
        "return 0.05",
        "test_value_checks.py test_audit.py",
    ),
    Fault(
        "_checks.py",
        "bad = (probs < 0) | (probs > 1)",
        "bad = probs < 0",
        "test_value_checks.py",
    ),
    Fault(
        "_checks.py",
        "padded = shape + (1,) * (len(rows) - len(shape))",
        "padded = (1,) * (len(rows) - len(shape)) + shape",
        CONTRACT,
    ),
    # ---- TensorFlow's and Keras' names
    Fault(
        "tf_compat/_cross_entropy.py",
        "    if stop_labels:",
        "    if not stop_labels:",
        "test_golden.py test_tf_compat.py",
    ),
    Fault(
        "tf_compat/_cross_entropy.py",
        "excess = xp.stop_gradient(statistics.target_sum) - 1",
        "excess = xp.stop_gradient(statistics.target_sum) * 0",
        "test_golden.py test_tf_compat.py",
    ),
    Fault(
        "tf_compat/_weighted.py",
        "present = xp.where(weights == 0, 0.0, 1.0)",
        "present = weights",
        "test_golden.py",
    ),
    Fault(
        "tf_compat/keras/_formulas.py",
        "self.rounded(xp, self.epsilon), self.rounded(xp, 1 - self.epsilon)",
        "self.rounded(xp, self.epsilon), 1.0",
        "test_golden.py",
    ),
    Fault(
        "tf_compat/keras/_formulas.py",
        "more = clip.rounded(xp, clip.epsilon) if offset else 0.0",
        "more = 0.0",
        "test_golden.py",
    ),
    # ---- rules
    Fault(
        "rules/kinds.py",
        "return math.log(math.e + num_classes - 1) - 1",
        "return math.log(math.e + num_classes) - 1",
        RULES,
    ),
    Fault("rules/kinds.py", "fit.rows < 300 or fit.best <= 2.5", "fit.best <= 1.0", RULES),
    Fault("rules/labels.py", "return _shift_z(p) > -5", "return _shift_z(p) > 5", RULES),
    Fault("rules/labels.py", "not 0.001 <= share <= 0.95", "not 0.01 <= share <= 0.95", RULES),
    # ---- audits
    Fault(
        "auditing/tally.py",
        "np.minimum((scored.confidence * bins).astype(np.int64), bins - 1)",
        "np.maximum(np.ceil(scored.confidence * bins).astype(np.int64) - 1, 0)",
        "test_edges.py",
    ),
    Fault("auditing/tally.py", "self._keep_worst(other._worst)", "pass", AUDIT),
    Fault(
        "auditing/tally.py",
        "(-row.loss, row.row, row.output",
        "(-row.loss, -row.row, row.output",
        AUDIT,
    ),
    Fault(
        "auditing/tally.py",
        "left = -(-sum(self._tail_count.values()) // 100)",
        "left = sum(self._tail_count.values()) // 100",
        "test_edges.py",
    ),
    Fault(
        "auditing/exact.py", "low = (scaled - high) * 2.0**27", "low = (scaled - high) * 0", AUDIT
    ),
    Fault(
        "auditing/scoring.py",
        "losses.sigmoid_cross_entropy(\n        labels=target[kept]",
        "losses.sigmoid_cross_entropy(\n        labels=1 - target[kept]",
        AUDIT,
    ),
]

# The copy's crossent must be the one that is imported, also in processes that tests start. An
# editable install puts a finder in front of PYTHONPATH; Python runs sitecustomize after it.
SITECUSTOMIZE = """
import sys
sys.meta_path[:] = [f for f in sys.meta_path if not type(f).__name__.startswith("ScikitBuild")]
"""
# pytest's own status is moved away from 1, with which Python itself ends when something breaks.
PASSED, FAILED = 10, 11
RUN_TESTS = f"""
import sys
from pathlib import Path
import crossent, pytest
if not Path(crossent.__file__).is_relative_to(Path.cwd()):
    sys.exit("the tests would run on " + crossent.__file__)
sys.exit({PASSED} + pytest.main(sys.argv[1:]))
"""


def make_copy(directory: Path) -> None:
    for name in COPIED:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.so", ".hypothesis")
            shutil.copytree(ROOT / name, directory / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, directory / name)
    (directory / "src/sitecustomize.py").write_text(SITECUSTOMIZE)


def apply(fault: Fault, directory: Path) -> str:
    """What stands in the way, or nothing."""
    path = directory / "src/crossent" / fault.file
    text = path.read_text() if path.exists() else ""
    if text.count(fault.old) != 1:
        return f"no longer applies: its old text occurs {text.count(fault.old)} times"
    path.write_text(text.replace(fault.old, fault.new))
    return ""


def run_tests(tests: str, directory: Path) -> tuple[int, str]:
    """The exit status (PASSED, FAILED or other); the first failed test, or the last line."""
    names = [f"tests/{word}" if word.startswith("test_") else word for word in tests.split()]
    environment = {
        **os.environ,
        "PYTHONPATH": str(directory / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
        **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1"),
    }
    options = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [sys.executable, "-c", RUN_TESTS, *options, *names],
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -1, f"still running after {SECONDS} s"
    lines = (done.stdout + done.stderr).strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return done.returncode, (failed or lines or ["no output"])[0 if failed else -1][:110]


def judge(fault: Fault | None, tests: str = "") -> tuple[bool, str]:
    """Whether the fault was killed (None: whether these tests pass without one), and the story."""
    with tempfile.TemporaryDirectory(prefix="crossent-mutant-") as name:
        directory = Path(name).resolve()
        make_copy(directory)
        problem = apply(fault, directory) if fault else ""
        if problem:
            return False, problem
        status, story = run_tests(fault.tests if fault else tests, directory)
        return status == (FAILED if fault else PASSED), story


def chosen(words: list[str]) -> list[Fault]:
    return [f for f in FAULTS if not words or any(w in " ".join(f) for w in words)]


def main(words: list[str]) -> int:
    faults = chosen(words)
    every_test = " ".join(sorted({word for fault in faults for word in fault.tests.split()}))
    killed = 0
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        # First, because it takes longest.
        sound = pool.submit(judge, None, every_test)
        for fault, (is_killed, story) in zip(faults, pool.map(judge, faults), strict=True):
            killed += is_killed
            line = " ".join(fault.new.split("\n")[0].split())
            print(
                f"{'killed' if is_killed else 'SURVIVED'}: {fault.file}: {line}: {story}",
                flush=True,
            )
    passes, story = sound.result()
    if not passes:
        print(f"the tests fail without any fault: {story}")
    print(f"killed {killed} of {len(faults)}")
    return 0 if passes and faults and killed == len(faults) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
