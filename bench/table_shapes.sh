#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: bench/table_shapes.sh RESULT.jsonl...
# The samples of `bench/peers.sh --shapes` as a markdown table: a row for each model and number of threads; ours as median
# (lowest..highest) and share of its ceiling, the best peer, and how many times that is. A share is needs x speed over the
# highest ceiling that was measured for the cell; a peer's is taken against the same needs.
cat "$@" | awk '
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
    function share(speed, cell) {
        return ceiling[cell] > 0 ? sprintf(", %.0f %%", 100 * needs[cell] * speed / ceiling[cell]) : ""
    }
    function cell_text(row, test,    ours, m, i, p, best, name, text) {
        ours = row SUBSEP "mlx-lm.c" SUBSEP test
        if (!n[ours]) return ""
        m = median(ours)
        text = sprintf("%.4g", m)
        if (n[ours] > 1) text = text sprintf(" (%.4g..%.4g)", v[ours, 1], v[ours, n[ours]])
        text = text share(m, row SUBSEP test)
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
        return text sprintf(" %s%s; **%.2fx**", name, share(best, row SUBSEP test), m / best)
    }
    /"model"/ {
        row = field("model") " | " field("threads"); t = field("test"); p = field("program")
        if (!(row in seen_row)) { seen_row[row] = 1; rows[++nr] = row }
        if (!(p in seen_p)) { seen_p[p] = 1; programs[++np] = p }
        key = row SUBSEP p SUBSEP t
        v[key, ++n[key]] = field("tokens_per_second") + 0
        if (field("needs") > 0) needs[row, t] = field("needs") + 0
        if (field("ceiling") + 0 > ceiling[row, t]) ceiling[row, t] = field("ceiling") + 0
        if (t ~ /^prompt /) prompt = t
        if (t ~ /^generation after /) after = t
    }
    END {
        printf "| model | threads | %s | generation | %s | peak GB |\n|---|---:|---|---|---|---:|\n", prompt, after
        for (i = 1; i <= nr; i++)
            printf "| %s | %s | %s | %s | %s |\n", rows[i], cell_text(rows[i], prompt), cell_text(rows[i], "generation"),
                cell_text(rows[i], after), cell_text(rows[i], "peak GB")
    }'
