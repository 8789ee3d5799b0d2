"""The page of a report: self-contained HTML, in which a table of the numbers follows every plot.

Used by ``omidbfs report``. Pure functions, called in the thread that draws. Programs can read the page: counts
have the plain number in ``data-n``, rows have ``data-row``, and tables have ``data-table``.
"""

from collections.abc import Mapping, Sequence
from html import escape

from omidbfs.database.problems import KINDS
from omidbfs.facets import OTHER, UNKNOWN, UNLINKED
from omidbfs.report import plots
from omidbfs.report.figures import TOTAL, UNITS, Ages, Figures, Table

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 62rem; margin: 0 auto; padding: 2rem 1.5rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .3rem; padding-top: .7rem; border-top: 2px solid #1a1a1a; }
p { margin: .3rem 0 .8rem; max-width: 50rem; }
.note, footer { color: #444; font-size: .87rem; }
code { font: .9em ui-monospace, Menlo, Consolas, monospace; background: #f2f2f2; padding: .05em .3em;
  overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 1rem 0; }
dt { color: #444; } dd { margin: 0; }
.cards { display: grid; grid-template-columns: repeat(4, 1fr); gap: .8rem; margin: 1.2rem 0; }
.cards div { border: 1px solid #ccc; border-left: 5px solid #0072b2; padding: .5rem .8rem; }
.cards b { display: block; font-size: 1.5rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.cards small { color: #444; display: block; }
figure { margin: .6rem 0 1rem; }
figure svg { width: 100%; height: auto; display: block; }
figure svg * { stroke-linejoin: round; stroke-linecap: butt; }
figure svg text { font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif !important; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; margin: .3rem 0 1rem; }
th, td { padding: .16rem .7rem .16rem 0; text-align: right; vertical-align: top; white-space: nowrap; }
th:first-child, td.text { text-align: left; }
td.text { white-space: normal; color: #444; }
thead th { border-bottom: 1.5px solid #1a1a1a; }
tbody th { font-weight: normal; }
tbody tr:nth-child(even) { background: #f6f6f6; }
tr.total th, tr.total td { border-top: 1px solid #1a1a1a; font-weight: bold; background: #fff; }
tr.reserved th { font-style: italic; }
td span { color: #555; font-weight: normal; }
.dense th, .dense td { white-space: normal; padding-right: .5rem; min-width: 3.4rem; }
.dense td span { display: block; font-size: .86em; white-space: nowrap; }
footer { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: .8rem; }
@media (max-width: 40rem) { .cards { grid-template-columns: repeat(2, 1fr); } }
@media print {
  @page { size: A4; margin: 15mm; }
  body { font-size: 9.5pt; max-width: none; padding: 0; }
  h2, .note { break-after: avoid; }
  h2 { margin-top: 1.4rem; }
  figure, tr, .cards div { break-inside: avoid; }
  thead { display: table-header-group; }
  .wide { overflow: visible; }
  table { font-size: 7.6pt; }
  th, td { padding-right: .5rem; }
  tbody tr:nth-child(even), code { background: none; }
}
"""

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Forbids the browser to load anything."""

_DRAWN = {
    "views": "laterality",
    "manufacturer": "manufacturer",
    "marks": "conspicuity",
}
"""Table -> the title of the legend, for plots whose bars are divided by the columns of the table."""


def page(figures: Figures, facts: Mapping[str, str], definition: str, version: str, when: str) -> str:
    """Return the page.

    Parameters
    ----------
    facts
        Further facts about the cohort: name -> text.
    definition
        The path of the cohort, without identifiers; empty for the whole database.
    when
        The date, as text. Two reports on the same cohort differ only in it.
    """
    title = "Report on an OMI-DB" if not definition else f"Report on {definition}"
    shown = f"<code>{escape(definition)}</code>" if definition else "every image of the database"
    rows = {"Cohort": shown, **{name: escape(text) for name, text in facts.items()}, "Made": escape(when)}
    rows["Program"] = f"omidbfs {escape(version)}"
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">',
        f"<style>{_STYLE}</style>\n</head>\n<body>",
        f"<h1>{escape(title)}</h1>",
        "<dl>" + "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in rows.items()) + "</dl>",
        _cards(figures),
    ]
    if not figures.cohort["images"]:
        parts.append("<p><strong>The cohort is empty: no image matches its definition.</strong></p>")
    parts += [_section(table, figures) for table in figures.tables.values()]
    parts.append(
        "<footer>Shares are rounded to one decimal. Small counts may identify a client: check them before you "
        "give this page to anyone who may not see the database. Outcomes, links and status follow the rules of "
        "omidb 0.13.1.</footer>\n</body>\n</html>\n"
    )
    return "\n".join(parts)


def _cards(figures: Figures) -> str:
    cards = []
    for unit in UNITS:
        count, of = figures.cohort[unit], figures.source[unit]
        cards.append(
            f'<div data-unit="{unit}"><b data-n="{count}">{count:,}</b>{unit}'
            f'<small>of <span data-of="{of}">{of:,}</span> in the database ({_share(count, of)})</small></div>'
        )
    return f'<div class="cards">{"".join(cards)}</div>'


def _section(table: Table, figures: Figures) -> str:
    note = f'<p class="note">{escape(table.note)}</p>'
    head = f'<section id="{table.key}">\n<h2>{escape(table.title)}</h2>\n{note}'
    if not any(any(values) for _, values in table.body()):
        nothing = "No problem is known." if table.key == "problems" else "There is nothing to show."
        return f"{head}\n<p>{nothing}</p>\n{_table(table)}\n</section>"
    drawing = _plot(table, figures.ages)
    figure = "" if drawing is None else f"<figure>{_described(table, drawing)}</figure>\n"
    ages = _quartiles(figures.ages) if table.key == "age" else ""
    return f"{head}\n{figure}{_table(table)}{ages}\n</section>"


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
    words = ", ".join(f"{label} {values[-1]:,}" for label, values in largest)
    text = f"{table.title}. Largest by {table.columns[-1]}{of}: {words}. All numbers are in the table below."
    return f'<div role="img" aria-label="{escape(text)}">{drawing}</div>'


def _table(table: Table) -> str:
    explained = table.key == "problems"
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in (table.what, *table.columns))
    if explained:
        head += '<th scope="col" style="text-align:left">what it means</th>'
    body = []
    for label, values in table.rows:
        cells = "".join(
            f'<td data-column="{escape(column)}" data-n="{value}">{value:,}{_in_brackets(label, value, of)}</td>'
            for column, value, of in zip(table.columns, values, table.of, strict=True)
        )
        if explained:
            cells += f'<td class="text">{escape(KINDS.get(label, ""))}</td>'
        kind = ' class="total"' if label == TOTAL else ' class="reserved"' if label in _NOT_KNOWN else ""
        body.append(f'<tr{kind} data-row="{escape(label)}"><th scope="row">{escape(label)}</th>{cells}</tr>')
    rows = "\n".join(body)
    dense = ' class="dense"' if len(table.columns) > _MANY else ""
    return (
        f'<div class="wide"><table{dense} data-table="{table.key}"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>"
    )


_NOT_KNOWN = (UNKNOWN, OTHER, UNLINKED)
_MANY = 8
"""In tables with more columns, shares stand below their counts."""


def _in_brackets(label: str, count: int, of: int) -> str:
    return "" if not of or (label == TOTAL and count == of) else f" <span>({_share(count, of)})</span>"


def _share(count: int, of: int) -> str:
    return f"{100 * count / of:.1f}\N{NO-BREAK SPACE}%" if of else "no denominator"


def _quartiles(ages: Sequence[Ages]) -> str:
    rows = []
    for found in ages:
        rows.append(
            f'<tr data-row="{escape(found.outcome)}"><th scope="row">{escape(found.outcome)}</th>'
            f'<td data-n="{found.clients}">{found.clients:,}</td><td data-n="{found.stated}">{found.stated:,}</td>'
            f"<td>{found.words()}</td></tr>"
        )
    head = "<th scope='col'>outcome</th><th scope='col'>clients</th><th scope='col'>age stated</th>"
    head += "<th scope='col'>median [quartiles], years</th>"
    return (
        f'<div class="wide"><table data-table="age-quartiles"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
