"""What is installed here and which kernel runs: the facts of a bug report, as data and as lines.

The only module beside the waist that opens the native core. It imports no other library: versions
come from the installed packages' metadata, so a broken library cannot break the report.
"""

import os
import platform
import sys
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from crossent._arrays import kernel_for

# Module name -> the packages that may bring it.
LIBRARIES = {
    "torch": ("torch",),
    "jax": ("jax",),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-macos"),
    "keras": ("keras",),
    "tf_keras": ("tf-keras",),
    "optax": ("optax",),
    "sklearn": ("scikit-learn",),
    "pyarrow": ("pyarrow",),
    "rich": ("rich",),
    "ml_dtypes": ("ml-dtypes",),
    "autograd": ("autograd",),
}

# Variables that this version reads; another CROSSENT_ variable is probably a slip of the pen.
VARIABLES = ("CROSSENT_CHECK", "CROSSENT_MAX_ISA", "CROSSENT_NUM_THREADS")


@dataclass(frozen=True)
class NativeCore:
    """The compiled module: what it was built with and what this processor can run."""

    version: str
    compiler: str
    flags: str
    nanobind: str
    instruction_set: str
    supported_instruction_sets: list[str]
    threads: int


@dataclass(frozen=True)
class Report:
    """One look at this installation.

    `native_problem` says why `native` is None, or why it should not be used.
    """

    crossent: str
    python: str
    numpy: str
    platform: str
    usable_cpus: int
    native: NativeCore | None
    native_problem: str | None
    kernel: str
    environment: dict[str, str]
    unread_environment: list[str]
    libraries: dict[str, str | None]

    @property
    def is_healthy(self) -> bool:
        """Whether the native core is there and belongs to this version."""
        return self.native_problem is None


def examine() -> Report:
    """Looks at this installation. Imports nothing but NumPy, crossent and its native core."""
    version = _installed_version(("crossent",))
    native, native_problem = _examine_native_core(version)
    environment = {
        name: value for name, value in sorted(os.environ.items()) if name.startswith("CROSSENT_")
    }
    return Report(
        crossent=version or "not installed, run from its sources",
        python=f"{platform.python_version()} {sys.implementation.name}",
        numpy=np.__version__,
        platform=platform.platform(),
        usable_cpus=_usable_cpus(),
        native=native,
        native_problem=native_problem,
        kernel=kernel_for(np.zeros((1, 2), dtype=np.float32)),
        environment=environment,
        unread_environment=[name for name in environment if name not in VARIABLES],
        libraries={name: _installed_version(packages) for name, packages in LIBRARIES.items()},
    )


def format_report(report: Report) -> str:
    """The report as aligned lines, one fact each."""
    lines = [
        ("crossent", report.crossent),
        ("python", report.python),
        ("numpy", report.numpy),
        ("platform", report.platform),
        ("usable cpus", str(report.usable_cpus)),
    ]
    if report.native is None:
        lines.append(("native core", f"missing: {report.native_problem}"))
    else:
        lines += _native_lines(report.native, report.native_problem)
    lines.append(("kernel", report.kernel))
    for name, value in report.environment.items():
        unread = " (this version does not read it)" if name in report.unread_environment else ""
        lines.append((name, value + unread))
    lines += [(name, version or "not installed") for name, version in report.libraries.items()]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)


def _native_lines(native: NativeCore, problem: str | None) -> list[tuple[str, str]]:
    others = ", ".join(native.supported_instruction_sets)
    return [
        ("native core", native.version + (f"; {problem}" if problem else "")),
        ("compiler", f"{native.compiler}, {native.flags}"),
        ("nanobind", native.nanobind),
        ("instruction set", f"{native.instruction_set} (this processor runs {others})"),
        ("threads", str(native.threads)),
    ]


def _examine_native_core(version: str | None) -> tuple[NativeCore | None, str | None]:
    """The native core and what is wrong with it; either may be None, never both."""
    try:
        from crossent import _native
    except ImportError as error:
        return None, f"{error}. Build it with `pip install .` in the source tree."
    info = _native.build_info()
    problems = []
    instruction_set, threads = "none", 0
    try:
        instruction_set = _native.chosen_instruction_set()
    except ValueError as error:
        problems.append(str(error))
    try:
        threads = _native.get_num_threads()
    except ValueError as error:
        problems.append(str(error))
    if info["version"] != version:
        problems = [f"built for another version than {version}. Install crossent again."]
    supported = _native.supported_instruction_sets()
    return NativeCore(
        instruction_set=instruction_set,
        supported_instruction_sets=supported,
        threads=threads,
        **info,
    ), " ".join(problems) or None


def _installed_version(packages: tuple[str, ...]) -> str | None:
    from importlib import metadata

    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            return metadata.version(package)
    return None


def _usable_cpus() -> int:
    # The affinity mask, not the machine: containers and batch systems give a process fewer.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
