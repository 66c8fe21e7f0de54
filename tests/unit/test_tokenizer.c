/* SPDX-License-Identifier: MIT
 * test_tokenizer.c: golden ids, decoded and streamed text of real tokenizers; long runs; threads; the files beside
 * tokenizer.json; and tokenizers that must be refused or must not hurt. */
#include "format_util.h"
#include "text/tokenizer_impl.h"
#include <pthread.h>
#include <time.h>

#ifndef LM_TEST_DATA
#define LM_TEST_DATA "tests/data"
#endif

static char *data_path(const char *name) {
    const char *root = getenv("LM_TEST_DATA");
    if (!root || !*root) root = LM_TEST_DATA;
    size_t n = strlen(root) + strlen(name) + 2;
    char *path = malloc(n);
    assert_non_null(path);
    snprintf(path, n, "%s/%s", root, name);
    return path;
}

static const struct {
    const char *name, *where;
} real[] = {{"qwen3", "tokenizers/qwen3"},
            {"llama3_1", "tokenizers/llama3_1"},
            {"deepseek_v3", "tokenizers/deepseek_v3"},
            {"smollm2", "golden/smollm2"}};

static lm_tokenizer *open_real(const char *where) {
    char file[256];
    lm_error e = {LM_OK, ""};
    lm_tokenizer *t = NULL;
    snprintf(file, sizeof file, "%s/tokenizer.json", where);
    char *path = data_path(file);
    if (access(path, R_OK) != 0) {
        printf("skipped: %s is not here\n", path);
    } else {
        path[strlen(path) - strlen("/tokenizer.json")] = '\0';
        if (lm_tokenizer_open(path, &t, &e) != LM_OK) fail_msg("%s: %s", path, e.message);
    }
    free(path);
    return t;
}

/* ---------------------------------------------------------------- goldens */

static void expect_ids(const lm_tokenizer *t, const json_t *text, const json_t *want, bool special, size_t line) {
    int32_t *ids;
    size_t n;
    lm_error e;
    assert_int_equal(lm_tokenizer_encode(t, json_string_value(text), json_string_length(text), special, &ids, &n, &e),
                     LM_OK);
    bool same = n == json_array_size(want);
    for (size_t i = 0; same && i < n; i++) same = ids[i] == json_integer_value(json_array_get(want, i));
    if (!same) fail_msg("line %zu: ids differ for %s", line, json_string_value(text));
    lm_free(ids);
}

static void expect_text(const lm_tokenizer *t, const int32_t *ids, size_t n, const json_t *want, bool skip,
                        size_t line) {
    char *text;
    size_t length;
    lm_error e;
    assert_int_equal(lm_tokenizer_decode(t, ids, n, skip, &text, &length, &e), LM_OK);
    if (length != json_string_length(want) || memcmp(text, json_string_value(want), length) != 0)
        fail_msg("line %zu: decoded %s, expected %s", line, text, json_string_value(want));
    lm_free(text);
}

static void expect_segment(const json_t *want, const char *segment, size_t length, size_t line, size_t i) {
    if (length != json_string_length(want) || memcmp(segment, json_string_value(want), length) != 0)
        fail_msg("line %zu: segment %zu is '%s', expected '%s'", line, i, segment, json_string_value(want));
}

static void expect_stream(lm_detokenizer *d, const int32_t *ids, size_t n, const json_t *want, size_t line) {
    const char *segment;
    size_t length;
    lm_error e;
    assert_int_equal(json_array_size(want), n + 1);
    lm_detokenizer_reset(d);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(lm_detokenizer_add(d, ids[i], &segment, &length, &e), LM_OK);
        expect_segment(json_array_get(want, i), segment, length, line, i);
    }
    assert_int_equal(lm_detokenizer_finalize(d, &segment, &length, &e), LM_OK);
    expect_segment(json_array_get(want, n), segment, length, line, n);
}

static void expect_row(const lm_tokenizer *t, lm_detokenizer *d, const json_t *row, size_t line) {
    const json_t *list = json_object_get(row, "ids"), *special = json_object_get(row, "ids_add_special_tokens");
    size_t n = json_array_size(list);
    int32_t *ids = malloc((n + 1) * sizeof *ids);
    assert_non_null(ids);
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    expect_ids(t, json_object_get(row, "text"), list, false, line);
    expect_ids(t, json_object_get(row, "text"), special ? special : list, true, line);
    expect_text(t, ids, n, json_object_get(row, "decode"), false, line);
    expect_text(t, ids, n, json_object_get(row, "decode_skip_special_tokens"), true, line);
    expect_stream(d, ids, n, json_object_get(row, "stream"), line);
    free(ids);
}

