/* SPDX-License-Identifier: MIT
 * test_safetensors.c: headers that must be read, headers that must be refused with one exact line, and the writer. */
#include "base/fs.h"
#include "format/safetensors.h"
#include "format/st_write.h"
#include "format_util.h"

static lm_status parse(const char *header, size_t n, lm_st_header *out, lm_error *err) {
    size_t length;
    uint8_t *p = st_bytes(header, n, &length);
    lm_status s = lm_st_parse("F", p, length, length, out, err);
    free(p);
    return s;
}

static void reads_a_header(void **state) {
    (void)state;
    lm_st_header h;
    lm_error e;
    assert_int_equal(
        parse("{\"__metadata__\":{\"format\":\"mlx\",\"k\":\"\"},\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],"
              "\"data_offsets\":[3,15]},\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
              "\"s\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[15,19]},"
              "\"z\":{\"dtype\":\"I64\",\"shape\":[0,7],\"data_offsets\":[3,3]}}   ",
              19, &h, &e),
        LM_OK);
    assert_int_equal(h.n_tensors, 4);
    assert_string_equal(h.tensors[0].name, "a");
    assert_string_equal(h.tensors[3].name, "z");
    const lm_st_tensor *b = lm_st_find(&h, "b");
    assert_non_null(b);
    assert_int_equal(b->dtype, LM_DTYPE_BF16);
    assert_int_equal(b->n_dims, 2);
    assert_int_equal(b->shape[1], 3);
    assert_int_equal(b->begin, 3);
    assert_int_equal(b->end, 15);
    assert_int_equal(lm_st_find(&h, "s")->n_dims, 0);
    assert_null(lm_st_find(&h, "c"));
    assert_int_equal(h.n_metadata, 2);
    assert_string_equal(h.metadata[0], "format");
    assert_string_equal(h.metadata[1], "mlx");
    lm_st_header_free(&h);
    assert_int_equal(parse("{}", 0, &h, &e), LM_OK);
    assert_int_equal(h.n_tensors, 0);
    assert_null(lm_st_find(&h, "a"));
    lm_st_header_free(&h);
}

#define T(dtype, shape, offsets) "{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define A(dtype, shape, offsets) "{\"a\":" T(dtype, shape, offsets) "}"

