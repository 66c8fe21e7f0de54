/* SPDX-License-Identifier: MIT */
#include "base/json.h"
#include "base/fs.h"
#include <stdlib.h>

lm_status lm_json_parse(const char *text, size_t length, const char *what, json_t **out, lm_error *err) {
    json_error_t e;
    *out = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &e);
    if (!*out)
        return lm_fail(err, LM_FORMAT, "%s: invalid JSON at line %d column %d: %s", what, e.line, e.column, e.text);
    return LM_OK;
}

lm_status lm_json_load(const char *path, size_t max, json_t **out, lm_error *err) {
    char *text;
    size_t length;
    *out = NULL;
    LM_TRY(lm_fs_read(path, max ? max : (size_t)256 << 20, &text, &length, err));
    lm_status s = lm_json_parse(text, length, path, out, err);
    free(text);
    return s;
}
