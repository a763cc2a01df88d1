/* SPDX-License-Identifier: Apache-2.0 */
/* Segments that are files in /dev/shm: whose they are, and that one can tell from outside whether somebody is behind
 * them. */
#define _GNU_SOURCE
#include "shm/segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../check.h"
#include "base/fd.h"

static char why[300];

static void a_devshm_segment_has_a_name_until_it_is_unlinked(void)
{
    orion_segment_t a, b;
    CHECK_EQUAL(orion_segment_create_devshm(&a, ORION_DEVSHM_DIRECTORY, 1 << 16, (uint32_t)getuid(), why, sizeof(why)),
                ORION_OK);
    CHECK_EQUAL(strlen(a.name), strlen("orion-") + 32);
    CHECK_EQUAL(orion_segment_open_devshm(&b, ORION_DEVSHM_DIRECTORY, a.name, 1 << 16, false, why, sizeof(why)),
                ORION_OK);
    ((char *)a.address)[5] = 'y';
    CHECK_EQUAL(((char *)b.address)[5], 'y');
    orion_segment_close(&b);
    CHECK_EQUAL(orion_segment_open_devshm(&b, ORION_DEVSHM_DIRECTORY, a.name, 1 << 17, false, why, sizeof(why)),
                ORION_PROTOCOL);
    char name[ORION_SEGMENT_NAME_BYTES];
    strcpy(name, a.name);
    orion_segment_unlink(&a, ORION_DEVSHM_DIRECTORY);
    CHECK_EQUAL(orion_segment_open_devshm(&b, ORION_DEVSHM_DIRECTORY, name, 1 << 16, false, why, sizeof(why)),
                ORION_SYSTEM);
    orion_segment_close(&a);
}

static void a_segment_of_another_user_is_named_as_that(void)
{
    orion_segment_t a, b;
    if (geteuid() != 0)
        return; /* nobody else can be two users */
    CHECK_EQUAL(orion_segment_create_devshm(&a, ORION_DEVSHM_DIRECTORY, 1 << 16, 4711, why, sizeof(why)), ORION_OK);
    CHECK_EQUAL(seteuid(4712), 0);
    CHECK_EQUAL(orion_segment_open_devshm(&b, ORION_DEVSHM_DIRECTORY, a.name, 1 << 16, false, why, sizeof(why)),
                ORION_SYSTEM);
    CHECK_EQUAL(seteuid(0), 0);
    CHECK(strstr(why, "it belongs to user 4711, and this program's user is 4712: Permission denied") != NULL);
    orion_segment_unlink(&a, ORION_DEVSHM_DIRECTORY);
    orion_segment_close(&a);
}

static void a_name_cannot_lead_out_of_the_directory(void)
{
    orion_segment_t s;
    static const char *const names[] = {"", ".", "..", "../etc/passwd", "a/b", "/etc/passwd"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        CHECK_EQUAL(orion_segment_open_devshm(&s, ORION_DEVSHM_DIRECTORY, names[i], 4096, false, why, sizeof(why)),
                    ORION_PROTOCOL);
    }
}

/* ---- who is behind a file: the linker sends this program's flock() and linkat() here ---- */

#define DEVSHM_BYTES ((size_t)1 << 16)

static enum { LINK_WORKS, LINK_REFUSED, LINK_KILLED_BEFORE, LINK_KILLED_AFTER } link_does;
static bool swept_before_locked; /* somebody looks at the file between its open() and its flock() */
static int links;
static struct stat linked; /* what the file was when it got its name */
static bool linked_locked;

int __real_flock(int fd, int operation);
int __wrap_flock(int fd, int operation);
int __real_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags);
int __wrap_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags);

/* As a sweep does it. */
static bool nobody_is_behind(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    MUST(fd >= 0);
    bool got = __real_flock(fd, LOCK_EX | LOCK_NB) == 0;
    MUST(got || errno == EWOULDBLOCK);
    orion_fd_close(fd);
    return got;
}

int __wrap_flock(int fd, int operation)
{
    if (swept_before_locked) {
        char source[64], path[256] = "";
        (void)snprintf(source, sizeof(source), "/proc/self/fd/%d", fd);
        MUST(readlink(source, path, sizeof(path) - 1) > 0);
        (void)unlink(path); /* a file that has no name yet cannot be found, nor swept */
    }
    return __real_flock(fd, operation);
}

int __wrap_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
    links++;
    MUST(stat(from, &linked) == 0);
    linked_locked = !nobody_is_behind(from);
    if (link_does == LINK_REFUSED) {
        errno = ENOENT;
        return -1;
    }
    if (link_does == LINK_KILLED_BEFORE)
        (void)raise(SIGKILL);
    int rc = __real_linkat(from_fd, from, to_fd, to, flags);
    if (link_does == LINK_KILLED_AFTER)
        (void)raise(SIGKILL);
    return rc;
}

static const char *own_directory(void)
{
    static char path[64];
    strcpy(path, "/dev/shm/segment-test-XXXXXX");
    MUST(mkdtemp(path) != NULL);
    return path;
}

/* The path of the only file there; NULL: there is none. */
static const char *only_file(const char *directory)
{
    static char path[400];
    int n = 0;
    DIR *d = opendir(directory);
    MUST(d != NULL);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        (void)snprintf(path, sizeof(path), "%s/%s", directory, e->d_name);
        n++;
    }
    (void)closedir(d);
    MUST(n <= 1);
    return n == 1 ? path : NULL;
}

