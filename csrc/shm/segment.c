/* SPDX-License-Identifier: Apache-2.0 */
/* Creation and mapping of shared segments, see segment.h. */
#define _GNU_SOURCE
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/sys.h"

#define PAGE 4096u
#define MADV_POPULATE_READ_NUMBER 22 /* Linux 5.14 */
#define MADV_POPULATE_WRITE_NUMBER 23

bool orion_pages_populate(void *address, size_t bytes, bool writable)
{
    if (madvise(address, bytes, writable ? MADV_POPULATE_WRITE_NUMBER : MADV_POPULATE_READ_NUMBER) == 0)
        return true;
    if (errno != EINVAL)
        return false; /* ENOMEM, EFAULT: what would have been a SIGBUS */
    for (size_t at = 0; at < bytes; at += PAGE) {
        uint32_t *word = (uint32_t *)((char *)address + at);
        if (writable) {
            (void)__atomic_fetch_or(word, 0, __ATOMIC_RELAXED); /* a write fault that changes nothing the peer wrote */
        } else {
            (void)orion_load_relaxed(word);
        }
    }
    return true;
}

static bool read_number(const char *path, uint64_t *value_p)
{
    char text[32];
    /* "max" is no number: no limit */
    return orion_read_text(path, text, sizeof(text)) && orion_parse_u64_prefix(text, value_p) != NULL;
}

/* "MemAvailable:   23289844 kB" of /proc/meminfo */
static bool read_available(uint64_t *bytes_p)
{
    static const char key[] = "MemAvailable:";
    char text[1024];
    uint64_t kib;
    if (!orion_read_text("/proc/meminfo", text, sizeof(text)))
        return false;
    const char *at = strstr(text, key);
    if (at == NULL)
        return false;
    at += sizeof(key) - 1;
    while (*at == ' ')
        at++;
    if (orion_parse_u64_prefix(at, &kib) == NULL)
        return false;
    *bytes_p = kib << 10;
    return true;
}

bool orion_memory_available(uint64_t bytes)
{
    uint64_t limit, used, available;
    /* first: allocating more than the machine has does not fail, it calls the OOM killer on somebody */
    if (read_available(&available) && bytes > available)
        return false;
    if (!read_number("/sys/fs/cgroup/memory.max", &limit))
        return true;
    if (!read_number("/sys/fs/cgroup/memory.current", &used))
        return true;
    return used < limit && limit - used >= bytes;
}

int orion_memfd_sized(const char *label, size_t bytes, char *why, size_t why_bytes)
{
    if (!orion_memory_available(bytes)) {
        orion_explain(why, why_bytes,
                      "no room for %zu KiB of shared memory: more than this machine or container has left",
                      bytes >> 10);
        return -1;
    }
    int fd = orion_memfd_create(label, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        orion_explain_errno(why, why_bytes, errno, "cannot create shared memory %s", label);
        return -1;
    }
    /* fallocate, not only a size: pages that cannot be had are an error now */
    if (fallocate(fd, 0, 0, (off_t)bytes) != 0 || orion_memfd_seal(fd, ORION_SEAL_SHRINK | ORION_SEAL_GROW) != 0) {
        orion_explain_errno(why, why_bytes, errno, "cannot allocate %zu KiB of shared memory for %s", bytes >> 10,
                            label);
        orion_fd_close(fd);
        return -1;
    }
    return fd;
}

static orion_status_t map_and_populate(orion_segment_t *segment, bool writable, char *why, size_t why_bytes)
{
    void *address = mmap(NULL, segment->bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, segment->fd,
                         0);
    if (address == MAP_FAILED) {
        orion_explain_errno(why, why_bytes, errno, "cannot map %zu KiB of shared memory", segment->bytes >> 10);
        return ORION_SYSTEM;
    }
    segment->address = address;
    if (!orion_pages_populate(address, segment->bytes, writable)) {
        orion_explain_errno(why, why_bytes, errno, "cannot fault in %zu KiB of shared memory", segment->bytes >> 10);
        return ORION_NO_MEMORY;
    }
    return ORION_OK;
}

