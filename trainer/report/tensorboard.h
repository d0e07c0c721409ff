/*
 * TensorBoard event files: TFRecords (length, masked CRC-32C, bytes, masked CRC-32C) of tensorflow.Event messages (event.proto: 1 double
 * wall_time, 2 int64 step, 3 string file_version, 5 Summary, 7 SessionLog), written as they come. A new file for each attempt, named as
 * TensorBoard expects it; it begins with a SessionLog START at the step resumed from, which makes TensorBoard drop what an earlier file
 * holds from there on. A record that cannot be written is lost and training continues.
 */
#ifndef TRAINER_REPORT_TENSORBOARD_H
#define TRAINER_REPORT_TENSORBOARD_H

#include <stdint.h>

#include "common/error.h"

struct tensorboard;

/* FOLDER is made. `step`: the last one that stands; what follows is written again. */
int tensorboard_open(const char *folder, uint64_t step, struct tensorboard **ret, struct error *error);
void tensorboard_close(struct tensorboard *board);

/* One point of the curve `tag`, "train/loss"; a value that is not finite is skipped. Points are written by tensorboard_flush. */
void tensorboard_scalar(struct tensorboard *board, const char *tag, uint64_t step, double value);

/* Writes the points since the last call, all at once. */
void tensorboard_flush(struct tensorboard *board);

#endif
