/* Preloaded into a process, this records each change of its database files, in the order in which they happened.

   DISK_FILES  the absolute path that the files' names begin with
   DISK_LOG    the file to append the records to: struct record, the path, the data

   An operation and its record are one step for all threads and processes, so that the log's order is the true one. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct record {
  uint32_t kind, path_length;
  uint64_t offset, length; /* length: of the data; of the new name for a rename; 0 else */
};

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static const char *prefix;
static char folder[PATH_MAX];
static int log_file = -1;

__attribute__((constructor)) static void begin(void) {
  prefix = getenv("DISK_FILES");
  const char *name = getenv("DISK_LOG");
  if (!prefix || !name) return;
  snprintf(folder, sizeof folder, "%s", prefix);
  char *slash = strrchr(folder, '/');
  if (slash) *slash = 0;
  log_file = open(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static void take(void) {
  pthread_mutex_lock(&turn);
  flock(log_file, LOCK_EX);
}

static void give(void) {
  flock(log_file, LOCK_UN);
  pthread_mutex_unlock(&turn);
}

static void append(char kind, const char *path, uint64_t offset, const void *data, uint64_t length) {
  struct record head = {(uint32_t)kind, (uint32_t)strlen(path), offset, length};
  struct iovec parts[] = {{&head, sizeof head}, {(void *)path, head.path_length}, {(void *)data, length}};
  ssize_t whole = (ssize_t)(sizeof head + head.path_length + length);
  if (writev(log_file, parts, 3) != whole) abort();
}

/* The path of an open file where it is one of the database's, or of their folder. */
static int watched(int file, char path[PATH_MAX]) {
  struct stat status;
  char link[64];
  if (log_file < 0 || file == log_file || fstat(file, &status)) return 0;
  if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return S_ISDIR(status.st_mode) ? !strcmp(path, folder) : !strncmp(path, prefix, strlen(prefix));
}

static int named(const char *path) { return log_file >= 0 && !strncmp(path, prefix, strlen(prefix)); }

#define REAL(name) static __typeof__(name) *real; if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

#define PWRITE(name, offset_type) \
  ssize_t name(int file, const void *data, size_t length, offset_type offset) { \
    REAL(name); \
    char path[PATH_MAX]; \
    if (!watched(file, path)) return real(file, data, length, offset); \
    take(); \
    ssize_t written = real(file, data, length, offset); \
    if (written > 0) append('w', path, (uint64_t)offset, data, (uint64_t)written); \
    give(); \
    return written; \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t write(int file, const void *data, size_t length) {
  REAL(write);
  char path[PATH_MAX];
  if (!watched(file, path)) return real(file, data, length);
  take();
  off64_t offset = lseek64(file, 0, SEEK_CUR);
  ssize_t written = real(file, data, length);
  if (written > 0) append('w', path, (uint64_t)offset, data, (uint64_t)written);
  give();
  return written;
}

#define FTRUNCATE(name, offset_type) \
  int name(int file, offset_type length) { \
    REAL(name); \
    char path[PATH_MAX]; \
    if (!watched(file, path)) return real(file, length); \
    take(); \
    int failed = real(file, length); \
    if (!failed) append('t', path, (uint64_t)length, NULL, 0); \
    give(); \
    return failed; \
  }
FTRUNCATE(ftruncate, off_t)
FTRUNCATE(ftruncate64, off64_t)

#define FLUSH(name) \
  int name(int file) { \
    REAL(name); \
    char path[PATH_MAX]; \
    if (!watched(file, path)) return real(file); \
    take(); \
    int failed = real(file); \
    if (!failed) append('s', path, 0, NULL, 0); \
    give(); \
    return failed; \
  }
FLUSH(fsync)
FLUSH(fdatasync)

int unlink(const char *path) {
  REAL(unlink);
  if (!named(path)) return real(path);
  take();
  int failed = real(path);
  if (!failed) append('u', path, 0, NULL, 0);
  give();
  return failed;
}

int rename(const char *from, const char *to) {
  REAL(rename);
  if (!named(from) && !named(to)) return real(from, to);
  take();
  int failed = real(from, to);
  if (!failed) append('r', from, 0, to, strlen(to));
  give();
  return failed;
}
