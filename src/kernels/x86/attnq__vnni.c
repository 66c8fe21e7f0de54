/* SPDX-License-Identifier: MIT
 *
 * attnq__vnni.c: attention over a block of quantized keys and values by vpdpbusd, codes as they are stored. Class F16:
 * queries, and e times the values' scales, become 16-bit fixed point with a step for each group (fixed16.h argues why
 * that is no looser than float16), two planes of signed bytes whose sums of products are exact integers. */
#if defined(__x86_64__)
#include "kernels/x86/lanes_avx512.h"

#include "kernels/x86/attnq_common.h"

#define NV 4       /* vectors of a tile: LM_KVQ_TILE positions or dimensions */
#define TOP 32639  /* 127 * 256 + 127 */
#define AHEAD 4096 /* bytes between what is multiplied and what is fetched */
typedef __m512i vi;

typedef struct planes {
    int8_t *high, *low;
} planes;

typedef struct rows {
    planes q[ROWS];                /* [d] */
    float *step[ROWS], *sum[ROWS]; /* [groups]: of q */
    float *s[ROWS];                /* [LM_KV_BLOCK] scores, then e */
    float *weights;                /* [LM_KV_BLOCK] e * scale of one group and row */
    planes e[ROWS];                /* [LM_KV_BLOCK] */
    const float *queries[ROWS];
    int32_t limit[ROWS], most;
    const char *next;
} rows;

/* n (a multiple of 16) numbers to two planes; the step, NaN or infinite where one of them is. */
INLINE float fix(const float *x, int32_t n, planes to) {
    const vi magnitude = _mm512_set1_epi32(0x7fffffff);
    vi top = _mm512_setzero_si512();
    for (int32_t i = 0; i < n; i += 16)
        top = _mm512_max_epi32(top, _mm512_and_si512(_mm512_loadu_si512(x + i), magnitude));
    const int32_t top_bits = _mm512_reduce_max_epi32(top);
    float max;
    memcpy(&max, &top_bits, 4);
    const float up = max < 0x1p-60f ? 0x1p64f : 1.0f; /* else 1 / step would overflow */
    const vf factor = vf_set1(max == 0 ? 0 : (float)TOP / (max * up)), raise = vf_set1(up);
    for (int32_t i = 0; i < n; i += 16) {
        const vi q = _mm512_cvtps_epi32(vf_mul(vf_mul(vf_load(x + i), raise), factor));
        _mm_storeu_si128((__m128i *)(void *)(to.low + i), _mm512_cvtepi32_epi8(q));
        const vi high = _mm512_srai_epi32(_mm512_add_epi32(q, _mm512_set1_epi32(128)), 8);
        _mm_storeu_si128((__m128i *)(void *)(to.high + i), _mm512_cvtepi32_epi8(high));
    }
    return max * up / (float)TOP / up;
}

/* sum += four codes times four bytes, in every lane. Written out: around gcc 12's intrinsic sums travel through memory.
 */
INLINE vi multiply_add(vi sum, vi codes, vi x) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(x));
    return sum;
}
INLINE vi four(const int8_t *x) {
    int32_t bits;
    memcpy(&bits, x, 4);
    return _mm512_set1_epi32(bits);
}
INLINE vi part_of(vi codes, int stored, int part) {
    if (stored == 8) return codes;
    return _mm512_and_si512(part ? _mm512_srli_epi16(codes, 4) : codes, _mm512_set1_epi8(0x0f));
}
/* 256 high + low: at most 256 products of 255 and 32639, so below 2^31. */
INLINE vf joined(vi high, vi low) {
    return _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(high, 8), low));
}
INLINE void fetch(const char *p, int lines) {
    for (int i = 0; i < lines; i++) _mm_prefetch(p + 64 * i, _MM_HINT_T0);
}

typedef struct sums {
    vi high[ROWS][NV], low[ROWS][NV];
} sums;

