"""How the documentation page looks, in light and in dark."""

STYLE = """
:root{--ink:#1d2433;--quiet:#5b6579;--paper:#f7f8fb;--card:#fff;--line:#dfe3ec;--accent:#2756c5;
--code:#eef1f8;--good:#16794c;--warn:#9a6200;--bad:#b3261e}
@media (prefers-color-scheme:dark){:root{--ink:#e4e8f1;--quiet:#9aa5bb;--paper:#11151d;
--card:#191f2b;--line:#2c3546;--accent:#8fb0ff;--code:#232b3a;--good:#5fd39a;--warn:#f0b95b;
--bad:#ff8a80}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
header,main{max-width:64rem;margin:0 auto;padding:0 1.25rem}
header{padding-top:2.5rem}
h1{font-size:2rem;line-height:1.2;margin:0 0 .5rem}
h2{font-size:1.3rem;margin:0 0 .75rem}
h3{font-size:1rem;margin:1.5rem 0 .5rem}
a{color:var(--accent)}
nav{display:flex;flex-wrap:wrap;gap:.4rem 1.1rem;padding:.75rem 0;
border-bottom:1px solid var(--line)}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;
padding:1.25rem 1.5rem;margin:1.5rem 0}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{text-align:left;vertical-align:top;padding:.5rem .75rem .5rem 0;
border-top:1px solid var(--line)}
th{border-top:0;color:var(--quiet);font-weight:600}
tr:target{background:var(--code)}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.88em}
code{background:var(--code);border-radius:4px;padding:.1em .35em}
pre{background:var(--code);border-radius:8px;padding:.9rem 1rem;overflow-x:auto;margin:.5rem 0}
.quiet{color:var(--quiet);font-size:.92em}
.badge{font-size:.75rem;font-weight:600;border:1px solid;border-radius:99px;padding:.15em .7em;
vertical-align:middle;color:var(--warn);white-space:nowrap}
.badge.ready{color:var(--good)}
.badge.failed{color:var(--bad)}
summary{cursor:pointer;color:var(--accent);margin-top:1rem}
"""