static void a_devshm_file_has_its_name_when_it_is_complete_and_locked(void)
{
    orion_segment_t a;
    const char *directory = own_directory();
    links = 0;
    CHECK_EQUAL(orion_segment_create_devshm(&a, directory, DEVSHM_BYTES, (uint32_t)getuid(), why, sizeof(why)),
                ORION_OK);
    CHECK_EQUAL(links, 1);
    CHECK_EQUAL(linked.st_size, DEVSHM_BYTES);
    CHECK(linked.st_blocks * 512 >= (long long)DEVSHM_BYTES);
    CHECK_EQUAL(linked.st_nlink, 0);
    CHECK(linked_locked);
    orion_segment_unlink(&a, directory);
    orion_segment_close(&a);
    CHECK_EQUAL(rmdir(directory), 0);
}

/* Its pid; it has its mapping alone, or was killed on the way. */
static pid_t fork_creator(const char *directory)
{
    int ready[2];
    char byte;
    MUST(pipe(ready) == 0);
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        orion_segment_t a;
        MUST(orion_segment_create_devshm(&a, directory, DEVSHM_BYTES, (uint32_t)getuid(), why, sizeof(why)) ==
             ORION_OK);
        MUST(a.fd == -1);
        MUST(write(ready[1], "x", 1) == 1);
        for (;;)
            (void)pause();
    }
    (void)close(ready[1]);
    (void)!read(ready[0], &byte, 1);
    (void)close(ready[0]);
    return pid;
}

static void a_devshm_file_is_locked_until_its_creator_is_killed(void)
{
    const char *directory = own_directory();
    for (int i = 0; i < 2; i++) {
        link_does = i == 0 ? LINK_WORKS : LINK_REFUSED; /* there is another way, for where there is no /proc */
        pid_t creator = fork_creator(directory);
        link_does = LINK_WORKS;
        const char *path = only_file(directory);
        CHECK(path != NULL);
        CHECK(!nobody_is_behind(path));
        MUST(kill(creator, SIGKILL) == 0 && waitpid(creator, NULL, 0) == creator);
        CHECK(nobody_is_behind(path));
        CHECK_EQUAL(unlink(path), 0);
    }
    CHECK_EQUAL(rmdir(directory), 0);
}

static void a_creator_that_is_killed_leaves_nothing_or_a_whole_file(void)
{
    struct stat found;
    const char *directory = own_directory();
    link_does = LINK_KILLED_BEFORE;
    pid_t creator = fork_creator(directory);
    MUST(waitpid(creator, NULL, 0) == creator);
    CHECK(only_file(directory) == NULL);
    link_does = LINK_KILLED_AFTER;
    creator = fork_creator(directory);
    MUST(waitpid(creator, NULL, 0) == creator);
    link_does = LINK_WORKS;
    const char *path = only_file(directory);
    CHECK(path != NULL);
    CHECK(stat(path, &found) == 0 && found.st_size == (off_t)DEVSHM_BYTES);
    CHECK(nobody_is_behind(path));
    CHECK_EQUAL(unlink(path), 0);
    CHECK_EQUAL(rmdir(directory), 0);
}

static void a_file_that_was_swept_before_it_was_locked_is_not_handed_over(void)
{
    orion_segment_t a;
    const char *directory = own_directory();
    swept_before_locked = true;
    link_does = LINK_REFUSED;
    orion_status_t status = orion_segment_create_devshm(&a, directory, DEVSHM_BYTES, (uint32_t)getuid(), why,
                                                        sizeof(why));
    swept_before_locked = false;
    link_does = LINK_WORKS;
    CHECK_EQUAL(status, ORION_SYSTEM);
    CHECK(only_file(directory) == NULL);
    CHECK_EQUAL(rmdir(directory), 0);
}

/* What the server of k8s/deploy has of root's rights: it may not give a name to another user's file. */
static void a_server_with_few_capabilities_gives_its_file_away(void)
{
    if (geteuid() != 0)
        return; /* nobody else can be two users */
    const char *directory = own_directory();
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct data[2] = {{0}};
        data[0].permitted = 1u << CAP_CHOWN | 1u << CAP_SETUID | 1u << CAP_SETGID | 1u << CAP_KILL;
        data[0].effective = data[0].permitted;
        MUST(syscall(SYS_capset, &header, data) == 0);
        orion_segment_t a;
        struct stat found;
        MUST(orion_segment_create_devshm(&a, directory, DEVSHM_BYTES, 4711, why, sizeof(why)) == ORION_OK);
        MUST(stat(only_file(directory), &found) == 0 && found.st_uid == 4711 && (found.st_mode & 0777) == 0600);
        orion_segment_unlink(&a, directory);
        exit(0);
    }
    int status;
    MUST(waitpid(pid, &status, 0) == pid);
    CHECK_EQUAL(status, 0);
    CHECK_EQUAL(rmdir(directory), 0);
}

CHECK_MAIN(CASE(a_devshm_segment_has_a_name_until_it_is_unlinked), CASE(a_segment_of_another_user_is_named_as_that),
           CASE(a_name_cannot_lead_out_of_the_directory),
           CASE(a_devshm_file_has_its_name_when_it_is_complete_and_locked),
           CASE(a_devshm_file_is_locked_until_its_creator_is_killed),
           CASE(a_creator_that_is_killed_leaves_nothing_or_a_whole_file),
           CASE(a_file_that_was_swept_before_it_was_locked_is_not_handed_over),
           CASE(a_server_with_few_capabilities_gives_its_file_away))
