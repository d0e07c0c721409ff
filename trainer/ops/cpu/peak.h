/* The rate that MFU is measured against: the matrix product alone, at its best shape. */
#ifndef TRAINER_OPS_CPU_PEAK_H
#define TRAINER_OPS_CPU_PEAK_H

/* FLOPs of all threads together in a unit of `now`, the best of `rounds`; each thread by itself multiplies what its caches hold. 0: no memory. */
double cpu_peak(unsigned rounds, double (*now)(void));

/* ops.h's entry. */
double cpu_peak_flops(void);

#endif