static void replay(const char *name, const char *where) {
    char file[256];
    snprintf(file, sizeof file, "golden/tokenization/%s.jsonl", name);
    char *path = data_path(file), *line = NULL;
    FILE *f = fopen(path, "rb");
    lm_tokenizer *t = f ? open_real(where) : NULL;
    if (!f) printf("skipped: %s is not here\n", path);
    free(path);
    size_t cap = 0, rows = 0;
    lm_detokenizer *d = NULL;
    lm_error e;
    if (t) assert_int_equal(lm_detokenizer_create(t, &d, &e), LM_OK);
    for (ssize_t n; t && (n = getline(&line, &cap, f)) > 0;) {
        json_t *row = json_loadb(line, (size_t)n, JSON_ALLOW_NUL, NULL);
        assert_non_null(row);
        expect_row(t, d, row, ++rows);
        json_decref(row);
    }
    if (t) {
        printf("%s: %zu strings\n", name, rows);
        assert_true(rows > 300);
    }
    free(line);
    lm_detokenizer_destroy(d);
    lm_tokenizer_close(t);
    if (f) fclose(f);
}

static void goldens(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof real / sizeof *real; i++) replay(real[i].name, real[i].where);
}

static void facts(void **state) {
    (void)state;
    lm_tokenizer *t = open_real("tokenizers/qwen3");
    if (!t) return;
    const char *start, *end;
    lm_tokenizer_think_tokens(t, &start, &end);
    assert_string_equal(start, "<think>");
    assert_string_equal(end, "</think>");
    assert_null(lm_tokenizer_bos_token(t));
    assert_string_equal(lm_tokenizer_eos_token(t), "<|im_end|>");
    assert_int_equal(lm_tokenizer_token_id(t, "<|im_end|>"), 151645);
    assert_int_equal(lm_tokenizer_token_id(t, "no such token"), -1);
    assert_int_equal(lm_tokenizer_size(t), 151669);
    assert_non_null(lm_tokenizer_chat_template(t));
    int32_t beyond[] = {9707, 151900, 2147483647};
    char *text;
    lm_error e;
    assert_int_equal(lm_tokenizer_decode(t, beyond, 3, false, &text, NULL, &e), LM_OK);
    assert_string_equal(text, "Hello");
    lm_free(text);
    lm_tokenizer_close(t);
}

/* A run of one letter, of spaces, of combining marks: seconds at most, also under a sanitizer. */
static void long_runs(void **state) {
    (void)state;
    lm_tokenizer *t = open_real("golden/smollm2");
    if (!t) return;
    size_t n = 1000000;
    char *text = malloc(n);
    assert_non_null(text);
    for (int kind = 0; kind < 3; kind++) {
        for (size_t i = 0; i < n; i++) text[i] = kind == 0 ? 'a' : kind == 1 ? ' ' : "\xcc\x81\xcc\xa3"[i % 4];
        struct timespec a, b;
        int32_t *ids;
        size_t n_ids;
        lm_error e;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
        assert_int_equal(lm_tokenizer_encode(t, text, n, false, &ids, &n_ids, &e), LM_OK);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
        assert_true(b.tv_sec - a.tv_sec < 20);
        lm_free(ids);
    }
    free(text);
    lm_tokenizer_close(t);
}

/* ---------------------------------------------------------------- threads */

static void *encode_often(void *shared) {
    const lm_tokenizer *t = shared;
    size_t total = 0;
    for (int i = 0; i < 200; i++) {
        static const char text[] = "Several threads, one tokenizer: it's read-only 12345 \xf0\x9f\x99\x82!";
        int32_t *ids;
        size_t n;
        if (lm_tokenizer_encode(t, text, sizeof text - 1, false, &ids, &n, NULL) != LM_OK) return NULL;
        total += n;
        lm_free(ids);
    }
    return (void *)(uintptr_t)total; /* NOLINT: a count */
}

static void threads(void **state) {
    (void)state;
    lm_tokenizer *t = open_real("golden/smollm2");
    if (!t) return;
    pthread_t id[4];
    void *got[4];
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&id[i], NULL, encode_often, t), 0);
    for (int i = 0; i < 4; i++) pthread_join(id[i], &got[i]);
    for (int i = 0; i < 4; i++) assert_true(got[i] && got[i] == got[0]);
    lm_tokenizer_close(t);
}

/* ---------------------------------------------------------------- small ones */

#define MODEL "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"c\":3},\"merges\":[\"a b\"]}"

