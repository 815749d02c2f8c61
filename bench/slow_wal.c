/* Adds SLOW_WAL_US microseconds to each flush of PostgreSQL's WAL, to simulate a cloud disk.
 *
 * On Linux, PostgreSQL flushes the WAL with fdatasync(2) (wal_sync_method) and its tables with
 * fsync(2). So a preloaded fdatasync that sleeps first slows down only the WAL. Without the
 * delay, a fast disk hides the cost of a row that is locked during a flush. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int fdatasync(int file)
{
    static int (*flush)(int);
    const char *wait_us = getenv("SLOW_WAL_US");
    long us = wait_us ? atol(wait_us) : 0;
    struct timespec wait = {us / 1000000, us % 1000000 * 1000};

    if (!flush)
        flush = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (us > 0)
        nanosleep(&wait, NULL);
    return flush(file);
}
