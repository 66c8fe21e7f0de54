/* SPDX-License-Identifier: MIT
 * test_gguf.c: the GGUF reader: values of every type, and files that must be refused with one exact line. */
#include "gguf_util.h"

static lm_status parse(const uint8_t *bytes, size_t length, lm_gguf *g, lm_error *e) {
    uint8_t *copy = malloc(length ? length : 1); /* exact, so that ASan sees any byte too many */
    assert_non_null(copy);
    memcpy(copy, bytes, length);
    lm_status s = lm_gguf_parse("F", copy, length, g, e);
    if (s == LM_OK) {
        lm_gguf_free(g);
        s = lm_gguf_parse("F", bytes, length, g, e); /* values point into the caller's bytes */
    }
    free(copy);
    return s;
}

static void fill(maker *m) {
    static const char *const words[] = {"x", "", "yz"};
    const int32_t ints[] = {-1, 2};
    maker_init(m);
    pair_string(m, "s", "text");
    pair_u32(m, "u", 7);
    pair_key(m, "i", LM_GGUF_I8);
    put(&m->pairs, 0xff, 1);
    pair_key(m, "q", LM_GGUF_U64);
    put(&m->pairs, UINT64_MAX, 8);
    pair_f32(m, "f", 0.5f);
    pair_bool(m, "b", 1);
    pair_strings(m, "words", words, 3);
    pair_ints(m, "ints", ints, 2);
    tensor_random(m, "t2", LM_GGML_Q8_0, 64, 3);
    tensor_random(m, "t1", LM_GGML_F32, 5, 0);
}

static void reads_values(void **state) {
    (void)state;
    maker m;
    size_t length, n;
    lm_gguf g;
    lm_error e;
    int64_t i;
    float f;
    bool b;
    char *s;
    lm_gguf_text *words;
    fill(&m);
    uint8_t *file = maker_file(&m, &length);
    assert_int_equal(parse(file, length, &g, &e), LM_OK);
    assert_int_equal(g.version, 3);
    assert_int_equal(lm_gguf_string(&g, "s", true, &s, &e), LM_OK);
    assert_string_equal(s, "text");
    free(s);
    assert_int_equal(lm_gguf_int(&g, "u", true, 0, 0, 10, &i, &e), LM_OK);
    assert_int_equal(i, 7);
    assert_int_equal(lm_gguf_int(&g, "i", true, 0, -5, 10, &i, &e), LM_OK);
    assert_int_equal(i, -1);
    assert_int_equal(lm_gguf_int(&g, "q", true, 0, 0, 10, &i, &e), LM_FORMAT);
    assert_line(&e, LM_FORMAT, "F: q: expected an integer from 0 to 10, found 9223372036854775807");
    assert_int_equal(lm_gguf_int(&g, "s", true, 0, 0, 10, &i, &e), LM_FORMAT);
    assert_line(&e, LM_FORMAT, "F: s: expected an integer");
    assert_int_equal(lm_gguf_int(&g, "none", true, 0, 0, 10, &i, &e), LM_FORMAT);
    assert_line(&e, LM_FORMAT, "F: none is missing");
    assert_int_equal(lm_gguf_int(&g, "none", false, 3, 0, 10, &i, &e), LM_OK);
    assert_int_equal(i, 3);
    assert_int_equal(lm_gguf_float(&g, "f", true, 0, &f, &e), LM_OK);
    assert_true(f == 0.5f);
    assert_int_equal(lm_gguf_bool(&g, "b", false, &b, &e), LM_OK);
    assert_true(b);
    assert_int_equal(lm_gguf_strings(&g, "words", true, &words, &n, &e), LM_OK);
    assert_int_equal(n, 3);
    assert_int_equal(words[1].length, 0);
    assert_memory_equal(words[2].data, "yz", 2);
    free(words);
    assert_int_equal(lm_gguf_strings(&g, "ints", true, &words, &n, &e), LM_FORMAT);
    assert_int_equal(lm_gguf_item_int(lm_gguf_find(&g, "ints"), 0), -1);
    const lm_gguf_tensor *t = lm_gguf_find_tensor(&g, "t2");
    assert_int_equal(t->bytes, 3 * 2 * 34);
    assert_int_equal(t->shape[0], 64);
    assert_int_equal(t->shape[1], 3);
    assert_int_equal((t->data - file) % 32, 0);
    assert_null(lm_gguf_find_tensor(&g, "t3"));
    lm_gguf_free(&g);
    free(file);
    maker_free(&m);
}

