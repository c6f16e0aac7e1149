"""Peak memory of one call of every competitor, in a process of its own.

Linux's own high-water mark, set back before each call: unlike tracemalloc it sees what every
library allocates. The process is another one than where times are taken because of two settings.
A call that gets memory which a library keeps for itself would seem to need none. So glibc, which
keeps up to 32 MiB, is told to return every array above 1 MiB to the system; and TensorFlow is told
to do without oneDNN, which its cross-entropy does not use, but whose pool never gives back.
"""

import gc
import json
import os
import re
import sys
from pathlib import Path

from cases import Case, data
from libraries import FIT_STEP, library_calls, lines_of
from measuring import Competitor, limits
from ours import competitors

# Below this the counting of pages is too coarse.
LEAST_LOGITS_BYTES = 1 << 23
STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")


def peak_bytes(cases: list[Case], library: str | None = None) -> dict[str, dict[str, int]]:
    """Case name -> who -> how far a call raises the memory of its process, results included.

    On a library's own arrays, or beside everybody on NumPy's. Nothing for small cases, and nothing
    at all where the system has no such mark to set back.
    """
    # Other rows of the same size, and other sizes of the same kind, need as much for each byte.
    large = [
        case
        for case in cases
        if case.logits_bytes >= LEAST_LOGITS_BYTES
        and case.rows_are == "random"
        and case.what != FIT_STEP
        and case.classes <= 32000
    ]
    if not large or not os.access(CLEAR_REFS, os.W_OK):
        return {}
    settings = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20), "TF_ENABLE_ONEDNN_OPTS": "0"}
    return dict(lines_of(Path(__file__), library, {"cases": large}, settings))


def measured(library: str | None, case: Case) -> dict[str, int]:
    x, y = data(case)
    calls = competitors(case, x, y) if library is None else library_calls(library, case, x, y)
    calls |= {who: limit for who, (limit, _) in limits(x, copies=case.wants_gradient).items()}
    return {who: rise(competitor) for who, competitor in calls.items()}


def rise(competitor: Competitor) -> int:
    for prepare in (competitor.call, competitor.restore):  # the first call compiles
        if prepare is not None:
            prepare()
    gc.collect()
    CLEAR_REFS.write_text("5")  # 5: the mark becomes what is used now
    before = high_water_mark()
    competitor.call()
    return high_water_mark() - before


def high_water_mark() -> int:
    found = re.search(r"^VmHWM:\s*(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{STATUS} must have a line VmHWM; got none. Leave memory out.")
    return int(found[1]) * 1024


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    for case in asked["cases"]:
        case = Case(*case)
        print(json.dumps([case.name, measured(asked["library"], case)]), flush=True)