orion_status_t orion_segment_create(orion_segment_t *segment, const char *label, size_t bytes, bool seal_against_peer,
                                    char *why, size_t why_bytes)
{
    orion_segment_t made = ORION_SEGMENT_EMPTY;
    made.bytes = bytes;
    made.fd = orion_memfd_sized(label, bytes, why, why_bytes);
    if (made.fd < 0)
        return ORION_NO_MEMORY;
    orion_status_t status = map_and_populate(&made, true, why, why_bytes);
    if (status != ORION_OK)
        goto err_close;
    if (seal_against_peer && orion_memfd_seal(made.fd, ORION_SEAL_FUTURE_WRITE) != 0) {
        orion_log(ORION_LOG_DEBUG,
                  "this kernel has no seal against future writing; the client could overwrite its own answers");
    }
    if (orion_memfd_seal(made.fd, ORION_SEAL_SEAL) != 0) {
        orion_explain_errno(why, why_bytes, errno, "cannot seal shared memory %s", label);
        status = ORION_SYSTEM;
        goto err_close;
    }
    *segment = made;
    return ORION_OK;
err_close:
    orion_segment_close(&made);
    return status;
}

/* A mapping keeps the open file description, and with it this lock, after close(): it says for as long as the creator
 * lives, however it dies, that somebody is behind the file. Shared: whoever sweeps (orion_server/devshm.py) asks for an
 * exclusive one. */
static bool lock_for_life(int fd)
{
    return flock(fd, LOCK_SH | LOCK_NB) == 0;
}

