/* What traffic.cc has counted, for C. */
#ifndef EMULATION_TRAFFIC_H
#define EMULATION_TRAFFIC_H

#include <stdint.h>

struct traffic {
        uint64_t launches, read, written; /* bytes */
};

#ifdef __cplusplus
extern "C" {
#endif
void traffic_begin(void);
/* Calls `each` for every function of the module that launched something, by name; for "products", "copies" and
 * "zeroing". */
void traffic_end(void (*each)(void *userdata, const char *who, const struct traffic *traffic), void *userdata);
#ifdef __cplusplus
}
#endif

#endif
