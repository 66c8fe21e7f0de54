/* SPDX-License-Identifier: MIT
 *
 * attnq_body.h: attention over one block of quantized keys and values in float32, written once for every vector width;
 * attnq__avx2.c, attnq__avx512.c and arm/attnq__neon.c define the vector words and include this.
 *
 * A lane of loaded codes is one position (values: one dimension) and holds four dimensions (positions), a byte each.
 * Scores: per group, the sum of q * code, then times the position's scale, plus its bias times the sum of q. Values: e
 * * scale takes the place of e, and the sum of e * bias is added at the end. */
#ifndef LM_KERNELS_X86_ATTNQ_BODY_H
#define LM_KERNELS_X86_ATTNQ_BODY_H
#include "kernels/x86/attnq_common.h"

#define NV 2 /* vectors of a tile */

typedef uint32_t vu __attribute__((vector_size(4 * VF_LANES)));
typedef int32_t vs __attribute__((vector_size(4 * VF_LANES)));
typedef float vg __attribute__((vector_size(4 * VF_LANES)));

/* The four codes of every lane as floats; stored in 4 bits: of the low or the high halves. */
INLINE void four_codes(const uint8_t *p, int stored, bool high, vf out[4]) {
    vu v;
    memcpy(&v, p, sizeof v);
    UNROLL for (int i = 0; i < 4; i++) {
        const vs code = (vs)((v >> (uint32_t)(8 * i + (high ? 4 : 0))) & (stored == 8 ? 255u : 15u));
        out[i] = (vf) __builtin_convertvector(code, vg);
    }
}

typedef struct rows {
    const float *q[ROWS];
    float *s[ROWS];       /* [LM_KV_BLOCK] scores, then e */
    float *weights[ROWS]; /* [LM_KV_BLOCK] e * scale of one group */
    float *sums;          /* [ROWS][d / 32]: of q, by group */
    int32_t limit[ROWS], most;
} rows;

/* Scores of positions [pos, pos + NV vectors). */
INLINE void score(const rows *t, const half *k, int stored, int mr, int32_t pos) {
    const int32_t groups = k->d / k->group, run = stored == 8 ? 4 : 8;
    bool high;
    const uint8_t *codes = k->codes + lm_kvq_key_at(stored, k->d, pos, 0, &high);
    vf total[ROWS][NV];
    UNROLL for (int r = 0; r < mr; r++) {
        UNROLL for (int j = 0; j < NV; j++) total[r][j] = vf_zero();
    }
    for (int32_t g = 0, e = 0; g < groups; g++) {
        vf sum[ROWS][NV];
        UNROLL for (int r = 0; r < mr; r++) {
            UNROLL for (int j = 0; j < NV; j++) sum[r][j] = vf_zero();
        }
        for (; e < (g + 1) * k->group; e += run, codes += 4 * LM_KVQ_TILE) {
            for (int part = 0; part < (stored == 8 ? 1 : 2); part++) {
                UNROLL for (int j = 0; j < NV; j++) {
                    vf c[4];
                    four_codes(codes + 4 * VF_LANES * j, stored, part, c);
                    UNROLL for (int i = 0; i < 4; i++) {
                        UNROLL for (int r = 0; r < mr; r++) sum[r][j] =
                            vf_fma(vf_set1(t->q[r][e + 4 * part + i]), c[i], sum[r][j]);
                    }
                }
            }
        }
        UNROLL for (int j = 0; j < NV; j++) {
            const vf scale = load_scales(k, k->scales, g, pos + j * VF_LANES);
            const vf bias = load_scales(k, k->biases, g, pos + j * VF_LANES);
            UNROLL for (int r = 0; r < mr; r++) total[r][j] =
                vf_fma(bias, vf_set1(t->sums[r * groups + g]), vf_fma(sum[r][j], scale, total[r][j]));
        }
    }
    UNROLL for (int r = 0; r < mr; r++) {
        UNROLL for (int j = 0; j < NV; j++) vf_store(t->s[r] + pos + j * VF_LANES, total[r][j]);
    }
}

