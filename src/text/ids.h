/* SPDX-License-Identifier: MIT
 * ids.h: a growing list of token ids. */
#ifndef LM_TEXT_IDS_H
#define LM_TEXT_IDS_H
#include "base/status.h"
#include <stdlib.h>

typedef struct lm_ids {
    int32_t *data;
    size_t n, cap;
} lm_ids;

static inline lm_status lm_ids_add(lm_ids *l, int32_t id, lm_error *err) {
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 64;
        int32_t *p = cap > SIZE_MAX / 8 ? NULL : (int32_t *)realloc(l->data, cap * sizeof *p);
        if (!p) return lm_fail_nomem(err, cap * sizeof *p, "token ids");
        l->data = p;
        l->cap = cap;
    }
    l->data[l->n++] = id;
    return LM_OK;
}
#endif
