/* Stands for NVIDIA's driver, libcuda.so.1, whose presence is all that bert-trainer looks at before it loads the CUDA
 * module. */
int emulated_driver(void);
int emulated_driver(void) { return 0; }
