/* The number that a regression's label is. */
#ifndef TRAINER_DATA_TARGET_H
#define TRAINER_DATA_TARGET_H

/* A decimal number, as "3.5" or "-1e-3", with spaces around it or not, that fp32 holds. −EINVAL: not such a number; −ERANGE: beyond fp32. */
int target_parse(const char *text, double *ret);

#endif