static lm_status open_text(const char *json, lm_tokenizer **t, lm_error *e) {
    *e = (lm_error){LM_OK, ""};
    return lm_tokenizer_open_text(json, strlen(json), "T", NULL, t, e);
}

static void expect_encode(const char *json, const char *text, const char *want) {
    lm_tokenizer *t;
    lm_error e;
    int32_t *ids;
    size_t n, used = 0;
    char got[256] = "";
    if (open_text(json, &t, &e) != LM_OK) fail_msg("%s", e.message);
    assert_int_equal(lm_tokenizer_encode(t, text, strlen(text), true, &ids, &n, &e), LM_OK);
    for (size_t i = 0; i < n && used < 200; i++)
        used += (size_t)snprintf(got + used, sizeof got - used, i ? " %d" : "%d", (int)ids[i]);
    assert_string_equal(got, want);
    lm_free(ids);
    lm_tokenizer_close(t);
}

#define SPLIT(behavior, invert)                                                                                \
    "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"c\"},\"behavior\":\"" behavior           \
    "\",\"invert\":" invert "},\"model\":{\"type\":\"BPE\",\"ignore_merges\":true,\"vocab\":{\"a\":0,\"b\":1," \
    "\"c\":2,\"ac\":3,\"ca\":4,\"cc\":5,\"cb\":6},\"merges\":[]}}"

static void pieces(void **state) {
    (void)state;
    expect_encode(SPLIT("Isolated", "false"), "accb", "0 2 2 1");
    expect_encode(SPLIT("Removed", "false"), "accb", "0 1");
    expect_encode(SPLIT("Removed", "true"), "accb", "2 2");
    expect_encode(SPLIT("Contiguous", "false"), "accb", "0 5 1");
    expect_encode(SPLIT("MergedWithPrevious", "false"), "accb", "3 2 1");
    expect_encode(SPLIT("MergedWithNext", "false"), "accb", "0 2 6");
    expect_encode("{" MODEL "}", "abxab\xff", "2 2"); /* unknown characters are dropped */
    expect_encode("{\"added_tokens\":[{\"id\":9,\"content\":\"ab\",\"single_word\":true,\"normalized\":false}]," MODEL
                  "}",
                  "ab cab", "2 3 2");
    expect_encode("{\"added_tokens\":[{\"id\":9,\"content\":\"<x>\",\"lstrip\":true,\"rstrip\":true},{\"id\":10,"
                  "\"content\":\"<x>y\"}]," MODEL "}",
                  "a <x> b<x>y", "0 9 1 10");
    expect_encode("{\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"TemplateProcessing\","
                  "\"single\":[{\"SpecialToken\":{\"id\":\"s\"}},{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":"
                  "{\"s\":{\"ids\":[7]}}},{\"type\":\"BertProcessing\",\"sep\":[\"x\",6],\"cls\":[\"y\",5]}]}," MODEL
                  "}",
                  "a", "5 7 0 6");
}

