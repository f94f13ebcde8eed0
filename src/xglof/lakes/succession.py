"""Which lakes the polygons of a date go on with: the known lakes with their outlines, and the rules.

Numbers of lakes are those of :class:`Register`; numbers of polygons those of the date. All geometries are in
degrees of longitude and latitude: a ratio of two areas at one place does not depend on the projection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from xglof.errors import CubeError
from xglof.lakes.knots import Float, Links, Numbers, Objects, Scene, level_area, untangle

_SLACK = 1e-4  # of a ratio: pixels of one grid are not as large in degrees, by 1e-5 over a small lake
_LARGER = 1 + 1e-4  # an outline must be to count as the largest; a reprojection moves the ratio by less


class Register:
    """The lakes known so far, each with what the next date is compared with.

    Attributes
    ----------
    ids
        By number.
    outline
        Last full outline with all lakes held, ``None`` before the first sight.
    own, largest
        Last and largest outline on its own, before it held others or was held.
    holder
        Number of the lake it merged into, -1 where it is by itself.
    size, age
        Largest area it ever had, with all lakes held, and its place by first sight.
    """

    def __init__(self, ids: Sequence[str], min_overlap: float) -> None:
        self.least = min_overlap - _SLACK
        self.ids: list[str] = []
        self._number: dict[str, int] = {}
        self.outline = np.empty(0, object)
        self.own = np.empty(0, object)
        self.largest = np.empty(0, object)
        self._largest = np.empty(0)
        self._shrunk = np.empty(0, bool)
        self.size = np.empty(0)
        self.age = np.empty(0, np.intp)
        self.holder = np.empty(0, np.intp)
        self._first = np.empty(0, object)
        self._before: list[tuple[int, int]] = []
        self._enter(ids)

    def _enter(self, ids: Iterable[str]) -> Numbers:
        start = len(self.ids)
        self.ids.extend(ids)
        self._number.update((name, start + i) for i, name in enumerate(self.ids[start:]))
        missing = np.full(len(self.ids) - start, None, object)
        self.outline = np.append(self.outline, missing)
        self.own = np.append(self.own, missing)
        self.largest = np.append(self.largest, missing)
        self._largest = np.append(self._largest, np.zeros(len(missing)))
        self._shrunk = np.append(self._shrunk, np.zeros(len(missing), bool))
        self.size = np.append(self.size, np.zeros(len(missing)))
        self.age = np.append(self.age, np.full(len(missing), -1, np.intp))
        self._first = np.append(self._first, missing)
        self.holder = np.append(self.holder, np.full(len(missing), -1, np.intp))
        return np.arange(start, len(self.ids))

    def numbers(self, ids: Iterable[str]) -> Numbers:
        """Numbers of known ids."""
        return np.array([self._number[name] for name in ids], np.intp)

    def add(self, names: Iterable[str]) -> Numbers:
        """Numbers of new lakes; one whose name is taken gets the next free suffix."""
        taken, free = set(self._number), []
        for name in names:
            unique, count = name, 1
            while unique in taken:
                count += 1
                unique = f"{name}-{count}"
            taken.add(unique)
            free.append(unique)
        return self._enter(free)

    def expect(self, first: Objects, before: Iterable[tuple[int, str]]) -> None:
        """Take note of lakes that are seen at a later date: outlines, and the lakes they are parts of."""
        self._first = first
        self._before = [(lake, self._number[name]) for lake, name in before if name in self._number]

    def roots(self) -> Numbers:
        """The lake that holds each lake in the end, itself where none does."""
        return _roots(self.holder)

    def settle(
        self, lake: Numbers, shapes: Objects, partial: NDArray[np.uint8], event: Objects, parents: Objects
    ) -> None:
        """Take the polygons of a date, each with the number of its lake and what happened to it."""
        import shapely

        seen, first, counts = np.unique(lake, return_index=True, return_counts=True)
        unseen = np.flatnonzero(self.age[seen] < 0)
        unseen = seen[unseen[np.argsort(first[unseen])]]
        self.age[unseen] = self.age.max(initial=-1) + 1 + np.arange(len(unseen))
        freed, before = seen[self.holder[seen] >= 0], self.roots()
        self._hold(lake, seen, event, parents)
        after = self.roots()
        for root in np.unique(before[freed]):  # what has left a lake is no part of its outline
            self.outline[root] = shapely.union_all(self.own[after == root])
        outline = shapes[first]
        for place in np.flatnonzero(counts > 1):
            outline[place] = shapely.union_all(shapes[lake == seen[place]])
        self._keep(seen, outline, np.isin(seen, lake[partial > 0]))
        self._measure(seen)

    def _keep(self, seen: Numbers, outline: Objects, hidden: NDArray[np.bool_]) -> None:
        """Set outlines; old ones stay a part of what is seen in part, or of old and not where it was last."""
        import shapely

        there = np.flatnonzero(self.outline[seen] != None)  # noqa: E711  by element
        near, _ = _shared(outline[there], self.outline[seen[there]], self.least)
        kept = there[hidden[there] | ~near]
        old = self.outline[seen[kept]]
        first, second = shapely.STRtree(old).query(outline)
        other = (first != kept[second]) & shapely.intersects(outline[first], old[second])
        for place in np.unique(second[other]):  # what is another lake by now is no part of it
            others = shapely.union_all(outline[first[other & (second == place)]])
            old[place] = shapely.difference(old[place], others)
        self.outline[seen] = outline
        self.outline[seen[kept]] = shapely.union(old, outline[kept])

    def _measure(self, seen: Numbers) -> None:
        """Set what follows from new outlines."""
        area = level_area(self.outline[seen])
        holds = np.zeros(len(self.holder), bool)
        holds[self.holder[self.holder >= 0]] = True
        alone = ~holds[seen] | (self.own[seen] == None)  # noqa: E711  by element
        self.own[seen[alone]] = self.outline[seen[alone]]
        larger = alone & (area > self._largest[seen] * _LARGER)
        self.largest[seen[larger]] = self.outline[seen[larger]]
        self._largest[seen[larger]] = area[larger]
        self._shrunk[seen[alone]] = ~larger[alone]
        self.size[seen] = np.maximum(self.size[seen], area)

    def _hold(self, lake: Numbers, seen: Numbers, event: Objects, parents: Objects) -> None:
        self.holder[seen] = -1
        present = set(seen.tolist())
        for row in np.flatnonzero(event == "merge"):
            for name in parents[row].split():
                other = self._number.get(name)
                if other is not None and other not in present:
                    self.holder[other] = lake[row]
                    if self.own[other] is None:
                        self.own[other] = self._first[other]

    def scene(self, polygons: Objects, partial: NDArray[np.uint8]) -> Scene:
        """Polygons of a date, and what they are compared with."""
        import shapely

        outline, own, holder = self.outline.copy(), self.own.copy(), self.holder.copy()
        unborn = (own == None) & (self._first != None)  # noqa: E711  by element
        outline[unborn] = own[unborn] = self._first[unborn]
        whole: dict[int, list[int]] = {}
        for lake, parent in self._before:
            if unborn[lake] and own[parent] is not None:
                holder[lake] = parent
                whole.setdefault(parent, []).append(lake)
        for parent, parts in whole.items():
            rest = shapely.difference(own[parent], shapely.union_all(own[parts]))
            own[parent] = rest if shapely.area(rest) > 0 else own[parent]
        there = np.flatnonzero(own != None)  # noqa: E711
        holding = np.intersect1d(there[holder[there] < 0], holder)
        shrunk = there[self._shrunk[there]]
        size, age = self.size.copy(), self.age.copy()
        unseen = there[age[there] < 0]
        size[unseen] = level_area(own[unseen])
        age[unseen] = len(age) + unseen
        return Scene(
            polygons, partial, np.concatenate([own[there], outline[holding], self.largest[shrunk]]),
            np.concatenate([there, holding, shrunk]), len(there), len(there) + len(holding),
            holder, _roots(holder), size, age, self.least,
        )  # fmt: skip


def _roots(holder: Numbers) -> Numbers:
    root = np.where(holder < 0, np.arange(len(holder)), holder)
    for _ in range(len(holder).bit_length()):  # each turn is twice as far along the chains
        root = root[root]
    if (holder[root] >= 0).any():
        raise CubeError("parents in known lead in a circle; pass rows that track() returned, unchanged")
    return root


def succeed(
    register: Register, shapes: Objects, partial: NDArray[np.uint8]
) -> tuple[Numbers, Objects, Objects]:
    """Lake of each polygon of a date (-1 for a new one), what happened to it, and its parents.

    Parameters
    ----------
    register
        Left as it is.
    shapes, partial
        Polygons from north to south, and by what they may be cut off, 0 for whole lakes.

    Returns
    -------
    lake, event, parents
        As :func:`xglof.lakes.track` has them, the lakes by number.
    """
    scene = register.scene(shapes, partial)
    links = _link(scene)
    root = scene.root[links.lake]
    pairs, member = np.unique(links.polygon * len(scene.root) + root, return_inverse=True)
    polygon, lake = np.divmod(pairs, max(len(scene.root), 1))
    own, held = np.zeros((2, len(pairs)), bool)
    alone = scene.alone(links.candidate)
    own[member[alone & (root == links.lake)]] = True
    held[member[alone & (root != links.lake)]] = True
    simple = _single(polygon)[polygon] & _single(lake)[lake] & ((partial[polygon] > 0) | own | ~held)
    numbers = np.full(len(shapes), -1, np.intp)
    numbers[polygon[simple]] = lake[simple]
    event, parents = np.full((2, len(shapes)), "", object)
    event[np.bincount(polygon, minlength=len(shapes)) == 0] = "new"
    for change in untangle(links.at(~simple[member]), scene):
        rows = list(change.polygons)
        numbers[rows], event[rows] = change.lake, change.event
        parents[rows] = " ".join(register.ids[parent] for parent in change.parents)
    return numbers, event, parents


def _single(numbers: Numbers) -> NDArray[np.bool_]:
    return np.equal(np.bincount(numbers), 1)


def _link(scene: Scene) -> Links:
    """Pairs of a polygon and an outline that share enough: the last ones, or else one of the largest."""
    import shapely

    polygon, candidate = shapely.STRtree(scene.outlines[: scene.far]).query(scene.polygons)
    linked, overlap = _shared(scene.polygons[polygon], scene.outlines[candidate], scene.least)
    last = Links(polygon, candidate, scene.lake[candidate], overlap).at(linked)
    lost = np.setdiff1d(np.arange(len(scene.polygons)), last.polygon)
    candidate, polygon = shapely.STRtree(scene.polygons[lost]).query(scene.outlines[scene.far :])
    candidate, polygon = candidate + scene.far, lost[polygon]
    linked, _ = _shared(scene.polygons[polygon], scene.outlines[candidate], scene.least)
    polygon, candidate = polygon[linked], candidate[linked]
    overlap = shapely.area(shapely.intersection(scene.polygons[polygon], scene.outlines[candidate]))
    lake = scene.lake[candidate]
    size, share = (np.round(np.log(area) * 10_000) for area in (scene.size[lake], overlap))
    # of as much the smaller lake: of one and of what split off it that is the part
    order = np.lexsort((scene.age[lake], size, -share, polygon))
    best = order[np.unique(polygon[order], return_index=True)[1]]
    pairs = zip((last.polygon, last.candidate, last.lake, last.overlap),
                (polygon, candidate, lake, overlap), strict=True)  # fmt: skip
    return Links(*(np.append(some, more[best]) for some, more in pairs))


def _shared(first: Objects, second: Objects, least: float) -> tuple[NDArray[np.bool_], Float]:
    """Whether pairs of polygons share enough, and the area that they share, NaN where it was not reckoned."""
    import shapely

    area, other = shapely.area(first), shapely.area(second)
    least = least * np.minimum(area, other)
    boxes = np.stack([shapely.bounds(first), shapely.bounds(second)])
    around = np.maximum(*boxes[..., 2:]) - np.minimum(*boxes[..., :2])
    between = np.minimum(*boxes[..., 2:]) - np.maximum(*boxes[..., :2])
    # intersections are the dearest step, and boxes settle most: two polygons share at least what has no room
    # beside each other in the box around both, and at most what their own boxes share
    surely = area + other - around.prod(axis=1) >= least
    maybe = np.flatnonzero(~surely & (between > 0).all(axis=1) & (between.prod(axis=1) >= least))
    overlap = np.where(surely, np.nan, 0.0)
    overlap[maybe] = shapely.area(shapely.intersection(first[maybe], second[maybe]))
    return surely | (overlap >= least), overlap
