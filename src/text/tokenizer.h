/* SPDX-License-Identifier: MIT
 * tokenizer.h: what chat.c needs of a tokenizer beyond lm.h. */
#ifndef LM_TEXT_TOKENIZER_H
#define LM_TEXT_TOKENIZER_H
#include "base/json.h"
#include "lm/lm.h"
/** tokenizer_config.json (an empty object if there is none). Borrowed. */
const json_t *lm_tokenizer_config(const lm_tokenizer *tokenizer);
/** Special-token variables for templates: "bos_token", "eos_token", "unk_token", "pad_token", "sep_token", ... and
 *  extra ones, a json object name -> string. Borrowed. */
const json_t *lm_tokenizer_special_tokens(const lm_tokenizer *tokenizer);
#endif
