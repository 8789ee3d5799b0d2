"""The page of a report: self-contained HTML, in which a table of the numbers follows every plot.

Used by ``omidbfs report``. Pure functions, called in the thread that draws. Programs can read the page: counts
have the plain number in ``data-n``, rows have ``data-row``, and tables have ``data-table``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from omidbfs.cohorts.steps import Step, why_empty
from omidbfs.cohorts.tabulated import Table, share, words
from omidbfs.cohorts.units import UNITS
from omidbfs.database.problems import KINDS
from omidbfs.facets import BY_NAME, OTHER, UNKNOWN, UNLINKED
from omidbfs.report import plots
from omidbfs.report.ages import Ages
from omidbfs.report.compared import Comparison
from omidbfs.report.figures import Figures
from omidbfs.report.flow import flow, flow_table
from omidbfs.report.style import STYLE

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Forbids the browser to load anything."""

_DRAWN = {
    "outcome-manufacturer": "manufacturer",
    "views": "laterality",
    "manufacturer": "manufacturer",
    "marks": "conspicuity",
}
"""Table -> the title of the legend, for plots whose bars are divided by the columns of the table."""
_MOST_ROWS = 24
"""The section of a table with more rows may be divided between two pages of paper."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A cohort: its path without identifiers, empty for the whole database, and what each part of it takes."""

    path: str
    steps: Sequence[Step]

    def html(self) -> str:
        """Return the path as HTML."""
        return f"<code>{escape(self.path)}</code>" if self.path else "every image of the database"

    def flow(self, name: str = "") -> Table:
        """Return what each part leaves and takes; ``name`` is the name of one of several cohorts."""
        return flow_table(self.steps, name)


def page(figures: Figures, definition: Definition, facts: Mapping[str, str], version: str, when: str) -> str:
    """Return the page about one cohort.

    Parameters
    ----------
    facts
        Further facts about the cohort: name -> text.
    when
        The date, as text. Two reports on the same cohort differ only in it.
    """
    title = f"Report on {definition.path}" if definition.path else "Report on an OMI-DB"
    parts = [_head(title, {"Cohort": definition.html()}, facts, version, when)]
    if not figures.cohort["images"]:
        why = why_empty(definition.steps)
        parts.append(f"<p><strong>The cohort is empty{f': {escape(why)}' if why else ''}.</strong></p>")
    else:
        parts += [_cards(figures), _flow(definition.flow(), definition.steps)]
        parts += [_section(table, figures) for table in figures.tables.values()]
    return "\n".join([*parts, _foot()])


def page_of_several(
    units: Table,
    comparisons: Sequence[Comparison],
    definitions: Sequence[Definition],
    facts: Mapping[str, str],
    version: str,
    when: str,
) -> str:
    """Return the page that compares several cohorts; ``facts`` and ``when`` as for :func:`page`."""
    names = units.columns[: len(definitions)]
    shown = {f"Cohort {name}": one.html() for name, one in zip(names, definitions, strict=True)}
    parts = [_head(f"Report on {len(definitions)} cohorts", shown, facts, version, when)]
    for name, one, count in zip(names, definitions, units.rows[-1][1], strict=False):
        if not count:
            why = why_empty(one.steps)
            parts.append(f"<p><strong>Cohort {name} is empty{f': {escape(why)}' if why else ''}.</strong></p>")
    parts.append(_block(units, "", _table(units, _of_database(units))))
    for name, one in zip(names, definitions, strict=True):
        parts.append(_flow(one.flow(name), one.steps))
    parts.append(_overview(comparisons, names))
    for each in comparisons:
        parts.append(_block(each.table, "", _table(each.table, differences=each.texts())))
    return "\n".join([*parts, _foot()])


def _head(title: str, shown: Mapping[str, str], facts: Mapping[str, str], version: str, when: str) -> str:
    rows = {**shown, **{name: escape(text) for name, text in facts.items()}, "Made": escape(when)}
    rows["Program"] = f"omidbfs {escape(version)}"
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">',
            f"<style>{STYLE}</style>\n</head>\n<body>",
            f"<h1>{escape(title)}</h1>",
            "<dl>" + "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in rows.items()) + "</dl>",
        ]
    )


