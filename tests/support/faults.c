/* Makes chosen system calls on one directory fail, hang or take their time, while a process runs.
 *
 * Loaded with LD_PRELOAD. TIDEGATE_FAULTS_DIR names the directory, TIDEGATE_FAULTS_CONTROL a file of `struct rule`s, one
 * for each kind of call, that a test writes and this reads with each call. See faults.rs, which knows the same layout.
 *
 * TIDEGATE_CLOCK_SHIFT says by how many seconds the wall clock of the process goes wrong.
 *
 * A read that must not wait is told that it would have to while reads are disturbed: what waits is what a disk disturbs.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { OPEN, CREATE, READ, WRITE, RENAME, REMOVE, MKDIR, LIST, SEND, KINDS };
enum mode { NONE, FAIL, HANG, SLOW };

struct rule {
    int64_t mode;
    int64_t value;  /* FAIL: errno. SLOW: milliseconds. */
    int64_t after;  /* FAIL of WRITE: bytes that are still written before. */
    int64_t struck; /* Calls that were disturbed so far. */
};

static struct rule none[KINDS];
static volatile struct rule *rules = none;
static char root[PATH_MAX];
static size_t root_length;

static time_t shift;

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec += shift;
    return failed;
}

__attribute__((constructor)) static void start(void) {
    const char *seconds = getenv("TIDEGATE_CLOCK_SHIFT");
    if (seconds) shift = (time_t)atoll(seconds);
    const char *directory = getenv("TIDEGATE_FAULTS_DIR"), *control = getenv("TIDEGATE_FAULTS_CONTROL");
    if (!directory || !control || strlen(directory) >= sizeof root) return;
    strcpy(root, directory);
    root_length = strlen(root);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, control, O_RDWR | O_CLOEXEC, 0);
    void *mapped = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof none, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) {
        fprintf(stderr, "faults: %s: %s\n", control, strerror(errno));
        _exit(99);
    }
    close(fd);
    rules = mapped;
}

