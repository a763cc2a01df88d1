/* SPDX-License-Identifier: Apache-2.0 */
/* Dialling: what is lost within this host is asked again, and nobody waits longer than they said. */
#define _GNU_SOURCE
#include "../check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "stream/socket.h"

/* A listener whose queue is full: further requests are dropped without an answer, like those that come just as a listener
 * dies. */
typedef struct full {
    int listener, waiting;
    char port[8];
} full_t;

static full_t full_open(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    full_t f = {.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    MUST(bind(f.listener, (struct sockaddr *)&address, size) == 0 && listen(f.listener, 0) == 0);
    MUST(getsockname(f.listener, (struct sockaddr *)&address, &size) == 0);
    (void)snprintf(f.port, sizeof(f.port), "%u", ntohs(address.sin_port));
    char why[200] = "";
    f.waiting = orion_socket_dial("127.0.0.1", f.port, ORION_NS_PER_S, why, sizeof(why));
    MUST(f.waiting >= 0);
    MUST(orion_socket_dial("127.0.0.1", f.port, 50 * ORION_NS_PER_MS, why, sizeof(why)) == -1);
    MUST(errno == ETIMEDOUT && strstr(why, "timed out") != NULL);
    return f;
}

static void full_close(full_t *f)
{
    orion_fd_close(f->listener);
    orion_fd_close(f->waiting);
}

static void *take_one(void *arg)
{
    full_t *f = arg;
    (void)usleep(100000);
    orion_fd_close(accept(f->listener, NULL, NULL));
    return NULL;
}

/* The kernel repeats a request after a second, which is longer than this one waits. */
static void what_was_not_answered_is_asked_again(void)
{
    full_t f = full_open();
    pthread_t thread;
    char why[200] = "";
    MUST(pthread_create(&thread, NULL, take_one, &f) == 0);
    int fd = orion_socket_dial("127.0.0.1", f.port, 900 * ORION_NS_PER_MS, why, sizeof(why));
    CHECK(fd >= 0);
    MUST(pthread_join(thread, NULL) == 0);
    orion_fd_close(fd);
    full_close(&f);
}

static void whoever_is_not_there_is_refused_at_the_first_try(void)
{
    full_t f = full_open();
    char why[200] = "";
    full_close(&f);
    CHECK(orion_socket_dial("127.0.0.1", f.port, ORION_NS_PER_S, why, sizeof(why)) == -1);
    CHECK_EQUAL(errno, ECONNREFUSED);
    CHECK(strstr(why, f.port) != NULL);
    CHECK(orion_socket_dial("no such host.", f.port, ORION_NS_PER_S, why, sizeof(why)) == -1);
    CHECK_EQUAL(errno, 0);
}

static void the_loopback_is_known_by_its_addresses(void)
{
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f123456)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    CHECK(orion_socket_is_loopback((struct sockaddr *)&four) && orion_socket_is_loopback((struct sockaddr *)&six));
    four.sin_addr.s_addr = htonl(0x80000001);
    six.sin6_addr.s6_addr[0] = 0xfe;
    CHECK(!orion_socket_is_loopback((struct sockaddr *)&four) && !orion_socket_is_loopback((struct sockaddr *)&six));
}

/* Else its user would be told to encrypt what goes to nobody. */
static void a_connection_of_this_host_is_one_after_the_other_end_has_gone(void)
{
    full_t f = full_open();
    const struct linger at_once = {.l_onoff = 1};
    struct sockaddr_in nobody;
    socklen_t size = sizeof(nobody);
    int taken = accept(f.listener, NULL, NULL);
    MUST(taken >= 0 && setsockopt(taken, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)) == 0);
    CHECK(orion_socket_is_local(f.waiting));
    orion_fd_close(taken);
    MUST(getpeername(f.waiting, (struct sockaddr *)&nobody, &size) == -1 && errno == ENOTCONN);
    CHECK(orion_socket_is_local(f.waiting));
    full_close(&f);
}

CHECK_MAIN(CASE(what_was_not_answered_is_asked_again), CASE(whoever_is_not_there_is_refused_at_the_first_try),
           CASE(the_loopback_is_known_by_its_addresses),
           CASE(a_connection_of_this_host_is_one_after_the_other_end_has_gone))
