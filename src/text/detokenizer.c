/* SPDX-License-Identifier: MIT
 * detokenizer.c: owns streaming detokenization with mlx-lm's three behaviours: byte-level BPE, SentencePiece, and naive
 * (re-decode the current line). The first two cost O(1) a byte: what is held back is kept decoded. */
#include "text/tokenizer_impl.h"
#include "text/utf8.h"
#include <string.h>

struct lm_detokenizer {
    const lm_tokenizer *t;
    lm_buf segment;
    bool any_text; /* some text has been given out */
    /* BPE and SPM: decoded text held back, and the unfinished character behind it */
    lm_buf held;
    lm_utf8 utf8;
    /* naive */
    lm_ids line;   /* ids since the last newline */
    char *current; /* text of the line as last seen */
    size_t shown;  /* characters of it that were given out */
    bool clean_spaces;
};

/* ---------------------------------------------------------------- making */

static lm_status probe_clean_spaces(lm_detokenizer *d, lm_error *err) {
    int32_t *ids;
    size_t n, length;
    char *text;
    LM_TRY(lm_tokenizer_encode(d->t, "a ,b", 4, false, &ids, &n, err));
    lm_status s = lm_tokenizer_decode(d->t, ids, n, false, &text, &length, err);
    free(ids);
    if (s != LM_OK) return s;
    d->clean_spaces = !strstr(text, " ,");
    free(text);
    return LM_OK;
}

lm_status lm_detokenizer_create(const lm_tokenizer *tokenizer, lm_detokenizer **out, lm_error *err) {
    *out = NULL;
    lm_detokenizer *d = calloc(1, sizeof *d);
    if (!d) return lm_fail_nomem(err, sizeof *d, "detokenizer");
    d->t = tokenizer;
    lm_buf_init(&d->segment, 0);
    lm_buf_init(&d->held, 0);
    lm_status s = tokenizer->decoder.stream == LM_STREAM_NAIVE ? probe_clean_spaces(d, err) : LM_OK;
    if (s != LM_OK) {
        lm_detokenizer_destroy(d);
        return s;
    }
    *out = d;
    return LM_OK;
}

void lm_detokenizer_destroy(lm_detokenizer *d) {
    if (!d) return;
    lm_buf_free(&d->segment);
    lm_buf_free(&d->held);
    free(d->line.data);
    free(d->current);
    free(d);
}

void lm_detokenizer_reset(lm_detokenizer *d) {
    lm_buf_clear(&d->segment);
    lm_buf_clear(&d->held);
    memset(&d->utf8, 0, sizeof d->utf8);
    d->any_text = false;
    d->line.n = 0;
    d->shown = 0;
    free(d->current);
    d->current = NULL;
}

/* ---------------------------------------------------------------- BPE and SPM */

/* Feeds a token's characters: alphabet characters as their bytes, others as they are. A zero byte (U+0100 in the
 * alphabet) is kept as a NUL in `held`; see flush. */
static void feed_bpe(lm_detokenizer *d, const char *s, size_t n) {
    for (const char *p = s, *end = s + n; p < end;) {
        const char *from = p;
        int b = lm_byte_alphabet_inverse(lm_utf8_next(&p));
        if (b >= 0)
            lm_utf8_feed(&d->utf8, (unsigned char)b, &d->held);
        else
            for (; from < p; from++) lm_utf8_feed(&d->utf8, (unsigned char)*from, &d->held);
    }
}

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void feed_spm(lm_detokenizer *d, const char *s, size_t n) {
    if (n >= 5 && !memcmp(s, "<0x", 3) && hex(s[3]) >= 0 && hex(s[4]) >= 0) {
        lm_utf8_feed(&d->utf8, (unsigned char)(hex(s[3]) * 16 + hex(s[4])), &d->held);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        bool mark = n - i >= 3 && !memcmp(s + i, "\xe2\x96\x81", 3);
        lm_utf8_feed(&d->utf8, mark ? ' ' : (unsigned char)s[i], &d->held);
        if (mark) i += 2;
    }
}

