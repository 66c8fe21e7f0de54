/* SPDX-License-Identifier: MIT
 * panel_mx.h: panel.h with what mxfp4, nvfp4 and mxfp8 need: scales from bytes. */
#ifndef LM_X86_PANEL_MX_H
#define LM_X86_PANEL_MX_H
#include "kernels/x86/mx_decode.h"
#include "kernels/x86/panel.h"

/* As mm_scales. */
INLINE void mx_scales(const lm_weight *w, lm_format format, int64_t n, int64_t n_last, int64_t g0, int64_t groups,
                      mm_groups *s) {
    const int64_t all = w->k / w->group;
    const uint8_t *row[VL];
    for (int i = 0; i < VL; i++) row[i] = (const uint8_t *)w->scales + (n + i < n_last ? n + i : n_last) * all + g0;
    for (int64_t g = 0; g < groups; g++) {
        uint32_t bytes[VL];
        for (int i = 0; i < VL; i++) bytes[i] = row[i][g];
        vf_store(s->scales[g], mx_scale(format, vi_load(bytes)));
    }
}
#endif
