/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors and whole messages over unix sockets: nothing is lost, nothing leaks, a dead peer is an error. */
#define _GNU_SOURCE
#include "base/fd.h"

#include <dirent.h>
#include <sys/socket.h>

#include "../check.h"
#include "../process.h"
#include "base/clock.h"
#include "base/sys.h"

static void make_pair(int pair[2])
{
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
}

static void descriptors_travel_with_their_message(void)
{
    int pair[2], got[3], memfd = orion_memfd_create("test", 0);
    char text[6];
    make_pair(pair);
    CHECK(memfd >= 0 && ftruncate(memfd, 4321) == 0);
    int two[2] = {memfd, memfd};
    CHECK_EQUAL(orion_fd_send(pair[0], "hello", 6, two, 2), ORION_OK);
    CHECK_EQUAL(orion_fd_receive(pair[1], text, 6, got, 3, check_now_ns() + ORION_NS_PER_S), ORION_OK);
    CHECK(strcmp(text, "hello") == 0);
    CHECK_EQUAL(orion_fd_size(got[0]), 4321);
    CHECK_EQUAL(orion_fd_size(got[1]), 4321);
    CHECK_EQUAL(got[2], -1);
    orion_fd_close(got[0]);
    orion_fd_close(got[1]);
    orion_fd_close(memfd);
    orion_fd_close(pair[0]);
    orion_fd_close(pair[1]);
}

static void descriptors_that_nobody_wants_are_closed(void)
{
    int pair[2], got[1], before = count_descriptors();
    char text[6];
    make_pair(pair);
    int many[4] = {pair[0], pair[0], pair[0], pair[0]};
    CHECK_EQUAL(orion_fd_send(pair[0], "hello", 6, many, 4), ORION_OK);
    CHECK_EQUAL(orion_fd_receive(pair[1], text, 6, got, 1, check_now_ns() + ORION_NS_PER_S), ORION_OK);
    CHECK(got[0] >= 0);
    CHECK_EQUAL(orion_fd_send(pair[0], "he", 2, many, 4), ORION_OK); /* too short: all closed again */
    CHECK_EQUAL(orion_fd_receive(pair[1], text, 6, got + 0, 0, check_now_ns() + ORION_NS_PER_MS * 20), ORION_TIMEOUT);
    orion_fd_close(got[0]);
    orion_fd_close(pair[0]);
    orion_fd_close(pair[1]);
    CHECK_EQUAL(count_descriptors(), before);
    CHECK_EQUAL(orion_fd_send(0, "x", 1, many, ORION_FDS_MAX + 1), ORION_INVALID);
}

static void a_link_has_an_owner_of_its_own(void)
{
    char path[64];
    uid_t owner = 4711;
    (void)snprintf(path, sizeof(path), "/tmp/orion-link-%d", (int)getpid());
    CHECK(orion_path_owner(path, &owner) == -1 && owner == 4711);
    CHECK(symlink("/nowhere", path) == 0);
    CHECK(orion_path_owner(path, &owner) == 0 && owner == geteuid());
    CHECK(unlink(path) == 0);
}

static void a_closed_socket_is_a_peer_gone(void)
{
    int pair[2];
    char text[6];
    make_pair(pair);
    CHECK_EQUAL(orion_fd_witness(pair[0]), ORION_OK);
    CHECK_EQUAL(orion_fd_send(pair[1], "hello", 6, NULL, 0), ORION_OK);
    CHECK_EQUAL(orion_fd_witness(pair[0]), ORION_AGAIN);
    orion_fd_close(pair[1]);
    CHECK_EQUAL(orion_fd_witness(pair[0]), ORION_AGAIN); /* last words first */
    CHECK_EQUAL(orion_fd_receive(pair[0], text, 6, NULL, 0, -1), ORION_OK);
    CHECK_EQUAL(orion_fd_witness(pair[0]), ORION_PEER_GONE);
    CHECK_EQUAL(orion_fd_receive(pair[0], text, 6, NULL, 0, -1), ORION_PEER_GONE);
    CHECK_EQUAL(orion_fd_send(pair[0], "hello", 6, NULL, 0), ORION_PEER_GONE);
    orion_fd_close(pair[0]);
}

CHECK_MAIN(CASE(descriptors_travel_with_their_message), CASE(descriptors_that_nobody_wants_are_closed),
           CASE(a_link_has_an_owner_of_its_own), CASE(a_closed_socket_is_a_peer_gone))
