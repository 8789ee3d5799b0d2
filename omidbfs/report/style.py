"""The style sheet of a report, for wide and narrow screens and for paper."""

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 62rem; margin: 0 auto; padding: 2rem 1.5rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .3rem; padding-top: .7rem; border-top: 2px solid #1a1a1a; }
h2 code, th code { font-weight: normal; }
h2 code { display: inline-block; font-size: .8em; }
h3 { font-size: 1rem; margin: 1rem 0 .3rem; }
p { margin: .3rem 0 .8rem; max-width: 50rem; }
.note, footer { color: #444; font-size: .87rem; }
code { font: .9em ui-monospace, Menlo, Consolas, monospace; background: #f2f2f2; padding: .05em .3em;
  overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 1rem 0; }
dt { color: #444; } dd { margin: 0; overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(4, 1fr); gap: .8rem; margin: 1.2rem 0; }
.cards div { border: 1px solid #ccc; border-left: 5px solid #0072b2; padding: .5rem .8rem; }
.cards b { display: block; font-size: 1.5rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.cards small { color: #444; display: block; }
.flow { list-style: none; margin: .8rem 0; padding: 0; max-width: 44rem; }
.flow li { display: grid; grid-template-columns: 1fr 1fr; gap: 0 1.6rem; }
.flow .left, .flow .taken { border: 1.5px solid #1a1a1a; padding: .35rem .7rem; font-size: .87rem;
  position: relative; }
.flow .left { grid-column: 1; }
.flow .taken { grid-column: 2; border-color: #777; color: #333; align-self: center; margin: .5rem 0; }
.flow .taken::before { content: ""; position: absolute; right: 100%; top: 50%; width: calc(50% + 1.6rem);
  border-top: 1.5px solid #777; }
.flow .stem { grid-column: 1; justify-self: center; width: 0; border-left: 1.5px solid #1a1a1a; }
.flow b { font-variant-numeric: tabular-nums; }
figure { margin: .6rem 0 1rem; }
figure svg { width: 100%; max-width: 42rem; height: auto; display: block; }
figure svg * { stroke-linejoin: round; stroke-linecap: butt; }
figure svg text { font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif !important; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; margin: .3rem 0 1rem; }
th, td { padding: .16rem .7rem .16rem 0; text-align: right; vertical-align: top; white-space: nowrap; }
th:first-child, td.text { text-align: left; }
th:first-child { position: sticky; left: 0; background: #fff; }
td.text { white-space: normal; color: #444; }
thead th { border-bottom: 1.5px solid #1a1a1a; vertical-align: bottom; }
tbody th { font-weight: normal; }
tbody tr:nth-child(even), tbody tr:nth-child(even) th { background: #f6f6f6; }
tbody tr.total th, tbody tr.total td { border-top: 1px solid #1a1a1a; font-weight: bold; background: #fff; }
tr.reserved th { font-style: italic; }
td span { color: #555; font-weight: normal; }
.dense th, .dense td { white-space: normal; padding-right: .5rem; min-width: 3.4rem; }
.dense td span { display: block; font-size: .86em; white-space: nowrap; }
footer { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: .8rem; }
@media (max-width: 40rem) {
  body { padding: 1rem .75rem 3rem; }
  .cards { grid-template-columns: repeat(2, 1fr); }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .4rem; }
  .flow li { gap: 0 .8rem; }
  .flow .taken::before { width: calc(50% + .8rem); }
  table { font-size: .78rem; }
  th, td { white-space: normal; padding-right: .45rem; }
  td span { display: block; font-size: .9em; white-space: nowrap; }
  tbody th:first-child { max-width: 8rem; overflow-wrap: break-word; }
}
@media print {
  @page { size: A4; margin: 15mm; }
  body { font-size: 9.5pt; max-width: none; padding: 0; }
  h2, h3, .note { break-after: avoid; }
  h2 { margin-top: 1.4rem; }
  .lead, .short, figure, tr, .cards div, .flow li { break-inside: avoid; }
  .flow li { break-before: avoid; }
  figure svg { max-width: 15cm; max-height: 20cm; }
  thead { display: table-header-group; }
  .wide { overflow: visible; }
  table { font-size: 7.6pt; }
  th, td { padding-right: .5rem; }
  th:first-child { position: static; }
  tbody tr:nth-child(even), tbody tr:nth-child(even) th, code { background: none; }
}
"""
