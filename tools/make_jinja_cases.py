#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes tests/data/jinja_cases.json: template snippets with what jinja2, set up as transformers sets it up, renders.

    python tools/make_jinja_cases.py > tests/data/jinja_cases.json     (needs transformers 5.23, jinja2 3.1)

A case is {"t": template, "out": text} or {"t": template, "error": exception class}; "vars" at the top are given to all.
"""
import json

from transformers.utils.chat_template_utils import _compile_jinja_template as compile_template

VARS = {
    "s": "Hello, World", "u": "héllo wörld ß 日本語 🎉", "e": "", "n": 42, "neg": -7, "f": 3.14, "z": 0, "t": True, "no": False, "nil": None,
    "l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "el": [], "d": {"b": 1, "a": {"x": [1, 2, {"y": "deep"}]}, "items": "key"}, "ed": {},
    "people": [{"name": "Ann", "age": 30, "city": "Oslo"}, {"name": "bob", "age": 25, "city": "Rome"}, {"name": "Cy", "age": 30, "city": "oslo"}],
    "mixed": [1, "a", None, True, 2.5, [1], {"k": "v"}], "html": "<a href='x'>\"T\" & co</a>", "ws": "  \t pad \n ", "multi": "one\ntwo\r\nthree\n\nfive",
    "floats": [0.1, 1e16, 1e-5, 123456789.123, 1e22, 0.0, -0.5, 1e300, 1.0, 5e-324, 100000.0], "q": "it's \"q\" \\ \n\t\x01é\u200b",
}

EXPR = """
n + 1|n - 50|n * 2|n / 5|n // 5|neg // 2|neg % 3|-neg % 3|2 ** 10|2 ** -1|-2 ** 2|n % 5|7.5 // 2|-7.5 % 2|1e3|1_000|0x1F|0b101|0o17|1.5e-3|1 / 3|10 / 2|0.1 + 0.2|t + t|n ~ s|s ~ nil ~ t ~ 1.0
s + "!"|"a" "b"|s * 2|2 * "ab"|[1] + [2]|[1] * 3|(1,)|(1, 2)|()|[]|{}|{"a": 1, 2: "b"}|{"a": [1, (2,)]}|l|d|mixed|floats|q|ws|u|nil|t|no|f|undefinedvar
missing is defined|s is defined|missing.x|d.nope|d.nope is defined|d.nope.x|d["a"]["x"][2].y|d.a.x[2]["y"]|d.items|d["items"]|d.get("zz")|d.get("zz", 5)|d.get("b")|d.keys()|d.values()|ed.items()|d.a.items()|d.keys() | list
l[0]|l[-1]|l[5]|l[1:]|l[::-1]|l[:-1]|l[::2]|l[-2:]|l[10:]|l[5:1:-1]|s[0]|s[-1]|s[1:4]|s[::-1]|u[1]|u[-1]|u[1:8]|u[::-2]|s[100:]|s[3:1]|(1,2,3)[1:]|l[none:2]|l["x"]|s["x"]|n.x|n[0]
1 < 2 < 3|1 < 3 < 2|1 == 1.0|true == 1|"a" < "b"|[1,2] < [1,3]|1 in l|9 in l|"ell" in s|"b" in d|"zz" not in d|not t|not 1 == 2|1 != 2|nil == none|missing == none|missing == missing2|"1" == 1|(1,2) == [1,2]|{"a":1} == {"a":1.0}|1 < "a"|nil < 1|3 in n|1 in s
t and "x"|no and "x"|e or "dflt"|no or nil|"y" if t else "n"|"y" if no|("y" if no) is defined|1 if 0 else 2 if 0 else 3|not no and t|t or 1/0
s.upper()|s.lower()|u.upper()|u.title()|u.capitalize()|"hello world-foo bar's".title()|s.swapcase()|ws.strip()|ws.lstrip()|ws.rstrip()|"xxhixx".strip("x")|"abcba".lstrip("ab")|"abcba".rstrip("ab")|s.strip("Hd")
s.split(",")|s.split()|"a  b c".split()|"a  b c".split(" ")|"a,b,c".split(",", 1)|"a,b,c".rsplit(",", 1)|" a b c ".split(none, 1)|" a b c ".rsplit(none, 1)|"".split()|"".split(",")|"abc".split("")|multi.splitlines()|multi.splitlines(true)|"a b c".rsplit()|"abc".split(sep="b")|"  a b  ".split(maxsplit=0)|"  a b  ".split(maxsplit=1)|"  a b  ".rsplit(maxsplit=1)
s.startswith("He")|s.startswith(("x","H"))|s.endswith("ld")|s.endswith(("ld","z"))|s.startswith("ell", 1)|s.replace("l", "L")|s.replace("l", "L", 1)|"abc".replace("", "-")|s.find("o")|s.find("zz")|u.find("w")|s.rfind("o")|s.index("W")|s.index("zz")|s.count("l")|s.count("")|"ababa".count("aba")|s.find("o", 5)
", ".join(ls)|", ".join("abc")|"".join([])|",".join([1])|"a-b-c".partition("-")|"a-b-c".rpartition("-")|"abc".partition("-")|"7".zfill(3)|"-7".zfill(4)|"ab".center(7, "*")|"ab".ljust(4) ~ "|"|"ab".rjust(4)|"abc".center(6) ~ "."|"pre_x".removeprefix("pre_")|"x.py".removesuffix(".py")|"a\\tb".expandtabs(4)
"12".isdigit()|"1a".isdigit()|"ab".isalpha()|"a1".isalnum()|"  ".isspace()|"".isspace()|"AB".isupper()|"ab1".islower()|"Ab Cd".istitle()|"x_1".isidentifier()|"é".isascii()|"²".isdigit()|"½".isnumeric()
"{} and {}".format(1, "x")|"{0}{1}{0}".format("a", "b")|"{name:>5}|{x:<4}|{y:^5}".format(name="n", x=1, y="m")|"{:.2f}".format(3.14159)|"{:05d}".format(42)|"{:,}".format(1234567)|"{:x}".format(255)|"{:#x}".format(255)|"{!r}".format("a")|"{{}}".format()|"{:+d}".format(5)|"{:e}".format(12345.678)|"{:%}".format(0.25)|"{:08.3f}".format(3.14159)|"{a.b}".format(a={"b": 1})|"{a[b]}".format(a={"b": 1})|"{}".format(none)|"{:>10}".format("é")|"{:10}".format(5)|"{:g}".format(0.0001)|"{:*^9}".format("mid")|"{:b}".format(10)|"{0[1]}".format([1,2])|"{}".format(1.0)|"{:.3}".format("abcdef")
"%s %d" % ("a", 5)|"%5.2f|" % 3.14159|"%-5s|" % "a"|"%05d" % 42|"%x %X %o" % (255, 255, 8)|"%r" % "a"|"%%" % ()|"%(a)s" % {"a": 1}|"%s" % "x"|"%d" % 3.7|"%s %s" % "a"|"%e" % 1234.5|"%g" % 1e10|"%c" % "x"|"%+d" % 3|"%s" % nil|"%s" % l|"%10s|" % "ab"
s|length|u|length|l|length|d|length|l|first|l|last|el|first|el|last|s|first|l|sum|floats|sum|people|sum(attribute="age")|l|max|l|min|ls|max|ls|min(case_sensitive=true)|el|max|people|max(attribute="age")|l|sort|ls|sort|ls|sort(case_sensitive=true)|l|sort(reverse=true)
people|sort(attribute="age")|people|sort(attribute="age,name")|people|map(attribute="name")|list|people|map(attribute="nope", default="?")|join(",")|people|map("length")|list|ls|map("upper")|join("-")|l|map("string")|list|people|selectattr("age", "gt", 26)|map(attribute="name")|list|people|rejectattr("age", "equalto", 30)|list|mixed|select("string")|list|mixed|reject("none")|list|mixed|select|list|people|groupby("age")|list|people|groupby("city")|map("first")|list|mixed|select("number")|list
ls|unique|list|[1,1,2,1.0]|unique|list|l|batch(2)|list|l|batch(2, "x")|list|l|slice(2)|list|range(7)|slice(3, "f")|list|d|dictsort|{"b":2,"A":1,"c":0}|dictsort|{"b":2,"A":1,"c":0}|dictsort(true)|{"b":2,"A":1,"c":0}|dictsort(by="value")|{"b":2}|items|list|l|reverse|list|s|reverse|l|join|l|join(", ")|people|join(",", attribute="name")|s|list|d|list
s|upper|s|lower|u|title|"foo-bar (baz) it's"|title|s|capitalize|ws|trim|"xxaxx"|trim("x")|s|replace("o", "0")|s|replace("o", "0", 1)|n|replace("4", "x")|s|center(20) ~ "|"|multi|indent|multi|indent(2, true)|multi|indent(2, blank=true)|multi|indent("> ")|"a b c d e f g"|truncate(9)|"a b c d e f g hhhhhhh"|truncate(9)|"abcdefghijklmnop"|truncate(9, true)|"abcdefghijklmnop"|truncate(9, true, "!", 0)|s|wordcount|"the quick brown fox jumps"|wordwrap(10)|"abcdefghijkl mno"|wordwrap(5)
n|abs|neg|abs|-2.5|abs|3.7|int|"42"|int|"x"|int|"x"|int(5)|"0x1A"|int(base=16)|"3.9"|int|nil|int|" 12 "|int|"1_000"|int|t|int|"3.5"|float|"x"|float|"x"|float(1.5)|n|float|2.5|round|3.5|round|2.567|round(2)|2.567|round(1, "floor")|2.51|round(method="ceil")|n|round|1234.5|round(-2)|n|string|f|string|nil|string|t|string
missing|default("d")|e|default("d")|e|default("d", true)|nil|default("d")|nil|d("d", true)|missing|default|no|default(5)|missing|length|missing|list|missing|join|missing|upper|missing|string|missing|int|missing|first|nil|upper|nil|length|n|length|n|list|n|join
html|e|html|escape|html|safe|(html|safe) ~ "<"|(html|safe) + "<"|html|striptags|"a b&c/d?é"|urlencode|{"a b": "c&d", "e": 1}|urlencode|html|forceescape|{"id": "x", "no": none}|xmlattr|1000000|filesizeformat|1000000|filesizeformat(true)|500|filesizeformat|"%s-%s"|format("a", 2)|"%(x)s"|format(x=1)|people[0]|attr("name")|s|pprint|d|attr("get")
d|tojson|mixed|tojson|u|tojson|q|tojson|u|tojson(ensure_ascii=true)|d|tojson(indent=2)|l|tojson(indent=1)|el|tojson(indent=2)|ed|tojson(indent=2)|d|tojson(separators=(",", ":"))|{"b":1,"a":2}|tojson(sort_keys=true)|floats|tojson|(1,2)|tojson|{1: 2, none: 3, true: 4, 1.5: 5}|tojson|missing|tojson|html|tojson|d|tojson(indent="--")|"/"|tojson|l|map("string")|tojson|d.items()|tojson|range(3)|tojson|(d|tojson) ~ "<"|nil|tojson|"a"|tojson|length
n is number|s is string|l is sequence|d is mapping|s is sequence|n is sequence|l is iterable|n is iterable|n is odd|n is even|n is divisibleby 7|n is divisibleby(5)|nil is none|t is true|t is boolean|1 is true|1 is boolean|n is integer|f is float|t is integer|t is number|s is lower|"abc" is lower|"ABC" is upper|n is eq 42|n is == 42|n is ne(1)|n is gt 41|n is lessthan 3|n is in [42]|2 is in l|s is sameas s|nil is sameas none|n is not none|range is callable|s is callable|"upper" is filter|"nofilter" is filter|"odd" is test|s is escaped|(s|safe) is escaped|missing is undefined|missing is none|missing is iterable|d.items() is iterable|d.items() is sequence|(l|map("string")) is iterable|(l|map("string")) is sequence|range(3) is sequence|1 is in (1,2) and true
range(5)|range(5)|list|range(2,8,3)|list|range(5,0,-2)|list|range(0)|list|range(3)[1]|range(100001)|dict(a=1, b=2)|dict({"x":1}, y=2)|namespace(a=1).a|dict([("a",1)])|joiner("-") is callable|cycler("a","b").next()
s.nope|s.nope()|s()|n()|l.append(1)|d.update({"x":1})|d.pop("b")|s.__class__|s.__class__.__mro__|l.__len__()|d._x|d["_x"]|(l|list).sort()|l.index(2)|l.count(1)|l.copy()|(1,2,1).count(1)|d.copy()|missing()|nil.x|nil["x"]|s|nofilter|s is notest|1 +|)|"unterminated|{"a" 1}|[1, 2|raise_exception("boom: " ~ n)|1.is_integer()|(2.0).is_integer()|n.bit_length()|n.real|3.0|1e15|1e16|1.0e-4|1e-5|123456789012345680.0|9007199254740993|-0.0
l|sort|first|(l|sort)[0]|l|sort|map("string")|join("+")|s|lower|replace(" ","_")|s.split(", ")[1]|s.split(", ")[-1].upper()|d.a.x|length|"a" in "abc" and 1 in [1]|"a" ~ 1 + 2|1 + 2 ~ "a"|-1|abs|-(1)|abs|2 ** 3 ** 2|not s is string|s is string and n is number|l is not string|{"a": 1}.a|[1,2,3][-1]|"abc"[1]|("a", "b")|join|(1 if t else 2) + 3|s[:5] ~ s[7:]|n if n > 40 else neg|[l, d]|length|{"k": l}.k[0]
"\\x41\\u00e9\\n\\t\\"\\'\\\\"|'a\\'b'|"\\q"|"\\101"|"\\U0001F389"|"tab\\there"|"日本"[0]|"🎉x"|length|"a\nb"|length|u|upper|u|lower|u|wordcount|"ß".upper()|"ǆ".title()|"İ".lower()|length|"Σ".lower()
*l|foo(*l)|dict(**{"a": 1})|"{}{}".format(*["a", "b"])|"{x}".format(**{"x": 9})|l[0:2][1]|l|attr("count")|s|attr("upper")|people|map(attribute="name")|map("lower")|list|people|map("attr", "name")|list|people|selectattr("city")|list|length|people|selectattr("nope")|list|people|selectattr("nope", "defined")|list|[[1,2],[3,4]]|map("first")|list|[[1,2],[3,4]]|map(attribute=1)|list|[[1,2],[3,4]]|sum(start=[])|["a","b"]|sum|{"a":{"b":2}}|items|first|people|map(attribute="name")|first|people|map(attribute="name")|length|people|map(attribute="name")
s.__class__|s.__class__.x|s.__class__ is defined|l.append is defined|l.append|default("d")|[missing]|{"a": missing}|missing ~ 1|missing + 1|1 + missing|missing|tojson|missing > 1|missing == ""|missing in l|1 in missing|-missing|missing[0]|missing|abs|missing|sum|missing|join|missing|sort|missing|map("upper")|list|missing|trim|missing|replace("a","b")|missing|items|list|missing * 2|"a" in missing|"%s" % missing|"{}".format(missing)
"a\rb\x0bc\x1cd\x85e\u2028f".splitlines()|"a\n\nb\n".splitlines()|"a\n"|indent|"\n"|indent(2,true)|""|indent|"a\n\n"|indent(2,false,true)|"ab cd ef gh"|wordwrap(5, wrapstring="/")|"abcdefghij"|wordwrap(4, false)|"a-b c-d e-f"|wordwrap(3)|"  lead"|wordwrap(4)
[3,1,2]|sort|reverse|list|[(1,"b"),(1,"a")]|sort|[[2],[1,5]]|max|["B","a"]|sort|first|[1,"a"]|sort|[none,1]|sort|[true,0,2.5]|sort|{"x":1,"y":0}|dictsort(false,"value")|["a","A","b"]|unique(true)|list|people|unique(attribute="city")|map(attribute="name")|list|people|groupby("zip", default="none")|list|[1,2,3]|batch(5,0)|list|[]|batch(2)|list|[]|slice(2)|list
1 if missing else 2|(missing or "x")|(missing and "x")|[1,2,3][1:][0]|"abc"[-2:]|"abc"[::2]|l[-1:]|l[:0]|"日本語"[1:]|"日本語"[::-1]|(1,2,3)[::-1]|range(10)[2]|range(10)[-1]|d|length + 1|(d|length) + 1|d.b + 1|d["a"].x[0] * 3|s.split(",")[0][1:3]|s.lower().title().swapcase()|{"a b": 1}["a b"]|{1: "x"}[1]|{1.0: "x"}[1]|{true: "x"}[1]|{(1,2): "x"}[(1,2)]|{(1,2): "x"}[1,2]|{[1]: 2}|d[l]
1 <= 1 <= 2|1 >= 2|"a" == "a" == "a"|1 not in [1]|not 1 in [1]|"a" < "B"|"é" > "z"|[1,"a"] == [1,"a"]|{"a":[1]} == {"a":[1]}|1 is not none|1 is number and 2 is number|2 is even and not 3 is even|(1 is odd) ~ (2 is odd)|1.0 is integer|1.5 is float|"" is string|none is number|true is number|true is integer|d is iterable|d is sequence|nil is iterable|u is lower
"%.3s|" % "abcdef"|"%5s|%-5s|" % ("é", "é")|"%03d|%+.1f|% d" % (5, 2.25, 3)|"%s" % (1,)|"%s%%" % 5|"%d%%" % 5|"%i" % 5|"%5d|" % -3|"%-5d|" % 3|"%#x" % 255|"%.2e" % 0.00012345|"%G" % 1e-10|"%s" % {"a": 1}|"%(k)d-%(k)s" % {"k": 3}|"%q" % 1|"%" % 1|"%d" % "a"|"abc" % 1|"abc" % {}|"abc" % []|"{:d}".format("a")|"{:s}".format(1)|"{:>{w}}".format("a", w=4)|"{".format()|"}".format()|"{0}{}".format(1)|"{x}".format()|"{:.0f}".format(2.5)|"{:.1f}".format(0.25)|"{:,.2f}".format(12345.678)|"{:_}".format(1234567)|"{:^+9}".format(3)|"{:=+6}".format(3)|"{:06}".format(-3)|"{:c}".format(65)|"{:o}".format(8)|"{:X}".format(255)|"{:n}".format(5)|"{!s:>4}".format("a")|"{}".format(true)|"{:d}".format(true)|"{:5}".format(true)|"{:10.3}".format("abcdef") ~ "|"|"{:.3g}".format(1234.5)|"{:G}".format(1e-7)|"{:f}".format(1)|"{:.2%}".format(0.12345)|"{:}".format(1.5)|"{:5.1f}|".format(2.25)|"{: d}".format(3)
0.5|round|1.5|round|2.5|round(0)|2.675|round(2)|-2.5|round|1e20|round|12|round(1)|15|round(-1)|25|round(-1)|7499589116837456607|round(-1)|9223372036854775807|round(-18)|-35|round(-1)|7|round(-400)|2.1|round(method="ceil")|2.9|round(method="floor")|1.23456|round(3,"ceil")|"3"|int + 1|"-5"|int|"+5"|int|"1e3"|int|"1e3"|float|"inf"|float|"nan"|float|" 5 "|float|"0b11"|int(0, 2)|"z"|int(0, 36)|"12abc"|int|[1]|int|3.99|int|-3.99|int|true|float|"1_0"|float|5|string|5.0|string
1e100|1.5e300|123456.789e3|0.1 * 3|1e15 + 0.5|1e16 + 1|100.0 ** 8|5 // 0|5 % 0|5 / 0|5.0 // 0|0 ** -1|2 ** 62|2 ** 0.5|(-8) ** 3|7 // -2|7 % -2|-7 // 2|7.5 % -2|-0.0 + 0|1 - 0.9|4 / 2|3 * "ab"|-1 * "ab"|[0] * 0|"a" - "b"|[1] + (2,)|(1,) + (2,)|{} + {}|none + 1|true + true|+true|-true|not 0|+"a"|-"a"
"""

TEMPLATES = [
    "{% for x in l %}{{ x }}{% if not loop.last %},{% endif %}{% endfor %}",
    "{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}",
    "{% for x in el %}a{% else %}empty{% endfor %}", "{% for x in missing %}a{% else %}empty{% endfor %}", "{% for x in nil %}a{% endfor %}", "{% for x in n %}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}", "{% for c in u %}[{{ c }}]{% endfor %}",
    "{% for x in l if x > 1 %}{{ loop.index }}:{{ x }} {% endfor %}", "{% for x in l if x > 9 %}{% else %}none{% endfor %}", "{% for a, b in [[1,2],[3,4]] %}{{ a+b }} {% endfor %}", "{% for a, b in [[1,2,3]] %}{% endfor %}",
    "{% for x in l %}{{ loop.previtem }}|{{ x }}|{{ loop.nextitem }} {% endfor %}", "{% for x in [1,1,2] %}{{ loop.changed(x) }}{% endfor %}", "{% for x in range(4) %}{{ loop.cycle('a','b') }}{% endfor %}",
    "{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}", "{% for x in range(3) %}{% for y in range(3) %}{% if y == 1 %}{% break %}{% endif %}{{ x }}{{ y }} {% endfor %}{% endfor %}",
    "{% for x in [1,[2,[3]]] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}@{{ loop.depth }}{% endif %}{% endfor %}", "{% for x in l %}{{ loop(x) }}{% endfor %}", "{% for x in l %}{{ loop }}{% endfor %}",
    "{% set x = 1 %}{% for i in l %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}", "{% set ns = namespace(x=1, y='a') %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{{ ns.y }}", "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns.b }}|{{ ns }}", "{% set d.x = 1 %}", "{% set ns = namespace(_a=1) %}", "{% set ns = namespace() %}{% set ns._a = 1 %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = l %}", "{% set a = 1, 2 %}{{ a }}", "{% set x %}block {{ n }}{% endset %}[{{ x }}]", "{% set x | upper %}block{% endset %}{{ x }}", "{% set x | replace('b','c') | upper %}block{% endset %}{{ x }}", "{% if t %}{% set y = 1 %}{% endif %}{{ y }}",
    "{% if n > 50 %}a{% elif n > 40 %}b{% else %}c{% endif %}", "{% if el %}a{% elif '' %}b{% elif 0 %}c{% elif none %}d{% endif %}", "{% if missing %}a{% else %}b{% endif %}", "{% if t: %}x{% endif %}",
    "{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }};{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(1, c=9) }}{{ m(b=5, a=4) }}{{ m() }}", "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}", "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{% endmacro %}{{ m(z=2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}",
    "{% macro m(x) %}<{{ caller() }}>{{ x }}{% endmacro %}{% call m(1) %}body{% endcall %}", "{% macro m() %}{{ caller(5) }}{% endmacro %}{% call(v) m() %}v={{ v }}{% endcall %}", "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}", "{% macro m() %}x{% endmacro %}{% call m() %}{% endcall %}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}", "{% set g = 5 %}{% macro m() %}{{ g }}{% endmacro %}{% set g = 6 %}{{ m() }}", "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}", "{% macro m(a) %}{{ m.name }}{{ m.arguments }}{% endmacro %}{{ m(1) }}|{{ m.catch_kwargs }}", "{{ m }}{% macro m() %}{% endmacro %}", "{% macro m(x) %}{% set x = x + 1 %}{{ x }}{% endmacro %}{{ m(1) }}{{ m(2) }}", "{% macro m() %}{{ n }}{% endmacro %}{% for n in [1,2] %}{{ m() }}{% endfor %}", "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}", "{{ (1 if no else m) }}", "{% macro m(a) %}[{{ a }}]{% endmacro %}{{ m('x') | upper }}{{ m('y') ~ 1 }}{{ m('z') is string }}",
    "{% filter upper %}abc {{ s }}{% endfilter %}", "{% filter replace('a', 'b') | upper %}aaa{% endfilter %}", "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% with %}{% set q2 = 1 %}{{ q2 }}{% endwith %}{{ q2 }}", "{% with a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}{% endwith %}", "{% block x %}in{{ n }}{% endblock %}", "{% block x %}a{% endblock x %}", "{% generation %}g{{ n }}{% endgeneration %}", "{% autoescape false %}<{{ html }}{% endautoescape %}", "{% raw %}{{ x }}{% y %}{# z #}{% endraw %}", "a{%- raw -%}  {{ x }}  {%- endraw -%}  b", "a {# comment #} b", "a {#- comment -#} b", "{# multi\nline #}\nx",
    "  {% if t %}  \n  x\n  {% endif %}\ny", "  {%- if t -%}  \n  x\n  {%- endif -%}\ny", "  {%+ if t %}  \n  x\n  {%+ endif +%}\ny", "a\n  {{ n }}  \nb", "a\n  {{- n -}}  \nb", "{% if t %}\n\nx{% endif %}\n\n", "line\n", "line\n\n", "\n\nline", "a\r\nb\rc", "  {# c #}\nx", "x  {# c #}\ny", "x {% if t %}y{% endif %} z", "{{ n }}\n{{ n }}\n", "\t{% set a = 1 %}\n\t{{ a }}\n", "  {% set a = 1 %}{% set b = 2 %}\n  x", "{{ n }}  {% if t %}\n  a{% endif %}", "a {%- if t %} b {% endif -%} c", "\n  {%- for i in l %}\n    {{ i }}\n  {%- endfor %}\n", "{%- set x = 1 -%}   \n  {{- x -}}   \n", "{{ '{{' }}{{ '}}' }}{{ '{%' }}", "{{ {'a': {'b': 1}}['a']['b'] }}", "{{ {'a': 1} }}", "{{ {'a': {}} }}", "a{b}c{ d } %} }} #}", "{{n}}{{-n}}{{+n}}", "{{ n }", "{% if %}", "{% endif %}", "{% if t %}", "{% for x in l %}", "{% unknown %}", "{{", "{%", "{#", "{% raw %}", "{{ n n }}", "{% set %}", "{% set 1 = 2 %}", "{% for 1 in l %}{% endfor %}", "{% include 'x' %}", "{% if t %}a{% else %}b{% elif no %}{% endif %}", "{{ }}", "{% print n, s %}", "{% do l %}",
    "{{ [1,2,] }}{{ (1,) }}{{ {'a':1,} }}", "{{ 1,2 }}", "{{ l[0], }}", "{{ s.upper ()}}", "{{ s . upper() }}", "{{ d . a . x [ 0 ] }}", "{{ l.0 }}", "{{ d.a.x.2.y }}", "{{ s|upper|lower|title }}", "{{ s|replace('l','L')|length }}", "{{ 'a' 'b' ~ 'c' }}", "{{ not not t }}", "{{ t is not none and s }}", "{{ l is sequence and l is not string }}", "{{ 'x' if missing is defined else 'y' }}", "{{ foo|default(bar)|default('z') }}", "{{ missing.attr|default('z') }}", "{{ missing.a.b|default('z') }}", "{{ d.zz.y is defined }}",
    "{% set x = [] %}{% for i in l %}{% set x = x + [i] %}{% endfor %}{{ x }}", "{% set j = joiner('; ') %}{% for i in l %}{{ j() }}{{ i }}{% endfor %}", "{% set c = cycler('a','b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.next() }}", "{% set g = people|map(attribute='name') %}{{ g|list }}{{ g|list }}", "{% set g = people|map(attribute='name') %}{% for x in g %}{{ x }}{{ loop.last }}{{ loop.length }}{% endfor %}{% for x in g %}again{% endfor %}", "{% for x in d|items %}{{ x }}{% endfor %}", "{% for g in people|groupby('age') %}{{ g.grouper }}:{% for p in g.list %}{{ p.name }}{% endfor %};{% endfor %}", "{% for g, items in people|groupby('city') %}{{ g }}={{ items|length }} {% endfor %}", "{% for k, v in {'x': 1, 'y': 2}|dictsort(reverse=true) %}{{ k }}{{ v }}{% endfor %}", "{% for i in range(3) %}{{ i }}{% endfor %}{{ i }}", "{% for loop in l %}{{ loop }}{% endfor %}", "{{ loop }}", "{% for i in l %}{% for j in l %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}", "{% for x in l %}{% set outer = loop %}{% for y in ls %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "{{ strftime_now('%Y') is string }}", "{{ raise_exception('no {} way\n'.format(1)) }}", "{% if messages is defined %}a{% endif %}", "{% set s = s ~ '!' %}{{ s }}", "{% set n = n %}{{ n }}", "{{ namespace }}"[:0] + "x", "{{ 1 }}{{ 1.0 }}{{ true }}{{ none }}{{ [true, none] }}", "{{ dict(a=1).items() }}", "{{ ''.join(l|map('string')) }}", "{{ u|list|length }}", "{% for x in (1, 2) + (3,) %}{{ x }}{% endfor %}", "{{ {}|length }}{{ ''|length }}", "{% set x = {'a': 1} %}{% set y = dict(x, b=2) %}{{ x }}{{ y }}", "{{ people|selectattr('age', 'ge', 30)|map(attribute='name')|join(', ') }}", "{{ (people|selectattr('name', '==', 'Ann')|first).age }}", "{{ people|map(attribute='city')|map('lower')|unique|list }}", "{{ [1,[2,[3]]]|string }}", "{{ mixed|map('string')|join('/') }}", "{{ {'a': none, 'b': true, 'c': 1.0, 'd': 'x\\ny'} }}", "{{ 'a\\nb' }}|{{ ['a\\nb', \"it's\", '\"', '\\'\"'] }}",
]


def main():
    cases = []
    import re
    # a bar followed by a known filter name belongs to the expression; any other bar separates
    names = ("length first last sum max min sort map select selectattr reject rejectattr groupby unique list batch slice dictsort items reverse join upper lower "
             "title capitalize trim replace center indent truncate wordcount wordwrap abs int float round string default d e escape safe striptags urlencode "
             "forceescape xmlattr filesizeformat format attr pprint tojson nofilter").split()
    for line in EXPR.strip().split("\n"):
        line = line.replace("\\\\", "\\")
        parts, cur, quote, depth = [], "", None, 0
        i = 0
        while i < len(line):
            ch = line[i]
            if quote:
                cur += ch
                if ch == "\\" and i + 1 < len(line):
                    cur += line[i + 1]
                    i += 1
                elif ch == quote:
                    quote = None
            elif ch in "\"'" and line[i:].count(ch) > 1:
                quote = ch
                cur += ch
            elif ch in "([{":
                depth += 1
                cur += ch
            elif ch in ")]}":
                depth -= 1
                cur += ch
            elif ch == "|":
                m = re.match(r"\s*([a-z]+)\b(?!\.)", line[i + 1:])
                word = m.group(1) if m else ""
                after = line[i + 1 + m.end():] if m else ""
                if depth > 0 or (word in names and not re.match(r"\s*(is|if|in|and|or|[-+*/~%<>=\[])", after)):
                    cur += ch
                else:
                    parts.append(cur)
                    cur = ""
                    depth = 0
            else:
                cur += ch
            i += 1
        parts.append(cur)
        for p in parts:
            cases.append("{{ " + p.strip() + " }}")
    cases += TEMPLATES
    out = []
    for t in dict.fromkeys(cases):
        one = {"t": t}
        try:
            one["out"] = compile_template(t).render(**json.loads(json.dumps(VARS)))
        except Exception as e:
            one["error"] = type(e).__name__
        if " at 0x" in one.get("out", ""):
            continue
        out.append(one)
    print('{"vars": ' + json.dumps(VARS, ensure_ascii=False) + ',\n"cases": [')
    print(",\n".join(json.dumps(c, ensure_ascii=False) for c in out))
    print("]}")


main()
