"""What rows leave behind in bounded memory: counts with first places, samples of rows and of ids.

Everything here merges, and depends on the rows alone: neither on how they were cut into batches nor
on the order of merging. Knows nothing of losses.
"""

import heapq
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent.errors import ShapeError

SHOWN = 5
SEED = np.uint64(0x9E3779B97F4A7C15)
NO_ROW = np.iinfo(np.int64).max

Rows = NDArray[np.int64]


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A seeded one-to-one scramble of 64-bit numbers (the finaliser of splitmix64)."""
    z = values + SEED
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class Hits:
    """How many values did something, in how many rows, and where first."""

    def __init__(self) -> None:
        self.count = 0
        self.rows = 0
        self.first: list[tuple[int, Any]] = []

    def add(self, where: NDArray[np.bool_], values: NDArray[Any], numbers: Rows) -> None:
        """Counts the true entries of `where`, shape (rows,) or (rows, columns) as `values`."""
        if not where.any():
            return
        table = where.reshape(len(where), -1)
        hit = np.flatnonzero(table.any(axis=1))
        self.count += int(np.count_nonzero(table))
        self.rows += len(hit)
        lead = hit[:SHOWN]
        shown = values.reshape(len(where), -1)[lead, table[lead].argmax(axis=1)]
        self._keep(zip(numbers[lead].tolist(), shown.tolist(), strict=True))

    def merge(self, other: "Hits") -> None:
        self.count += other.count
        self.rows += other.rows
        self._keep(other.first)

    def _keep(self, more: Any) -> None:
        self.first = heapq.nsmallest(SHOWN, [*self.first, *more], key=lambda place: place[0])

    @property
    def first_rows(self) -> list[int]:
        return [row for row, _ in self.first]

    @property
    def first_values(self) -> list[Any]:
        return [value for _, value in self.first]


class Extent:
    """The lowest and the highest of all finite numbers."""

    def __init__(self) -> None:
        self.low = math.inf
        self.high = -math.inf

    def add(self, finite: NDArray[Any]) -> None:
        if finite.size:
            self.low = min(self.low, float(finite.min()))
            self.high = max(self.high, float(finite.max()))

    def merge(self, other: "Extent") -> None:
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)


class ColumnExtent:
    """The lowest and the highest number of each column."""

    def __init__(self, columns: int) -> None:
        self.low = np.full(columns, np.inf)
        self.high = np.full(columns, -np.inf)

    def add(self, scores: NDArray[np.float64]) -> None:
        if len(scores):
            self.low = np.minimum(self.low, scores.min(axis=0))
            self.high = np.maximum(self.high, scores.max(axis=0))

    def merge(self, other: "ColumnExtent") -> None:
        self.low = np.minimum(self.low, other.low)
        self.high = np.maximum(self.high, other.high)


class Facts:
    """A record of tallies that merges field by field, so that a new field cannot be forgotten.

    Numbers and arrays of counts add, sets unite, dicts merge by key, all else has its own merge.
    """

    def merge(self, other: Any) -> None:
        for name, mine in vars(self).items():
            theirs = getattr(other, name)
            if isinstance(mine, set):
                mine |= theirs
            elif isinstance(mine, dict):
                for key, tally in mine.items():
                    tally.merge(theirs[key])
            elif hasattr(mine, "merge"):
                mine.merge(theirs)
            else:
                setattr(self, name, mine + theirs)


class ValueCounts:
    """How often each value occurs, for the smallest `KEPT` distinct values.

    A value among the smallest of all was among the smallest of every part, so its count is exact.
    """

    KEPT = 64

    def __init__(self) -> None:
        self.counts: dict[float, int] = {}
        self.complete = True

    def add(self, values: NDArray[Any]) -> None:
        distinct, counts = np.unique(values, return_counts=True)
        self._keep(dict(zip(distinct.astype(np.float64).tolist(), counts.tolist(), strict=True)))

    def merge(self, other: "ValueCounts") -> None:
        self.complete &= other.complete
        self._keep(other.counts)

    def _keep(self, more: dict[float, int]) -> None:
        for value, count in more.items():
            self.counts[value] = self.counts.get(value, 0) + count
        self.complete &= len(self.counts) <= self.KEPT
        self.counts = {value: self.counts[value] for value in sorted(self.counts)[: self.KEPT]}


class RowSample:
    """A seeded sample of rows: those whose scrambled row number is smallest."""

    MAX_ROWS = 10_000
    MAX_NUMBERS = 2_000_000

    def __init__(self) -> None:
        self._keys = np.empty(0, np.uint64)
        self._columns: tuple[NDArray[Any], ...] = ()
        self._waiting: list[tuple[NDArray[Any], ...]] = []
        self._num_waiting = 0

    def add(self, numbers: Rows, *columns: NDArray[Any]) -> None:
        """Offers rows; every column is (rows,) or (rows, classes), the same ones each time."""
        keys = mixed(numbers.astype(np.uint64))
        room = self._capacity(columns)
        if len(self._keys) >= room:
            keep = keys <= self._keys[room - 1]
            keys, columns = keys[keep], tuple(column[keep] for column in columns)
        elif len(keys) > room:
            keep = np.argpartition(keys, room - 1)[:room]
            keys, columns = keys[keep], tuple(column[keep] for column in columns)
        if len(keys):
            # Copies: a view would keep the caller's whole batch alive.
            self._waiting.append((keys, *(column.copy() for column in columns)))
            self._num_waiting += len(keys)
        if self._num_waiting > room:
            self._compact()

    def merge(self, other: "RowSample") -> None:
        other._compact()
        if len(other._keys):
            self._waiting.append((other._keys, *other._columns))
            self._compact()

    def rows(self) -> tuple[NDArray[Any], ...]:
        """The sampled columns, in an order that depends on the row numbers alone."""
        self._compact()
        return self._columns

    def _capacity(self, columns: tuple[NDArray[Any], ...]) -> int:
        width = sum(int(np.prod(column.shape[1:])) for column in columns)
        return max(1, min(self.MAX_ROWS, self.MAX_NUMBERS // max(width, 1)))

    def _compact(self) -> None:
        if not self._waiting:
            return
        parts = [(self._keys, *self._columns)] if len(self._keys) else []
        keys, *columns = (np.concatenate(c) for c in zip(*parts, *self._waiting, strict=True))
        order = np.argsort(keys, kind="stable")[: self._capacity(tuple(columns))]
        self._keys, self._columns = keys[order], tuple(column[order] for column in columns)
        self._waiting, self._num_waiting = [], 0


class IdSample:
    """Counts of ids: of all up to `CAPACITY` distinct ones, beyond that of a seeded sample of them.

    Ids are known by a 64-bit hash of their text: two of half a million collide with chance 1e-8.
    """

    CAPACITY = 1 << 19

    def __init__(self) -> None:
        self.total = 0
        self.complete = True
        empty = np.empty(0, np.int64)
        self._table: tuple[NDArray[Any], ...] = (np.empty(0, np.uint64), empty, empty, empty)
        self._waiting: list[tuple[NDArray[Any], ...]] = []
        self._num_waiting = 0

    def add(self, ids: NDArray[Any], numbers: Rows) -> None:
        self.total += len(ids)
        ones = np.ones(len(ids), np.int64)
        self._wait((_text_hash(ids), ones, numbers, np.full(len(ids), NO_ROW)))

    def merge(self, other: "IdSample") -> None:
        self.total += other.total
        self.complete &= other.complete
        self._wait(other.table())

    def table(self) -> tuple[NDArray[Any], ...]:
        """Hashes in rising order, how often each occurs, its first row and its second row."""
        if self._waiting:
            self._compact()
        return self._table

    def duplicated(self) -> tuple[int, int, list[tuple[int, int]]]:
        """Ids that occur again, rows too many, and the first pairs of rows that share an id."""
        _, counts, first, second = self.table()
        again = counts > 1
        order = np.argsort(second[again])[:SHOWN]
        pairs = zip(first[again][order].tolist(), second[again][order].tolist(), strict=True)
        return int(again.sum()), int((counts[again] - 1).sum()), list(pairs)

    def missing_from(self, other: "IdSample") -> tuple[int, list[int]]:
        """How many ids here are not in the other, and the first rows that hold such an id."""
        hashes, _, first, _ = self.table()
        known = other.table()[0]
        absent = ~np.isin(hashes, known)
        if not other.complete:
            # Above its largest hash the other sample knows nothing.
            absent &= hashes <= known[-1]
        return int(absent.sum()), np.sort(first[absent])[:SHOWN].tolist()

    def _wait(self, part: tuple[NDArray[Any], ...]) -> None:
        self._waiting.append(part)
        self._num_waiting += len(part[0])
        if self._num_waiting > self.CAPACITY:
            self._compact()

    def _compact(self) -> None:
        columns = zip(self._table, *self._waiting, strict=True)
        hashes, counts, first, second = (np.concatenate(column) for column in columns)
        order = np.lexsort((first, hashes))
        hashes, counts, first, second = (c[order] for c in (hashes, counts, first, second))
        starts = np.flatnonzero(np.diff(hashes, prepend=~hashes[:1]) != 0)
        sizes = np.diff(starts, append=len(hashes))
        # The second row of an id: its runner-up among the firsts, or an earlier part's second.
        runner_up = np.where(sizes > 1, first[np.minimum(starts + 1, len(first) - 1)], NO_ROW)
        self._table = (
            hashes[starts],
            np.add.reduceat(counts, starts) if len(starts) else counts,
            first[starts],
            np.minimum(runner_up, np.minimum.reduceat(second, starts)) if len(starts) else second,
        )
        if len(starts) > self.CAPACITY:
            self.complete = False
            self._table = tuple(column[: self.CAPACITY] for column in self._table)
        self._waiting, self._num_waiting = [], 0


def _text_hash(ids: NDArray[Any]) -> NDArray[np.uint64]:
    """64-bit hashes of the ids' text, the same in every process, as Python's own are not."""
    text = ids if ids.dtype.kind == "U" else np.array([str(i) for i in ids.tolist()], dtype=np.str_)
    if text.ndim != 1:
        raise ShapeError(f"ids must have one entry per row; got shape {text.shape}. Flatten them.")
    width = text.dtype.itemsize // 4
    codes = np.ascontiguousarray(text).view(np.uint32).reshape(len(text), width)
    hashes = np.zeros(len(text), np.uint64)
    for column in codes.T.astype(np.uint64):
        # Padding is skipped: the same id has another width in another batch.
        hashes = np.where(column != 0, mixed(hashes ^ column), hashes)
    return hashes
