"""The style of a report page: one set of colours for light, one for dark, and room for narrow screens.

The colours behind numbers (``--right``, ``--wrong``) are chosen so that the text on them stays readable at
full strength in both schemes (contrast above 4.5 to 1).
"""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --raised: #f5f6f8; --ink: #1b1f24; --muted: #5b6570; --rule: #d9dee4;
  --accent: #1f5fae; --right: 96 160 226; --wrong: 238 148 74; --side: clamp(1rem, 4vw, 3rem);
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --raised: #1d2227; --ink: #e7eaee; --muted: #9aa5b1; --rule: #333b44;
    --accent: #7db4f0; --right: 45 104 170; --wrong: 164 78 20;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 72rem; padding: 2.5rem var(--side) 4rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
h1 {
  font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.2; margin: 0 0 1rem;
  overflow-wrap: anywhere;
}
h2 {
  font-size: 1.35rem; line-height: 1.3; margin: 3rem 0 .75rem; padding-top: 1rem;
  border-top: 1px solid var(--rule);
}
h3 { font-size: 1.08rem; margin: 2rem 0 .5rem; }
:is(h2, h3, h4) { overflow-wrap: anywhere; }
p { max-width: 44rem; margin: .6rem 0; overflow-wrap: anywhere; }
figure { margin: 1.25rem 0 1.75rem; }
figcaption, caption { color: var(--muted); font-size: .9rem; line-height: 1.45; text-align: left; }
figcaption { margin-top: .5rem; max-width: 44rem; }
caption { caption-side: top; padding: 0 0 .5rem; }
/* The caption stays in sight while a wide table scrolls below it. */
caption > span { display: block; position: sticky; left: 0; max-width: min(44rem, 100vw - 2 * var(--side)); }
.scroll { overflow-x: auto; max-width: 100%; margin: 1.25rem 0 1.75rem; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; }
figure > .scroll { margin: 0; }
table { border-collapse: collapse; font-size: .93rem; font-variant-numeric: tabular-nums; }
th, td {
  padding: .36rem .85rem; border-bottom: 1px solid var(--rule); white-space: nowrap;
  text-align: right;
}
th:first-child, td:first-child { padding-left: 0; }
thead th {
  vertical-align: bottom; border-bottom: 2px solid var(--muted); font-weight: 600; line-height: 1.3;
  white-space: normal;
}
tbody th { font-weight: 500; }
tr.ruled > * { border-top: 2px solid rgb(128 128 128 / .6); }
/* The names of the rows stay in sight too. */
th:first-child { position: sticky; left: 0; background: var(--paper); }
.left { text-align: left; } .center { text-align: center; }
.note { color: var(--muted); font-size: .82em; font-weight: 400; margin-left: .4em; }
.badge {
  display: inline-block; margin-left: .5em; padding: 0 .5em; border: 1px solid var(--muted);
  border-radius: 1em;
  color: var(--muted); font-size: .76em; font-weight: 400; line-height: 1.5;
}
/* A plain span with padding: between a block within the line and its text the line could break. */
.swatch {
  padding: 0 .58em; margin-right: .7em; border-radius: .28em; font-size: .72em; vertical-align: .1em;
  box-shadow: inset 0 0 0 1px rgb(128 128 128 / .55);
}
td.right { background: rgb(var(--right) / var(--shade)); }
td.wrong { background: rgb(var(--wrong) / var(--shade)); }
table.shaded th, table.shaded td { padding: .36rem .55rem; }
table.shaded td { border: 1px solid var(--paper); text-align: center; }
table.shaded th:first-child { padding-left: 0; }
table.shaded thead th.left { text-align: left; }
/* The space between two of them is the table's own: beside a box of full width it would widen the page. */
.scroll:has(> table.shaded) { display: inline-block; vertical-align: top; }
table.shaded { margin-right: 3rem; }
/* A table of very many columns is closer set, to fit a screen of common width. */
table:not(.shaded):has(> thead th:nth-child(11)) :is(th, td):not(:first-child) { padding-inline: .42rem; }
.upright { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; }
ul.legend {
  display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; list-style: none; margin: 1rem 0; padding: 0;
  font-size: .93rem;
}
svg, img { display: block; max-width: 100%; height: auto; }
svg { fill: currentColor; }
/* Stronger than the face that matplotlib writes into every text. */
.chart text { font-family: inherit !important; }
.pictures { margin: 1.25rem 0 1.75rem; }
h4 { margin: 1.2rem 0 .3rem; }
.pictures ul {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(9.5rem, 100%), 1fr)); gap: .5rem;
  list-style: none; margin: .5rem 0; padding: 0;
}
.pictures figure { margin: 0; max-width: 26rem; }
.pictures figcaption { margin-top: .2rem; line-height: 1.3; overflow-wrap: anywhere; }
.pictures img { width: 100%; border-radius: .2rem; }
.absent {
  display: grid; place-content: center; aspect-ratio: 4 / 3; background: var(--raised); border-radius: .2rem;
  color: var(--muted);
}
.gallery {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)); gap: .9rem;
  margin: .5rem 0 1.75rem;
}
.gallery figure { margin: 0; }
.gallery figcaption { margin-top: .25rem; overflow-wrap: anywhere; }
.gallery img { width: 100%; border-radius: .2rem; }
pre {
  overflow-x: auto; padding: .8rem 1rem; background: var(--raised); border-radius: .3rem;
  font-size: .87rem; line-height: 1.5;
}
pre, dl.code dd { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
dl {
  display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .4rem 1.25rem;
  font-size: .93rem;
}
dt { color: var(--muted); }
dl.code dd { font-size: .93em; }
dd { margin: 0; overflow-wrap: anywhere; white-space: pre-wrap; }
details { margin: .5rem 0; padding-left: .9rem; border-left: 2px solid var(--rule); }
summary { cursor: pointer; font-weight: 500; margin-left: -.3rem; }
a { color: var(--accent); }
@media (max-width: 34rem) {
  dl { grid-template-columns: 1fr; gap: .1rem; } dd { margin-bottom: .6rem; }
  th .note { display: block; max-width: 8rem; margin-left: 0; white-space: normal; }
  table { font-size: .84rem; }
  th, td { padding: .32rem .4rem; }
  th:first-child { max-width: 9rem; white-space: normal; overflow-wrap: break-word; }
  table.shaded { margin-right: 0; }
}
@media print {
  body { max-width: none; padding: 0; }
  .scroll { overflow: visible; }
  figure, tr { break-inside: avoid; }
}
"""
