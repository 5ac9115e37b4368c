/** The whole look of the board, light and dark. It names no font, picture or host. */
export const STYLE = `
:root{color-scheme:light dark;--back:#fff;--text:#1f2328;--dim:#57606a;--line:#8c959f;--soft:#f6f8fa;--link:#0550ae;--good:#116329;--bad:#a40e26;--odd:#7d4e00}
@media (prefers-color-scheme:dark){:root{--back:#0d1117;--text:#e6edf3;--dim:#9da7b3;--line:#6e7681;--soft:#161b22;--link:#79b8ff;--good:#56d364;--bad:#ff8e85;--odd:#e3b341}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--text);font:15px/1.5 system-ui,sans-serif}
header,main{max-width:76rem;margin:0 auto;padding:.5rem 1rem}
header{display:flex;flex-wrap:wrap;gap:.25rem 1.5rem;align-items:baseline;border-bottom:1px solid var(--line)}
header p,header ul{margin:0}
header ul{display:flex;flex-wrap:wrap;gap:0 1.25rem;padding:0;list-style:none}
a{color:var(--link)}
nav a[aria-current]{color:var(--text);font-weight:600;text-decoration:none}
.skip{position:absolute;left:-99rem}
.skip:focus{position:static}
:focus-visible{outline:3px solid var(--link);outline-offset:2px}
h1{font-size:1.5rem;margin:1rem 0}
h2{font-size:1.15rem;margin:1.75rem 0 .5rem}
h3{font-size:1rem;margin:0 0 .5rem}
.dim{color:var(--dim)}
.good{color:var(--good)}
.bad{color:var(--bad);font-weight:600}
.odd{color:var(--odd);font-weight:600}
.note{border:1px solid var(--line);border-left-width:5px;background:var(--soft);padding:.5rem 1rem;margin:1rem 0}
.wide{overflow-x:auto;margin-top:.75rem}
table{border-collapse:collapse;width:100%}
caption{text-align:left;color:var(--dim)}
th,td{text-align:left;vertical-align:top;padding:.3rem .75rem .3rem 0;border-bottom:1px solid var(--line)}
code,pre,textarea{font:13px/1.5 ui-monospace,monospace;overflow-wrap:anywhere}
td code{overflow-wrap:normal;white-space:nowrap}
pre{background:var(--soft);border:1px solid var(--line);padding:.75rem;margin:0;white-space:pre-wrap}
dl{margin:0}
.lines div{display:grid;grid-template-columns:11rem 1fr;gap:0 1.25rem;padding:.1rem 0}
dt{color:var(--dim)}
dd{margin:0;overflow-wrap:anywhere}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(11rem,1fr));gap:.5rem}
.figures div{border:1px solid var(--line);background:var(--soft);padding:.5rem .75rem}
.figures dd{font-size:1.35rem}
form{display:flex;flex-wrap:wrap;gap:.5rem 1rem;align-items:end}
form.change{display:block;border:1px solid var(--line);background:var(--soft);padding:.75rem 1rem;margin:0 0 1rem}
label{display:block}
.change label{margin:.5rem 0;max-width:44rem}
input,select,textarea{display:block;width:100%;font-size:inherit;color:var(--text);background:var(--back);border:1px solid var(--line);padding:.35rem .5rem}
textarea{min-height:5rem}
button{font:inherit;padding:.4rem 1rem;color:var(--back);background:var(--link);border:0;cursor:pointer}
button.danger{background:var(--bad)}
input,select{height:2.2rem}
@media (max-width:40rem){.lines div{grid-template-columns:1fr;padding:.25rem 0}.figures{grid-template-columns:1fr 1fr}form:not(.change) label{flex:1 1 9rem}}
`;
