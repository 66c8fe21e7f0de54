#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: bench/table.sh RESULT.jsonl
# The samples of bench/peers.sh as a markdown table: median (lowest..highest).
awk '
    function field(name,    s) {
        s = $0
        if (!sub(".*\"" name "\": *\"?", "", s)) return ""
        sub(/[",}].*/, "", s)
        return s
    }
    function text(name,    s) { # a string that may hold commas
        s = $0
        if (!sub(".*\"" name "\": *\"", "", s)) return ""
        sub(/".*/, "", s)
        return s
    }
    {
        p = text("program"); t = text("test")
        if (!(p in seen_p)) { seen_p[p] = 1; programs[++np] = p }
        if (!(t in seen_t)) { seen_t[t] = 1; tests[++nt] = t }
        v[p, t, ++n[p, t]] = field("tokens_per_second") + 0
    }
    END {
        printf "| program |"
        for (j = 1; j <= nt; j++) printf " %s |", tests[j]
        printf "\n|---|"
        for (j = 1; j <= nt; j++) printf "---:|"
        printf "\n"
        for (i = 1; i <= np; i++) {
            printf "| %s |", programs[i]
            for (j = 1; j <= nt; j++) {
                p = programs[i]; t = tests[j]; c = n[p, t]
                if (!c) { printf " |"; continue }
                for (a = 1; a <= c; a++) s[a] = v[p, t, a]
                for (a = 2; a <= c; a++) { x = s[a]; for (b = a - 1; b > 0 && s[b] > x; b--) s[b + 1] = s[b]; s[b + 1] = x }
                median = c % 2 ? s[(c + 1) / 2] : (s[c / 2] + s[c / 2 + 1]) / 2
                printf " %.4g (%.4g..%.4g) |", median, s[1], s[c]
            }
            printf "\n"
        }
    }' "$1"
