"""The style sheet of a report's page: light and dark by the reader's own setting, and for paper."""

from typing import Final

CSS: Final = """
:root { color-scheme: light dark;
  --paper: #ffffff; --panel: #f6f7f9; --ink: #1b1f24; --soft: #5b6470; --faint: #dfe3e8; --warn: #8a5300;
  --warned: #fff3dc;
  --sell: #c2571a; --hold: #8d96a0; --buy: #1f6fb2; --prior: #0b7f80; --champion: #7a4cb8; --pool: #a86b00;
  --good: #1a7f37; --bad: #c0283a; --open: #6b7480; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #12161b; --panel: #1a1f26; --ink: #e4e8ed; --soft: #9aa5b1; --faint: #2d343d; --warn: #f2c46d;
  --warned: #33280f;
  --sell: #f08a4b; --hold: #77818c; --buy: #5aa7f0; --prior: #3fc1bd; --champion: #b893f0; --pool: #e0a83a;
  --good: #4cc26a; --bad: #ff6b78; --open: #97a1ac; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 28px 24px 64px; max-width: 1240px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  font-variant-numeric: tabular-nums; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 20px; line-height: 1.3; margin: 0; overflow-wrap: anywhere; }
h3 { font-size: 15px; margin: 0; }
section > h3, h3 + .wide + h3 { margin-top: 24px; }
code { font: 0.92em ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace; }
p { margin: 4px 0; }
.soft, figcaption p { color: var(--soft); }
.banner { margin: 16px 0; padding: 10px 14px; border-left: 5px solid var(--good); background: var(--panel);
  border-radius: 4px; }
.banner.warned { border-color: var(--warn); background: var(--warned); }
.banner.bad { border-color: var(--bad); }
section { margin-top: 40px; padding-top: 20px; border-top: 2px solid var(--faint); }
.head { display: flex; flex-wrap: wrap; gap: 6px 14px; align-items: baseline; }
.badge { padding: 1px 10px; border-radius: 99px; border: 1.5px solid currentColor; font-size: 13px;
  font-weight: 600; }
.passed { color: var(--good); } .failed { color: var(--bad); } .inconclusive { color: var(--open); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(235px, 1fr)); gap: 12px; margin: 16px 0; }
.tile { background: var(--panel); border-radius: 8px; padding: 10px 14px; }
.tile b { display: block; font-size: 21px; line-height: 1.35; font-weight: 600; }
.tile span { display: block; color: var(--soft); font-size: 13px; line-height: 1.4; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); gap: 20px;
  align-items: start; }
figure { margin: 0; background: var(--panel); border-radius: 8px; padding: 14px 16px; min-width: 0; }
figcaption p { font-size: 13px; line-height: 1.4; margin: 2px 0 8px; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; font-size: 13px; margin-bottom: 4px; }
.legend i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 5px;
  vertical-align: -1px; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 11px; }
svg text.strong, svg text.name { fill: var(--ink); font-weight: 600; }
svg text.value { fill: var(--ink); font-size: 14px; font-weight: 600; }
svg text.name { font-size: 12px; }
.grid { stroke: var(--faint); stroke-width: 1; }
.zero { stroke: var(--soft); stroke-width: 1; }
.line { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 6 4; }
.mark { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 3 3; }
polyline { fill: none; } .diagonal { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 4 4; }
.curve { stroke-width: 2; stroke-linejoin: round; } .whisker { stroke-width: 1.2; opacity: 0.6; }
rect.sell, .dot.sell, i.sell { fill: var(--sell); background: var(--sell); } .curve.sell,
  .whisker.sell { stroke: var(--sell); }
rect.hold, .dot.hold, i.hold { fill: var(--hold); background: var(--hold); } .curve.hold,
  .whisker.hold { stroke: var(--hold); }
rect.buy, .dot.buy, i.buy { fill: var(--buy); background: var(--buy); } .curve.buy,
  .whisker.buy { stroke: var(--buy); }
.dot.prior, i.prior { fill: var(--prior); background: var(--prior); } .curve.prior { stroke: var(--prior); }
.dot.champion, i.champion { fill: var(--champion); background: var(--champion); }
  .curve.champion { stroke: var(--champion); }
.dot.pool, i.pool { fill: var(--pool); background: var(--pool); } .curve.pool { stroke: var(--pool); }
rect.bar, rect.cell { fill: var(--buy); }
.nothing { color: var(--soft); padding: 40px 0; text-align: center; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; width: 100%; margin: 8px 0; }
th, td { text-align: right; padding: 4px 12px 4px 0; border-bottom: 1px solid var(--faint); white-space: nowrap; }
th { color: var(--soft); font-weight: 500; vertical-align: bottom; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
td.text { white-space: normal; }
details { margin-top: 6px; font-size: 13px; } summary { cursor: pointer; color: var(--soft); }
@media print { details { display: none; } figure, .tile { break-inside: avoid; border: 1px solid var(--faint); } }
"""
