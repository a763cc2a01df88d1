/* SPDX-License-Identifier: Apache-2.0 */
/* allocation.json: what is taken from it, and that nothing else is. */
#include "../csrc/check.h"

#include <stdio.h>
#include <string.h>

#include "allocation.h"

#define GOOD                                                                                      \
    "{\"schema\": 1, \"id\": \"a\", \"vgpus\": {\"b\": [1]}, \"endpoint\": \"172.17.0.1:9960\", " \
    "\"token\":\t\"a.secret\"}"

static void takes_endpoint_and_token(void)
{
    orion_allocation_t a;
    MUST(orion_allocation_parse(GOOD, &a));
    MUST(strcmp(a.endpoint, "172.17.0.1:9960") == 0);
    MUST(strcmp(a.token, "a.secret") == 0);
}

static void refuses_all_else(void)
{
    static const char *const texts[] = {
        "",
        "{}",
        "{\"endpoint\": null, \"token\": \"a.b\"}",
        "{\"endpoint\": \"h:1\"}",
        "{\"endpoint\": \"\", \"token\": \"a.b\"}",
        "{\"endpoint\": \"h:1\", \"token\": \"a.b",
        "{\"endpoint\": \"h\\\"1\", \"token\": \"a.b\"}",
        "{\"endpoint\" \"h:1\", \"token\": \"a.b\"}",
        "\"endpoint\"",
        "\"endpoint\":",
    };
    char text[600];
    orion_allocation_t a = {.endpoint = "before"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        MUST(!orion_allocation_parse(texts[i], &a));
    snprintf(text, sizeof text, "{\"endpoint\": \"%0500d\", \"token\": \"a.b\"}", 0);
    MUST(!orion_allocation_parse(text, &a));
    MUST(strcmp(a.endpoint, "before") == 0);
    /* cut anywhere */
    for (size_t length = 0; length < sizeof GOOD - 3; length++) {
        memcpy(text, GOOD, length);
        text[length] = '\0';
        MUST(!orion_allocation_parse(text, &a));
    }
}

static void missing_file_is_none(void)
{
    orion_allocation_t a;
    MUST(!orion_allocation_read("/nowhere/allocation.json", &a));
}

int main(void)
{
    takes_endpoint_and_token();
    refuses_all_else();
    missing_file_is_none();
    return 0;
}
