"""TensorFlow 1's collections: losses gather in the default graph, and nowhere outside of one."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_graph: ContextVar["Graph | None"] = ContextVar("graph", default=None)
_scope: ContextVar[str] = ContextVar("scope", default="")


class GraphKeys:
    """Names of the collections that losses use."""

    LOSSES = "losses"
    REGULARIZATION_LOSSES = "regularization_losses"


class Graph:
    """A place where losses gather. They are computed at once: there is no session.

    Example:
        >>> import crossent.tf_compat.compat.v1 as tf
        >>> with tf.Graph().as_default():
        ...     loss = tf.losses.mean_squared_error([1.0], [3.0])
        ...     float(tf.losses.get_total_loss())
        4.0
    """

    def __init__(self) -> None:
        self._collections: dict[str, list[tuple[str | None, Any]]] = {}

    @contextmanager
    def as_default(self) -> Iterator["Graph"]:
        """Context in which losses are collected in this graph."""
        graph, scope = _graph.set(self), _scope.set("")
        try:
            yield self
        finally:
            _scope.reset(scope)
            _graph.reset(graph)

    def add_to_collection(self, name: str, value: Any, known_as: str | None = None) -> None:
        """Append a value; `known_as` is the name that scopes are compared with."""
        self._collections.setdefault(name, []).append((known_as, value))

    def get_collection(self, name: str, scope: str | None = None) -> list[Any]:
        """The values of a collection; with a scope those whose name begins with it.

        As in TensorFlow the scope is a regular expression.
        """
        items = self._collections.get(name, [])
        if scope is None:
            return [value for _, value in items]
        pattern = re.compile(scope)
        return [value for known_as, value in items if known_as and pattern.match(known_as)]


@contextmanager
def name_scope(
    name: str | None, default_name: str | None = None, values: Any = None
) -> Iterator[str]:
    """Context that puts its name before those of the losses collected in it.

    Example:
        >>> import crossent.tf_compat.compat.v1 as tf
        >>> with tf.Graph().as_default(), tf.name_scope("tower"):
        ...     loss = tf.losses.mean_squared_error([1.0], [3.0])
        ...     len(tf.losses.get_losses(scope="tower"))
        1
    """
    chosen = name or default_name or ""
    inner = chosen if chosen.endswith("/") or not chosen else f"{_scope.get()}{chosen}/"
    token = _scope.set(inner)
    try:
        yield inner
    finally:
        _scope.reset(token)


def add_to_collection(name: str, value: Any) -> None:
    """Append a value to a collection of the default graph; outside of one only warn.

    Example:
        >>> import crossent.tf_compat.compat.v1 as tf
        >>> with tf.Graph().as_default():
        ...     tf.add_to_collection(tf.GraphKeys.REGULARIZATION_LOSSES, tf.constant(0.25))
        ...     float(tf.losses.get_regularization_loss())
        0.25
    """
    if _graph.get() is None:
        _warn_of_no_graph("add_to_collection keeps nothing")
    collect(name, value, "")


def get_collection(key: str, scope: str | None = None) -> list[Any]:
    """The values of a collection of the default graph (see `Graph`); outside of one warn.

    Example:
        >>> import crossent.tf_compat.compat.v1 as tf
        >>> with tf.Graph().as_default():
        ...     tf.get_collection(tf.GraphKeys.LOSSES)
        []
    """
    if _graph.get() is None:
        _warn_of_no_graph("get_collection finds nothing")
    return collected(key, scope)


def collected(key: str, scope: str | None = None) -> list[Any]:
    """The same without a warning: losses may be asked for anywhere, as in TensorFlow 2."""
    graph = _graph.get()
    return [] if graph is None else graph.get_collection(key, scope)


def collect(collection: str | None, value: Any, own_name: str) -> None:
    """Append a value under the current scope.

    A Python number has no name in TensorFlow, and no scope finds it.
    """
    graph = _graph.get()
    if graph is None or collection is None:
        return
    named = hasattr(value, "dtype")
    graph.add_to_collection(collection, value, f"{_scope.get()}{own_name}/value" if named else None)


def _warn_of_no_graph(what: str) -> None:
    """Warn the caller of the function that calls this one: code for TensorFlow 1 counts on it."""
    warnings.warn(
        f"{what} outside of a graph. Put the code inside `with tf.Graph().as_default():`.",
        UserWarning,
        stacklevel=3,
    )
