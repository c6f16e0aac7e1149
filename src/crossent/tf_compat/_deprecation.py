"""The one warning of this package."""

import warnings


def deprecated(what: str, instead: str) -> None:
    """Warn the caller of the function that calls this one."""
    warnings.warn(f"{what} is deprecated. Use {instead}.", DeprecationWarning, stacklevel=3)
