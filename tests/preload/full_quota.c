/* Refuses writes below a directory as a full quota does: preloaded by tests/preloads.py.

   QUOTA_DIRECTORY names it; its quota is full while it has a file of the name below. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int refused(int file) {
    const char *directory = getenv("QUOTA_DIRECTORY");
    char mark[PATH_MAX], link[64], path[PATH_MAX];
    if (!directory) return 0;
    snprintf(mark, sizeof mark, "%s/the quota is full", directory);
    if (access(mark, F_OK) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    size_t prefix = strlen(directory);
    if (length < (ssize_t)prefix || strncmp(path, directory, prefix) != 0) return 0;
    errno = EDQUOT;
    return 1;
}

ssize_t write(int file, const void *data, size_t size) {
    return refused(file) ? -1 : syscall(SYS_write, file, data, size);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    return refused(file) ? -1 : syscall(SYS_writev, file, parts, count);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t offset) {
    return refused(file) ? -1 : syscall(SYS_pwrite64, file, data, size, offset);
}
