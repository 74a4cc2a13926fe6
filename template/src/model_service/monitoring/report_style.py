"""How the report looks, in light and in dark."""

STYLE = """
:root{--ink:#1d2433;--quiet:#5b6579;--paper:#f7f8fb;--card:#fff;--line:#dfe3ec;--a:#2756c5;
--b:#c26a00;--c:#7a4bb5;--code:#eef1f8;--good:#16794c;--warn:#9a6200;--bad:#b3261e;--then:#aab4c8;
--h0:#eef1f8;--h1:#d9e2f7;--h2:#b7c9f1;--h3:#f2d9a7;--h4:#e8b04b;--h5:#b3261e}
@media (prefers-color-scheme:dark){:root{--ink:#e4e8f1;--quiet:#9aa5bb;--paper:#11151d;
--card:#191f2b;--line:#2c3546;--a:#8fb0ff;--b:#f0b95b;--c:#c8a6f2;--code:#232b3a;--good:#5fd39a;
--warn:#f0b95b;--bad:#ff8a80;--then:#5a667d;--h0:#222a38;--h1:#2a3852;--h2:#38507f;--h3:#6b5426;
--h4:#a97b22;--h5:#e5534b}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
header,main{max-width:58rem;margin:0 auto;padding:0 1.25rem}
header{padding-top:2.5rem}
h1{font-size:2rem;line-height:1.2;margin:0 0 .4rem}
h2{font-size:1.35rem;margin:0 0 .3rem}
h3{font-size:1rem;margin:1.75rem 0 .4rem}
a{color:var(--a)}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;
padding:1.4rem 1.6rem;margin:1.5rem 0}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{text-align:left;vertical-align:top;padding:.45rem .75rem .45rem 0;
border-top:1px solid var(--line)}
th{border-top:0;color:var(--quiet);font-weight:600}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.87em}
code{background:var(--code);border-radius:4px;padding:.1em .35em}
pre{background:var(--code);border-radius:8px;padding:.8rem 1rem;overflow-x:auto;margin:.5rem 0}
.quiet{color:var(--quiet);font-size:.92em}
.badge{font-size:.75rem;font-weight:600;border:1px solid;border-radius:99px;padding:.15em .7em;
vertical-align:middle;white-space:nowrap}
.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.75rem;
margin:1rem 0}
.tile{border:1px solid var(--line);border-radius:10px;padding:.6rem .9rem}
.tile b{display:block;font-size:1.25rem;line-height:1.3}
.told{border-left:4px solid var(--bad);padding:.1rem 0 .1rem 1rem;margin:1rem 0}
.told.good{border-color:var(--good);color:inherit}
.told p{margin:.35rem 0}
ul{margin:.4rem 0;padding-left:1.2rem}
svg{display:block;width:100%;height:auto;margin:.3rem 0}
svg text{font:11px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;fill:var(--ink)}
svg .tick{fill:var(--quiet);font-size:10px}
.grid{stroke:var(--line)}.axis{stroke:var(--quiet)}
.mark{stroke:var(--quiet);stroke-dasharray:4 3}
.line{fill:none;stroke-width:1.8;stroke-linejoin:round}
.line.a{stroke:var(--a)}.line.b{stroke:var(--b)}.line.c{stroke:var(--c)}
.dot.a,svg .label.a{fill:var(--a)}.dot.b,svg .label.b{fill:var(--b)}
.dot.c,svg .label.c{fill:var(--c)}
.band{fill:var(--a);opacity:.16}
.then{fill:var(--then)}.now{fill:var(--a)}
.heat0{fill:var(--h0)}.heat1{fill:var(--h1)}.heat2{fill:var(--h2)}.heat3{fill:var(--h3)}
.heat4{fill:var(--h4)}.heat5{fill:var(--h5)}
.key{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin:0 .3em 0 .8em}
.key.then{background:var(--then)}.key.now{background:var(--a)}
.key.low{background:var(--h1)}.key.near{background:var(--h4)}.key.over{background:var(--h5)}
details summary{cursor:pointer;color:var(--a);margin-top:.5rem}
"""
