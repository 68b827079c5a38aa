/* A disk whose power can be cut, for a program that it is preloaded into.
 *
 * What the program writes to files below UNSYNCED_DIR goes there at once, so that every reader sees it, but what was
 * there before is first noted in UNSYNCED_LOG; that a file or a directory was synced is noted too. When the program was
 * killed, whoever reads the log can take back whatever was not synced: see storage.rs.
 *
 * While UNSYNCED_FAULT is a file that says ENOSPC, EROFS or EIO, nothing can be written, or synced in case of EIO.
 *
 * Files that end in -shm are left alone: SQLite maps them into memory and makes them anew after a crash. Renaming is
 * taken to be durable, and so is unlinking.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { WRITTEN = 1, SYNCED = 2, CREATED = 3, UNLINKED = 4 };

/* A record of the log: this, the path, and `length` bytes that were at `offset` of a file of `size` bytes. Of SYNCED the
 * offset is that in the log up to which it is. */
struct head {
  uint32_t kind;
  uint32_t path_length;
  uint64_t offset;
  uint64_t size;
  uint64_t length;
};

/* As long as a good disk takes. */
static const struct timespec sync_time = {0, 4000000};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char dir[PATH_MAX];
static char fault[PATH_MAX];
static int log_fd = -1;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_pread)(int, void *, size_t, off_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwritev)(int, const struct iovec *, int, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fallocate)(int, int, off_t, off_t);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_unlinkat)(int, const char *, int);

static void *find(const char *name) {
  void *found = dlsym(RTLD_NEXT, name);
  if (!found) abort();
  return found;
}

__attribute__((constructor)) static void start(void) {
  real_write = find("write");
  real_pwrite = find("pwrite");
  real_pread = find("pread");
  real_writev = find("writev");
  real_pwritev = find("pwritev");
  real_ftruncate = find("ftruncate");
  real_fallocate = find("fallocate");
  real_openat = find("openat");
  real_unlinkat = find("unlinkat");
  const char *below = getenv("UNSYNCED_DIR"), *log = getenv("UNSYNCED_LOG"), *control = getenv("UNSYNCED_FAULT");
  if (!below || !log) return;
  snprintf(dir, sizeof dir, "%s/", below);
  if (control) snprintf(fault, sizeof fault, "%s", control);
  log_fd = real_openat(AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (log_fd < 0) abort();
}

/* Whether a path is of a file that we look after. */
static int is_ours(const char *path) {
  size_t length = strlen(path);
  if (log_fd < 0 || strncmp(path, dir, strlen(dir)) != 0) return 0;
  if (length >= 4 && strcmp(path + length - 4, "-shm") == 0) return 0;
  return !strstr(path, " (deleted)");
}

/* The path of an open file, if we look after it. */
static int ours(int fd, char path[PATH_MAX]) {
  char link[64];
  int saved = errno;
  if (log_fd < 0 || fd < 3) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  errno = saved;
  if (length <= 0) return 0;
  path[length] = 0;
  return is_ours(path);
}

/* A path as the system would name the file, if we look after it. */
static int ours_by_name(int at, const char *name, char path[PATH_MAX]) {
  char parent[PATH_MAX], copy[PATH_MAX];
  int saved = errno;
  if (log_fd < 0) return 0;
  /* What is named in relation to an open directory is not what stores do. */
  if (name[0] != '/' && at != AT_FDCWD) return 0;
  snprintf(copy, sizeof copy, "%s", name);
  char *slash = strrchr(copy, '/');
  const char *last = slash ? slash + 1 : copy;
  if (slash) *slash = 0;
  int found = realpath(slash ? (*copy ? copy : "/") : ".", parent) != NULL;
  errno = saved;
  if (!found || snprintf(path, PATH_MAX, "%s/%s", parent, last) >= PATH_MAX) return 0;
  return is_ours(path);
}

/* What is told to go wrong: an errno, or 0. */
static int told_fault(void) {
  char text[16] = {0};
  int saved = errno;
  if (!*fault) return 0;
  int fd = real_openat(AT_FDCWD, fault, O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    ssize_t length = read(fd, text, sizeof text - 1);
    (void)length;
    close(fd);
  }
  errno = saved;
  if (strncmp(text, "ENOSPC", 6) == 0) return ENOSPC;
  if (strncmp(text, "EROFS", 5) == 0) return EROFS;
  if (strncmp(text, "EIO", 3) == 0) return EIO;
  return 0;
}

static int fails(int on_writing) {
  int told = told_fault();
  if (!told || (told == EIO) == on_writing) return 0;
  errno = told;
  return 1;
}

static void append(const void *bytes, size_t length) {
  const char *from = bytes;
  while (length > 0) {
    ssize_t done = real_write(log_fd, from, length);
    if (done < 0 && errno == EINTR) continue;
    /* Without a log the test would tell nothing. */
    if (done <= 0) abort();
    from += done;
    length -= done;
  }
}

static void note(enum kind kind, const char *path, uint64_t offset, uint64_t size, const void *old, uint64_t length) {
  struct head head = {kind, strlen(path), offset, size, length};
  int saved = errno;
  append(&head, sizeof head);
  append(path, head.path_length);
  append(old, length);
  errno = saved;
}

/* Notes what is at a place that will be written to. */
static void note_old(int fd, const char *path, off_t offset, uint64_t length) {
  struct stat stat;
  int saved = errno;
  if (fstat(fd, &stat) != 0) abort();
  uint64_t size = stat.st_size, from = offset, known = 0;
  if (from < size) known = length < size - from ? length : size - from;
  char *old = malloc(known + 1), link[64];
  if (!old) abort();
  int reader = fd;
  /* It may be open for writing only. */
  if ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY) {
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    reader = real_openat(AT_FDCWD, link, O_RDONLY | O_CLOEXEC);
  }
  for (uint64_t done = 0; done < known;) {
    ssize_t got = real_pread(reader, old + done, known - done, from + done);
    if (got <= 0) abort();
    done += got;
  }
  if (reader != fd) close(reader);
  errno = saved;
  note(WRITTEN, path, from, size, old, known);
  free(old);
}