def _foot() -> str:
    return (
        "<footer>Shares are rounded to one decimal, a half upwards, one by one: they need not add up to 100. A "
        "dash is 0. Small counts may identify a client: check them before you give this page to anyone who may "
        "not see the database. Outcomes, links and status follow the rules of omidb 0.13.1.</footer>\n"
        "</body>\n</html>\n"
    )


def _cards(figures: Figures) -> str:
    cards = []
    for level in UNITS:
        unit = level.plural
        count, of = figures.cohort[unit], figures.source[unit]
        cards.append(
            f'<div data-unit="{unit}"><b data-n="{count}">{count:,}</b>{unit}'
            f'<small>of <span data-of="{of}">{of:,}</span> in the database ({share(count, of)})</small></div>'
        )
    return f'<div class="cards">{"".join(cards)}</div>'


def _flow(table: Table, steps: Sequence[Step]) -> str:
    if len(steps) == 1:
        return ""  # every image: nothing was taken
    return _block(table, flow(steps), _table(table))


def _block(table: Table, figure: str, after: str) -> str:
    """Return a section: heading, note and figure, and the tables after them. Paper keeps it together if it can."""
    facets = "".join(f" <code>by-{escape(name)}</code>" for name in (table.facet, table.across) if name)
    heading = f'<h2>{escape(table.title)}{facets}</h2>\n<p class="note">{escape(table.note)}</p>'
    short = ' class="short"' if len(table.rows) <= _MOST_ROWS else ""
    return f'<section id="{table.key}"{short}>\n<div class="lead">{heading}\n{figure}</div>\n{after}\n</section>'


def _section(table: Table, figures: Figures) -> str:
    if not any(any(values) for _, values in table.body()):
        nothing = "No problem is known." if table.key == "problems" else "There is nothing to show."
        return _block(table, f"<p>{nothing}</p>", _table(table))
    drawing = _plot(table, figures.ages)
    figure = "" if drawing is None else f"<figure>{_described(table, drawing)}</figure>"
    ages = _quartiles(figures.ages) if table.key == "age" else ""
    return _block(table, figure, _table(table) + ages)


def _plot(table: Table, ages: Sequence[Ages]) -> str | None:
    if table.key == "age":
        return plots.ages_by(table, ages)
    if table.key == "manufacturer":
        return plots.columns_by(table, _DRAWN[table.key])
    if table.key in _DRAWN:
        return plots.stacked(table, _DRAWN[table.key])
    if table.key == "missing":
        return plots.shares(table)
    return None if table.key == "files" else plots.bars(table)


def _described(table: Table, drawing: str) -> str:
    """Return a drawing with a description for screen readers."""
    largest = sorted(table.body(), key=lambda row: -row[1][-1])[:3]
    of = "" if not table.of[-1] else f" of {table.of[-1]:,}"
    said = ", ".join(f"{words(label)} {values[-1]:,}" for label, values in largest)
    text = f"{table.title}. Largest by {table.columns[-1]}{of}: {said}. All numbers are in the table below."
    return f'<div role="img" aria-label="{escape(text)}">{drawing}</div>'


def _of_database(units: Table) -> Mapping[str, int]:
    """Return the denominators of the rows of the table of units: the numbers in the database."""
    return {label: counts[-1] for label, counts in units.rows}


