"""The objects of each instruction set export their table of kernels and nothing else.

Two objects that define the same weak symbol, as inline functions and templates of headers are, get
one of the two copies for both: on an old processor it may be the one in AVX-512.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parent.parent / "native"
CMAKE = (NATIVE.parent / "CMakeLists.txt").read_text()
X86_64 = ["x86-64-v2", "x86-64-v3", "x86-64-v4"]

# Of the C library and its mathematical part.
ALLOWED = {"exp", "log1p", "log", "expm1", "sqrt", "memcpy", "memset", "memmove"}
# Ours, compiled once and for the least processor: memory of a thread.
ALLOWED |= {"crossent::Scratch::reserve(unsigned long)"}
# What position-independent code and protected stacks (a default of some compilers) refer to.
OF_THE_COMPILER = {"_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"}


def flags_of_kernels():
    """Those of CMakeLists.txt, so that a new flag is tested as well; but -O1, which inlines less,
    so that it shows what -O3 may hide, and compiles in half the time."""
    pattern = r"target_compile_options\(kernels_\$\{namespace\} PRIVATE\s+-O3 ([^)]*)\)"
    (flags,) = re.findall(pattern, CMAKE)
    return ["-O1", *flags.split()]


def compiler_and_nm():
    found = os.environ.get("CXX") or shutil.which("c++"), shutil.which("nm")
    if None in found:
        pytest.skip("no C++ compiler, or no nm, on the path")
    return found


@pytest.fixture(scope="module", params=X86_64)
def symbols(request, tmp_path_factory):
    """What nm says of kernels.cpp compiled for an instruction set: (type, name) of each symbol."""
    compiler, nm = compiler_and_nm()
    if os.uname().machine != "x86_64":
        pytest.skip("the flags are those of x86-64")
    namespace = request.param.replace("-", "_")
    output = tmp_path_factory.mktemp(namespace) / "kernels.o"
    done = subprocess.run(
        [
            *(compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-fPIC", "-DNDEBUG"),
            *(*flags_of_kernels(), f"-march={request.param}", f"-DCROSSENT_ISA={namespace}"),
            *("-c", NATIVE / "kernels.cpp", "-o", output),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    listing = subprocess.run([nm, "-C", output], capture_output=True, text=True, check=True).stdout
    lines = [re.fullmatch(r"[0-9a-f]* +(\S) (.+)", line) for line in listing.splitlines()]
    return namespace, [(line[1], line[2]) for line in lines]


# The compiler takes up to 10 seconds for each instruction set.
@pytest.mark.slow
def test_only_the_table_of_kernels_is_exported(symbols):
    namespace, found = symbols
    exported = {name for kind, name in found if kind.isupper() and kind != "U"}
    assert exported == {f"crossent::{namespace}::kernels"}


@pytest.mark.slow
def test_no_symbol_may_be_merged_with_that_of_another_object(symbols):
    """Weak symbols (w, v) and unique ones (u): the linker keeps one copy for all instruction sets.
    Common ones (C) it merges too."""
    _, found = symbols
    assert [(kind, name) for kind, name in found if kind in "wWvVuC"] == []


@pytest.mark.slow
def test_kernels_call_the_c_library_only(symbols):
    _, found = symbols
    needed = {name for kind, name in found if kind == "U"} - OF_THE_COMPILER
    assert needed <= ALLOWED, needed - ALLOWED
    assert "exp" in needed, "nm did not list what is undefined"


def test_the_files_of_the_kernels_include_no_library_code():
    """Their own headers, the intrinsics, and headers of C that define no function."""
    seen, left = set(), ["kernels.cpp"]
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        text = (NATIVE / name).read_text()
        left += re.findall(r'^#include "([^"]+)"', text, re.MULTILINE)
        for header in re.findall(r"^#include <([^>]+)>", text, re.MULTILINE):
            assert header in HEADERS, f"{name} includes <{header}>"
    assert {"softmax_kernels.h", "elementwise_kernels.h", "exponential.h", "simd.h"} <= seen


HEADERS = {
    *("cstddef", "cstdint", "math.h", "string.h", "stdint.h", "stddef.h"),
    *("immintrin.h", "arm_neon.h", "xmmintrin.h", "emmintrin.h", "cfenv"),
}
