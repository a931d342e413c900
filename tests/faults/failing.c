/* Loaded before the C library (LD_PRELOAD): calls that fail as a bad disk makes them, and a wall clock that was set.

   FAULT_CALLS  which calls: any of write,pwrite,fsync,rename,read,open, separated by commas
   FAULT_PATH   of files whose path holds this text
   FAULT_AFTER  how many of them go well before
   FAULT_COUNT  how many fail then (default: all)
   FAULT_ERRNO  with which errno (default: EIO)
   FAULT_CLOCK  a file that holds seconds to add to the wall clock, read whenever it is asked
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static atomic_long seen;

static int fails(const char *call, const char *path) {
    const char *calls = getenv("FAULT_CALLS"), *part = getenv("FAULT_PATH");
    if (!calls || !part || !path) return 0;
    const char *at = calls;
    size_t length = strlen(call);
    while ((at = strstr(at, call)) && !((at == calls || at[-1] == ',') && (at[length] == ',' || !at[length]))) at++;
    if (!at || !strstr(path, part)) return 0;
    const char *after = getenv("FAULT_AFTER"), *count = getenv("FAULT_COUNT"), *number = getenv("FAULT_ERRNO");
    long first = after ? atol(after) : 0, most = count ? atol(count) : LONG_MAX - first, mine = atomic_fetch_add(&seen, 1);
    if (mine < first || mine >= first + most) return 0;
    errno = number ? atoi(number) : EIO;
    return 1;
}

static int fails_on(const char *call, int file) {
    if (!getenv("FAULT_CALLS")) return 0;
    int before = errno;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length < 0) return 0;
    path[length] = 0;
    return fails(call, path);
}

#define NEXT(type, name, ...) ((type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

ssize_t write(int file, const void *data, size_t size) {
    return fails_on("write", file) ? -1 : NEXT(ssize_t, write, int, const void *, size_t)(file, data, size);
}
ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    return fails_on("pwrite", file) ? -1 : NEXT(ssize_t, pwrite, int, const void *, size_t, off_t)(file, data, size, at);
}
ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    if (fails_on("pwrite", file)) return -1;
    return NEXT(ssize_t, pwrite64, int, const void *, size_t, off64_t)(file, data, size, at);
}
ssize_t read(int file, void *data, size_t size) {
    return fails_on("read", file) ? -1 : NEXT(ssize_t, read, int, void *, size_t)(file, data, size);
}
ssize_t pread64(int file, void *data, size_t size, off64_t at) {
    return fails_on("read", file) ? -1 : NEXT(ssize_t, pread64, int, void *, size_t, off64_t)(file, data, size, at);
}
int fsync(int file) { return fails_on("fsync", file) ? -1 : NEXT(int, fsync, int)(file); }
int fdatasync(int file) { return fails_on("fsync", file) ? -1 : NEXT(int, fdatasync, int)(file); }
int rename(const char *from, const char *to) {
    return fails("rename", to) ? -1 : NEXT(int, rename, const char *, const char *)(from, to);
}
int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    if (fails("rename", to)) return -1;
    return NEXT(int, renameat2, int, const char *, int, const char *, unsigned)(from_at, from, to_at, to, flags);
}
int renameat(int from_at, const char *from, int to_at, const char *to) {
    if (fails("rename", to)) return -1;
    return NEXT(int, renameat, int, const char *, int, const char *)(from_at, from, to_at, to);
}
int open64(const char *path, int flags, ...) {
    va_list given;
    va_start(given, flags);
    mode_t mode = va_arg(given, mode_t);
    va_end(given);
    return fails("open", path) ? -1 : NEXT(int, open64, const char *, int, ...)(path, flags, mode);
}

static double added(void) {
    const char *name = getenv("FAULT_CLOCK");
    if (!name) return 0;
    int before = errno, file = syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC);
    char text[32] = "";
    if (file >= 0) {
        ssize_t length = syscall(SYS_read, file, text, sizeof text - 1);
        text[length > 0 ? length : 0] = 0;
        syscall(SYS_close, file);
    }
    errno = before;
    return atof(text);
}
int clock_gettime(clockid_t clock, struct timespec *found) {
    int done = NEXT(int, clock_gettime, clockid_t, struct timespec *)(clock, found);
    if (!done && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) found->tv_sec += (time_t)added();
    return done;
}
int gettimeofday(struct timeval *restrict found, void *restrict zone) {
    int done = NEXT(int, gettimeofday, struct timeval *, void *)(found, zone);
    if (!done) found->tv_sec += (time_t)added();
    return done;
}
time_t time(time_t *found) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (found) *found = now.tv_sec;
    return now.tv_sec;
}
