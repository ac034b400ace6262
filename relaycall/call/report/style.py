"""How a report looks: light and dark, wide and narrow, on screen and on paper."""

from __future__ import annotations

_LIGHT = """
  --page: #ffffff; --card: #f5f6f8; --text: #1c2128; --soft: #59636e; --rule: #d5dae0; --grid: #e6e9ed;
  --s0: #0a5fb4; --s1: #b3470b; --s2: #4d7c1d; --s3: #7a3fa8; --mark: #6b7480;
  --good: #cfe6d3; --fair: #f3e3a8; --poor: #eda78a; --lost: #4a1d1d; --on-lost: #ffffff; --lane: #d3e0f0;
"""
_DARK = """
  --page: #14181d; --card: #1d232a; --text: #e6eaef; --soft: #a0aab5; --rule: #39424c; --grid: #272e36;
  --s0: #6cb2ff; --s1: #ff9a5c; --s2: #a5d46a; --s3: #cf9dff; --mark: #8d98a4;
  --good: #23482c; --fair: #5c4e12; --poor: #7d3a1f; --lost: #f3d4d4; --on-lost: #1c1010; --lane: #27405e;
"""

STYLE = f"""
:root {{ color-scheme: light dark; {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
@media print {{ :root {{ color-scheme: light; {_LIGHT} }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 62rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }}
h1 {{ font-size: 1.6rem; line-height: 1.25; margin: 0; }}
h2 {{ font-size: 1.2rem; margin: 2.5rem 0 .5rem; }}
p {{ margin: .4rem 0; max-width: 46rem; }}
.soft, figure p, td small, dt, .unit, .tick {{ color: var(--soft); }}
.soft, figure p {{ font-size: .875rem; }}
.tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .6rem; margin: 1.2rem 0; }}
.tile {{ background: var(--card); border-radius: .5rem; padding: .6rem .8rem; }}
.tile b {{ display: block; font-size: 1.35rem; font-weight: 600; line-height: 1.3; }}
.tile span, .tile small {{ display: block; font-size: .8rem; color: var(--soft); line-height: 1.35; }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; margin: .5rem 0; font-size: .925rem; }}
dd {{ margin: 0; }}
table {{ border-collapse: collapse; width: 100%; font-size: .85rem; line-height: 1.35; }}
th, td {{ text-align: left; vertical-align: top; padding: .45rem .55rem; border-bottom: 1px solid var(--rule); }}
thead th {{ font-weight: 600; border-bottom-width: 2px; vertical-align: bottom; }}
tbody th {{ font-weight: 600; }}
th small, td small {{ display: block; font-weight: 400; font-size: .78rem; color: var(--soft); }}
.sight {{ table-layout: fixed; }}
.sight thead th:first-child {{ width: 20%; }}
.answer {{ white-space: nowrap; }}
.yes .answer {{ font-weight: 700; }}
.no .answer {{ color: var(--soft); }}
td.number {{ width: 3rem; }}
td.time {{ width: 5rem; font-variant-numeric: tabular-nums; }}
figure.plot {{ margin: 1.6rem 0 0; break-inside: avoid; }}
figcaption {{ font-weight: 600; margin-bottom: 1.5rem; }}
.box {{ padding: 0 6.2rem 1.6rem 3rem; }}
svg {{ display: block; overflow: visible; }}
svg text {{ font: 12px system-ui, sans-serif; fill: var(--text); }}
svg .tick, svg .unit {{ fill: var(--soft); }}
.grid {{ stroke: var(--grid); }}
.axis {{ stroke: var(--soft); }}
.line, .area, .mark {{ vector-effect: non-scaling-stroke; }}
.line {{ fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }}
.line.s0 {{ stroke: var(--s0); }}
.line.s1 {{ stroke: var(--s1); stroke-dasharray: 7 4; }}
.line.s2 {{ stroke: var(--s2); stroke-dasharray: 1.5 4; stroke-width: 2.2; }}
.line.s3 {{ stroke: var(--s3); stroke-dasharray: 10 3 2 3; }}
.area.s0 {{ fill: var(--s0); fill-opacity: .75; }}
.area.s1 {{ fill: var(--s1); fill-opacity: .3; }}
svg .label.s0 {{ fill: var(--s0); }} svg .label.s1 {{ fill: var(--s1); }}
svg .label.s2 {{ fill: var(--s2); }} svg .label.s3 {{ fill: var(--s3); }}
.mark {{ stroke: var(--mark); stroke-width: 1; }}
.mark.audio, .mark.video {{ stroke-dasharray: 3 3; }}
svg text.number {{ font-size: 11px; font-weight: 600; fill: var(--soft); }}
.lane {{ stroke: var(--page); }}
.is-relay {{ fill: var(--lane); }} .is-good {{ fill: var(--good); }} .is-fair {{ fill: var(--fair); }}
.is-poor {{ fill: var(--poor); }} .is-lost {{ fill: var(--lost); }}
svg text.in {{ fill: var(--text); }} svg text.in.is-lost {{ fill: var(--on-lost); }}
footer {{ margin-top: 3rem; border-top: 1px solid var(--rule); padding-top: .8rem; }}
@media (max-width: 46rem) {{
  .box {{ padding: 0 5.6rem 1.6rem 3rem; }}
  dl {{ grid-template-columns: 1fr; gap: 0; }}
  dd {{ margin-bottom: .5rem; }}
  .sight, .sight tbody, .sight tr, .sight th, .sight td {{ display: block; }}
  .sight thead {{ display: none; }}
  .sight tr {{ background: var(--card); border-radius: .5rem; padding: .5rem .8rem; margin: .6rem 0; }}
  .sight th, .sight td {{ border: 0; padding: .15rem 0; }}
  .sight td::before {{ content: attr(data-of) ": "; color: var(--soft); }}
  .sight td small {{ display: inline; }}
  .sight td small::before {{ content: "– "; }}
}}
@media print {{
  body {{ font-size: 11px; max-width: none; padding: 0; }}
  .tile, .sight tr {{ border: 1px solid var(--rule); }}
  .sight tr {{ break-inside: avoid; }}
  h2 {{ break-after: avoid; }}
  .lane, .area, .tile {{ print-color-adjust: exact; -webkit-print-color-adjust: exact; }}
}}
"""
