"""The plots of a report, as SVG elements of a page: without fonts and links, each with identifiers of its own.

Used by ``page``. One thread draws, because matplotlib keeps its settings for the whole process.

The colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which colour-blind readers can tell
apart. Hatches tell bars apart in black and white. Every bar with enough room shows its number.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from omidbfs.cohorts.tabulated import TOTAL, Table, words
from omidbfs.facets import OTHER, UNKNOWN, UNLINKED
from omidbfs.report.ages import Ages

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
_HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---", "ooo", "+++")
_QUIET = "#BBBBBB"
_RESERVED = {UNKNOWN: ("#DDDDDD", "////"), OTHER: ("#AAAAAA", "...."), UNLINKED: ("#777777", "")}
_SVG, _XLINK_HREF = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
"""ElementTree's prefix of names in the namespace of SVG, and the attribute that refers to another element."""
_WIDTH = 5.6
"""Width of a plot in inches. The page scales the plot, and its text is readable on a screen of 400 pixels."""
_LONGEST_WORD = 30
"""A longer label of an axis is cut. The table has all of it."""

_STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#666666",
    "axes.grid.axis": "x",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "grid.color": "#E5E5E5",
    "hatch.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text, for search, copying and screen readers
    "svg.hashsalt": "omidbfs",
}