static void refused(void **state) {
    (void)state;
#define BAD_MODEL(inner) "{\"model\":{\"type\":\"BPE\"," inner "}}"
    static const struct {
        const char *json;
        lm_status status;
        const char *part;
    } cases[] = {
        {"", LM_FORMAT, "T: invalid JSON"},
        {"{\"model\":{\"type\":\"BPE\"", LM_FORMAT, "T: invalid JSON"},
        {"[]", LM_FORMAT, "T: expected an object"},
        {"{}", LM_FORMAT, "T: model: expected an object"},
        {"{\"model\":{\"type\":\"Unigram\"}}", LM_UNSUPPORTED, "Unigram"},
        {"{\"model\":{\"type\":7}}", LM_FORMAT, "model.type"},
        {BAD_MODEL("\"vocab\":[],\"merges\":[]"), LM_FORMAT, "model.vocab"},
        {BAD_MODEL("\"vocab\":{\"a\":\"0\"},\"merges\":[]"), LM_FORMAT, "integer id"},
        {BAD_MODEL("\"vocab\":{\"a\":-1},\"merges\":[]"), LM_FORMAT, "found -1"},
        {BAD_MODEL("\"vocab\":{\"a\":4000000000},\"merges\":[]"), LM_FORMAT, "found 4000000000"},
        {BAD_MODEL("\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]"), LM_FORMAT, "duplicate"},
        {BAD_MODEL("\"vocab\":{\"a\":0}"), LM_FORMAT, "model.merges"},
        {BAD_MODEL("\"vocab\":{\"a\":0},\"merges\":[\"a b\"]"), LM_FORMAT, "token \"b\" is not in model.vocab"},
        {BAD_MODEL("\"vocab\":{\"a\":0},\"merges\":[\"a a\"]"), LM_FORMAT, "token \"aa\" is not in model.vocab"},
        {BAD_MODEL("\"vocab\":{\"a\":0},\"merges\":[\"a\"]"), LM_FORMAT, "model.merges[0]"},
        {BAD_MODEL("\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]"), LM_FORMAT, "model.merges[0]"},
        {BAD_MODEL("\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"u\""), LM_FORMAT, "unk_token"},
        {BAD_MODEL("\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1"), LM_UNSUPPORTED, "dropout"},
        {"{\"normalizer\":{\"type\":\"Precompiled\"}," MODEL "}", LM_UNSUPPORTED, "Precompiled"},
        {"{\"normalizer\":3," MODEL "}", LM_FORMAT, "normalizer"},
        {"{\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}," MODEL "}", LM_UNSUPPORTED, "BertPreTokenizer"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},\"behavior\":\"Isolated\"}," MODEL "}",
         LM_FORMAT, "does not compile"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a&&b]\"},\"behavior\":\"Isolated\"}," MODEL
         "}",
         LM_UNSUPPORTED, "&&"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"X\"}," MODEL "}",
         LM_FORMAT, "behavior"},
        {"{\"decoder\":{\"type\":\"WordPiece\"}," MODEL "}", LM_UNSUPPORTED, "WordPiece"},
        {"{\"added_tokens\":[{\"id\":-3,\"content\":\"x\"}]," MODEL "}", LM_FORMAT, "added_tokens[0]"},
        {"{\"added_tokens\":[{\"id\":999999999,\"content\":\"x\"}]," MODEL "}", LM_FORMAT, "999999999"},
        {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[]}," MODEL "}", LM_FORMAT, "sequence A"},
        {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"s\"}}],"
         "\"special_tokens\":{\"s\":{\"ids\":[-1]}}}," MODEL "}",
         LM_FORMAT, "token ids"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lm_tokenizer *t;
        lm_error e;
        lm_status s = open_text(cases[i].json, &t, &e);
        assert_null(t);
        if (s != cases[i].status || !strstr(e.message, cases[i].part) || strchr(e.message, '\n'))
            fail_msg("case %zu: status %d, message '%s', expected '%s'", i, (int)s, e.message, cases[i].part);
    }
}

static void deep_nesting(void **state) {
    (void)state;
    static const char *const kinds[][3] = {{"normalizer", "normalizers", "NFC"},
                                           {"pre_tokenizer", "pretokenizers", "ByteLevel"},
                                           {"post_processor", "processors", "ByteLevel"},
                                           {"decoder", "decoders", "Fuse"}};
    for (size_t k = 0; k < 4; k++) {
        lm_buf b;
        lm_tokenizer *t;
        lm_error e;
        lm_buf_init(&b, 0);
        lm_buf_addf(&b, "{%s,\"%s\":", MODEL, kinds[k][0]);
        for (int i = 0; i < 100; i++) lm_buf_addf(&b, "{\"type\":\"Sequence\",\"%s\":[", kinds[k][1]);
        lm_buf_addf(&b, "{\"type\":\"%s\"}", kinds[k][2]);
        for (int i = 0; i < 100; i++) lm_buf_adds(&b, "]}");
        lm_buf_addc(&b, '}');
        assert_int_equal(open_text(b.data, &t, &e), LM_FORMAT);
        assert_non_null(strstr(e.message, "nested too deep"));
        lm_buf_free(&b);
    }
}

/* Exponential backtracking ends with an error, not with the user's patience. */
static void hostile_regex(void **state) {
    (void)state;
    lm_tokenizer *t;
    lm_error e;
    int32_t *ids;
    size_t n;
    char text[64];
    memset(text, 'a', sizeof text);
    assert_int_equal(open_text("{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a+a+)+$(?<=b)\"},"
                               "\"behavior\":\"Isolated\"}," MODEL "}",
                               &t, &e),
                     LM_OK);
    assert_int_equal(lm_tokenizer_encode(t, text, sizeof text, false, &ids, &n, &e), LM_BUDGET);
    assert_non_null(strstr(e.message, "match limit"));
    lm_tokenizer_close(t);
}

/* ---------------------------------------------------------------- streaming variants */

