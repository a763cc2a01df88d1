/* SPDX-License-Identifier: Apache-2.0 */
/* The fault-injecting link does to a session what its plan says, and the session above survives it with an error. */
#define _GNU_SOURCE
#include "transport/faulty.h"

#include <signal.h>
#include <sys/wait.h>

#include "../check.h"
#include "echo_worker.h"
#include "transport/shm.h"

static orion_link_t *open_with(const char *plan_text, pid_t *server_p)
{
    orion_fault_plan_t plan;
    orion_hello_t hello;
    orion_welcome_t welcome;
    orion_link_t *link;
    char why[256] = "";
    int server, socket = echo_fork(&server, 0);
    orion_hello_init(&hello);
    hello.flags = ORION_FLAG_NO_RANGE;
    MUST(orion_shm_open_socket(socket, "test", &hello, &welcome, &link, why, sizeof(why)) == ORION_OK);
    MUST(orion_fault_plan_parse(plan_text, &plan) == ORION_OK);
    MUST(orion_faulty_wrap(link, &plan, &link) == ORION_OK);
    *server_p = (pid_t)server;
    return link;
}

static orion_status_t echo(orion_link_t *link, uint32_t sequence)
{
    orion_record_t *record;
    const orion_reply_t *reply;
    orion_status_t status = orion_link_claim(link, 64, &record);
    if (status != ORION_OK)
        return status;
    record->opcode = ECHO_ECHO;
    record->slot = 0;
    record->sequence = sequence;
    memset(orion_record_payload(record), (int)sequence, 48);
    orion_link_commit(link);
    status = orion_link_await(link, 0, sequence, &reply);
    if (status == ORION_OK)
        MUST(reply->data[47] == (uint8_t)sequence);
    return status;
}

static void dropped_calls_time_out_and_the_others_do_not(void)
{
    pid_t server;
    orion_link_t *link = open_with("drop=0.2,timeout_ms=1,seed=3", &server);
    int lost = 0;
    for (uint32_t i = 1; i <= 500; i++) {
        orion_status_t status = echo(link, i);
        CHECK(status == ORION_OK || status == ORION_TIMEOUT);
        lost += status == ORION_TIMEOUT;
    }
    CHECK(lost > 50 && lost < 200);
    orion_link_close(link);
    MUST(waitpid(server, NULL, 0) == server);
}

static void garbage_ends_the_session_with_an_error(void)
{
    pid_t server;
    for (int seed = 1; seed <= 5; seed++) {
        char plan[64];
        snprintf(plan, sizeof(plan), "garbage=0.05,seed=%d", seed);
        orion_link_t *link = open_with(plan, &server);
        orion_status_t status = ORION_OK;
        uint32_t i = 0;
        while (status == ORION_OK && i < 5000)
            status = echo(link, ++i);
        CHECK_EQUAL(status, ORION_PEER_GONE);
        orion_link_close(link);
        MUST(waitpid(server, NULL, 0) == server);
    }
}

static void delays_change_nothing_but_time(void)
{
    pid_t server;
    orion_link_t *link = open_with("delay=0.5,delay_us=300", &server);
    for (uint32_t i = 1; i <= 100; i++)
        CHECK_EQUAL(echo(link, i), ORION_OK);
    orion_link_close(link);
    MUST(waitpid(server, NULL, 0) == server);
}

static void death_comes_when_planned_and_stays(void)
{
    pid_t server;
    char why[128];
    int32_t result = 5;
    orion_link_t *link = open_with("die_after=10", &server);
    for (uint32_t i = 1; i <= 10; i++)
        CHECK_EQUAL(echo(link, i), ORION_OK);
    for (uint32_t i = 11; i <= 13; i++)
        CHECK_EQUAL(echo(link, i), ORION_PEER_GONE);
    orion_stage_t stage;
    CHECK_EQUAL(orion_link_stage_claim(link, &stage), ORION_PEER_GONE);
    CHECK_EQUAL(orion_link_probe(link, why, sizeof(why), &result), ORION_PEER_GONE);
    CHECK_EQUAL(result, 0);
    orion_link_close(link);
    MUST(waitpid(server, NULL, 0) == server);
}

static void a_plan_that_cannot_be_read_is_refused(void)
{
    orion_fault_plan_t plan;
    CHECK_EQUAL(orion_fault_plan_parse("drop=x", &plan), ORION_INVALID);
    CHECK_EQUAL(orion_fault_plan_parse("die_after=-1", &plan), ORION_INVALID);
    CHECK_EQUAL(orion_fault_plan_parse("drop=0.5,seed=9", &plan), ORION_OK);
    CHECK_EQUAL(plan.drop_ppm, 500000);
    CHECK_EQUAL(plan.seed, 9);
}

CHECK_MAIN(CASE(dropped_calls_time_out_and_the_others_do_not), CASE(garbage_ends_the_session_with_an_error),
           CASE(delays_change_nothing_but_time), CASE(death_comes_when_planned_and_stays),
           CASE(a_plan_that_cannot_be_read_is_refused))