static void every_truncation_is_refused(void **state) {
    (void)state;
    maker m;
    size_t length;
    fill(&m);
    uint8_t *file = maker_file(&m, &length);
    for (size_t n = 0; n < length; n++) {
        lm_gguf g;
        lm_error e = {0};
        assert_int_equal(parse(file, n, &g, &e), LM_FORMAT);
        assert_null(strchr(e.message, '\n'));
        assert_null(g.values);
    }
    free(file);
    maker_free(&m);
}

/* Each case damages a good file by one more pair or tensor. */
static void bad_type(maker *m) {
    pair_key(m, "k", 13);
}
static void bad_item(maker *m) {
    pair_key(m, "k", LM_GGUF_ARRAY), put(&m->pairs, 99, 4), put(&m->pairs, 1, 8);
}
static void nested(maker *m) {
    pair_key(m, "k", LM_GGUF_ARRAY), put(&m->pairs, LM_GGUF_ARRAY, 4), put(&m->pairs, 1, 8);
}
static void many_items(maker *m) {
    pair_key(m, "k", LM_GGUF_ARRAY), put(&m->pairs, LM_GGUF_U64, 4), put(&m->pairs, UINT64_MAX, 8);
}
static void many_strings(maker *m) {
    pair_key(m, "k", LM_GGUF_ARRAY), put(&m->pairs, LM_GGUF_STRING, 4), put(&m->pairs, (uint64_t)1 << 61, 8);
}
static void long_string(maker *m) {
    pair_key(m, "k", LM_GGUF_STRING), put(&m->pairs, UINT64_MAX, 8);
}
static void long_key(maker *m) {
    put(&m->pairs, UINT64_MAX - 3, 8), m->n_pairs++;
}
static void empty_key(maker *m) {
    pair_u32(m, "", 1);
}
static void nul_key(maker *m) {
    put(&m->pairs, 2, 8), lm_buf_add(&m->pairs, "a\0", 2), put(&m->pairs, 4, 4), put(&m->pairs, 0, 4), m->n_pairs++;
}
static void same_key(maker *m) {
    pair_u32(m, "u", 8);
}
static void many_pairs(maker *m) {
    m->n_pairs = (uint64_t)1 << 60;
}
static void many_tensors(maker *m) {
    m->n_tensors = UINT64_MAX;
}
static void odd_alignment(maker *m) {
    pair_u32(m, "general.alignment", 48);
}
static void zero_alignment(maker *m) {
    pair_u32(m, "general.alignment", 0);
}
static void text_alignment(maker *m) {
    pair_string(m, "general.alignment", "32");
}
static void same_tensor(maker *m) {
    tensor_random(m, "t1", LM_GGML_F32, 5, 0);
}
static void bad_tensor_type(maker *m) {
    tensor_head(m, "k", 5, 32, 0);
}
static void ragged(maker *m) {
    tensor_head(m, "k", LM_GGML_Q4_0, 33, 2);
}
static void zero_rows(maker *m) {
    tensor_head(m, "k", LM_GGML_F32, 0, 0);
}
static void overflow(maker *m) {
    tensor_head(m, "k", LM_GGML_F32, (uint64_t)1 << 40, (uint64_t)1 << 40);
}
static void five_dims(maker *m) {
    put_string(&m->tensors, "k"), put(&m->tensors, 5, 4), m->n_tensors++;
}
static void outside(maker *m) {
    tensor_head(m, "k", LM_GGML_F32, 4096, 0);
}
static void placed(maker *m, uint64_t offset) {
    put_string(&m->tensors, "k"), put(&m->tensors, 1, 4), put(&m->tensors, 1, 8), put(&m->tensors, 0, 4);
    put(&m->tensors, offset, 8), m->n_tensors++;
}
static void far_away(maker *m) {
    placed(m, UINT64_MAX - 31);
}
static void misaligned(maker *m) {
    placed(m, 4);
}
static void overlapping(maker *m) {
    placed(m, 32);
}

