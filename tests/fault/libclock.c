/*
 * LD_PRELOAD: the clocks of a process, moved by the seconds in the file that CLOCK_OFFSET names: 8 bytes for the wall
 * clock, and, where they are there, 8 for the time since boot. The file may change at any time. Other clocks and all
 * timers are the kernel's own: that is what setting the wall clock does to a host; a timer on the time since boot is
 * then looked at when something else wakes its process.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { WALL, BOOT, CLOCKS };

static const volatile int64_t *offset; /* the page of a short file goes on with zeros */

__attribute__((constructor)) static void arm(void) {
        const char *path = getenv("CLOCK_OFFSET");
        int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

        if (fd < 0)
                return;
        void *map = mmap(NULL, CLOCKS * sizeof(*offset), PROT_READ, MAP_SHARED, fd, 0);
        (void) close(fd);
        if (map != MAP_FAILED)
                offset = map;
}

int clock_gettime(clockid_t clock, struct timespec *ts) {
        int r = (int) syscall(SYS_clock_gettime, clock, ts);

        if (r == 0 && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
                ts->tv_sec += offset[WALL];
        if (r == 0 && offset && clock == CLOCK_BOOTTIME)
                ts->tv_sec += offset[BOOT];
        return r;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_REALTIME, &ts);
        *tv = (struct timeval) { ts.tv_sec, ts.tv_nsec / 1000 };
        return 0;
}

time_t time(time_t *ret) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_REALTIME, &ts);
        if (ret)
                *ret = ts.tv_sec;
        return ts.tv_sec;
}