static const struct {
    const char *header;
    size_t n;
    const char *message;
} refused[] = {
    {A("\"U8\"", "[4]", "[0,4]"), 3, "F: a: data_offsets: end 4 is outside the file's 3 bytes of data (truncated?)"},
    {A("\"U8\"", "[4]", "[0,4]"), 6, "F: 2 bytes follow the last tensor"},
    {"{}", 1, "F: 1 bytes follow the last tensor"},
    {"{\"a\":" T("\"U8\"", "[4]", "[0,4]") ",\"b\":" T("\"U8\"", "[4]", "[3,7]") "}", 7,
     "F: b: overlaps a (begins at 3, expected 4)"},
    {"{\"a\":" T("\"U8\"", "[4]", "[0,4]") ",\"b\":" T("\"U8\"", "[4]", "[0,4]") "}", 4,
     "F: b: overlaps a (begins at 0, expected 4)"},
    {"{\"a\":" T("\"U8\"", "[4]", "[0,4]") ",\"b\":" T("\"U8\"", "[4]", "[6,10]") "}", 10,
     "F: b: a gap of 2 bytes lies before it"},
    {A("\"U8\"", "[4]", "[1,5]"), 5, "F: a: a gap of 1 bytes lies before it"},
    {A("\"U8\"", "[4]", "[0,5]"), 5, "F: a: dtype and shape need 4 bytes, data_offsets span 5"},
    {A("\"F32\"", "[1]", "[4,0]"), 4, "F: a: data_offsets: begin 4 is after end 0"},
    {A("\"U8\"", "[4]", "[-1,3]"), 4, "F: a: data_offsets: expected two non-negative integers"},
    {A("\"U8\"", "[4]", "[0,4.0]"), 4, "F: a: data_offsets: expected two non-negative integers"},
    {A("\"U8\"", "[4]", "[0,true]"), 4, "F: a: data_offsets: expected two non-negative integers"},
    {A("\"U8\"", "[4]", "[0,4,8]"), 4, "F: a: data_offsets: expected two non-negative integers"},
    {A("\"U8\"", "[4]", "4"), 4, "F: a: data_offsets: expected two non-negative integers"},
    {A("\"U8\"", "[4]", "[0,9223372036854775807]"), 4,
     "F: a: data_offsets: end 9223372036854775807 is outside the file's 4 bytes of data (truncated?)"},
    {A("\"U8\"", "[4]", "[0,18446744073709551620]"), 4,
     "F: invalid JSON at line 1 *: too big integer near '18446744073709551620'"},
    {A("\"U8\"", "[-4]", "[0,4]"), 4, "F: a: shape: expected non-negative integers"},
    {A("\"U8\"", "[4.0]", "[0,4]"), 4, "F: a: shape: expected non-negative integers"},
    {A("\"U8\"", "[\"4\"]", "[0,4]"), 4, "F: a: shape: expected non-negative integers"},
    {A("\"U8\"", "4", "[0,4]"), 4, "F: a: shape: expected an array"},
    {A("\"F32\"", "[4294967296,4294967296]", "[0,0]"), 0, "F: a: shape: the tensor's size overflows"},
    {A("\"F32\"", "[0,4611686018427387904,4611686018427387904]", "[0,0]"), 0,
     "F: a: shape: the tensor's size overflows"},
    {A("\"U8\"", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, "F: a: shape: expected at most 8 dimensions, found 9"},
    {A("\"U7\"", "[4]", "[0,4]"), 4, "F: a: unknown dtype 'U7'"},
    {A("\"u8\"", "[4]", "[0,4]"), 4, "F: a: unknown dtype 'u8'"},
    {A("\"U8\\u0000\"", "[4]", "[0,4]"), 4, "F: a: unknown dtype 'U8'"},
    {A("8", "[4]", "[0,4]"), 4, "F: a: dtype: expected a string"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4]}}", 4, "F: a: data_offsets is missing"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"b\":{}}}", 4, "F: a: unexpected key 'b'"},
    {"{\"a\":[]}", 0, "F: a: expected an object"},
    {"{\"__metadata__\":7}", 0, "F: __metadata__: expected an object of strings"},
    {"{\"__metadata__\":{\"x\":{}}}", 0, "F: __metadata__: x: expected a string without NUL"},
    {"{\"a\":" T("\"U8\"", "[1]", "[0,1]") ",\"a\":" T("\"U8\"", "[1]", "[1,2]") "}", 2,
     "F: invalid JSON at line 1 *: duplicate object key near '\"a\"'"},
    {"{\"a\\u0000b\":" T("\"U8\"", "[1]", "[0,1]") "}", 1,
     "F: invalid JSON at line 1 *: NUL byte in object key not supported near '\"a\\u0000b\"'"},
    {"[]", 0, "F: header: expected '{' at its start"},
    {" {}", 0, "F: header: expected '{' at its start"},
    {"{} x", 0, "F: invalid JSON at line 1 *: end of file expected near 'x'"},
    {"{\"a\":", 0, "F: invalid JSON at line 1 *: unexpected token near end of file"},
    {"{\"a\xff\":1}", 0, "F: invalid JSON at line 1 *: unable to decode byte 0xff near '\"a'"},
    {"{\"a\\n\\u001b[31m\":1}", 0, "F: a??[31m: expected an object"},
};

static void refuses_bad_headers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        lm_st_header h;
        lm_error e = {0};
        lm_status s = parse(refused[i].header, refused[i].n, &h, &e);
        if (s == LM_OK) fail_msg("case %zu was accepted: %s", i, refused[i].header);
        assert_line(&e, LM_FORMAT, refused[i].message);
        assert_null(h.tensors);
    }
}

