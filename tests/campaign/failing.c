// Makes one call of the C library on files below FAIL_UNDER fail, the FAIL_AT-th, with errno FAIL_ERRNO; with FAIL_ON, every call
// from it on. Writes the number of calls to FAIL_COUNT at the end.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static long at, calls;
static int error, on;
static const char *under, *counted;

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

__attribute__((constructor)) static void begin(void) {
    at = number("FAIL_AT");
    error = (int)number("FAIL_ERRNO");
    on = (int)number("FAIL_ON");
    under = getenv("FAIL_UNDER");
    counted = getenv("FAIL_COUNT");
}

__attribute__((destructor)) static void end(void) {
    FILE *file = counted ? fopen(counted, "w") : NULL;
    if (file) {
        fprintf(file, "%ld\n", calls);
        fclose(file);
    }
}

static int fails(const char *path) {
    if (!under || !path || strncmp(path, under, strlen(under))) return 0;
    long call = __sync_add_and_fetch(&calls, 1);
    if (at && (call == at || (on && call > at))) {
        errno = error;
        return 1;
    }
    return 0;
}

static int fails_on(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fails(path);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define OPEN(name)                                                     \
    int name(const char *path, int flags, ...) {                       \
        va_list rest;                                                  \
        va_start(rest, flags);                                         \
        mode_t mode = va_arg(rest, mode_t);                            \
        va_end(rest);                                                  \
        return fails(path) ? -1 : NEXT(name)(path, flags, mode);       \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                   \
    int name(int folder, const char *path, int flags, ...) {           \
        va_list rest;                                                  \
        va_start(rest, flags);                                         \
        mode_t mode = va_arg(rest, mode_t);                            \
        va_end(rest);                                                  \
        return fails(path) ? -1 : NEXT(name)(folder, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void *bytes, size_t count) { return fails_on(fd) ? -1 : NEXT(write)(fd, bytes, count); }
ssize_t read(int fd, void *bytes, size_t count) { return fails_on(fd) ? -1 : NEXT(read)(fd, bytes, count); }
int fsync(int fd) { return fails_on(fd) ? -1 : NEXT(fsync)(fd); }
int fdatasync(int fd) { return fails_on(fd) ? -1 : NEXT(fdatasync)(fd); }
int mkdir(const char *path, mode_t mode) { return fails(path) ? -1 : NEXT(mkdir)(path, mode); }
int unlink(const char *path) { return fails(path) ? -1 : NEXT(unlink)(path); }
int rename(const char *from, const char *to) { return fails(from) ? -1 : NEXT(rename)(from, to); }
