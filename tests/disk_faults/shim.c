/* Counts what a process does to the files of a folder, and stops it at one of these changes: loaded by LD_PRELOAD.
 *
 * A change is a system call that makes, grows, cuts, renames or removes a file, whichever library makes it. Writes
 * through the C library's own buffers (fwrite) count when they are asked for. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, KILL, TEAR, FILL };

static long *counter; /* shared with the process that forked this one */
static char folder[PATH_MAX];
static size_t length;
static int mode;
static long at;

__attribute__((constructor)) static void begin(void) {
    counter = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* Watch a folder from now on; stop at the change of this number, counted from 1. */
void faults_begin(const char *watched, int what, long number) {
    length = strlen(watched);
    memcpy(folder, watched, length + 1);
    mode = what, at = number, *counter = 0;
}

long faults_count(void) { return *counter; }

static int is_within(const char *path) { return length && !strncmp(path, folder, length); }

static int is_of_fd(int fd) {
    char link[64], path[PATH_MAX];
    if (!length) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return is_within(path);
}

static int is_at(int directory, const char *path) { return *path == '/' ? is_within(path) : directory >= 0 && is_of_fd(directory); }

/* Return whether this change is to fail; end the process before it, or, to tear it, ask for what is done first. */
static int fails(int takes_space, int *tears) {
    if (mode == FILL && !takes_space) return 0;
    long number = __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
    if (tears) *tears = mode == TEAR && number == at;
    if (mode == KILL && number == at) kill(getpid(), SIGKILL);
    if (mode == FILL && number >= at) {
        errno = ENOSPC;
        return 1;
    }
    return 0;
}

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))
#define DIE() kill(getpid(), SIGKILL)

#define WRITES(name, parameters, arguments, torn)                                                                      \
    ssize_t name parameters {                                                                                          \
        int tears = 0;                                                                                                 \
        if (!is_of_fd(fd)) return REAL(name) arguments;                                                                \
        if (fails(1, &tears)) return -1;                                                                               \
        if (tears) {                                                                                                   \
            (void)!REAL(name) torn;                                                                                    \
            DIE();                                                                                                     \
        }                                                                                                              \
        return REAL(name) arguments;                                                                                   \
    }

WRITES(write, (int fd, const void *from, size_t size), (fd, from, size), (fd, from, size / 2))
WRITES(pwrite, (int fd, const void *from, size_t size, off_t to), (fd, from, size, to), (fd, from, size / 2, to))
WRITES(pwrite64, (int fd, const void *from, size_t size, off64_t to), (fd, from, size, to), (fd, from, size / 2, to))
WRITES(writev, (int fd, const struct iovec *from, int parts), (fd, from, parts), (fd, from, (parts + 1) / 2))
WRITES(sendfile, (int fd, int source, off_t *from, size_t size), (fd, source, from, size), (fd, source, from, size / 2))
WRITES(sendfile64, (int fd, int source, off64_t *from, size_t size), (fd, source, from, size), (fd, source, from, size / 2))

ssize_t copy_file_range(int source, off64_t *from, int fd, off64_t *to, size_t size, unsigned flags) {
    int tears = 0;
    if (is_of_fd(fd) && fails(1, &tears)) return -1;
    ssize_t done = REAL(copy_file_range)(source, from, fd, to, tears ? size / 2 : size, flags);
    if (tears) DIE();
    return done;
}

size_t fwrite(const void *from, size_t size, size_t count, FILE *file) {
    int tears = 0;
    if (is_of_fd(fileno(file)) && fails(1, &tears)) return 0;
    size_t done = REAL(fwrite)(from, size, tears ? count / 2 : count, file);
    if (tears) {
        fflush(file);
        DIE();
    }
    return done;
}

/* What else changes a folder; where it would be torn, the process ends just after it. */
#define CHANGES(name, parameters, arguments, concerned, takes_space)                                                   \
    int name parameters {                                                                                              \
        int tears = 0;                                                                                                 \
        if ((concerned) && fails(takes_space, &tears)) return -1;                                                      \
        int done = REAL(name) arguments;                                                                               \
        if (tears) DIE();                                                                                              \
        return done;                                                                                                   \
    }

CHANGES(rename, (const char *old, const char *new), (old, new), is_within(new), 0)
CHANGES(renameat, (int old_at, const char *old, int new_at, const char *new), (old_at, old, new_at, new), is_at(new_at, new), 0)
CHANGES(renameat2, (int old_at, const char *old, int new_at, const char *new, unsigned flags),
        (old_at, old, new_at, new, flags), is_at(new_at, new), 0)
CHANGES(unlink, (const char *path), (path), is_within(path), 0)
CHANGES(unlinkat, (int directory, const char *path, int flags), (directory, path, flags), is_at(directory, path), 0)
CHANGES(rmdir, (const char *path), (path), is_within(path), 0)
CHANGES(mkdir, (const char *path, mode_t permissions), (path, permissions), is_within(path), 1)
CHANGES(mkdirat, (int directory, const char *path, mode_t permissions), (directory, path, permissions), is_at(directory, path), 1)
CHANGES(link, (const char *old, const char *new), (old, new), is_within(new), 1)
CHANGES(symlink, (const char *old, const char *new), (old, new), is_within(new), 1)
CHANGES(truncate, (const char *path, off_t size), (path, size), is_within(path), 0)
CHANGES(ftruncate, (int fd, off_t size), (fd, size), is_of_fd(fd), 0)
CHANGES(ftruncate64, (int fd, off64_t size), (fd, size), is_of_fd(fd), 0)

#define OPENS(name, directory, parameters, arguments)                                                                  \
    int name parameters {                                                                                              \
        mode_t permissions = 0;                                                                                        \
        int tears = 0;                                                                                                 \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                                                         \
            va_list rest;                                                                                              \
            va_start(rest, flags);                                                                                     \
            permissions = va_arg(rest, int);                                                                           \
            va_end(rest);                                                                                              \
        }                                                                                                              \
        if (flags & (O_CREAT | O_TRUNC) && is_at(directory, path) && fails(1, &tears)) return -1;                      \
        int done = REAL(name) arguments;                                                                               \
        if (tears) DIE();                                                                                              \
        return done;                                                                                                   \
    }

OPENS(open, AT_FDCWD, (const char *path, int flags, ...), (path, flags, permissions))
OPENS(open64, AT_FDCWD, (const char *path, int flags, ...), (path, flags, permissions))
OPENS(openat, directory, (int directory, const char *path, int flags, ...), (directory, path, flags, permissions))
OPENS(openat64, directory, (int directory, const char *path, int flags, ...), (directory, path, flags, permissions))

#define STREAMS(name)                                                                                                  \
    FILE *name(const char *path, const char *how) {                                                                    \
        int tears = 0;                                                                                                 \
        if (strpbrk(how, "wa+") && is_within(path) && fails(1, &tears)) return NULL;                                   \
        FILE *done = REAL(name)(path, how);                                                                            \
        if (tears) DIE();                                                                                              \
        return done;                                                                                                   \
    }

STREAMS(fopen)
STREAMS(fopen64)
