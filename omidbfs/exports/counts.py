"""A table of counts as text, CSV, Markdown, LaTeX or JSON.

``omidbfs table`` and ``omidbfs report --tables`` use it. Pure functions, for any thread.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import orjson

from omidbfs.cohorts.tabulated import Table, share, words
from omidbfs.exports.table import cell

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",  # \textquotedbl is not in every encoding of fonts
    "\N{INFINITY}": r"$\infty$",
    "\N{EN DASH}": r"\textendash{}",
    **{sign: f"{{{sign}}}" for sign in "[]*"},  # after \\\\ they would be its arguments
    "\N{NO-BREAK SPACE}": "~",
}
_LIGATURE = re.compile("([-'`,?!])(?=[-'`,])")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#~$])")


def cells_of(table: Table, zero: str = "0") -> Iterator[tuple[str, list[str]]]:
    """Yield the label and the cells of each row: a count, and its share in brackets where the column has one."""
    for label, counts in table.rows:
        is_total = table.has_total and (label, counts) == table.rows[-1]
        cells = []
        for count, of in zip(counts, table.of, strict=True):
            has_share = count and of and not (is_total and count == of)
            cells.append(f"{count or zero}" + (f" ({share(count, of)})" if has_share else ""))
        yield label, cells


def as_text(table: Table) -> str:
    """Return a table with aligned columns, for people, and its note."""
    rows = [(table.what, list(table.columns)), *cells_of(table)]
    first = max(len(label) for label, _ in rows)
    widths = [max(map(len, column)) for column in zip(*(cells for _, cells in rows), strict=True)]
    lines = (
        f"{label:<{first}}  " + "  ".join(f"{one:>{width}}" for one, width in zip(cells, widths, strict=True))
        for label, cells in rows
    )
    return "".join(f"{line.rstrip()}\n" for line in lines).replace("\N{NO-BREAK SPACE}", " ") + f"\n{table.note}\n"


def as_csv(table: Table) -> str:
    """Return a table as CSV. Each column with shares has a second column with them, in per cent."""
    head = [table.what]
    for column, of in zip(table.columns, table.of, strict=True):
        head += [column, f"{column} %"] if of else [column]
    lines = [head]
    for label, counts in table.rows:
        line = [label]
        for count, of in zip(counts, table.of, strict=True):
            line += [str(count), share(count, of).partition("\N{NO-BREAK SPACE}")[0]] if of else [str(count)]
        lines.append(line)
    return csv_of(lines)


def csv_of(lines: Iterable[Sequence[str]]) -> str:
    """Return lines of cells as CSV."""
    return b"".join(b",".join(cell(text.encode()) for text in line) + b"\n" for line in lines).decode()


def as_markdown(table: Table) -> str:
    """Return a table in the Markdown of GitHub (GFM), and its note."""
    rows = [(table.what, list(table.columns)), *cells_of(table)]
    lines = [f"| {' | '.join(map(_plain, (label, *cells)))} |" for label, cells in rows]
    lines.insert(1, f"| --- |{' ---: |' * len(table.columns)}")
    return "\n".join(lines) + f"\n\n{_plain(table.note)}\n"


def _plain(text: str) -> str:
    """Return a text with every sign that has a meaning in Markdown escaped."""
    return _MARKDOWN.sub(r"\\\1", text)


def as_latex(table: Table) -> str:
    """Return a table as a ``tabular`` of LaTeX with the rules of the package booktabs. The note is a comment."""
    head = [words(table.what), *map(words, table.columns)]
    body = [[words(label), *cells] for label, cells in cells_of(table, "\N{EN DASH}")]
    return latex_of(f"{table.title}. {table.note}", head, body, has_total=table.has_total)


def latex_of(comment: str, head: Sequence[str], body: Iterable[Sequence[str]], *, has_total: bool = False) -> str:
    """Return lines of cells as a ``tabular``. With ``has_total`` a rule stands before the last."""
    lines = [
        f"% {comment}",
        "% \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
        "\\toprule",
        _latex_row(head),
        "\\midrule",
    ]
    rows = [_latex_row(cells) for cells in body]
    if has_total and len(rows) > 1:
        rows.insert(-1, "\\midrule")
    return "\n".join([*lines, *rows, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(latex, cells)) + r" \\"


def latex(text: str) -> str:
    """Return a text for LaTeX, with every sign that has a meaning there escaped."""
    return _LIGATURE.sub(r"\1{}", "".join(_LATEX.get(sign, sign) for sign in text))


def as_json(table: Table) -> str:
    """Return a table as a JSON object. Totals have keys of their own, so that no value can be taken for one."""
    body = table.body()
    total = table.rows[-1][1] if table.has_total else ()
    columns = table.columns[:-1]
    found = {
        "of": table.unit,
        "rows": table.what,
        "columns": table.across,
        "counts": {label: dict(zip(columns, counts, strict=False)) for label, counts in body},
        "shares": {
            label: {
                column: float(share(count, of).partition("\N{NO-BREAK SPACE}")[0]) if of else None
                for column, count, of in zip(columns, counts, table.of, strict=False)
            }
            for label, counts in body
        },
        "row_totals": {label: counts[-1] for label, counts in body},
        "column_totals": dict(zip(columns, total, strict=False)),
        "total": total[-1] if total else None,
        "note": table.note,
    }
    return orjson.dumps(found, option=orjson.OPT_INDENT_2).decode() + "\n"


WRITERS: Mapping[str, Callable[[Table], str]] = {
    "text": as_text,
    "csv": as_csv,
    "markdown": as_markdown,
    "latex": as_latex,
    "json": as_json,
}
"""The formats of a table of counts."""
