#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: bench/plot.sh RESULT.jsonl >PLOT.svg
# Medians of the samples of bench/peers.sh as bars, a panel a test; the whisker is lowest..highest.
sh "$(dirname "$0")/table.sh" "$1" | awk -F' *\\| *' '
    NR == 1 { for (j = 3; j < NF; j++) test[j] = $j; columns = NF }
    NR > 2 {
        name[++rows] = $2
        for (j = 3; j < columns; j++) {
            if ($j == "") continue
            split($j, part, /[ (.)]\(|\.\.|\)/)
            median[rows, j] = part[1] + 0; low[rows, j] = part[2] + 0; high[rows, j] = part[3] + 0
            if (high[rows, j] > top[j]) top[j] = high[rows, j]
        }
    }
    END {
        left = 200; width = 480; bar = 16; gap = 8; head = 34; y = 10
        body = ""
        for (j = 3; j < columns; j++) {
            body = body sprintf("<text x=\"%d\" y=\"%d\" class=\"h\">%s, tokens per second</text>\n", left, y + 16, test[j])
            y += head - 8
            for (i = 1; i <= rows; i++) {
                if (!((i, j) in median)) continue
                k = (width - 80) / top[j]
                body = body sprintf("<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", left - 8, y + 12, name[i])
                body = body sprintf("<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" class=\"%s\"/>\n", left, y, median[i, j] * k, bar, i == 1 ? "o" : "p")
                body = body sprintf("<path d=\"M%.1f %dH%.1f\" class=\"w\"/>\n", left + low[i, j] * k, y + bar / 2, left + high[i, j] * k)
                body = body sprintf("<text x=\"%.1f\" y=\"%d\">%.4g</text>\n", left + high[i, j] * k + 6, y + 12, median[i, j])
                y += bar + gap
            }
            y += gap
        }
        printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n", left + width, y, left + width, y
        print "<style>text{fill:#333}.h{font-weight:bold}.o{fill:#2a6fb0}.p{fill:#b8bec6}.w{stroke:#333;stroke-width:1.5}</style>"
        printf "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n%s</svg>\n", left + width, y, body
    }'
