/* SPDX-License-Identifier: MIT
 * folder.h: folders that appear at once or not at all: parents, removal, and the rename that publishes. */
#ifndef LM_CONVERT_FOLDER_H
#define LM_CONVERT_FOLDER_H
#include "base/status.h"

/** Removes a folder of plain files. */
void cv_folder_remove(const char *folder);
/** fsync of a folder; file systems that refuse it are forgiven. */
lm_status cv_folder_sync(const char *folder, lm_error *err);
/** Makes the folders above `path` that are missing; *made tells how many, so that a failure can take them back. */
lm_status cv_folder_make_parents(char *path, int *made, lm_error *err);
/** Takes back what cv_folder_make_parents made; cuts `path`. */
void cv_folder_remove_parents(char *path, int made);
/** LM_ARG if anything is called `target`. */
lm_status cv_folder_refuse_existing(const char *target, lm_error *err);
/** Syncs `folder`, renames it to `target`, syncs the folder above. */
lm_status cv_folder_publish(const char *folder, const char *target, lm_error *err);
#endif