def _table(table: Table, of_row: Mapping[str, int] | None = None, differences: Sequence[str] | None = None) -> str:
    """Return a table as HTML.

    ``of_row`` has denominators of rows, in place of those of columns. ``differences`` are standardised
    differences, one for each column but the first. They become the last row.
    """
    explained = table.key == "problems"
    heads = (table.what, *table.columns)
    head = "".join(f'<th scope="col">{escape(words(name))}</th>' for name in heads)
    if explained:
        head += '<th scope="col" style="text-align:left">what it means</th>'
    body = []
    for place, (label, values) in enumerate(table.rows):
        is_total = table.has_total and place == len(table.rows) - 1
        cells = ""
        for column, value, total in zip(table.columns, values, table.of, strict=True):
            of = total if of_row is None else of_row[label]
            has_share = bool(value and of) and not (is_total and value == of) and column != "database"
            shown = f"{value:,}{f' <span>({share(value, of)})</span>' if has_share else ''}" if value else "–"
            cells += f'<td data-column="{escape(column)}" data-n="{value}">{shown}</td>'
        if explained:
            cells += f'<td class="text">{escape(KINDS.get(label, ""))}</td>'
        kind = ' class="total"' if is_total else ' class="reserved"' if label in _NOT_KNOWN else ""
        body.append(
            f'<tr{kind} data-row="{escape(label)}"><th scope="row">{_named(table, label)}</th>{cells}</tr>'
        )
    if differences is not None:
        cells = "".join(f"<td>{text}</td>" for text in differences)
        body.append(
            f'<tr><th scope="row">standardised difference from {table.columns[0]}</th><td></td>{cells}</tr>'
        )
    rows = "\n".join(body)
    dense = ' class="dense"' if len(table.columns) > _MANY else ""
    return (
        f'<div class="wide"><table{dense} data-table="{table.key}"><thead><tr>{head}</tr>'
        f"</thead>\n<tbody>{rows}</tbody></table></div>"
    )


def _named(table: Table, label: str) -> str:
    """Return the label of a row in words. A facet has its description, with its name beside it."""
    facet = BY_NAME.get(label.removeprefix("by-")) if table.key == "missing" else None
    if facet is None:
        return escape(words(label)) if table.key != "missing" else f"<code>{escape(label)}</code>"
    return f"{escape(facet.description.partition(', ')[0])} <code>{escape(label)}</code>"


_NOT_KNOWN = (UNKNOWN, OTHER, UNLINKED)
_MANY = 7
"""In tables with more columns, shares stand below their counts."""


def _overview(comparisons: Sequence[Comparison], names: Sequence[str]) -> str:
    """Return the section with all standardised differences: a plot and a table."""
    note = (
        f"How far the distribution of each facet differs from that of cohort {names[0]} (Yang and Dalton, 2012). "
        "Every value is a category, also unknown. Differences below 0.1 are often called small. ∞: the cohorts "
        "have no value in common."
    )
    table = Table("differences", "Standardised differences", note, "facet", tuple(names[1:]), (), ())
    head = "".join(f'<th scope="col">{text}</th>' for text in ("facet", *table.columns, "unit"))
    rows = "\n".join(
        f'<tr data-row="{one.table.key}"><th scope="row">{escape(one.table.title)} '
        f"<code>by-{one.table.facet}</code></th>"
        + "".join(f"<td>{text}</td>" for text in one.texts())
        + f'<td class="text">{one.table.unit}</td></tr>'
        for one in comparisons
    )
    body = (
        f'<div class="wide"><table data-table="differences"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>"
    )
    text = f"{table.title} from cohort {names[0]}. All numbers are in the table below."
    drawing = plots.dots([(one.table.title, one.differences) for one in comparisons], table.columns)
    figure = f'<figure><div role="img" aria-label="{escape(text)}">{drawing}</div></figure>'
    return _block(table, figure, body)


def _quartiles(ages: Sequence[Ages]) -> str:
    rows = []
    for found in ages:
        rows.append(
            f'<tr data-row="{escape(found.outcome)}"><th scope="row">{escape(words(found.outcome))}</th>'
            f'<td data-n="{found.clients}">{found.clients:,}</td><td data-n="{found.stated}">{found.stated:,}</td>'
            f"<td>{found.words()}</td></tr>"
        )
    head = "<th scope='col'>outcome</th><th scope='col'>clients</th><th scope='col'>age stated</th>"
    head += "<th scope='col'>median [quartiles], years</th>"
    return (
        f'<div class="wide"><table data-table="age-quartiles"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
