"""Geometry: polygons given by their corners on a map."""

from __future__ import annotations

import math
import random
from fractions import Fraction

from synth.problems.operation import Args, Item, Items, Operation, Steps, Value, attempts, number

Point = tuple[int, int]


def _points(items: Items) -> list[Point]:
    return [(item["x"], item["y"]) for item in items]


def _edges(points: list[Point]) -> list[tuple[Point, Point]]:
    return list(zip(points, points[1:] + points[:1], strict=True))


def _turn(a: Point, b: Point, c: Point) -> int:
    """Twice the signed area of a triangle; positive if a, b, c are in anticlockwise order."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _solve(args: Args, items: Items) -> tuple[dict[str, Value], Steps]:
    """Area by the shoelace formula, inner points by Pick's theorem.

    Raises ValueError unless the corners go round a convex polygon in anticlockwise order.
    """
    points = _points(items)
    if len(points) < 3 or any(_turn(points[i - 2], points[i - 1], points[i]) <= 0 for i in range(len(points))):
        raise ValueError("the corners go round no convex shape")
    doubled, steps = 0, []
    for (x1, y1), (x2, y2) in _edges(points):
        doubled += x1 * y2 - x2 * y1
        steps.append(("corner", doubled))
    on_edges = sum(math.gcd(x2 - x1, y2 - y1) for (x1, y1), (x2, y2) in _edges(points))
    inner = (doubled - on_edges + 2) // 2
    area = Fraction(doubled, 2) * args["scale"] ** 2
    return {"area": area, "edge_points": on_edges, "inner_points": inner}, steps


def _check(args: Args, items: Items) -> dict[str, Value]:
    """Counts lattice points one by one; adds the areas of the triangles at the first corner, by Heron's formula."""
    points = _points(items)
    xs, ys = zip(*points, strict=True)
    inner = on_edges = 0
    for x in range(min(xs), max(xs) + 1):
        for y in range(min(ys), max(ys) + 1):
            turns = [_turn(a, b, (x, y)) for a, b in _edges(points)]
            inner += min(turns) > 0
            on_edges += min(turns) == 0
    area = sum((_heron(points[0], b, c) for b, c in zip(points[1:], points[2:])), Fraction(0))
    return {"area": area * args["scale"] ** 2, "edge_points": on_edges, "inner_points": inner}


def _heron(a: Point, b: Point, c: Point) -> Fraction:
    """The area of a triangle from its squared sides p, q, r: 16 area^2 = 4 p q - (p + q - r)^2."""
    p, q, r = ((u[0] - v[0]) ** 2 + (u[1] - v[1]) ** 2 for u, v in ((a, b), (b, c), (a, c)))
    squared = 4 * p * q - (p + q - r) ** 2
    return Fraction(math.isqrt(squared), 4)


def _draw(rng: random.Random, size: int, fixed: Args) -> tuple[Args, list]:
    def make() -> list:
        corners: list[Point] = []
        wanted = max(size, 3)
        for angle in sorted(rng.uniform(0, 2 * math.pi) for _ in range(wanted)):
            corners.append((round(7 + 7 * math.cos(angle)), round(7 + 7 * math.sin(angle))))
        items = [{"kind": "corner", "x": x, "y": y} for x, y in corners]
        _solve({"scale": 1}, items)
        return items

    return {"scale": rng.randint(1, 9), **fixed}, attempts(make, 400)


OPERATIONS = (
    Operation(
        name="field",
        family="geometry",
        wordings=(
            "On a map whose unit is {scale} metres long, a field with straight sides is drawn.",
            "One unit of a map is {scale} metres, and it shows a field with straight sides.",
        ),
        slots={"scale": number(1, 500, link=True)},
        items={
            "corner": Item(
                ("Going round it, the next corner is at ({x}, {y}).", "Its next corner, in order, lies at ({x}, {y})."),
                {"x": number(0, 14), "y": number(0, 14)},
            )
        },
        wants={
            "area": "the area of the field in square metres",
            "edge_points": "the number of map points with two whole coordinates on the edge of the field",
            "inner_points": "the number of map points with two whole coordinates inside the field and not on its edge",
        },
        most=7,
        draw=_draw,
        solve=_solve,
        check=_check,
    ),
)
