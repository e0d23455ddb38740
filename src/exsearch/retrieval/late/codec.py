"""Product quantisation of token vectors: one byte for each group of dimensions.

A vector of length 1 is centred, rotated to the principal axes of a sample, and split into as many groups of dimensions
as it may take bytes. Each group is stored as the number of the nearest of 256 centroids. The axes are distributed so
that all groups have about the same variance (as in OPQ, Ge et al. 2013).

The inner product with a query vector is then a sum of one table entry per group. So is the squared length of the
quantised vector, which is below 1, since quantising shortens. Products are divided by that length: without this, tokens
that are quantised well would beat others, and recall on real questions would fall by three points.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from exsearch.core.mapping import load_array, save_array
from exsearch.retrieval.rank import compiled

Floats = npt.NDArray[np.float32]
CENTROIDS = 256
_ROUNDS = 12
_TRAINED_ON = 1 << 15
_BLOCK = 256
_LANES = 32
"""Number of table columns summed at once; a constant, so that it compiles to few instructions."""
_MAX_LEVEL = 32000
"""Largest sum of table entries, so that it fits into 16 bits; intermediate sums may wrap around."""
_UNIT = 256
"""What 1 is stored as in a direction. Components beyond 127 / 256, which are rare, are clipped."""


class QueryTables:
    """Tables that `max_similarity` needs for a query of n vectors, in 16 bits, which halves the memory to read."""

    def __init__(self, entries: Floats, constants: Floats, bounds: Floats, count: int) -> None:
        """Take `entries` [groups, 256, columns], and `constants` and `bounds` [columns]; columns beyond `count` are
        padding.

        Column i < count sums to the product with query vector i, and column `count` to the squared length. No sum
        exceeds its bound, which sets the column's unit: a product is exact to 0.001, far below the error of quantising.
        """
        groups, _, columns = entries.shape
        shape = (columns // _LANES, _LANES)
        self.count = count
        self.units: Floats = np.maximum(bounds / _MAX_LEVEL, np.float32(1e-20)).reshape(shape)
        self.constants = np.rint(constants.reshape(shape) / self.units).astype(np.int16)
        self.entries = np.empty((shape[0], groups, CENTROIDS, _LANES), dtype=np.int16)
        _pack(self.entries, entries, np.float32(1) / self.units)


class Codec:
    """A trained quantiser."""

    def __init__(self, mean: Floats, axes: Floats, centroids: Floats) -> None:
        """Take `mean` [D], `axes` [D, d], orthonormal or zero, and `centroids` [groups, d / groups, 256]."""
        self.mean, self.axes, self.centroids = mean, axes, centroids
        self.groups = len(centroids)
        self._turned_mean = mean @ axes
        self._half_norms: Floats = (centroids**2).sum(axis=1) / 2
        self._longest = float(np.linalg.norm(mean) + np.sqrt(2 * self._half_norms.max(axis=1).sum()))
        """Upper bound of the squared length of any quantised vector."""

    @classmethod
    def train(cls, sample: Floats, groups: int) -> "Codec":
        """Fit a codec of `groups` bytes per vector to `sample` [n, D]; deterministic."""
        generator = np.random.default_rng(0)
        sample = sample[generator.permutation(len(sample))[:_TRAINED_ON]]
        mean = sample.mean(axis=0)
        variances, axes = np.linalg.eigh(np.cov(sample - mean, rowvar=False).astype(np.float64))
        padding = -len(mean) % groups  # zero axes pad the last groups
        variances = np.concatenate([variances[::-1], np.zeros(padding)])
        axes = np.concatenate([axes[:, ::-1], np.zeros((len(mean), padding))], axis=1)
        axes = np.ascontiguousarray(axes[:, _balanced(variances, groups)], dtype=np.float32)
        turned = ((sample - mean) @ axes).reshape(len(sample), groups, -1)
        centroids = [_k_means(np.ascontiguousarray(turned[:, group]), generator) for group in range(groups)]
        return cls(mean, axes, np.ascontiguousarray(np.stack(centroids).transpose(0, 2, 1)))

    @classmethod
    def load(cls, folder: Path) -> "Codec":
        """Read the files that `save` wrote."""
        return cls(*(load_array(folder / f"{name}.npy") for name in ("mean", "axes", "centroids")))

    def save(self, folder: Path) -> None:
        """Write mean.npy, axes.npy and centroids.npy."""
        for name in ("mean", "axes", "centroids"):
            save_array(folder / f"{name}.npy", getattr(self, name))

    def encode(self, vectors: Floats) -> npt.NDArray[np.uint8]:
        """Return the codes [n, groups] of `vectors` [n, D]."""
        codes = np.empty((len(vectors), self.groups), dtype=np.uint8)
        turned = np.asarray((vectors - self.mean) @ self.axes, dtype=np.float32)
        _nearest(turned, self.centroids, self._half_norms, codes)
        return codes

    def decode(self, codes: npt.NDArray[np.uint8]) -> Floats:
        """Return the vectors [n, D], of length 1, that `codes` [n, groups] represent."""
        turned = np.stack([self.centroids[group][:, codes[:, group]].T for group in range(self.groups)], axis=1)
        vectors = turned.reshape(len(codes), -1) @ self.axes.T + self.mean
        unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def mean_direction(self, vectors: Floats) -> npt.NDArray[np.int8]:
        """Return the direction of the mean of `vectors` [n, D], centred and rotated, [d]; zeros if there are none."""
        if not len(vectors):
            return np.zeros(self.axes.shape[1], dtype=np.int8)
        mean = (vectors.mean(axis=0) - self.mean) @ self.axes
        scaled = np.rint(mean * (_UNIT / max(float(np.linalg.norm(mean)), 1e-12)))
        direction: npt.NDArray[np.int8] = np.clip(scaled, -127, 127).astype(np.int8)
        return direction

    def tables(self, query: Floats) -> QueryTables:
        """Return the tables of a query's vectors [n, D]."""
        count = len(query)
        columns = -(-(count + 1) // _LANES) * _LANES
        turned = np.zeros((self.axes.shape[1], columns), dtype=np.float32)
        turned[:, :count] = (query @ self.axes).T
        turned[:, count] = 2 * self._turned_mean
        constants = np.zeros(columns, dtype=np.float32)
        constants[:count] = query @ self.mean
        constants[count] = self.mean @ self.mean
        entries = np.empty((self.groups, CENTROIDS, columns), dtype=np.float32)
        _fill(entries, self.centroids, turned)
        entries[:, :, count] += 2 * self._half_norms
        bounds = np.zeros(columns, dtype=np.float32)
        bounds[:count] = self._longest * np.linalg.norm(query, axis=1)
        bounds[count] = self._longest**2
        return QueryTables(entries, constants, bounds, count)


def _balanced(variances: npt.NDArray[np.float64], groups: int) -> npt.NDArray[np.int64]:
    """Return an order of the axes in which consecutive groups of equal size have nearly equal variance.

    `variances` are in descending order; each axis goes to the group with the least variance that has room.
    """
    width = len(variances) // groups
    members: list[list[int]] = [[] for _ in range(groups)]
    carried = np.zeros(groups)
    for axis, variance in enumerate(variances):
        group = min((group for group in range(groups) if len(members[group]) < width), key=lambda group: carried[group])
        members[group].append(axis)
        carried[group] += variance
    return np.array([axis for group in members for axis in group])


def _k_means(points: Floats, generator: np.random.Generator) -> Floats:
    """Return 256 centroids [256, width] of `points` [n, width] by Lloyd's algorithm."""
    if len(points) < CENTROIDS:
        return np.resize(points, (CENTROIDS, points.shape[1]))
    centroids = points[generator.choice(len(points), CENTROIDS, replace=False)]
    nearest = np.empty((len(points), 1), dtype=np.uint8)
    for _ in range(_ROUNDS):
        columns = np.ascontiguousarray(centroids.T)[None]
        _nearest(points, columns, (columns**2).sum(axis=1) / 2, nearest)
        counts = np.bincount(nearest[:, 0], minlength=CENTROIDS)
        sums = [np.bincount(nearest[:, 0], weights=column, minlength=CENTROIDS) for column in points.T]
        moved = np.stack(sums, axis=1) / np.maximum(counts, 1)[:, None]
        empty = np.flatnonzero(counts == 0)
        moved[empty] = points[generator.choice(len(points), len(empty), replace=False)]
        centroids = moved.astype(np.float32)
    return centroids


def max_similarity(
    tables: QueryTables, codes: npt.NDArray[np.uint8], first: npt.NDArray[np.int64], stop: npt.NDArray[np.int64]
) -> Floats:
    """Return the MaxSim of the query with each passage: the sum, over query vectors, of the largest cosine with any of
    the passage's vectors; minus infinity for a passage without vectors.

    Passage i has the rows first[i] to stop[i] of `codes` [tokens, groups].
    """
    scores = np.empty(len(first), dtype=np.float32)
    _max_similarity(scores, first, stop, codes, tables.entries, tables.constants, tables.units, tables.count)
    return scores


@compiled
def _max_similarity(
    scores: Floats,
    first: npt.NDArray[np.int64],
    stop: npt.NDArray[np.int64],
    codes: npt.NDArray[np.uint8],
    entries: npt.NDArray[np.int16],
    constants: npt.NDArray[np.int16],
    units: Floats,
    count: int,
) -> None:
    blocks, groups, _, _ = entries.shape
    fours = groups // 4 * 4
    total = np.empty(_LANES, dtype=np.int16)
    best = np.empty((blocks, _LANES), dtype=np.float32)
    length_block, length_lane = count // _LANES, count % _LANES
    for passage in range(len(first)):
        best[:] = -np.inf
        for token in range(first[passage], stop[passage]):
            scale = np.float32(0)
            for block in range(blocks - 1, -1, -1):  # the last block has the length
                for lane in range(_LANES):
                    total[lane] = constants[block, lane]
                for group in range(0, fours, 4):
                    a, b = codes[token, group], codes[token, group + 1]
                    c, d = codes[token, group + 2], codes[token, group + 3]
                    for lane in range(_LANES):
                        total[lane] += (
                            entries[block, group, a, lane]
                            + entries[block, group + 1, b, lane]
                            + entries[block, group + 2, c, lane]
                            + entries[block, group + 3, d, lane]
                        )
                for group in range(fours, groups):
                    a = codes[token, group]
                    for lane in range(_LANES):
                        total[lane] += entries[block, group, a, lane]
                if block == length_block:
                    scale = np.float32(1 / np.sqrt(total[length_lane] * units[block, length_lane]))
                for lane in range(_LANES):
                    value = np.float32(total[lane]) * scale
                    best[block, lane] = value if value > best[block, lane] else best[block, lane]
        score = np.float32(0)
        for number in range(count):
            score += best[number // _LANES, number % _LANES] * units[number // _LANES, number % _LANES]
        scores[passage] = score


@compiled
def _pack(packed: npt.NDArray[np.int16], entries: Floats, per_unit: Floats) -> None:
    """Fill `packed` [blocks, groups, 256, lanes] with `entries` [groups, 256, columns] in the columns' units."""
    blocks, groups, centroids, _ = packed.shape
    for block in range(blocks):
        first = block * _LANES
        for group in range(groups):
            for code in range(centroids):
                for lane in range(_LANES):
                    packed[block, group, code, lane] = np.int16(
                        np.rint(entries[group, code, first + lane] * per_unit[block, lane])
                    )


@compiled
def _nearest(vectors: Floats, centroids: Floats, half_norms: Floats, codes: npt.NDArray[np.uint8]) -> None:
    """Fill `codes` [n, groups] with the nearest centroid for each group of each vector: the one with the largest
    product minus half its squared norm.

    The innermost loops run over a block of vectors, so that the processor compares many at the same time.
    """
    groups, width, count = centroids.shape
    gain = np.empty(_BLOCK, dtype=np.float32)
    best = np.empty(_BLOCK, dtype=np.float32)
    nearest = np.empty(_BLOCK, dtype=np.int32)
    columns = np.empty((width, _BLOCK), dtype=np.float32)
    for start in range(0, len(vectors), _BLOCK):
        size = min(_BLOCK, len(vectors) - start)
        for group in range(groups):
            for number in range(size):
                for dimension in range(width):
                    columns[dimension, number] = vectors[start + number, group * width + dimension]
            best[:] = -np.inf
            for code in range(count):
                gain[:] = -half_norms[group, code]
                for dimension in range(width):
                    value = centroids[group, dimension, code]
                    for number in range(_BLOCK):
                        gain[number] += value * columns[dimension, number]
                for number in range(_BLOCK):
                    nearest[number] = code if gain[number] > best[number] else nearest[number]
                    best[number] = max(gain[number], best[number])
            for number in range(size):
                codes[start + number, group] = nearest[number]


@compiled
def _fill(tables: Floats, centroids: Floats, turned: Floats) -> None:
    """Fill `tables` [groups, 256, n] with the products of `centroids` and the columns of `turned` [d, n]."""
    groups, width, count = centroids.shape
    for group in range(groups):
        for code in range(count):
            for number in range(turned.shape[1]):
                tables[group, code, number] = 0
            for dimension in range(width):
                value = centroids[group, dimension, code]
                row = group * width + dimension
                for number in range(turned.shape[1]):
                    tables[group, code, number] += value * turned[row, number]


@compiled
def inner_products(products: Floats, rows: npt.NDArray[np.int8], vector: npt.NDArray[np.int8]) -> None:
    """Fill `products` [n] with the inner product of each of `rows` [n, d] with `vector` [d]."""
    for number in range(len(rows)):
        total = np.int32(0)
        for dimension in range(len(vector)):
            total += np.int32(rows[number, dimension]) * np.int32(vector[dimension])
        products[number] = total