static off_t position(int fd) {
  struct stat stat;
  if (fcntl(fd, F_GETFL) & O_APPEND) return fstat(fd, &stat) == 0 ? stat.st_size : 0;
  return lseek(fd, 0, SEEK_CUR);
}

static size_t sum(const struct iovec *parts, int count) {
  size_t length = 0;
  for (int i = 0; i < count; i++) length += parts[i].iov_len;
  return length;
}

/* Does something that writes to `length` bytes at `offset`. */
#define WRITE(type, offset, length, call)                \
  do {                                                   \
    char path[PATH_MAX];                                 \
    if (!ours(fd, path)) return call;                    \
    if (fails(1)) return -1;                             \
    pthread_mutex_lock(&lock);                           \
    note_old(fd, path, offset, length);                  \
    type result = call;                                  \
    pthread_mutex_unlock(&lock);                         \
    return result;                                       \
  } while (0)

ssize_t write(int fd, const void *bytes, size_t length) {
  WRITE(ssize_t, position(fd), length, real_write(fd, bytes, length));
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
  WRITE(ssize_t, offset, length, real_pwrite(fd, bytes, length, offset));
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset) { return pwrite(fd, bytes, length, offset); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
  WRITE(ssize_t, position(fd), sum(parts, count), real_writev(fd, parts, count));
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
  WRITE(ssize_t, offset, sum(parts, count), real_pwritev(fd, parts, count, offset));
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset) {
  return pwritev(fd, parts, count, offset);
}

int ftruncate(int fd, off_t size) { WRITE(int, size, UINT64_MAX, real_ftruncate(fd, size)); }

int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }

int fallocate(int fd, int mode, off_t offset, off_t length) {
  WRITE(int, offset, length, real_fallocate(fd, mode, offset, length));
}

int fallocate64(int fd, int mode, off_t offset, off_t length) { return fallocate(fd, mode, offset, length); }

