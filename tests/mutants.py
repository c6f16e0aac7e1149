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
from threading import Lock
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("src", "native", "tests", "examples", "docs", "pyproject.toml", "CMakeLists.txt")
SECONDS = 300


class Fault(NamedTuple):
    """One line of a source file, replaced; `old` must occur in the file exactly once."""

    file: str  # below src/crossent, or native/...
    old: str
    new: str
    tests: str  # files below tests/, and what else pytest takes


CONTRACT = "test_contract.py"
AUDIT = "test_audit.py test_audit_task.py test_audit_bits.py"
RULES = "test_rules.py test_rule_thresholds.py"
EXACT_SUM = "test_exact_sum.py"  # compiles the source that it tests
DOORS = ("_torch_native.py", "_jax_native.py", "_jax_formula.py", "_tensorflow_native.py")

FAULTS = [
    # ---- the doors of the libraries
    Fault(
        "_jax_native.py",
        "value = jax.lax.psum(value, tuple(over))",
        "pass",
        "test_jax.py::test_sharded_jit_calls_on_every_device_and_gathers_no_logits",
    ),
    Fault(
        "_jax_native.py",
        "if size % math.prod(mesh.shape[name] for name in names):",
        "if False:",
        "test_jax.py::test_rows_that_devices_do_not_have_as_many_of",
    ),
    Fault(
        "_jax_native.py",
        "if given.logits.dtype == jnp.float16:",
        "if False:",
        "test_jax.py",
    ),
    Fault(
        "_jax_native.py",
        "if manual and manual != set(axes.mesh.axis_names):",
        "if False:",
        "test_jax.py::test_a_shard_map_of_some_axes",
    ),
    Fault(
        "_jax_native.py",
        'mlir.register_lowering(_linear_loss, _lowered_on_cpu, platform="cpu")',
        "mlir.register_lowering(_linear_loss, _lowered_on_cpu)",
        "test_jax.py::test_a_program_for_another_platform_holds_the_formula",
    ),
    Fault(
        "_jax_native.py",
        "return flow if others is None else flow + others",
        "return flow",
        "test_jax.py::test_logits_and_weights_at_once",
    ),
    Fault(
        "_jax_native.py",
        "return _in_groups(partial(rule, options), form.groups)(given, moved)",
        "return rule(options, given, moved)",
        "test_jax.py::test_second_derivatives_through_control_flow",
    ),
    Fault(
        "_jax_native.py",
        "with jax.disable_jit(False):",
        "if True:",
        "test_jax.py::test_without_jit",
    ),
    Fault(
        "_jax_formula.py",
        'return {"out_sharding": sharding} if is_explicit else {}',
        "return {}",
        "test_jax.py::test_a_mesh_of_explicit_axes",
    ),
    Fault(
        "_tensorflow_native.py",
        "if tensor.op.type in _OF_LENGTHS_IN_DATA:",
        "if False:",
        "test_tensorflow.py::test_a_batch_as_long_as_its_data_has_it",
    ),
    Fault(
        "_tensorflow_native.py",
        "waiting += [outer for outer, inner in captured if inner is tensor]",
        "pass",
        "test_tensorflow.py::test_a_batch_as_long_as_its_data_has_it",
    ),
    Fault(
        "_tensorflow_native.py",
        'saves = reduction != "none" and x.dtype != tf.float16',
        'saves = reduction != "none"',
        "test_tensorflow.py::test_xla_has_the_bits_of_numpy",
    ),
    Fault(
        "_tensorflow_native.py",
        '"invalid_is_nan": not eager,',
        '"invalid_is_nan": False,',
        "test_tensorflow.py::test_invalid_labels_are_nan_rows_in_a_function",
    ),
    Fault(
        "_torch_native.py",
        "into = gradient.data if gradient is not None and next(ctx.uses) == 0 else None",
        "into = None if gradient is None else gradient.data",
        "test_torch.py::test_backward_twice_with_other_upstreams",
    ),
    Fault(
        "_torch_native.py",
        "    if _C.is_grad_enabled() or next(ctx.uses) > 0:",
        "    if _C.is_grad_enabled():",
        "test_torch.py",
    ),
    Fault(
        "_torch_native.py",
        "        return None\n    if not _fits(logits",
        "        pass\n    if not _fits(logits",
        "test_torch.py::test_forward_mode_inside_a_compiled_program_without_gradients",
    ),
    Fault(
        "_torch_native.py",
        "torch.autograd.graph.increment_version(logits)",
        "pass",
        "test_torch.py",
    ),
    Fault(
        "_torch_native.py",
        "if tensor is not None and (type(tensor) not in _PLAIN_TYPES or tensor.is_neg()):",
        "if tensor is not None and type(tensor) not in _PLAIN_TYPES:",
        "test_torch.py::test_tensors_with_the_negative_bit",
    ),
    Fault(
        "_torch_native.py",
        "return is_plain(tensor) and not tensor.is_nested and tensor.ndim <= _MOST_AXES",
        "return is_plain(tensor) and tensor.ndim <= _MOST_AXES",
        "test_torch.py::test_errors_of_unusual_arguments",
    ),
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
    Fault("_row_stats.py", "xp.stop_gradient(peak - peak)", "xp.zeros_like(peak)", CONTRACT),
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
        "return xp.total(weight if kept is None else xp.where(kept, weight, 0.0))",
        "return xp.total(weight)",
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
    # ---- NumPy's arithmetic
    Fault(
        "_numpy_plain.py",
        "return np.where(weight == 0, 0.0, weight * values)",
        "return weight * values",
        CONTRACT,
    ),
    Fault(
        "_numpy_plain.py",
        "values = np.asarray(values).astype(dtype, copy=False)",
        "values = np.asarray(values)",
        CONTRACT,
    ),
    Fault(
        "_numpy_plain.py",
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
        "leading = zip(shape, rows, strict=False)",
        "leading = zip(shape, rows[::-1], strict=False)",
        "test_checks.py test_contract.py",
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
        "present = xp.where(spread == 0, xp.zeros_like(spread), 1.0)",
        "present = spread",
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
    # ---- the native core: sums and threads
    Fault(
        "native/exact_sum.cpp",
        "greatest_exponent - least_exponent > 19",
        "greatest_exponent - least_exponent > 20",
        EXACT_SUM,
    ),
    Fault(
        "native/exact_sum.cpp",
        "inexact || (significand",
        "(inexact && false) || (significand",
        EXACT_SUM,
    ),
    Fault("native/exact_sum.cpp", "into.nan |= from.nan", "into.nan |= false", EXACT_SUM),
    Fault("native/exact_sum.cpp", "- 1)) != half", "- 1)) != half + 1", EXACT_SUM),
    Fault(
        "native/thread_pool.cpp",
        "std::min(loop.grain, loop.items - begin)",
        "std::min(loop.grain, loop.items - begin - 1)",
        "test_native.py::test_a_row_that_is_no_distribution_is_refused_on_any_thread",
    ),
    # ---- the native core: losses
    Fault(
        "native/softmax.cpp",
        "divisor == 0 ? 0 : task.upstream",
        "task.upstream",
        "test_numpy.py::test_a_normalizer_of_0_gives_0",
    ),
    Fault(
        "native/torch_operator.cpp",
        "(*next_++ & 255) != 0",
        "*next_++ == 0",
        "test_torch_operator.py",
    ),
    Fault(
        "native/torch_operator.cpp",
        "if (handle_ != nullptr) torch.delete_tensor_object(handle_);",
        "",
        "test_torch_operator.py",
    ),
    Fault(
        "native/torch_operator.cpp",
        "        follow_threads(static_cast<int>(threads));\n",
        "",
        "test_torch_operator.py",
    ),
    Fault(
        "native/torch_operator.cpp",
        "    if (is_contiguous(array)) return allocate(",
        "    if (array.rank > 0) return allocate(",
        "test_torch_operator.py",
    ),
    Fault(
        "native/calls.cpp",
        "task.z_loss = call.z_loss;",
        "",
        CONTRACT,
    ),
    Fault(
        "native/calls.cpp",
        "if (weight == 0) continue;",
        "",
        "test_native_calls.py",
    ),
    Fault(
        "native/calls.cpp",
        "call.has_ignored && call.ignored == 0 ? 1 : 0",
        "0",
        "test_native_calls.py",
    ),
    Fault(
        "native/calls.cpp",
        "if (call.reduction != Reduction::none) *value = NAN;",
        "",
        "test_native_calls.py",
    ),
    Fault("native/elementwise.cpp", "weights = totals.weights", "weights = weights", CONTRACT),
    # ---- the native core: kernels
    Fault(
        "native/exponential.h",
        "V::max(e.lowest, shifted ? V::sub(logits[j], e.shift) : logits[j])",
        "V::max(shifted ? V::sub(logits[j], e.shift) : logits[j], e.lowest)",
        CONTRACT,
    ),
    Fault(
        "native/softmax_kernels.h",
        "if (at < n && at != without) logits",
        "if (at < n) logits",
        "test_native.py::test_the_peak_itself_is_no_term_of_the_sum",
    ),
    Fault(
        "native/softmax_kernels.h",
        "clear_lane<V>(&blocks.high[sums], lane);",
        "",
        CONTRACT,
    ),
    Fault(
        "native/softmax_kernels.h",
        "sizeof(T) == 4 && others.largest > least",
        "sizeof(T) == 4 && others.largest > INFINITY",
        "test_native.py::test_a_lane_with_much_of_the_sum_is_summed_again",
    ),
    Fault(
        "native/softmax_kernels.h",
        "limit = V::set(highest_now + ExpFormat<V>::kHeadroom)",
        "limit = V::set(INFINITY)",
        "test_native.py::test_ulp[ramps-float32-1000]",
    ),
    Fault(
        "native/softmax_kernels.h",
        "a.rest += (1 + b.rest) * exp_of_difference(b.peak, a.peak, 0)",
        "a.rest += 1 + b.rest",
        "test_native.py::test_rows_longer_than_a_part",
    ),
    Fault(
        "native/softmax_kernels.h",
        "narrow(typename WideOf<X>::T(-INFINITY)",
        "narrow(typename WideOf<X>::T(0)",
        CONTRACT,
    ),
    Fault(
        "native/softmax_kernels.h",
        "return power + power * lost;",
        "return power;",
        "test_native.py::test_ulp[random-float64-193]",
    ),
    Fault(
        "native/softmax_kernels.h",
        "s.log_sum = log1p(part.rest)",
        "s.log_sum = log(1 + part.rest)",
        CONTRACT,
    ),
    Fault(
        "native/softmax_kernels.h",
        "{weight * gap, weight, weight",
        "{gap, weight, weight",
        CONTRACT,
    ),
    Fault(
        "native/softmax_kernels.h",
        "is_peak ? -found.rest / (1 + found.rest) : p - 1",
        "p - 1",
        CONTRACT,
    ),
    Fault(
        "native/softmax_kernels.h",
        "write(terms.special_value, out + terms.special)",
        "",
        CONTRACT,
    ),
    Fault(
        "native/softmax_kernels.h",
        "by_z * lse * task.z_loss + by_z * (task.z_loss * lse)",
        "by_z * lse * task.z_loss",
        CONTRACT,
    ),
    Fault(
        "native/softmax_kernels.h",
        "*slope = Vd::mul(e, Vd::mul(rise, rise))",
        "*slope = Vd::fnma(tanh, tanh, one)",
        CONTRACT,
    ),
    Fault(
        "native/softmax_kernels.h",
        "rest = Vd::fnma(t, p, Vd::sub(one, t))",
        "rest = Vd::sub(one, e)",
        "test_native.py::test_a_softcap_far_above_the_logits_changes_nothing",
    ),
    Fault(
        "native/softmax_kernels.h",
        "return Vd::where_above(down, Vd::set(-INFINITY), y, x);",
        "return y;",
        CONTRACT,
    ),
    Fault("native/softmax_kernels.h", "weight = -0.0;", "weight = 0;", CONTRACT),
    Fault(
        "native/softmax_kernels.h",
        "gap == 0 ? -rest[r] * share : p - 1",
        "p - 1",
        "test_native.py::test_weights_of_one_change_no_bit",
    ),
    Fault(
        "native/softmax_kernels.h",
        "Vd::where_above(zero, gap, Vd::sub(p, one), of_peak)",
        "Vd::sub(p, one)",
        CONTRACT,
    ),
    Fault(
        "native/softmax_kernels.h",
        "peaks[2] = {Vd::set(-1), Vd::set(0)}",
        "peaks[2] = {Vd::set(0), Vd::set(0)}",
        CONTRACT,
    ),
    Fault(
        "native/softmax_kernels.h",
        "const Vd::vec poison = Vd::sub(top, top);",
        "const Vd::vec poison = Vd::set(0);",
        CONTRACT,
    ),
    Fault(
        "native/softmax_kernels.h",
        "if (is_zero[r]) {  // not 0",
        "if (false) {  // not 0",
        "test_native.py::test_few_classes_in_axes_that_end_within_a_vector",
    ),
    Fault(
        "native/softmax_kernels.h",
        "g = Vd::add(g, Vd::zero_where_equal(logit(j), Vd::set(-INFINITY), mean))",
        "g = Vd::add(g, mean)",
        CONTRACT,
    ),
    Fault(
        "native/exponential.h",
        "Vd::fma(Vd::where_above(x, one, k, Vd::set(0))",
        "Vd::fma(Vd::set(0)",
        CONTRACT,
    ),
    Fault(
        "native/softmax_kernels.h",
        "if (task.checks_labels && !distribution_weight",
        "if (false && !distribution_weight",
        "test_native.py::test_a_row_that_is_no_distribution_is_refused",
    ),
    Fault(
        "native/softmax_kernels.h",
        "if (task.checks_labels &&\n",
        "if (false &&\n",
        "test_native.py::test_a_row_that_is_no_distribution_is_refused",
    ),
    Fault(
        "native/elementwise_kernels.h",
        "memcpy(x, step.logits + i, rest * sizeof *x)",
        "memcpy(x, step.logits + i, (rest - 1) * sizeof *x)",
        CONTRACT,
    ),
    Fault(
        "native/elementwise_kernels.h",
        "Vd::zero_where_equal(near, zero, Vd::mul(near, down))",
        "Vd::mul(near, down)",
        CONTRACT,
    ),
    Fault(
        "native/elementwise_kernels.h",
        "(tile.ignored == 0 ? 0 : padding)",
        "0",
        CONTRACT,
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
    folder = "" if fault.file.startswith("native/") else "src/crossent"
    path = directory / folder / fault.file
    text = path.read_text() if path.exists() else ""
    if text.count(fault.old) != 1:
        return f"no longer applies: its old text occurs {text.count(fault.old)} times"
    path.write_text(text.replace(fault.old, fault.new))
    return ""


class Core:
    """Builds the native core of copies; after the first one only what their faults change."""

    def __init__(self, directory: Path) -> None:
        self.source, self.build = directory / "source", directory / "build"
        self.lock = Lock()
        self.changed = ""  # by the fault that was built last
        self.kernels = ""  # CMake's name of those that run here

    def run(self, *command: object) -> None:
        subprocess.run(
            [*map(str, command)], cwd=self.build, check=True, capture_output=True, text=True
        )

    def start(self) -> None:
        self.build.mkdir()
        shutil.copytree(ROOT / "native", self.source / "native")
        shutil.copy(ROOT / "CMakeLists.txt", self.source)
        settings = {
            "CMAKE_BUILD_TYPE": "Release",
            "SKBUILD_PROJECT_VERSION": "0",
            "Python_EXECUTABLE": sys.executable,
        }
        defined = [f"-D{name}={value}" for name, value in settings.items()]
        self.run("cmake", "-G", "Unix Makefiles", self.source, *defined)
        self.run("cmake", "--build", ".", "--parallel", "2")
        code = "import _native; print(_native.chosen_instruction_set())"
        environment = {**os.environ, "PYTHONPATH": str(self.build)}
        chosen = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
        self.kernels = "kernels_" + chosen.strip().replace("-", "_")

    def put_into(self, directory: Path, fault: Fault | None) -> str:
        """Puts the core of this copy into it; what stands in the way, or nothing."""
        with self.lock:
            try:
                if not self.kernels:
                    self.start()
                source = fault.file if fault and fault.file.startswith("native/") else ""
                changed = {self.changed, source} - {""}
                for file in changed:
                    text = (directory / file).read_text()
                    (self.source / file).write_text(text)
                self.changed = source
                self.compile(changed)
                for name in ("_native", "_tensorflow_op"):
                    (library,) = self.build.glob(f"{name}*.so")
                    shutil.copy(library, directory / "src/crossent")
            except subprocess.CalledProcessError as error:
                return f"the native core does not build: {error.stderr[-300:]}"
        return ""

    def compile(self, changed: set[str]) -> None:
        if any(file.endswith(".cpp") for file in changed):
            self.run("cmake", "--build", ".", "--parallel", "2")
        elif changed:
            # These headers are the kernels', and those of one set are the ones that run: the
            # library is linked as CMake says, beside the older kernels of the other sets.
            self.run("cmake", "--build", ".", "--target", self.kernels)
            self.run("cmake", "-E", "cmake_link_script", "CMakeFiles/_native.dir/link.txt")


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


def judge(fault: Fault | None, tests: str, core: Core | None) -> tuple[bool, str]:
    """Whether the fault was killed (None: whether these tests pass without one), and the story."""
    with tempfile.TemporaryDirectory(prefix="crossent-mutant-") as name:
        directory = Path(name).resolve()
        make_copy(directory)
        problem = apply(fault, directory) if fault else ""
        if core and not problem:
            problem = core.put_into(directory, fault)
        if problem:
            return False, problem
        status, story = run_tests(tests, directory)
        return status == (FAILED if fault else PASSED), story


def needs_core(fault: Fault) -> bool:
    """Other faults in Python are looked for without a native core, where the formula runs."""
    of_core = fault.file.startswith("native/") or fault.file in DOORS
    return of_core and fault.tests != EXACT_SUM


def chosen(words: list[str]) -> list[Fault]:
    return [f for f in FAULTS if not words or any(w in " ".join(f) for w in words)]


def main(words: list[str]) -> int:
    faults = chosen(words)
    killed = 0
    with (
        tempfile.TemporaryDirectory(prefix="crossent-core-") as name,
        ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool,
    ):
        core = Core(Path(name).resolve())

        def judge_one(fault: Fault) -> tuple[bool, str]:
            return judge(fault, fault.tests, core if needs_core(fault) else None)

        # First, because they take longest.
        sound = []
        for of_core in (False, True):
            tests = {f.tests for f in faults if needs_core(f) == of_core}
            every_test = " ".join(sorted({word for names in tests for word in names.split()}))
            if every_test:
                sound.append(pool.submit(judge, None, every_test, core if of_core else None))
        for fault, (is_killed, story) in zip(faults, pool.map(judge_one, faults), strict=True):
            killed += is_killed
            line = " ".join(fault.new.split("\n")[0].split())
            print(
                f"{'killed' if is_killed else 'SURVIVED'}: {fault.file}: {line}: {story}",
                flush=True,
            )
    passes = True
    for passed, story in (run.result() for run in sound):
        passes = passes and passed
        if not passed:
            print(f"the tests fail without any fault: {story}")
    print(f"killed {killed} of {len(faults)}")
    return 0 if passes and faults and killed == len(faults) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