static void expect_segments(const char *json, const int32_t *ids, size_t n, const char *const *want) {
    lm_tokenizer *t;
    lm_detokenizer *d;
    lm_error e;
    const char *s;
    size_t length;
    if (open_text(json, &t, &e) != LM_OK) fail_msg("%s", e.message);
    assert_int_equal(lm_detokenizer_create(t, &d, &e), LM_OK);
    for (size_t i = 0; i <= n; i++) {
        if (i < n)
            assert_int_equal(lm_detokenizer_add(d, ids[i], &s, &length, &e), LM_OK);
        else
            assert_int_equal(lm_detokenizer_finalize(d, &s, &length, &e), LM_OK);
        assert_string_equal(s, want[i]);
        assert_int_equal(length, strlen(want[i]));
    }
    assert_int_equal(lm_detokenizer_add(d, -1, &s, &length, &e), LM_ARG);
    lm_detokenizer_destroy(d);
    lm_tokenizer_close(t);
}

static void streams(void **state) {
    (void)state;
#define SPM_DECODER(strip)                                                                                             \
    "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"\xe2\x96\x81\"}" \
    ","                                                                                                                \
    "\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}" strip "]}"
#define SPM_MODEL \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"\xe2\x96\x81hi\":0,\"<0xC3>\":1,\"<0xA9>\":2,\"x\":3},\"merges\":[]}"
    int32_t ids[] = {0, 1, 2, 0, 1, 3, 1};
    static const char *const trimmed[] = {"hi", "", "\xc3\xa9", " hi", "", "\xef\xbf\xbdx", "", "\xef\xbf\xbd"};
    static const char *const kept[] = {" hi", "", "\xc3\xa9", " hi", "", "\xef\xbf\xbdx", "", "\xef\xbf\xbd"};
    expect_segments("{" SPM_DECODER(",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}") "," SPM_MODEL "}",
                    ids, 7, trimmed);
    expect_segments("{" SPM_DECODER("") "," SPM_MODEL "}", ids, 7, kept);
    /* no decoder: tokens joined by spaces, naive streaming */
    int32_t abc[] = {0, 1, 3};
    static const char *const naive[] = {"a", " b", " c", ""};
    expect_segments("{" MODEL "}", abc, 3, naive);
}

/* ---------------------------------------------------------------- files beside tokenizer.json */

static void files(void **state) {
    (void)state;
    folder f = folder_make();
    lm_tokenizer *t;
    lm_error e;
    folder_text(&f, "tokenizer.json", "{" MODEL "}");
    assert_int_equal(lm_tokenizer_open(f.path, &t, &e), LM_OK); /* alone is fine */
    assert_null(lm_tokenizer_eos_token(t));
    assert_null(lm_tokenizer_chat_template(t));
    lm_tokenizer_close(t);
    folder_text(
        &f, "tokenizer_config.json",
        "{\"eos_token\":{\"__type\":\"AddedToken\",\"content\":\"<e>\",\"normalized\":true},\"bos_token\":\"c\","
        "\"pad_token\":null,\"model_max_length\":1000000000000000019884624838656,\"image_token\":\"<i>\","
        "\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"T\"},{\"name\":\"default\",\"template\":\"D\"}]}");
    folder_text(&f, "special_tokens_map.json", "{\"unk_token\":{\"content\":\"b\"}}");
    assert_int_equal(lm_tokenizer_open(f.path, &t, &e), LM_OK);
    assert_string_equal(lm_tokenizer_eos_token(t), "<e>");
    assert_string_equal(lm_tokenizer_bos_token(t), "c");
    assert_string_equal(lm_tokenizer_chat_template(t), "D");
    const json_t *special = lm_tokenizer_special_tokens(t);
    assert_int_equal(json_object_size(special), 4);
    assert_string_equal(json_string_value(json_object_get(special, "unk_token")), "b");
    assert_string_equal(json_string_value(json_object_get(special, "image_token")), "<i>");
    assert_int_equal(lm_tokenizer_token_id(t, "<e>"), 4); /* behind the vocabulary */
    assert_int_equal(lm_tokenizer_size(t), 5);
    lm_tokenizer_close(t);
    folder_text(&f, "chat_template.jinja", "J");
    assert_int_equal(lm_tokenizer_open(f.path, &t, &e), LM_OK);
    assert_string_equal(lm_tokenizer_chat_template(t), "J");
    lm_tokenizer_close(t);
    folder_text(&f, "tokenizer_config.json", "[");
    assert_int_equal(lm_tokenizer_open(f.path, &t, &e), LM_FORMAT);
    assert_null(t);
    remove_tree(f.path);
    assert_int_equal(lm_tokenizer_open(f.path, &t, &e), LM_IO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goldens), cmocka_unit_test(facts),        cmocka_unit_test(long_runs),
        cmocka_unit_test(threads), cmocka_unit_test(pieces),       cmocka_unit_test(refused),
        cmocka_unit_test(streams), cmocka_unit_test(deep_nesting), cmocka_unit_test(hostile_regex),
        cmocka_unit_test(files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