static void refuses_bad_sizes(void **state) {
    (void)state;
    static const struct {
        uint64_t header, length, file;
        const char *message;
    } cases[] = {
        {0, 0, 0, "F: 0 bytes, too short for a safetensors file"},
        {2, 7, 7, "F: 7 bytes, too short for a safetensors file"},
        {0, 10, 10, "F: header of 0 bytes, expected 1 to 99999999 (not a safetensors file?)"},
        {3, 10, 10, "F: truncated: header of 3 bytes in a file of 10"},
        {3, 10, 11, "F: truncated: header of 3 bytes in a file of 11"},
        {99999999, 10, 10, "F: truncated: header of 99999999 bytes in a file of 10"},
        {100000000, 10, UINT64_MAX, "F: header of 100000000 bytes, expected 1 to 99999999 (not a safetensors file?)"},
        {UINT64_MAX, 10, 10,
         "F: header of 18446744073709551615 bytes, expected 1 to 99999999 (not a safetensors file?)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t bytes[10] = {0, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
        lm_st_header h;
        lm_error e = {0};
        for (int j = 0; j < 8; j++) bytes[j] = (uint8_t)(cases[i].header >> (8 * j));
        assert_int_equal(lm_st_parse("F", bytes, cases[i].length, cases[i].file, &h, &e), LM_FORMAT);
        assert_line(&e, LM_FORMAT, cases[i].message);
    }
}

/* Deep nesting must end in an error, not in a stack overflow. */
static void refuses_deep_nesting(void **state) {
    (void)state;
    size_t n = 1000000;
    char *text = malloc(n + 1);
    lm_st_header h;
    lm_error e = {0};
    assert_non_null(text);
    memset(text, '[', n);
    memcpy(text, "{\"a\":", 5);
    text[n] = 0;
    assert_int_equal(parse(text, 0, &h, &e), LM_FORMAT);
    assert_non_null(strstr(e.message, "maximum parsing depth"));
    free(text);
}

static void every_truncation_is_refused(void **state) {
    (void)state;
    size_t length;
    uint8_t *p =
        st_bytes("{\"a\":" T("\"U8\"", "[4]", "[0,4]") ",\"b\":" T("\"F16\"", "[1,2]", "[4,8]") "}", 8, &length);
    for (size_t n = 0; n < length; n++) {
        lm_st_header h;
        lm_error e = {0};
        uint8_t *copy = malloc(n ? n : 1); /* exact, so that ASan sees any byte too many */
        assert_non_null(copy);
        memcpy(copy, p, n);
        assert_int_equal(lm_st_parse("F", copy, n, n, &h, &e), LM_FORMAT);
        assert_null(strchr(e.message, '\n'));
        free(copy);
    }
    free(p);
}

static void writes_what_it_reads(void **state) {
    (void)state;
    folder f = folder_make();
    const float x[6] = {1, 2, 3, 4, 5, 6};
    const int32_t y = 7;
    const lm_tensor_out tensors[] = {
        {"z", "F32", {2, 3}, 2, x}, {"a\"\xc3\xa9", "I32", {0}, 0, &y}, {"e", "F16", {0}, 1, x}};
    lm_error e;
    char *data;
    size_t length;
    lm_st_header h;
    assert_int_equal(lm_safetensors_write(folder_path(&f, "t"), tensors, 3, &e), LM_OK);
    assert_int_equal(folder_count(f.path), 1);
    assert_int_equal(lm_fs_read(folder_path(&f, "t"), 1 << 20, &data, &length, &e), LM_OK);
    assert_memory_equal(data + 8, "{\"__metadata__\":{\"format\":\"mlx\"},\"a", 35);
    assert_int_equal(lm_st_parse("t", (uint8_t *)data, length, length, &h, &e), LM_OK);
    assert_int_equal(h.data_offset % 8, 0);
    assert_int_equal(h.n_tensors, 3);
    const lm_st_tensor *z = lm_st_find(&h, "z");
    assert_memory_equal(data + h.data_offset + z->begin, x, sizeof x);
    assert_memory_equal(data + h.data_offset + lm_st_find(&h, "a\"\xc3\xa9")->begin, &y, 4);
    lm_st_header_free(&h);
    free(data);
    remove_tree(f.path);
}

static void refuses_to_write(void **state) {
    (void)state;
    folder f = folder_make();
    lm_error e;
    const float x[4] = {0};
    const char *path = folder_path(&f, "t");
    char message[600];
    const lm_tensor_out twice[] = {{"a", "F32", {1}, 1, x}, {"a", "F32", {1}, 1, x}};
    const lm_tensor_out strange = {"a", "F33", {1}, 1, x}, negative = {"a", "F32", {-1}, 1, x},
                        bytes = {"\xff", "F32", {1}, 1, x};
    assert_int_equal(lm_safetensors_write(path, twice, 2, &e), LM_ARG);
    snprintf(message, sizeof message, "%s: a: two tensors have this name", path);
    assert_line(&e, LM_ARG, message);
    assert_int_equal(lm_safetensors_write(path, &strange, 1, &e), LM_ARG);
    assert_int_equal(lm_safetensors_write(path, &negative, 1, &e), LM_ARG);
    assert_int_equal(lm_safetensors_write(path, &bytes, 1, &e), LM_ARG);
    assert_int_equal(lm_safetensors_write("/nonexistent/t", &twice[0], 1, &e), LM_IO);
    lm_st_spec spec = {.name = "a", .dtype = LM_DTYPE_F32, .n_dims = 1, .shape = {2}};
    lm_st_writer *w;
    assert_int_equal(lm_st_writer_create(path, &spec, 1, &w, &e), LM_OK);
    assert_int_equal(lm_st_writer_add(w, x, 16, &e), LM_ARG);
    assert_int_equal(lm_st_writer_add(w, x, 4, &e), LM_OK);
    assert_int_equal(lm_st_writer_commit(w, &e), LM_ARG); /* 4 of 8 bytes */
    assert_int_equal(folder_count(f.path), 0);
    remove_tree(f.path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_header),
        cmocka_unit_test(refuses_bad_headers),
        cmocka_unit_test(refuses_bad_sizes),
        cmocka_unit_test(refuses_deep_nesting),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(writes_what_it_reads),
        cmocka_unit_test(refuses_to_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
