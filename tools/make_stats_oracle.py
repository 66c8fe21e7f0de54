#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes tests/data/stats.tar.xz: random paired tables with what scipy and statsmodels say about them.

    python tools/make_stats_oracle.py tests/data/stats.tar.xz     (needs numpy, scipy 1.17, statsmodels 0.15)

stats/tables.jsonl, a line a table: {"a": "0110...", "b": scores of two models on the same questions, "strata": sizes,
"wilson": [low, high] of a, "se": of a's mean, "mcnemar": exact p, "diff": mean of b - a, "diff_ci": normal 95 %,
"agree": share of equal scores, "bootstrap": [seed, draws, low, high]}. stats/mcnemar.jsonl: [b, c, p].
stats/holm.jsonl: {"p": [...], "holm": [...]}.
The bootstrap has to be the same numbers, not only the same distribution, so its generator is written out here.
"""
import io
import json
import random
import sys
import tarfile

import numpy as np
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

M = (1 << 64) - 1


class Rng:
    """xoshiro256** seeded by splitmix64."""

    def __init__(self, seed):
        self.s = []
        for _ in range(4):
            seed = (seed + 0x9E3779B97F4A7C15) & M
            z = seed
            z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M
            self.s.append(z ^ (z >> 31))

    def next(self):
        rotl = lambda x, n: ((x << n) | (x >> (64 - n))) & M
        s = self.s
        result = (rotl((s[1] * 5) & M, 7) * 9) & M
        t = (s[1] << 17) & M
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = rotl(s[3], 45)
        return result

    def below(self, n):
        uneven = (1 << 64) % n
        while True:
            product = self.next() * n
            if product & M >= uneven:
                return product >> 64


def bootstrap(d, strata, draws, seed):
    rng, means = Rng(seed), []
    for _ in range(draws):
        total, at = 0, 0
        for size in strata:
            total += sum(d[at + rng.below(size)] for _ in range(size))
            at += size
        means.append(total / len(d))
    return [float(x) for x in np.quantile(means, [0.025, 0.975])]


def table(rng, i):
    n = rng.choice([2, 3, 5, 8, 13, 40, 100, 250, 500])
    p, same = rng.random(), rng.random()
    a = [int(rng.random() < p) for _ in range(n)]
    b = [x if rng.random() < same else int(rng.random() < p) for x in a]
    cut = sorted(rng.sample(range(1, n), min(n - 1, rng.randrange(3))))
    strata = [y - x for x, y in zip([0] + cut, cut + [n])]
    both = [[sum(1 for x, y in zip(a, b) if (x, y) == (k, l)) for l in (1, 0)] for k in (1, 0)]
    p_exact = float(mcnemar(both, exact=True).pvalue)
    only_a, only_b = both[0][1], both[1][0]
    if only_a + only_b:
        assert abs(p_exact - binomtest(min(only_a, only_b), only_a + only_b, 0.5).pvalue) < 1e-12
    d = [y - x for x, y in zip(a, b)]
    stats = DescrStatsW(np.array(d, dtype=float))
    row = {
        "a": "".join(map(str, a)), "b": "".join(map(str, b)), "strata": strata,
        "wilson": [float(x) for x in proportion_confint(sum(a), n, method="wilson")],
        "se": float(DescrStatsW(np.array(a, dtype=float)).std_mean),
        "mcnemar": p_exact if only_a + only_b else 1.0,
        "diff": float(stats.mean),
        "diff_ci": [float(x) for x in stats.zconfint_mean()] if any(x != d[0] for x in d) else [float(stats.mean)] * 2,
        "agree": sum(x == y for x, y in zip(a, b)) / n,
    }
    if n <= 100 and i % 4 == 0:
        seed, draws = rng.getrandbits(32), rng.choice([1, 10, 137])
        row["bootstrap"] = [seed, draws] + bootstrap(d, strata, draws, seed)
    return row


def add(tar, name, rows):
    data = "".join(json.dumps(r) + "\n" for r in rows).encode()
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def main():
    rng = random.Random(20)
    tables = [table(rng, i) for i in range(1000)]
    pairs = []
    for i in range(1000):
        top = rng.choice([3, 30, 300, 3000, 12000])
        b, c = rng.randrange(top), rng.randrange(top)
        if i % 2:
            c = min(top, max(0, b + rng.randrange(-int(3 * (b + 1) ** 0.5), int(3 * (b + 1) ** 0.5) + 1)))
        pairs.append([b, c, float(binomtest(min(b, c), b + c, 0.5).pvalue) if b + c else 1.0])
    holm = []
    for _ in range(100):
        p = [rng.random() ** rng.choice([1, 4]) for _ in range(rng.randrange(1, 40))]
        holm.append({"p": p, "holm": [float(x) for x in multipletests(p, method="holm")[1]]})
    with tarfile.open(sys.argv[1], "w:xz") as tar:
        add(tar, "stats/tables.jsonl", tables)
        add(tar, "stats/mcnemar.jsonl", pairs)
        add(tar, "stats/holm.jsonl", holm)


main()