static void refuses_damage(void **state) {
    (void)state;
    static const struct {
        void (*damage)(maker *);
        const char *message;
    } cases[] = {
        {bad_type, "F: k: unknown value type 13"},
        {bad_item, "F: k: unknown value type 99"},
        {nested, "F: k: arrays inside arrays are not supported"},
        {many_items, "F: k: 18446744073709551615 items, but only * bytes are left (truncated?)"},
        {many_strings, "F: k: 2305843009213693952 items, but only * bytes are left (truncated?)"},
        {long_string, "F: k: string of 18446744073709551615 bytes, but only * are left (truncated?)"},
        {long_key, "F: a metadata key: string of 18446744073709551612 bytes, but only * are left (truncated?)"},
        {empty_key, "F: a metadata key of 0 bytes, expected 1 to 65535 without NUL"},
        {nul_key, "F: a metadata key of 2 bytes, expected 1 to 65535 without NUL"},
        {same_key, "F: duplicate metadata key 'u'"},
        {many_pairs, "F: 1152921504606846976 metadata pairs do not fit into the file"},
        {many_tensors, "F: 18446744073709551615 tensors do not fit into the file"},
        {odd_alignment, "F: general.alignment: expected a power of two, found 48"},
        {zero_alignment, "F: general.alignment: expected an integer from 1 to 1048576, found 0"},
        {text_alignment, "F: general.alignment: expected an integer"},
        {same_tensor, "F: duplicate tensor 't1'"},
        {bad_tensor_type, "F: k: unknown tensor type 5"},
        {ragged, "F: k: rows of 33 values, expected a multiple of 32 for Q4_0"},
        {zero_rows, "F: k: dimension 0 is 0"},
        {overflow, "F: k: the tensor's size overflows"},
        {five_dims, "F: k: 5 dimensions, expected at most 4"},
        {outside, "F: k: 16384 bytes at offset 256 lie outside the file (truncated?)"},
        {far_away, "F: k: 4 bytes at offset 18446744073709551584 lie outside the file (truncated?)"},
        {misaligned, "F: k: offset 4 is not a multiple of the alignment 32"},
        {overlapping, "F: k: overlaps t2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        maker m;
        size_t length;
        lm_gguf g;
        lm_error e = {0};
        fill(&m);
        cases[i].damage(&m);
        uint8_t *file = maker_file(&m, &length);
        if (parse(file, length, &g, &e) == LM_OK) fail_msg("accepted: %s", cases[i].message);
        assert_line(&e, LM_FORMAT, cases[i].message);
        free(file);
        maker_free(&m);
    }
}

static void refuses_other_files(void **state) {
    (void)state;
    lm_gguf g;
    lm_error e;
    assert_int_equal(lm_gguf_parse("F", NULL, 0, &g, &e), LM_FORMAT);
    assert_line(&e, LM_FORMAT, "F: not a GGUF file");
    assert_int_equal(parse((const uint8_t *)"GGML\3\0\0\0", 8, &g, &e), LM_FORMAT);
    assert_line(&e, LM_FORMAT, "F: not a GGUF file");
    assert_int_equal(parse((const uint8_t *)"GGUF\1\0\0\0", 8, &g, &e), LM_UNSUPPORTED);
    assert_line(&e, LM_UNSUPPORTED, "F: GGUF version 1, expected 2 or 3");
    assert_int_equal(parse((const uint8_t *)"GGUF\0\0\0\3", 8, &g, &e), LM_UNSUPPORTED);
    assert_line(&e, LM_UNSUPPORTED, "F: big-endian GGUF files are not supported");
    assert_int_equal(parse((const uint8_t *)"GGUF\3\0\0\0", 8, &g, &e), LM_FORMAT);
    assert_line(&e, LM_FORMAT, "F: truncated at byte 8 while reading the number of tensors");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_values),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(refuses_damage),
        cmocka_unit_test(refuses_other_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
