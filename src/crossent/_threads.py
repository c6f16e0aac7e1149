"""Lets threadpoolctl list and limit the threads of the native core.

Opens neither: threadpoolctl finds the core among the loaded libraries and calls two functions of
it by name, and is never imported here: few programs have it, and `import crossent` stays light.
"""

import sys
from threading import Lock
from types import ModuleType
from typing import Any

_REGISTERING = Lock()
_registered_with: ModuleType | None = None


def register_with_threadpoolctl() -> bool:
    """Makes `threadpoolctl.threadpool_limits` and `threadpool_info` know the native core.

    Does nothing until threadpoolctl is imported, and nothing the second time, so it costs little to
    call it often. Call it once yourself when threadpoolctl is imported after the first loss was
    computed and a limit is wanted before the next one.

    Returns:
        Whether threadpoolctl knows the native core now; its versions before 3.2 cannot.
    """
    global _registered_with
    threadpoolctl = sys.modules.get("threadpoolctl")
    if threadpoolctl is None:
        return False
    if threadpoolctl is _registered_with:
        return True
    with _REGISTERING:
        if threadpoolctl is _registered_with:
            return True
        # Also missing for a moment while another thread imports it.
        if not hasattr(threadpoolctl, "register"):
            return False
        bases = (_NativeCore, threadpoolctl.LibController)
        threadpoolctl.register(type("CrossentController", bases, {}))
        _registered_with = threadpoolctl
    return True


class _NativeCore:
    """What threadpoolctl's `LibController` asks of the controller of a library."""

    user_api = "crossent"
    internal_api = "crossent"
    filename_prefixes = ("_native", "_tensorflow_op")  # the latter has threads of its own
    # Others have a library of that name too; these are in ours only.
    check_symbols = ("crossent_get_num_threads", "crossent_set_num_threads")

    dynlib: Any

    def get_num_threads(self) -> int:
        return int(self.dynlib.crossent_get_num_threads())

    def set_num_threads(self, num_threads: int) -> None:
        self.dynlib.crossent_set_num_threads(num_threads)

    def get_version(self) -> str | None:
        # Asked before `check_symbols` is looked at, so perhaps of a foreign library.
        from importlib import metadata

        try:
            return metadata.version("crossent")
        except metadata.PackageNotFoundError:
            return None