@contextmanager
def _canvas(key: str, height: float, **grid: Any) -> "Iterator[tuple[Figure, Any, list[str]]]":
    """Yield a figure, its axes, and a list. The finished SVG is appended to this list on leaving the context."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    drawn: list[str] = []
    with matplotlib.rc_context():
        matplotlib.rcParams.update({**matplotlib.rcParamsDefault, **_STYLE})  # not the user's matplotlibrc
        figure = Figure(figsize=(_WIDTH, height))
        FigureCanvasSVG(figure)
        yield figure, figure.subplots(**grid), drawn
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
        drawn.append(_inline(text.getvalue(), key))


def _inline(svg: str, key: str) -> str:
    """Return an SVG document as an element of a page, without addresses, with identifiers unique in the page."""
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in parent.findall(f"{_SVG}metadata") + parent.findall(f"{_SVG}style"):
            parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.attrib = {name: _own(name, value, key) for name, value in element.attrib.items()}
        if _XLINK_HREF in element.attrib:
            element.set("xlink:href", element.attrib.pop(_XLINK_HREF))
        if element.tag != "text" and not (element.text or "").strip():
            element.text = None
        element.tail = "\n"  # so that a diff of two pages has short lines
    root.tail = None
    root.attrib = {"viewBox": root.attrib["viewBox"], "aria-hidden": "true"}
    return ElementTree.tostring(root, encoding="unicode")


def _own(name: str, value: str, key: str) -> str:
    """Return the value of an attribute, with the key of the plot before each identifier in it."""
    if name == "id":
        return f"{key}-{value}"
    return f"#{key}-{value[1:]}" if name == _XLINK_HREF else value.replace("url(#", f"url(#{key}-")


def _paint(labels: Sequence[str]) -> list[tuple[str, str]]:
    """Return colour and hatch for each label. Reserved values look the same in every plot."""
    named = [label for label in labels if label not in _RESERVED]
    looks = {label: (_COLOURS[place % 8], _HATCHES[place % 8]) for place, label in enumerate(named)}
    return [_RESERVED.get(label) or looks[label] for label in labels]


def bars(table: Table) -> str:
    """Return horizontal bars, one panel for each column of a table, two panels beside each other.

    They are drawn without matplotlib, which would need most of the time of a report for them.
    """
    rows, across = table.body(), min(len(table.columns), 2)
    start = 8 + 4.9 * max((len(_short(label)) for label, _ in rows), default=0)
    width, height = (_WIDTH * 72 - start) / across, 20 + 14 * len(rows)
    parts = []
    for column, (name, of) in enumerate(zip(table.columns, table.of, strict=True)):
        left, top = start + width * (column % across), height * (column // across)
        most = max((values[column] for _, values in rows), default=0) or 1
        parts.append(_text(left, top + 11, f"{name} (n = {of:,})", weight="bold"))
        for number, (label, values) in enumerate(rows):
            low = top + 16 + 14 * number
            if column % across == 0:
                parts.append(_text(left - 4, low + 9, _short(label), anchor="end"))
            length = (width - 44) * values[column] / most
            colour = _QUIET if label in _RESERVED else _COLOURS[0]
            parts.append(f'<rect x="{left:.1f}" y="{low}" width="{length:.1f}" height="11" fill="{colour}" />')
            parts.append(_text(left + length + 3, low + 9, f"{values[column]:,}"))
    box = f"0 0 {_WIDTH * 72:.0f} {height * -(-len(table.columns) // across)}"
    return "\n".join([f'<svg viewBox="{box}" aria-hidden="true">', *parts, "</svg>"])


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    place = f'x="{x:.1f}" y="{y}" text-anchor="{anchor}" font-size="9" font-weight="{weight}"'
    return f"<text {place}>{escape(text)}</text>"


def _short(label: str) -> str:
    """Return a label in words, cut if it is long."""
    text = words(label)
    return text if len(text) <= _LONGEST_WORD else f"{text[: _LONGEST_WORD - 3]}..."


def _count_axis(axis: "Axes", most: float) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_xlim(0, max(most, 1))
    axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.grid(True, axis="x")
    axis.tick_params(axis="y", length=0)


def _legend(figure: "Figure", title: str, entries: int) -> None:
    if entries:
        look = {"alignment": "left", "loc": "outside upper left", "title_fontsize": 8}
        figure.legend(title=title, ncols=min(entries, 4), **look)


def stacked(table: Table, across: str) -> str:
    """Return horizontal bars, each divided by the columns of a table."""
    rows = table.body()
    columns = [label for label in table.columns if label != TOTAL]
    most = max((sum(values[: len(columns)]) for _, values in rows), default=0)
    with _canvas(table.key, 1.4 + 0.27 * len(rows)) as (figure, axis, drawn):
        left = [0] * len(rows)
        for column, (label, (colour, hatch)) in enumerate(zip(columns, _paint(columns), strict=True)):
            counts = [values[column] for _, values in rows]
            bar = axis.barh(
                range(len(rows)), counts, left=left, height=0.72, label=words(label), **_face(colour, hatch)
            )
            wide = [f"{count:,}" if count > most * 0.045 else "" for count in counts]
            axis.bar_label(bar, wide, label_type="center", fontsize=7, bbox=_LABEL_BOX)
            left = [before + count for before, count in zip(left, counts, strict=True)]
        axis.set_yticks(range(len(rows)), [_short(label) for label, _ in rows])
        axis.set_ylabel(table.what)
        axis.invert_yaxis()
        _count_axis(axis, most * 1.02)
        _legend(figure, across, len(columns))
    return drawn[0]


_LABEL_BOX = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}


def _face(colour: str, hatch: str) -> dict[str, Any]:
    return {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0.5}


def columns_by(table: Table, across: str) -> str:
    """Return upright bars, one for each row of a table, each divided by the columns."""
    rows = table.body()
    columns = [label for label in table.columns if label != TOTAL]
    with _canvas(table.key, 3.4) as (figure, axis, drawn):
        bottom = [0] * len(rows)
        for column, (label, (colour, hatch)) in enumerate(zip(columns, _paint(columns), strict=True)):
            counts = [values[column] for _, values in rows]
            axis.bar(
                range(len(rows)), counts, bottom=bottom, width=0.78, label=words(label), **_face(colour, hatch)
            )
            bottom = [before + count for before, count in zip(bottom, counts, strict=True)]
        slanted = {"rotation": 90 if len(rows) > 24 else 45, "ha": "right", "rotation_mode": "anchor"}
        axis.set_xticks(range(len(rows)), [label for label, _ in rows], **(slanted if len(rows) > 8 else {}))
        axis.set_ylabel(table.unit)
        axis.grid(True, axis="y")
        _legend(figure, across, len(columns))
    return drawn[0]


def ages_by(table: Table, ages: Sequence[Ages]) -> str:
    """Return a histogram for each column of a table of ages, in per cent of the clients in that column."""
    rows = table.body()
    across = 2
    down = -(-len(table.columns) // across)
    grid = {"nrows": down, "ncols": across, "sharex": True, "sharey": True, "squeeze": False}
    with _canvas(table.key, 0.5 + 1.35 * down, **grid) as (figure, axes, drawn):
        for place, axis in enumerate(axes.flat):
            if place >= len(table.columns):
                axis.set_visible(False)
                continue
            found, of = ages[place], table.of[place]
            shares = [100 * values[place] / of if of else 0 for _, values in rows]
            colours = [_QUIET if label == UNKNOWN else _COLOURS[0] for label, _ in rows]
            axis.bar(range(len(rows)), shares, color=colours, width=0.85)
            axis.set_title(f"{_short(found.outcome)} (n = {found.clients:,})")
            axis.grid(True, axis="y")
            step = max(1, len(rows) // 6)
            places = list(range(0, len(rows), step))
            axis.set_xticks(places, [table.ticks[place] for place in places])
            axis.tick_params(labelbottom=True)
            if found.quartiles is not None and rows:
                look = {"ha": "right", "va": "top", "transform": axis.transAxes, "fontsize": 8}
                axis.text(0.99, 0.97, found.words(), **look)
        figure.supxlabel("age in years, from", fontsize=9)
        figure.supylabel("clients, %", fontsize=9)
    return drawn[0]


def shares(table: Table) -> str:
    """Return a bar for each row that has any count, divided by the columns, in per cent of their denominators."""
    rows = [row for row in table.body() if any(row[1])]
    with _canvas(table.key, 1.1 + 0.22 * len(rows)) as (figure, axis, drawn):
        left = [0.0] * len(rows)
        looks = zip(table.columns, _COLOURS[5::-2], _HATCHES, table.of, strict=False)
        for column, (label, colour, hatch, of) in enumerate(looks):
            parts = [100 * values[column] / of if of else 0.0 for _, values in rows]
            axis.barh(range(len(rows)), parts, left=left, height=0.72, label=words(label), **_face(colour, hatch))
            left = [before + part for before, part in zip(left, parts, strict=True)]
        axis.bar_label(axis.containers[-1], [f"{part:.1f}" for part in left], padding=3, fontsize=8)
        axis.margins(y=0.02)
        axis.set_yticks(range(len(rows)), [label for label, _ in rows], fontsize=8)
        axis.invert_yaxis()
        axis.set_xlim(0, max(100.0, *left) * 1.06)
        axis.set_xlabel("images, %")
        axis.grid(True, axis="x")
        axis.tick_params(axis="y", length=0)
        figure.legend(loc="outside upper left", ncols=3)
    return drawn[0]


def dots(rows: Sequence[tuple[str, Sequence[float | None]]], columns: Sequence[str]) -> str:
    """Return a dot for each standardised difference, with a line at 0.1. Infinite ones are at the right edge."""
    from matplotlib.lines import Line2D

    known = [
        found for _, differences in rows for found in differences if found is not None and found < float("inf")
    ]
    most = max([0.2, *known]) * 1.1
    with _canvas("differences", 1.1 + 0.24 * len(rows)) as (figure, axis, drawn):
        entries: list[Any] = []
        for place, (column, (colour, _), marker) in enumerate(
            zip(columns, _paint(columns), _markers(), strict=False)
        ):
            found = [(differences[place], number) for number, (_, differences) in enumerate(rows)]
            points = [(min(one, most), number) for one, number in found if one is not None]
            look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": "none", "markersize": 6}
            axis.plot([one for one, _ in points], [number for _, number in points], clip_on=False, **look)
            entries.append(Line2D([], [], label=column, **look))
        axis.axvline(0.1, color="#666666", linewidth=0.8, linestyle="--")
        axis.set_yticks(range(len(rows)), [label for label, _ in rows])
        axis.invert_yaxis()
        axis.set_xlim(0, most)
        axis.set_xlabel("standardised difference")
        axis.grid(True, axis="both")
        axis.tick_params(axis="y", length=0)
        if entries:
            place_of = {"alignment": "left", "loc": "outside upper left", "title_fontsize": 8}
            figure.legend(handles=entries, title="cohort", ncols=min(len(entries), 8), **place_of)
    return drawn[0]


def _markers() -> Iterator[str]:
    while True:
        yield from "osD^vPX*"
