"""Polygons of a date that go on with several lakes, or lakes with several polygons: who keeps which id.

These are few, so one is looked at after the other.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Objects = NDArray[Any]
Numbers = NDArray[np.intp]
Float = NDArray[np.float64]

_KINDS = (1, 2)  # of what cuts a polygon off: the unobserved, the edge of the grid


@dataclass(frozen=True, slots=True)
class Links:
    """Polygons of a date and outlines of lakes that share enough.

    Attributes
    ----------
    polygon, candidate, lake
        Numbers of the polygon, of the outline and of the outline's lake.
    overlap
        Area shared, NaN where it was not reckoned.
    """

    polygon: Numbers
    candidate: Numbers
    lake: Numbers
    overlap: Float

    def at(self, rows: NDArray[Any]) -> Links:
        """Some of the links."""
        return Links(self.polygon[rows], self.candidate[rows], self.lake[rows], self.overlap[rows])


@dataclass(frozen=True, slots=True)
class Scene:
    """What links are between.

    Attributes
    ----------
    polygons, partial
        Of the date, from north to south; by what each may be cut off, a bit a kind, 0 for a whole lake.
    outlines, lake, held, far
        Outlines of lakes and their numbers. The first are of lakes on their own, by number; those from
        ``held`` on of lakes with what they hold; those from ``far`` on of lakes when they were largest.
    holder, root, size, age
        Of each lake: the one it merged into (-1 for none), the last one of that chain, the largest area it
        ever had, and its place by first sight.
    least
        Share of the smaller area that is enough.
    """

    polygons: Objects
    partial: NDArray[np.uint8]
    outlines: Objects
    lake: Numbers
    held: int
    far: int
    holder: Numbers
    root: Numbers
    size: Float
    age: Numbers
    least: float

    def alone(self, candidate: Any) -> Any:
        """Whether outlines are those of lakes on their own."""
        return (candidate < self.held) | (candidate >= self.far)

    def own(self, lake: int) -> Any:
        """Outline of a lake on its own."""
        return self.outlines[np.searchsorted(self.lake[: self.held], lake)]

    def full(self, lake: int) -> Any:
        """Outline of a lake with those it holds."""
        place = self.held + int(np.searchsorted(self.lake[self.held : self.far], lake))
        return self.outlines[place] if place < self.far and self.lake[place] == lake else self.own(lake)

    def rank(self, lake: int) -> tuple[int, int, int]:
        """Key to sort lakes: the largest first, then the oldest, no lake before the one that holds it."""
        chain = [lake]
        while (holder := int(self.holder[chain[-1]])) >= 0:
            chain.append(holder)
        return -min(_step(self.size[each]) for each in chain), len(chain), int(self.age[lake])


@dataclass(frozen=True, slots=True)
class Change:
    """What polygons are: one lake, in parts where there are several.

    Attributes
    ----------
    polygons
        Their numbers.
    lake
        Its number, -1 for a new one.
    event, parents
        As :func:`xglof.lakes.track` has them, the parents by number.
    """

    polygons: tuple[int, ...]
    lake: int
    event: str
    parents: tuple[int, ...]


def level_area(shapes: Objects) -> Float:
    """Areas of polygons in degrees as if all lay at the equator: pixels are then as large as each other."""
    import shapely

    return np.asarray(shapely.area(shapes) * _level(shapes))


def _level(shapes: Objects) -> Float:
    import shapely

    _, south, _, north = shapely.bounds(shapes).T
    return np.asarray(np.cos(np.radians((south + north) / 2)))


def untangle(links: Links, scene: Scene) -> Iterator[Change]:
    """Lakes of all polygons that have links, knot by knot."""
    import shapely
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if len(links.polygon) == 0:
        return
    shapes = scene.polygons[links.polygon]
    open_ = np.isnan(links.overlap)
    shared = links.overlap.copy()
    shared[open_] = shapely.area(shapely.intersection(shapes[open_], scene.outlines[links.candidate[open_]]))
    level = Links(links.polygon, links.candidate, links.lake, shared * _level(shapes))
    sizes = dict(zip(links.polygon.tolist(), level_area(shapes).tolist(), strict=True))
    count = len(scene.polygons)
    edges = (links.polygon, count + scene.root[links.lake])
    graph = coo_array((np.ones(len(shared), bool), edges), shape=(count + len(scene.root),) * 2)
    knot = connected_components(graph, directed=False)[1][links.polygon]
    order = np.argsort(knot, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(knot[order])) + 1):
        yield from _Knot(level.at(rows), scene, sizes).changes()


def _step(area: float) -> int:
    """Area in steps of a ten-thousandth of itself: the last bits of a reprojection decide nothing."""
    return round(math.log(area) * 10_000)


class _Knot:
    """Polygons and lakes that hang together by links.

    Polygons that are parts of one lake are a body, named by the first of them.
    """

    def __init__(self, links: Links, scene: Scene, sizes: dict[int, float]) -> None:
        self.scene = scene
        self.sizes = sizes
        self.rows = list(
            zip(links.polygon.tolist(), links.candidate.tolist(), links.lake.tolist(), links.overlap.tolist(),
                strict=True)
        )  # fmt: skip
        self.body: dict[int, int] = {}
        self.parts: dict[int, list[int]] = {}
        self._gained: dict[int, tuple[float, Any]] = {}
        self._glue()

    def _root(self, lake: int) -> int:
        return int(self.scene.root[lake])

    def _glue(self) -> None:
        """Make one body of the polygons of a lake that may join where nothing was seen.

        A whole one has land all around it, so that it takes two which are cut off by the same kind of thing.
        """
        self.body = {polygon: polygon for polygon, *_ in self.rows}
        cut: dict[tuple[int, int], set[int]] = defaultdict(set)
        for polygon, _, lake, _ in self.rows:
            for kind in _KINDS:
                if self.scene.partial[polygon] & kind:
                    cut[self._root(lake), kind].add(polygon)
        for polygons in cut.values():
            bodies = {self.body[polygon] for polygon in polygons}
            self.body.update({p: min(bodies) for p, body in self.body.items() if body in bodies})
        for polygon, body in sorted(self.body.items()):
            self.parts.setdefault(body, []).append(polygon)

    def _is_all(self, body: int, root: int) -> bool:
        """Whether a body may be all that is seen of a lake and those it holds: too little to part them."""
        partial = any(self.scene.partial[part] for part in self.parts[body])
        return partial and self._seen.get(root, set()) <= {body}

    @cached_property
    def _seen(self) -> dict[int, set[int]]:
        """Bodies on the outline that each lake has on its own."""
        seen: dict[int, set[int]] = defaultdict(set)
        for polygon, candidate, lake, _ in self.rows:
            if self.scene.alone(candidate):
                seen[lake].add(self.body[polygon])
        return seen

    @cached_property
    def claims(self) -> dict[int, dict[int, float]]:
        """Area that each lake shares with each body.

        The outline of a lake with those it holds counts where the body touches none of them on its own.
        """
        links: dict[tuple[int, int], list[tuple[int, int, float]]] = defaultdict(list)
        for polygon, candidate, lake, overlap in self.rows:
            links[polygon, self._root(lake)].append((candidate, lake, overlap))
        claims: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
        for (polygon, root), those in links.items():
            body = self.body[polygon]
            alone = [(lake, overlap) for candidate, lake, overlap in those if self.scene.alone(candidate)]
            if not alone or self._is_all(body, root):
                alone = [(root, max(overlap for *_, overlap in those))]
            for lake, overlap in alone:
                claims[lake][body] += overlap
        return claims

    @cached_property
    def _last(self) -> dict[int, set[int]]:
        """Bodies where each root and the lakes it holds were seen last."""
        last: dict[int, set[int]] = defaultdict(set)
        for polygon, candidate, lake, _ in self.rows:
            if candidate < self.scene.far:
                last[lake].add(self.body[polygon])
                last[self._root(lake)].add(self.body[polygon])
        return last

    def _bodies(self, lake: int) -> set[int]:
        """Bodies in which a lake may go on: where it was of old only if not where it was seen last."""
        bodies = set(self.claims[lake])
        return bodies & self._last.get(lake, set()) or bodies

    def _best(self, lake: int, bodies: Iterable[int]) -> int:
        """The body that a lake shares most with; of as much the larger, then the northern, western one."""
        shares = self.claims[lake]

        def merit(body: int) -> tuple[int, int, int]:
            return _step(shares[body]), _step(sum(self.sizes[part] for part in self.parts[body])), -body

        return max(bodies, key=merit)

    @cached_property
    def _order(self) -> list[int]:
        return sorted(self.claims, key=self.scene.rank)

    @cached_property
    def heirs(self) -> dict[int, int]:
        """The lake that goes on in each body, where one does.

        A held lake goes on in the body that has most of it, or stays held: a puddle in its place is not it.
        """
        heirs: dict[int, int] = {}
        for lake in self._order:
            bodies = self._bodies(lake)
            if self.scene.holder[lake] >= 0:
                bodies = {self._best(lake, bodies)}
            if free := bodies - heirs.keys():
                heirs[self._best(lake, free)] = lake
        return heirs

    @cached_property
    def _place(self) -> dict[int, int]:
        return {lake: body for body, lake in self.heirs.items()}

    def _absorber(self, lake: int) -> int:
        """The lake that goes on with a body that took most of a lake."""
        return self.heirs[self._best(lake, self._bodies(lake) & self.heirs.keys())]

    def _end(self, lake: int) -> int:
        """The lake that holds a lake at this date, as far as held lakes stay with their holders."""
        while lake not in self._place:
            holder = int(self.scene.holder[lake])
            if holder >= 0:
                lake = holder
            elif lake in self.claims:
                lake = self._absorber(lake)
            else:
                break
        return lake

    @cached_property
    def joined(self) -> dict[int, list[int]]:
        """Lakes that went into each body besides its own, and were not in it before."""
        joined: dict[int, list[int]] = defaultdict(list)
        for lake in self._order:
            if lake in self._place:
                for body in self.claims[lake].keys() & self.heirs.keys():
                    if self._joins(lake, body):
                        joined[body].append(lake)
                continue
            heir, holder = self._absorber(lake), int(self.scene.holder[lake])
            if holder < 0 or self._end(holder) != heir:
                joined[self._place[heir]].append(lake)
        return joined

    def _joins(self, lake: int, body: int) -> bool:
        """Whether a part of a lake that goes on elsewhere is in a body that was another lake."""
        import shapely

        if self._root(self.heirs[body]) == self._root(lake):
            return False
        there, (whole, gained) = self.scene.own(lake), self._gains(body)
        part = shapely.area(shapely.intersection(gained, there))
        return bool(part >= self.scene.least * min(whole, shapely.area(there)))

    def _gains(self, body: int) -> tuple[float, Any]:
        """Area of a body, and what of it lies beyond the lake that goes on in it."""
        import shapely

        if body not in self._gained:
            shape = shapely.union_all(self.scene.polygons[self.parts[body]])
            beyond = shapely.difference(shape, self.scene.full(self.heirs[body]))
            self._gained[body] = float(shapely.area(shape)), beyond
        return self._gained[body]

    @cached_property
    def _parents(self) -> dict[int, int]:
        """The lake that each new body was a part of."""
        parents = {}
        for body in self.parts.keys() - self.heirs.keys():
            shares = {lake: self.claims[lake][body] for lake in self._order if body in self.claims[lake]}
            parents[body] = self._end(max(shares, key=lambda lake: _step(shares[lake])))
        return parents

    def changes(self) -> Iterator[Change]:
        """What each body is."""
        left = set(self._parents.values())
        left |= {self._root(lake) for lake in self._place if self.scene.holder[lake] >= 0}
        left |= {lake for lakes in self.joined.values() for lake in lakes}
        for body, parts in self.parts.items():
            polygons = tuple(parts)
            if body not in self.heirs:
                yield Change(polygons, -1, "split", (self._parents[body],))
                continue
            lake = self.heirs[body]
            if others := self.joined.get(body):
                yield Change(polygons, lake, "merge", (lake, *others))
            elif self.scene.holder[lake] >= 0:
                yield Change(polygons, lake, "split", (self._root(lake),))
            else:
                yield Change(polygons, lake, "split" if lake in left else "", ())
