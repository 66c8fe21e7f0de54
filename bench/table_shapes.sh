#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: bench/table_shapes.sh RESULT.jsonl [REVISION]      (default: the last one in RESULT)
# The samples of `bench/peers.sh --shapes` as a markdown table: a row for each model and number of threads; ours as median
# (lowest..highest) and share of its ceiling, the best peer, and how many times that is. A share is needs x speed over the
# highest ceiling that was measured in any sample of the model and number of threads (they stand in a second table): a
# ceiling is a property of the machine, and one bad second would make shares too high. A peer's is taken against the same needs.
set -u
revision=${2:-$(sed -n 's/.*"revision": "\([^"]*\)".*/\1/p' "$1" | tail -n 1)}
grep -F "\"revision\": \"$revision\"" "$1" | awk '
    function field(name,    s) {
        s = $0
        if (!sub(".*\"" name "\": *\"?", "", s)) return ""
        sub(/[",}].*/, "", s)
        return s
    }
    function median(key,    a, b, x, c) { # sorts v[key, 1..n[key]]
        c = n[key]
        for (a = 2; a <= c; a++) {
            x = v[key, a]
            for (b = a - 1; b > 0 && v[key, b] > x; b--) v[key, b + 1] = v[key, b]
            v[key, b + 1] = x
        }
        return c % 2 ? v[key, (c + 1) / 2] : (v[key, c / 2] + v[key, c / 2 + 1]) / 2
    }
    function kind(test) { return test ~ /^prompt/ ? "prompt" : "generation" }
    function share(speed, row, test,    top) {
        top = ceiling[row, kind(test)]
        return top > 0 && needs[row, test] > 0 ? sprintf(", %.0f %%", 100 * needs[row, test] * speed / top) : ""
    }
    function cell_text(row, test,    ours, m, i, p, best, name, text) {
        ours = row SUBSEP "mlx-lm.c" SUBSEP test
        if (!n[ours]) return ""
        m = median(ours)
        text = sprintf("%.4g", m)
        if (n[ours] > 1) text = text sprintf(" (%.4g..%.4g)", v[ours, 1], v[ours, n[ours]])
        text = text share(m, row, test)
        best = 0
        for (i = 1; i <= np; i++) {
            p = row SUBSEP programs[i] SUBSEP test
            if (programs[i] == "mlx-lm.c" || !n[p]) continue
            if (median(p) > best) { best = median(p); name = programs[i] }
        }
        if (!best) return text
        p = row SUBSEP name SUBSEP test
        sub(/llama.cpp /, "", name)
        text = text sprintf("; peer %.4g", best)
        if (n[p] > 1) text = text sprintf(" (%.4g..%.4g)", v[p, 1], v[p, n[p]])
        return text sprintf(" %s%s; **%.2fx**", name, share(best, row, test), m / best)
    }
    /"model"/ {
        row = field("model") " | " field("threads"); t = field("test"); p = field("program")
        if (!(row in seen_row)) { seen_row[row] = 1; rows[++nr] = row }
        if (!(p in seen_p)) { seen_p[p] = 1; programs[++np] = p }
        key = row SUBSEP p SUBSEP t
        v[key, ++n[key]] = field("tokens_per_second") + 0
        if (field("needs") > 0) needs[row, t] = field("needs") + 0
        k = row SUBSEP kind(t)
        if (field("ceiling") + 0 > ceiling[k]) ceiling[k] = field("ceiling") + 0
        if (field("registers") + 0 > registers[row]) registers[row] = field("registers") + 0
        if (t ~ /^prompt /) prompt = t
        if (t ~ /^generation after /) after = t
    }
    END {
        printf "| model | threads | %s | generation | %s | peak GB |\n|---|---:|---|---|---|---:|\n", prompt, after
        for (i = 1; i <= nr; i++)
            printf "| %s | %s | %s | %s | %s |\n", rows[i], cell_text(rows[i], prompt), cell_text(rows[i], "generation"),
                cell_text(rows[i], after), cell_text(rows[i], "peak GB")
        printf "\n| ceilings | threads | products from the second-level cache, TFLOP/s | on registers | weights read, GB/s |\n|---|---:|---:|---:|---:|\n"
        for (i = 1; i <= nr; i++)
            printf "| %s | %.3f | %.3f | %.1f |\n", rows[i], ceiling[rows[i], "prompt"] / 1000, registers[rows[i]] / 1000,
                ceiling[rows[i], "generation"]
    }'
