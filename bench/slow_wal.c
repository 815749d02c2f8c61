/* Makes each flush of PostgreSQL's log take SLOW_WAL_US microseconds longer, as on a cloud's disk.
 *
 * PostgreSQL flushes its log by fdatasync(2) on Linux (wal_sync_method), and its tables by fsync(2).
 * So a preloaded fdatasync that sleeps first slows down the log alone. Without it a fast disk, or one
 * that only pretends to have written, hides what a row costs that is locked while it is flushed. */

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
