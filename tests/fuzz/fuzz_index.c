/* SPDX-License-Identifier: MIT
 * fuzz_index.c: the input is model.safetensors.index.json beside one small shard. */
#include "format/checkpoint.h"
#include "fuzz_folder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char shard[] = "\x38\0\0\0\0\0\0\0" /* 56 bytes of header */
                                "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}   xy";
    static bool written;
    lm_checkpoint *c;
    lm_error e;
    if (!written) fuzz_write("model.safetensors", (const uint8_t *)shard, sizeof shard - 1);
    written = true;
    fuzz_write("model.safetensors.index.json", data, size);
    if (lm_checkpoint_open(fuzz_folder(), size % 2, NULL, NULL, &c, &e) != LM_OK) {
        if (!e.message[0] || strchr(e.message, '\n')) abort();
        return 0;
    }
    if (lm_checkpoint_count(c) != 1) abort();
    lm_checkpoint_close(c);
    return 0;
}