/* Weighted values of dimensions [e, e + NV vectors), all of one group; `all`: the sums of e * bias. */
INLINE void values(const rows *t, const half *v, int stored, int mr, int32_t e, const float *all, float *const *acc) {
    const int32_t run = stored == 8 ? 4 : 8;
    const size_t step = 4 * (size_t)lm_kvq_value_width(v->d, e);
    bool high;
    const uint8_t *codes = v->codes + lm_kvq_value_at(stored, v->d, 0, e, &high);
    vf sum[ROWS][NV];
    UNROLL for (int r = 0; r < mr; r++) {
        UNROLL for (int j = 0; j < NV; j++) sum[r][j] = vf_zero();
    }
    for (int32_t p = 0; p < t->most; p += run, codes += step) {
        for (int part = 0; part < (stored == 8 ? 1 : 2); part++) {
            UNROLL for (int j = 0; j < NV; j++) {
                vf c[4];
                four_codes(codes + 4 * VF_LANES * j, stored, part, c);
                UNROLL for (int i = 0; i < 4; i++) {
                    UNROLL for (int r = 0; r < mr; r++) sum[r][j] =
                        vf_fma(vf_set1(t->weights[r][p + 4 * part + i]), c[i], sum[r][j]);
                }
            }
        }
    }
    UNROLL for (int r = 0; r < mr; r++) {
        UNROLL for (int j = 0; j < NV; j++) vf_store(acc[r] + e + j * VF_LANES, vf_add(sum[r][j], vf_set1(all[r])));
    }
}

INLINE void tile(const rows *t, const lm_attn_args *a, int stored, int mr, int32_t first) {
    const half k = half_of(a, stored, false), v = half_of(a, stored, true);
    float *acc[ROWS], all[ROWS];
    for (int32_t pos = 0; pos < t->most; pos += NV * VF_LANES) score(t, &k, stored, mr, pos);
    for (int r = 0; r < mr; r++) {
        softmax(t->s[r], t->limit[r], &a->m[first + r], &a->l[first + r]);
        acc[r] = a->acc + (int64_t)(first + r) * a->d;
    }
    for (int32_t g = 0; g < a->d / a->group; g++) {
        for (int r = 0; r < mr; r++)
            all[r] = weigh(&v, t->s[r], g, t->limit[r], round_up(t->most, 2 * VF_LANES), t->weights[r]);
        for (int32_t e = g * a->group; e < (g + 1) * a->group; e += NV * VF_LANES)
            values(t, &v, stored, mr, e, all, acc);
    }
}

DEFINE_TILE(1)
DEFINE_TILE(2)
DEFINE_TILE(3)

static void chunk(const lm_attn_args *a, int stored, float *scratch) {
    const int32_t groups = a->d / a->group;
    rows t = {.sums = scratch + 2 * ROWS * LM_KV_BLOCK};
    for (int r = 0; r < ROWS; r++) {
        t.s[r] = scratch + r * LM_KV_BLOCK;
        t.weights[r] = scratch + (ROWS + r) * LM_KV_BLOCK;
    }
    for (int32_t first = 0; first < a->r; first += ROWS) {
        const int32_t count = a->r - first < ROWS ? a->r - first : ROWS;
        t.most = 0;
        for (int32_t r = 0; r < count; r++) {
            t.q[r] = a->q + (first + r) * a->ldq;
            t.limit[r] = a->limit[first + r];
            if (t.limit[r] > t.most) t.most = t.limit[r];
            for (int32_t g = 0; g < groups; g++) {
                float sum = 0;
                for (int32_t e = g * a->group; e < (g + 1) * a->group; e++) sum += t.q[r][e];
                t.sums[r * groups + g] = sum;
            }
        }
        (count == 1 ? tile_1 : count == 2 ? tile_2 : tile_3)(&t, a, stored, first);
    }
}

static size_t scratch_bytes(int32_t d, int32_t r) {
    (void)r;
    return (2 * ROWS * LM_KV_BLOCK + (size_t)round_up(ROWS * (d / 32), 16)) * sizeof(float);
}
#endif