/* Gives out what is held. mlx-lm shows a zero byte as its alphabet character while streaming but not at the end. */
static void flush(lm_detokenizer *d, bool final) {
    const char *s = d->held.data;
    size_t n = d->held.length;
    bool trim = d->t->decoder.stream != LM_STREAM_SPM_KEEP_SPACE;
    if (n && !d->any_text && trim && *s == ' ') s++, n--;
    if (n) d->any_text = true;
    for (; n; s++, n--) {
        if (!*s && !final && d->t->decoder.stream == LM_STREAM_BPE)
            lm_buf_adds(&d->segment, "\xc4\x80");
        else
            lm_buf_addc(&d->segment, *s);
    }
    lm_buf_clear(&d->held);
    d->utf8.replaced = false;
}

static void add_bpe(lm_detokenizer *d, int32_t id) {
    const char *s = "!"; /* mlx-lm's stand-in for ids of a padded vocabulary */
    size_t n = 1;
    bool special;
    if (id < d->t->size && !lm_tokenizer_get_token(d->t, id, &s, &n, &special)) n = 0;
    feed_bpe(d, s, n);
    bool lone_space = n == 2 && !memcmp(s, "\xc4\xa0", 2); /* "Ġ" */
    if (!d->utf8.pending && !d->utf8.replaced && !lone_space) flush(d, false);
}

static void add_spm(lm_detokenizer *d, int32_t id) {
    const char *s = "";
    size_t n = 0;
    bool special;
    if (!lm_tokenizer_get_token(d->t, id, &s, &n, &special)) n = 0;
    feed_spm(d, s, n);
    if (!d->utf8.pending && !d->utf8.replaced) flush(d, false);
}

/* ---------------------------------------------------------------- naive */

static const char *skip_characters(const char *s, const char *end, size_t n) {
    for (; n && s < end; n--) lm_utf8_next(&s);
    return s;
}

static size_t count_characters(const char *s, const char *end) {
    size_t n = 0;
    for (; s < end; s++) n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static lm_status add_naive(lm_detokenizer *d, bool final, lm_error *err) {
    size_t n = 0;
    free(d->current);
    d->current = NULL;
    LM_TRY(lm_tokenizer_decode(d->t, d->line.data, d->line.n, false, &d->current, &n, err));
    const char *s = d->current;
    if (!final && n >= 3 && !memcmp(s + n - 3, "\xef\xbf\xbd", 3)) {
        while (n >= 3 && !memcmp(s + n - 3, "\xef\xbf\xbd", 3)) n -= 3;
    } else if (!final && d->clean_spaces && n && s[n - 1] == ' ') {
        n--;
    }
    const char *end = s + n, *fresh = skip_characters(s, end, d->shown);
    lm_buf_add(&d->segment, fresh, (size_t)(end - fresh));
    d->shown = count_characters(s, end);
    if (final || (n && s[n - 1] == '\n')) { /* the line is done */
        d->line.n = 0;
        d->shown = 0;
    }
    return LM_OK;
}

/* ---------------------------------------------------------------- calls */

static lm_status give(lm_detokenizer *d, const char **segment, size_t *length, lm_error *err) {
    if (d->segment.failed || d->held.failed) return lm_fail(err, LM_BUDGET, "streamed text is too long");
    *segment = d->segment.data ? d->segment.data : "";
    if (length) *length = d->segment.length;
    return LM_OK;
}

lm_status lm_detokenizer_add(lm_detokenizer *d, int32_t id, const char **segment, size_t *length, lm_error *err) {
    lm_buf_clear(&d->segment);
    if (id < 0) return lm_fail(err, LM_ARG, "token id %d is negative", (int)id);
    switch (d->t->decoder.stream) {
    case LM_STREAM_BPE: add_bpe(d, id); break;
    case LM_STREAM_SPM:
    case LM_STREAM_SPM_KEEP_SPACE: add_spm(d, id); break;
    case LM_STREAM_NAIVE:
        LM_TRY(lm_ids_add(&d->line, id, err));
        LM_TRY(add_naive(d, false, err));
        break;
    }
    return give(d, segment, length, err);
}

lm_status lm_detokenizer_finalize(lm_detokenizer *d, const char **segment, size_t *length, lm_error *err) {
    lm_buf_clear(&d->segment);
    if (d->t->decoder.stream == LM_STREAM_NAIVE) {
        LM_TRY(add_naive(d, true, err));
    } else {
        lm_utf8_finish(&d->utf8, &d->held);
        flush(d, true);
    }
    return give(d, segment, length, err);
}
