"""The look of a report: light, dark and on paper, on wide screens and on phones; text contrasts by 4.5 or more."""

from __future__ import annotations

COLOURS = """
:root{color-scheme:light dark;--ink:#1b1b1f;--soft:#5a5a66;--line:#c9c9d2;--paper:#fff;--panel:#f4f4f7;--link:#0b4f9e;
--right:#0b6b2e;--close:#7a4b00;--wrong:#a81616;--c0:#5a5a66;--c1:#0b5cad;--c2:#b03a00;--c3:#00704f;--c4:#8a3a86;
--c5:#7a5b00;--c6:#006d86;--c7:#a3245c}
@media (prefers-color-scheme:dark){:root{--ink:#ececf1;--soft:#a9a9b6;--line:#44444f;--paper:#17171b;--panel:#212127;
--link:#8fbcff;--right:#6fdc95;--close:#f0bf6a;--wrong:#ff9a93;--c0:#a9a9b6;--c1:#7db0ff;--c2:#ff9a6b;--c3:#5fd0a5;
--c4:#e09adf;--c5:#e6c15c;--c6:#6cc8e0;--c7:#ff93bd}}
"""
"""Of text, lines, paper and series, as CSS variables."""

STYLE = (
    COLOURS
    + """\
*{box-sizing:border-box}
body{margin:0 auto;padding:1rem;max-width:76rem;font:1rem/1.5 system-ui,sans-serif;color:var(--ink);
background:var(--paper);overflow-wrap:anywhere}
a{color:var(--link)}
:focus-visible{outline:3px solid var(--link);outline-offset:2px}
.skip{position:absolute;left:-99rem}.skip:focus{position:static}
h1{font-size:1.7rem;line-height:1.2;margin:.6rem 0}
h2{font-size:1.35rem;margin:2.5rem 0 .8rem;border-top:2px solid var(--line);padding-top:1rem}
h3{font-size:1.12rem;margin:1.8rem 0 .5rem}h4{font-size:1rem;margin:1.3rem 0 .4rem}
.soft,small{color:var(--soft)}small{font-size:.85rem}.none{border-left:4px solid var(--line);padding-left:.8rem}
.hidden{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
nav ul{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;list-style:none;padding:0;margin:.5rem 0}
.wide{overflow-x:auto;margin:.6rem 0;position:relative}
table{border-collapse:collapse;min-width:min(100%,24rem)}
caption{text-align:left;color:var(--soft);padding-bottom:.25rem}
th,td{border:1px solid var(--line);padding:.3rem .55rem;text-align:left;vertical-align:top;min-width:4rem;
max-width:26rem;overflow-wrap:break-word}td code{display:block;min-width:9rem;overflow-wrap:anywhere}
thead th,tbody th{background:var(--panel)}tbody th{font-weight:600}
td{font-variant-numeric:tabular-nums}
ul,ol{padding-left:1.2rem}td ul{margin:0}dl{margin:.4rem 0}dt{font-weight:600}dd{margin:0 0 .4rem}
.mark{font-weight:600;white-space:nowrap}.right{color:var(--right)}.close{color:var(--close)}.wrong{color:var(--wrong)}
code{font:.9em ui-monospace,monospace}
pre{background:var(--panel);padding:.6rem .8rem;white-space:pre-wrap;margin:.4rem 0}
pre span{display:inline-block;max-width:100%;vertical-align:top}
figure{margin:0}
.chart{margin:1rem 0;max-width:36rem}.chart svg{display:block;width:100%;height:auto;font-family:system-ui,sans-serif}
figcaption{font-size:.9rem;color:var(--soft)}
summary{cursor:pointer;padding:.25rem 0;color:var(--link)}
details{margin:.4rem 0}
.items>li{margin:0 0 1.2rem}.items p{margin:.2rem 0}.text{font-weight:600}
.looks{display:flex;flex-wrap:wrap;gap:.6rem 1.2rem;margin:.4rem 0}
.pictures{display:flex;flex-wrap:wrap;gap:.3rem;margin:.2rem 0}
.look{max-width:100%;flex:0 1 auto;width:min-content;min-width:min(100%,13rem)}
img{width:6.2rem;max-width:30vw;height:auto;display:block;border:1px solid var(--line)}
@media (min-width:70rem){.charts{display:grid;grid-template-columns:1fr 1fr;gap:0 2rem}}
@media (max-width:36rem){body{padding:.7rem;font-size:.97rem}th,td{padding:.22rem .35rem;min-width:4.2rem}
table{font-size:.9rem}}
@media print{:root{color-scheme:light;--ink:#000;--soft:#444;--line:#999;--paper:#fff;--panel:#eee;--link:#000;
--right:#0b6b2e;--close:#7a4b00;--wrong:#a81616;--c0:#5a5a66;--c1:#0b5cad;--c2:#b03a00;--c3:#00704f;--c4:#8a3a86;
--c5:#7a5b00;--c6:#006d86;--c7:#a3245c}body{max-width:none;padding:0;font-size:10pt}nav,.skip{display:none}
figure,.items>li,tr{break-inside:avoid}h2,h3,h4{break-after:avoid}.wide{overflow:visible}}
"""
)