INLINE void clear(sums *t, int mr, int nv) {
    UNROLL for (int r = 0; r < mr; r++) {
        UNROLL for (int j = 0; j < nv; j++) t->high[r][j] = t->low[r][j] = _mm512_setzero_si512();
    }
}

/* nv vectors of codes against four bytes (stored in 4 bits: eight) of each row's planes from `at` on. */
INLINE void add(sums *t, const uint8_t *codes, const planes *x, int32_t at, int stored, int mr, int nv) {
    vi c[NV];
    UNROLL for (int j = 0; j < nv; j++) c[j] = _mm512_loadu_si512(codes + 64 * j);
    for (int part = 0; part < (stored == 8 ? 1 : 2); part++) {
        vi now[NV];
        UNROLL for (int j = 0; j < nv; j++) now[j] = part_of(c[j], stored, part);
        UNROLL for (int r = 0; r < mr; r++) {
            const vi high = four(x[r].high + at + 4 * part), low = four(x[r].low + at + 4 * part);
            UNROLL for (int j = 0; j < nv; j++) {
                t->high[r][j] = multiply_add(t->high[r][j], now[j], high);
                t->low[r][j] = multiply_add(t->low[r][j], now[j], low);
            }
        }
    }
}

/* Scores of a tile of positions. */
INLINE void score(const rows *t, const half *k, int stored, int mr, int32_t pos) {
    const int32_t run = stored == 8 ? 4 : 8;
    bool high;
    const uint8_t *codes = k->codes + lm_kvq_key_at(stored, k->d, pos, 0, &high);
    for (int32_t g = 0, e = 0; g < k->d / k->group; g++) {
        sums sum;
        clear(&sum, mr, NV);
        for (; e < (g + 1) * k->group; e += run, codes += 4 * LM_KVQ_TILE) {
            fetch((const char *)codes + AHEAD, NV);
            add(&sum, codes, t->q, e, stored, mr, NV);
        }
        UNROLL for (int j = 0; j < NV; j++) {
            const vf scale = load_scales(k, k->scales, g, pos + 16 * j),
                     bias = load_scales(k, k->biases, g, pos + 16 * j);
            UNROLL for (int r = 0; r < mr; r++) {
                float *to = t->s[r] + pos + 16 * j;
                const vf all = vf_set1(t->sum[r][g]), step = vf_set1(t->step[r][g]);
                const vf y = g ? vf_load(to) : vf_zero();
                vf_store(to, vf_fma(bias, all, vf_fma(joined(sum.high[r][j], sum.low[r][j]), vf_mul(scale, step), y)));
            }
        }
    }
}

/* Weighted values of nv vectors of dimensions from e on, all of one group. */
INLINE void values(const rows *t, const half *v, int stored, int mr, int nv, int32_t e, const float *step,
                   const float *all, float *acc, bool next) {
    const int32_t run = stored == 8 ? 4 : 8;
    const size_t width = 4 * (size_t)lm_kvq_value_width(v->d, e);
    bool high;
    const uint8_t *codes = v->codes + lm_kvq_value_at(stored, v->d, 0, e, &high);
    const uint8_t *end = v->codes + lm_kvq_codes_bytes(stored, v->d);
    sums sum;
    clear(&sum, mr, nv);
    for (int32_t p = 0; p < t->most; p += run, codes += width) {
        const uint8_t *ahead = codes + AHEAD;
        if (next && ahead >= end) /* where this head ends, the next one's keys */
            fetch(t->next + (ahead - end), nv);
        else
            fetch((const char *)ahead, nv);
        add(&sum, codes, t->e, p, stored, mr, nv);
    }
    UNROLL for (int r = 0; r < mr; r++) {
        UNROLL for (int j = 0; j < nv; j++)
            vf_store(acc + (int64_t)r * v->d + e + 16 * j,
                     vf_fma(joined(sum.high[r][j], sum.low[r][j]), vf_set1(step[r]), vf_set1(all[r])));
    }
}