static int is_inside(const char *path) {
    return root_length && !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

static int is_file_inside(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return is_inside(path);
}

/* The directories that entries lie in, and not the one that holds them nor `tmp/`, which are listed before anything is
 * served. */
static int is_fan_out(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return is_inside(path) && strlen(path) == root_length + 3;
}

static int is_path_inside(int at, const char *path) {
    return path[0] == '/' || at == AT_FDCWD ? is_inside(path) : is_file_inside(at);
}

static int is_on(enum kind kind) { return rules[kind].mode != NONE; }

/* What is to happen: 0, and the call is made; or an errno. */
static int strike(enum kind kind) {
    volatile struct rule *rule = &rules[kind];
    switch (rule->mode) {
    case FAIL:
        __atomic_add_fetch(&rule->struck, 1, __ATOMIC_SEQ_CST);
        return (int)rule->value;
    case HANG:
        __atomic_add_fetch(&rule->struck, 1, __ATOMIC_SEQ_CST);
        while (rule->mode == HANG) nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        return rule->mode == FAIL ? (int)rule->value : 0;
    case SLOW:
        __atomic_add_fetch(&rule->struck, 1, __ATOMIC_SEQ_CST);
        nanosleep(&(struct timespec){rule->value / 1000, rule->value % 1000 * 1000000}, NULL);
        return 0;
    default:
        return 0;
    }
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define STRIKE(kind, condition)                    \
    do {                                           \
        if (is_on(kind) && (condition)) {          \
            int error_ = strike(kind);             \
            if (error_) return errno = error_, -1; \
        }                                          \
    } while (0)

static enum kind kind_of(int flags) { return flags & (O_CREAT | O_WRONLY | O_RDWR) ? CREATE : OPEN; }

static mode_t mode_of(int flags, va_list rest) {
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

#define OPENING(name)                                       \
    int name(const char *path, int flags, ...) {            \
        va_list rest;                                       \
        va_start(rest, flags);                              \
        mode_t mode = mode_of(flags, rest);                 \
        va_end(rest);                                       \
        STRIKE(kind_of(flags), is_path_inside(AT_FDCWD, path)); \
        return NEXT(name)(path, flags, mode);               \
    }
#define OPENING_AT(name)                                    \
    int name(int at, const char *path, int flags, ...) { \
        va_list rest;                                       \
        va_start(rest, flags);                              \
        mode_t mode = mode_of(flags, rest);                 \
        va_end(rest);                                       \
        STRIKE(kind_of(flags), is_path_inside(at, path)); \
        return NEXT(name)(at, path, flags, mode);        \
    }

OPENING(open)
OPENING(open64)
OPENING_AT(openat)
OPENING_AT(openat64)

/* openat2 has no function of its own. All arguments are passed on as they came. */
long syscall(long number, ...) {
    va_list rest;
    long a[6];
    va_start(rest, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(rest, long);
    va_end(rest);
    if (number == SYS_openat2 && (is_on(OPEN) || is_on(READ)) && is_path_inside((int)a[0], (const char *)a[1]))
        return errno = EAGAIN, -1;
    return NEXT(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

ssize_t read(int fd, void *bytes, size_t length) {
    STRIKE(READ, is_file_inside(fd));
    return NEXT(read)(fd, bytes, length);
}

ssize_t pread64(int fd, void *bytes, size_t length, off64_t at) {
    STRIKE(READ, is_file_inside(fd));
    return NEXT(pread64)(fd, bytes, length, at);
}

ssize_t preadv64v2(int fd, const struct iovec *vectors, int count, off64_t at, int flags) {
    if (is_on(READ) && flags & RWF_NOWAIT && is_file_inside(fd)) return errno = EAGAIN, -1;
    STRIKE(READ, is_file_inside(fd));
    return NEXT(preadv64v2)(fd, vectors, count, at, flags);
}

ssize_t sendfile64(int to, int fd, off64_t *at, size_t length) {
    STRIKE(SEND, is_file_inside(fd));
    return NEXT(sendfile64)(to, fd, at, length);
}

/* Whether so many bytes are within what is still written. */
static int is_paid(size_t length) {
    int64_t left = __atomic_sub_fetch(&rules[WRITE].after, (int64_t)length, __ATOMIC_SEQ_CST);
    return rules[WRITE].mode == FAIL && left >= 0;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    STRIKE(WRITE, is_file_inside(fd) && !is_paid(length));
    return NEXT(write)(fd, bytes, length);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    STRIKE(WRITE, is_file_inside(fd) && !is_paid(length));
    return NEXT(pwrite64)(fd, bytes, length, at);
}

ssize_t pwritev64(int fd, const struct iovec *vectors, int count, off64_t at) {
    size_t length = 0;
    for (int i = 0; i < count; i++) length += vectors[i].iov_len;
    STRIKE(WRITE, is_file_inside(fd) && !is_paid(length));
    return NEXT(pwritev64)(fd, vectors, count, at);
}

int renameat(int from, const char *old, int to, const char *new) {
    STRIKE(RENAME, is_path_inside(to, new));
    return NEXT(renameat)(from, old, to, new);
}

int unlinkat(int at, const char *path, int flags) {
    STRIKE(REMOVE, is_path_inside(at, path));
    return NEXT(unlinkat)(at, path, flags);
}

int unlink(const char *path) {
    STRIKE(REMOVE, is_inside(path));
    return NEXT(unlink)(path);
}

int mkdirat(int at, const char *path, mode_t mode) {
    STRIKE(MKDIR, is_path_inside(at, path));
    return NEXT(mkdirat)(at, path, mode);
}

int mkdir(const char *path, mode_t mode) {
    STRIKE(MKDIR, is_inside(path));
    return NEXT(mkdir)(path, mode);
}

struct dirent64 *readdir64(DIR *directory) {
    if (is_on(LIST) && is_fan_out(dirfd(directory))) {
        int error = strike(LIST);
        if (error) return errno = error, NULL;
    }
    return NEXT(readdir64)(directory);
}