/* No name yet: a creator that is killed leaves nothing. -1: not on this file system. */
static int open_unnamed(const char *directory)
{
    int fd = open(directory, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    if (fd >= 0 && !lock_for_life(fd)) {
        orion_fd_close(fd);
        return -1;
    }
    return fd;
}

static bool give_name(int fd, const char *path)
{
    char source[64];
    (void)snprintf(source, sizeof(source), "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, source, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0;
}

/* The other way: has a name before it has a lock. A sweep that came between has removed it. */
static int open_named(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -1;
    if (lock_for_life(fd) && orion_fd_links(fd) > 0)
        return fd;
    (void)unlink(path);
    orion_fd_close(fd);
    errno = EAGAIN;
    return -1;
}

static orion_status_t fill_devshm(orion_segment_t *segment, const char *directory, char *why, size_t why_bytes)
{
    if (fallocate(segment->fd, 0, 0, (off_t)segment->bytes) != 0) {
        orion_explain_errno(why, why_bytes, errno, "cannot allocate %zu KiB in %s (containers often have 64 MiB there)",
                            segment->bytes >> 10, directory);
        return ORION_NO_MEMORY;
    }
    return map_and_populate(segment, true, why, why_bytes);
}

orion_status_t orion_segment_create_devshm(orion_segment_t *segment, const char *directory, size_t bytes,
                                           uint32_t owner_uid, char *why, size_t why_bytes)
{
    char path[256];
    uint64_t random[2];
    orion_segment_t made = ORION_SEGMENT_EMPTY;
    orion_status_t status;
    made.bytes = bytes;
    if (!orion_memory_available(bytes)) {
        orion_explain(why, why_bytes,
                      "no room for %zu KiB of shared memory: more than this machine or container has left",
                      bytes >> 10);
        return ORION_NO_MEMORY;
    }
    if (orion_random_bytes(random, sizeof(random)) != 0) {
        orion_explain_errno(why, why_bytes, errno, "cannot draw a random name");
        return ORION_SYSTEM;
    }
    (void)snprintf(made.name, sizeof(made.name), "orion-%016llx%016llx", (unsigned long long)random[0],
                   (unsigned long long)random[1]);
    (void)snprintf(path, sizeof(path), "%s/%s", directory, made.name);
    made.fd = open_unnamed(directory);
    if (made.fd >= 0) {
        status = fill_devshm(&made, directory, why, why_bytes);
        if (status != ORION_OK)
            goto err_close;
        if (!give_name(made.fd, path))
            orion_segment_close(&made); /* no /proc here */
    }
    if (made.fd < 0) {
        made.fd = open_named(path);
        if (made.fd < 0) {
            orion_explain_errno(why, why_bytes, errno, "cannot create a shared memory file in %s", directory);
            return ORION_SYSTEM;
        }
        status = fill_devshm(&made, directory, why, why_bytes);
        if (status != ORION_OK)
            goto err_close;
    }
    /* after it has its name: nobody without CAP_FOWNER may give a name to a file that isn't his */
    if (geteuid() == 0 && owner_uid != 0 && fchown(made.fd, owner_uid, (gid_t)-1) != 0) {
        orion_explain_errno(why, why_bytes, errno, "cannot give a shared memory file to user %u", owner_uid);
        status = ORION_SYSTEM;
        goto err_close;
    }
    orion_segment_close_fd(&made);
    *segment = made;
    return ORION_OK;
err_close:
    orion_segment_unlink(&made, directory);
    orion_segment_close(&made);
    return status;
}

void orion_segment_unlink(orion_segment_t *segment, const char *directory)
{
    char path[256];
    if (segment->name[0] == '\0')
        return;
    (void)snprintf(path, sizeof(path), "%s/%s", directory, segment->name);
    (void)unlink(path);
    segment->name[0] = '\0';
}

orion_status_t orion_segment_map(orion_segment_t *segment, int fd, size_t bytes, bool writable, char *why,
                                 size_t why_bytes)
{
    orion_segment_t made = ORION_SEGMENT_EMPTY;
    made.bytes = bytes;
    made.fd = fd;
    orion_status_t status = ORION_PROTOCOL;
    if (orion_fd_size(fd) != (int64_t)bytes) {
        orion_explain(why, why_bytes, "the server sent shared memory of the wrong size (%lld instead of %zu bytes)",
                      (long long)orion_fd_size(fd), bytes);
        goto err_close;
    }
    int seals = orion_memfd_seals(fd);
    if (seals < 0 || (seals & (ORION_SEAL_SHRINK | ORION_SEAL_GROW)) != (ORION_SEAL_SHRINK | ORION_SEAL_GROW)) {
        orion_explain(why, why_bytes, "the server sent shared memory that is not sealed");
        goto err_close;
    }
    status = map_and_populate(&made, writable, why, why_bytes);
    if (status != ORION_OK)
        goto err_close;
    orion_segment_close_fd(&made);
    *segment = made;
    return ORION_OK;
err_close:
    orion_segment_close(&made);
    return status;
}

orion_status_t orion_segment_open_devshm(orion_segment_t *segment, const char *directory, const char *name,
                                         size_t bytes, bool writable, char *why, size_t why_bytes)
{
    char path[256];
    orion_segment_t made = ORION_SEGMENT_EMPTY;
    made.bytes = bytes;
    if (name[0] == '\0' || name[0] == '.' || strchr(name, '/') != NULL) {
        orion_explain(why, why_bytes, "the server named no shared memory file");
        return ORION_PROTOCOL;
    }
    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    made.fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW);
    if (made.fd < 0) {
        const int error = errno;
        uid_t owner;
        if (error == EACCES && orion_path_owner(path, &owner) == 0)
            orion_explain_errno(why, why_bytes, error,
                                "cannot open %s: it belongs to user %u, and this program's user is %u", path, owner,
                                geteuid());
        else
            orion_explain_errno(why, why_bytes, error,
                                "cannot open %s; client and server must share %s (hostIPC: true)", path, directory);
        return ORION_SYSTEM;
    }
    orion_status_t status = ORION_PROTOCOL;
    if (orion_fd_size(made.fd) != (int64_t)bytes) {
        orion_explain(why, why_bytes, "%s has the wrong size", path);
        goto err_close;
    }
    status = map_and_populate(&made, writable, why, why_bytes);
    if (status != ORION_OK)
        goto err_close;
    orion_segment_close_fd(&made);
    *segment = made;
    return ORION_OK;
err_close:
    orion_segment_close(&made);
    return status;
}

void orion_segment_close_fd(orion_segment_t *segment)
{
    orion_fd_close(segment->fd);
    segment->fd = -1;
}

void orion_segment_close(orion_segment_t *segment)
{
    if (segment->address != NULL)
        (void)munmap(segment->address, segment->bytes);
    segment->address = NULL;
    orion_segment_close_fd(segment);
}

void orion_segment_header_fill(orion_segment_header_t *header, uint64_t magic, uint32_t epoch, uint64_t bytes,
                               uint64_t nonce)
{
    orion_store_relaxed(&header->magic, magic);
    orion_store_relaxed(&header->version, ORION_LAYOUT_VERSION);
    orion_store_relaxed(&header->epoch, epoch);
    orion_store_relaxed(&header->segment_bytes, bytes);
    orion_store_relaxed(&header->nonce, nonce); /* ordered by the welcome message, which comes after */
}

bool orion_segment_header_matches(const orion_segment_header_t *header, uint64_t magic, uint32_t epoch, uint64_t bytes,
                                  uint64_t nonce)
{
    return orion_load_relaxed(&header->magic) == magic &&
           orion_load_relaxed(&header->version) == ORION_LAYOUT_VERSION &&
           orion_load_relaxed(&header->epoch) == epoch && orion_load_relaxed(&header->segment_bytes) == bytes &&
           orion_load_relaxed(&header->nonce) == nonce;
}