INLINE void tile(const rows *t, const lm_attn_args *a, int stored, int mr, int32_t first) {
    const half k = half_of(a, stored, false), v = half_of(a, stored, true);
    float step[ROWS], all[ROWS], *acc = a->acc + (int64_t)first * a->d;
    for (int r = 0; r < mr; r++)
        for (int32_t g = 0; g < a->d / a->group; g++) {
            const float *q = t->queries[r] + g * a->group;
            t->step[r][g] = fix(q, a->group, (planes){t->q[r].high + g * a->group, t->q[r].low + g * a->group});
            vf sum = vf_load(q);
            for (int32_t e = 16; e < a->group; e += 16) sum = vf_add(sum, vf_load(q + e));
            t->sum[r][g] = vf_sum(sum);
        }
    for (int32_t pos = 0; pos < t->most; pos += LM_KVQ_TILE) score(t, &k, stored, mr, pos);
    for (int r = 0; r < mr; r++) softmax(t->s[r], t->limit[r], &a->m[first + r], &a->l[first + r]);
    const int32_t end = round_up(t->most, 16);
    for (int32_t g = 0; g < a->d / a->group; g++) {
        for (int r = 0; r < mr; r++) {
            all[r] = weigh(&v, t->s[r], g, t->limit[r], end, t->weights);
            step[r] = fix(t->weights, end, t->e[r]);
        }
        const bool next = t->next && first + mr == a->r;
        int32_t e = g * a->group;
        if (a->group == 32) {
            values(t, &v, stored, mr, 2, e, step, all, acc, next);
            continue;
        }
        for (; e < (g + 1) * a->group; e += 64) values(t, &v, stored, mr, 4, e, step, all, acc, next);
    }
}

DEFINE_TILE(1)
DEFINE_TILE(2)
DEFINE_TILE(3)

/* Scratch: floats first, then bytes; every piece a multiple of 64 bytes. */
static size_t layout(int32_t d, char *base, rows *t) {
    const size_t block = LM_KV_BLOCK * sizeof(float), groups = (size_t)round_up(d / 32, 16) * sizeof(float);
    const size_t q = (size_t)round_up(d, 64);
    char *p = base;
    if (!t) return (ROWS + 1) * block + ROWS * (2 * groups + 2 * q + 2 * LM_KV_BLOCK);
    t->weights = (float *)(void *)p, p += block;
    for (int r = 0; r < ROWS; r++) {
        t->s[r] = (float *)(void *)p, p += block;
        t->step[r] = (float *)(void *)p, p += groups;
        t->sum[r] = (float *)(void *)p, p += groups;
        t->q[r] = (planes){(int8_t *)p, (int8_t *)p + q}, p += 2 * q;
        t->e[r] = (planes){(int8_t *)p, (int8_t *)p + LM_KV_BLOCK}, p += 2 * LM_KV_BLOCK;
    }
    return (size_t)(p - base);
}
static size_t scratch_bytes(int32_t d, int32_t r) {
    (void)r;
    return layout(d, NULL, NULL);
}

static void chunk(const lm_attn_args *a, int stored, void *scratch) {
    rows t = {.next = a->next};
    layout(a->d, scratch, &t);
    for (int32_t first = 0; first < a->r; first += ROWS) {
        const int32_t count = a->r - first < ROWS ? a->r - first : ROWS;
        t.most = 0;
        for (int32_t r = 0; r < count; r++) {
            t.queries[r] = a->q + (first + r) * a->ldq;
            t.limit[r] = a->limit[first + r];
            if (t.limit[r] > t.most) t.most = t.limit[r];
        }
        (count == 1 ? tile_1 : count == 2 ? tile_2 : tile_3)(&t, a, stored, first);
    }
}

DEFINE_ATTNQ(vnni)
#endif
