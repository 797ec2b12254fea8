"""Draws behaviour trees as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from synth.previews import preview
from synth.trees import tree

ROW, MARGIN, LETTER = 30, 14, 7.3  # pixels: height per leaf, margin, width of a letter at 12 px monospace
GAP = 90  # pixels between two columns; the labels of edges are placed here
PLAIN, TAKEN = "#555555", "#b03000"


def svg(root: tree.Node, taken: Sequence[str] = ()) -> str:
    """The SVG text of a tree, drawn from left to right with a column per depth and a row per leaf.

    A node is placed at the mean of its children's rows. Columns are as wide as their longest label.

    Args:
      root: the tree; its nodes need no ids.
      taken: ids, as tree.number assigns them, of the nodes that are drawn in colour.
    """
    columns: list[list[tree.Node]] = []
    rows: dict[int, float] = {}  # id() of a node object -> its row
    leaves = 0

    def place(node: tree.Node, depth: int) -> float:
        nonlocal leaves
        if depth == len(columns):
            columns.append([])
        columns[depth].append(node)
        if node.children:
            below = [place(child, depth + 1) for child in node.children]
            rows[id(node)] = sum(below) / len(below)
        else:
            rows[id(node)], leaves = leaves, leaves + 1
        return rows[id(node)]

    root = tree.number(root)  # also copies shared subtrees, so that every node is an object of its own
    place(root, 0)
    widths = [max(len(preview.label(node)) for node in found) * LETTER + MARGIN for found in columns]
    starts = [MARGIN + sum(widths[:depth]) + depth * GAP for depth in range(len(columns))]
    size = {"width": f"{starts[-1] + widths[-1] + MARGIN:.0f}", "height": f"{leaves * ROW + 2 * MARGIN}"}
    picture = ElementTree.Element("svg", size, xmlns="http://www.w3.org/2000/svg")
    picture.set("font-family", "monospace")
    picture.set("font-size", "12")
    ElementTree.SubElement(picture, "rect", size, fill="white")
    for depth, found in enumerate(columns):
        for node in found:
            _node(picture, node, starts[depth], widths[depth], _y(rows[id(node)]), node.id in taken)
            for edge, child in zip(tree.EDGES[node.kind], node.children):
                ends = (starts[depth] + widths[depth], _y(rows[id(node)]), starts[depth + 1], _y(rows[id(child)]))
                told = edge if len(node.children) > 1 else ""
                _edge(picture, ends, told, node.id in taken and child.id in taken)
    ElementTree.indent(picture)
    return ElementTree.tostring(picture, encoding="unicode") + "\n"


def _y(row: float) -> float:
    return MARGIN + (row + 0.5) * ROW


def _node(picture: ElementTree.Element, node: tree.Node, x: float, width: float, y: float, taken: bool) -> None:
    colour = TAKEN if taken else PLAIN
    box = {"x": f"{x:.0f}", "y": f"{y - 10:.0f}", "width": f"{width:.0f}", "height": "20", "rx": "4"}
    ElementTree.SubElement(picture, "rect", box, fill="white", stroke=colour)
    at = {"x": f"{x + MARGIN / 2:.0f}", "y": f"{y + 4:.0f}", "fill": colour}
    ElementTree.SubElement(picture, "text", at).text = preview.label(node)


def _edge(picture: ElementTree.Element, ends: tuple[float, ...], told: str, taken: bool) -> None:
    x1, y1, x2, y2 = ends
    line = {"x1": f"{x1:.0f}", "y1": f"{y1:.0f}", "x2": f"{x2:.0f}", "y2": f"{y2:.0f}"}
    ElementTree.SubElement(picture, "line", line, stroke=TAKEN if taken else PLAIN)
    if told:  # placed nearer to the child, where the lines from one node are further apart
        at = {"x": f"{x1 + 0.6 * (x2 - x1):.0f}", "y": f"{y1 + 0.6 * (y2 - y1) - 3:.0f}", "text-anchor": "middle"}
        ElementTree.SubElement(picture, "text", {**at, "font-size": "10", "fill": PLAIN}).text = told
