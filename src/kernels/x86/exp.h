/* SPDX-License-Identifier: MIT
 * exp.h: the one exponential that all vector rows share, so that they agree bit for bit; lanes_*.h include it behind
 * their words and add the factor 2^n.
 *   n = round(x / ln 2), r = x - n ln 2 in two exact steps, e^r = 1 + r + r^2 (C2 + C3 r + .. + C6 r^4), then times
 * 2^n. The polynomial is the minimax fit of relative error over |r| <= 0.3473: 0.052 * 2^-24. */
#ifndef LM_KERNELS_X86_EXP_H
#define LM_KERNELS_X86_EXP_H
#define LM_EXP_LOG2E 0x1.715476p+0f
#define LM_EXP_LN2_HIGH 0x1.62e4p-1f /* 16 bits: n times it is exact */
#define LM_EXP_LN2_LOW 0x1.7f7d1cp-20f
#define LM_EXP_C2 0x1.fffffcp-2f
#define LM_EXP_C3 0x1.55549p-3f
#define LM_EXP_C4 0x1.5558f8p-5f
#define LM_EXP_C5 0x1.123b04p-7f
#define LM_EXP_C6 0x1.6a2256p-10f
#define LM_EXP_LOWEST -0x1.5d589ep+6f /* -87.33654: the smallest x whose exponential is a normal number */
#define LM_EXP_HIGHEST 0x1.62e42ep+6f /* 88.72283: the largest that does not overflow */
#define LM_EXP_INF __builtin_inff()

/* e^r, for n = round(x / ln 2). */
static inline vf vf_exp_of_rest(vf x, vf n) {
    vf r = vf_fma(n, vf_set1(-LM_EXP_LN2_HIGH), x);
    r = vf_fma(n, vf_set1(-LM_EXP_LN2_LOW), r);
    vf p = vf_set1(LM_EXP_C6);
    p = vf_fma(p, r, vf_set1(LM_EXP_C5));
    p = vf_fma(p, r, vf_set1(LM_EXP_C4));
    p = vf_fma(p, r, vf_set1(LM_EXP_C3));
    p = vf_fma(p, r, vf_set1(LM_EXP_C2));
    return vf_add(vf_fma(vf_mul(r, r), p, r), vf_set1(1.0f));
}
#endif
