"""The exceptions crossent raises; each is also the builtin that a caller would catch.

CrossentError
|-- ShapeError           (ValueError)   shapes or ranks do not fit each other
|-- LabelError           (ValueError)   ids out of range or fractional; no distribution
|-- ScoreError           (ValueError)   probabilities outside [0, 1] or not summing to 1
|-- OptionError          (ValueError)   an option has a value that it cannot have
|-- FileError            (ValueError)   a file cannot be read or holds something else
|-- DTypeError           (TypeError)    an array has a dtype that its argument cannot take
|-- ArgumentError        (TypeError)    arguments missing, given twice, or of two libraries
`-- MissingLibraryError  (ImportError)  an optional library is not installed

Messages read `<argument> must <expectation>; got <what>. <one way out>.`
"""

from typing import TYPE_CHECKING


class CrossentError(Exception):
    """Base of every error that crossent raises on purpose."""

    if not TYPE_CHECKING:
        # In a tf.function AutoGraph makes each error again, with the user's line in it, and keeps
        # the class of those whose constructor is this very one.
        __init__ = Exception.__init__


class ShapeError(CrossentError, ValueError):
    """Shapes or ranks do not fit each other."""


class LabelError(CrossentError, ValueError):
    """Labels hold values that no label can have."""


class ScoreError(CrossentError, ValueError):
    """Probabilities lie outside [0, 1] or do not sum to 1."""


class OptionError(CrossentError, ValueError):
    """An option has a value that it cannot have."""


class FileError(CrossentError, ValueError):
    """A file cannot be read, or does not hold what was asked for."""


class DTypeError(CrossentError, TypeError):
    """An array has a dtype that its argument cannot take."""


class ArgumentError(CrossentError, TypeError):
    """Arguments are missing, given twice, or belong to two libraries."""


class MissingLibraryError(CrossentError, ImportError):
    """An optional library is needed and not installed."""