int posix_fallocate(int fd, off_t offset, off_t length) { return fallocate(fd, 0, offset, length) == 0 ? 0 : errno; }

int posix_fallocate64(int fd, off_t offset, off_t length) { return posix_fallocate(fd, offset, length); }

/* Of our files nothing is lost but by the log: the disk itself need not be waited for. */
static int sync_by(const char *name, int fd) {
  char path[PATH_MAX] = {0};
  /* The directory itself, for its entries. */
  int is_top = !ours(fd, path) && strlen(path) + 1 == strlen(dir) && strncmp(path, dir, strlen(path)) == 0;
  if (!is_top && !is_ours(path)) {
    int (*real)(int) = find(name);
    return real(fd);
  }
  if (fails(0)) return -1;
  struct stat stat = {0};
  pthread_mutex_lock(&lock);
  if (fstat(log_fd, &stat) != 0) abort();
  pthread_mutex_unlock(&lock);
  nanosleep(&sync_time, NULL);
  pthread_mutex_lock(&lock);
  note(SYNCED, path, stat.st_size, 0, "", 0);
  pthread_mutex_unlock(&lock);
  return 0;
}

int fsync(int fd) { return sync_by("fsync", fd); }

int fdatasync(int fd) { return sync_by("fdatasync", fd); }

int sync_file_range(int fd, off_t offset, off_t length, unsigned flags) {
  /* It promises nothing: sync_file_range(2), "Warning". */
  (void)fd, (void)offset, (void)length, (void)flags;
  return 0;
}

static int open_at(int at, const char *name, int flags, mode_t mode) {
  char path[PATH_MAX];
  struct stat stat_of;
  int writes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
  if (!writes || !ours_by_name(at, name, path)) return real_openat(at, name, flags, mode);
  int saved = errno, is_there = stat(path, &stat_of) == 0;
  errno = saved;
  int told = told_fault();
  if (told == EROFS || (told == ENOSPC && !is_there)) {
    errno = told;
    return -1;
  }
  pthread_mutex_lock(&lock);
  if (!is_there && (flags & O_CREAT)) note(CREATED, path, 0, 0, "", 0);
  if (is_there && (flags & O_TRUNC)) {
    int before = real_openat(at, name, O_RDONLY | O_CLOEXEC);
    if (before >= 0) {
      note_old(before, path, 0, UINT64_MAX);
      close(before);
    }
  }
  int fd = real_openat(at, name, flags, mode);
  pthread_mutex_unlock(&lock);
  return fd;
}

#define MODE(flags)                                  \
  mode_t mode = 0;                                   \
  if ((flags) & (O_CREAT | __O_TMPFILE)) {           \
    va_list more;                                    \
    va_start(more, flags);                           \
    mode = va_arg(more, mode_t);                     \
    va_end(more);                                    \
  }

int open(const char *name, int flags, ...) {
  MODE(flags)
  return open_at(AT_FDCWD, name, flags, mode);
}

int open64(const char *name, int flags, ...) {
  MODE(flags)
  return open_at(AT_FDCWD, name, flags, mode);
}

int openat(int at, const char *name, int flags, ...) {
  MODE(flags)
  return open_at(at, name, flags, mode);
}

int openat64(int at, const char *name, int flags, ...) {
  MODE(flags)
  return open_at(at, name, flags, mode);
}

static int unlink_at(int at, const char *name, int flags) {
  char path[PATH_MAX];
  int is_ours = ours_by_name(at, name, path);
  if (is_ours && told_fault() == EROFS) {
    errno = EROFS;
    return -1;
  }
  pthread_mutex_lock(&lock);
  int result = real_unlinkat(at, name, flags);
  if (is_ours && result == 0) note(UNLINKED, path, 0, 0, "", 0);
  pthread_mutex_unlock(&lock);
  return result;
}

int unlink(const char *name) { return unlink_at(AT_FDCWD, name, 0); }

int unlinkat(int at, const char *name, int flags) { return unlink_at(at, name, flags); }
