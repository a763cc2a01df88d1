/* SPDX-License-Identifier: Apache-2.0 */
/* Environment variables are read strictly, and a sentence names the bad one. */
#include "wishes.h"

#include "wire/hello.h"

#include "../csrc/check.h"

static char why[256];

static int read_gmem(const char *value, orion_wishes_t *wishes)
{
    if (value)
        setenv("ORION_GMEM", value, 1);
    else
        unsetenv("ORION_GMEM");
    why[0] = 0;
    return orion_wishes_read(wishes, why, sizeof why);
}

static void numbers_are_taken(void)
{
    orion_wishes_t wishes;
    CHECK(read_gmem(NULL, &wishes) && wishes.gmem_mib == 0);
    CHECK(read_gmem("1", &wishes) && wishes.gmem_mib == 1);
    CHECK(read_gmem("16384", &wishes) && wishes.gmem_mib == 16384);
}

static void anything_else_is_refused_by_name(void)
{
    static const char *const bad[] = {
        "abc", "", " 1", "1 ", "-1", "+1", "0", "1G", "0x10", "1.5", "99999999999999999999"};
    orion_wishes_t wishes;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(!read_gmem(bad[i], &wishes));
        CHECK(strstr(why, "ORION_GMEM="));
        CHECK(strstr(why, bad[i]));
    }
    unsetenv("ORION_GMEM");
    setenv("ORION_RATIO", "101", 1);
    CHECK(!orion_wishes_read(&wishes, why, sizeof why) && strstr(why, "ORION_RATIO=101"));
    setenv("ORION_RATIO", "100", 1);
    CHECK(orion_wishes_read(&wishes, why, sizeof why) && wishes.ratio == 100);
    unsetenv("ORION_RATIO");
}

static void transport_is_one_of_two(void)
{
    orion_wishes_t wishes;
    setenv("ORION_TRANSPORT", "devshm", 1);
    CHECK(orion_wishes_read(&wishes, why, sizeof why) && wishes.transport == ORION_TRANSPORT_DEVSHM);
    setenv("ORION_TRANSPORT", "pigeon", 1);
    CHECK(!orion_wishes_read(&wishes, why, sizeof why) && strstr(why, "ORION_TRANSPORT=pigeon"));
    unsetenv("ORION_TRANSPORT");
    CHECK(orion_wishes_read(&wishes, why, sizeof why) && wishes.transport == ORION_TRANSPORT_ANY);
}

static const char *address(const char *value)
{
    static char buffer[256];
    if (value)
        setenv("ORION_SERVER", value, 1);
    else
        unsetenv("ORION_SERVER");
    why[0] = 0;
    return orion_server_address(buffer, sizeof buffer, why, sizeof why);
}

static void addresses_have_one_of_three_forms(void)
{
    CHECK(strcmp(address("unix:/tmp/x.sock"), "unix:/tmp/x.sock") == 0);
    CHECK(strcmp(address("host:1234"), "host:1234") == 0);
    CHECK(strcmp(address("local:lib.so?device=null"), "local:lib.so?device=null") == 0);
    static const char *const bad[] = {
        "unix:", "host", ":1", "host:", "host:0", "host:70000", "host:12x", "/tmp/x.sock"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(!address(bad[i]));
        CHECK(strstr(why, bad[i]) && strstr(why, "ORION_SERVER"));
    }
    if (access(ORION_DEFAULT_SOCKET, F_OK) != 0) {
        CHECK(!address(NULL));
        CHECK(strstr(why, "orion up") && strstr(why, "orion run"));
    }
}

static void visible_devices_follow_cuda(void)
{
    static const unsigned char uuid[16] = {0xab, 0xcd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14};
    CHECK(orion_device_visible(NULL, uuid) && orion_device_visible("0", uuid) && orion_device_visible("0,1", uuid));
    CHECK(!orion_device_visible("", uuid) && !orion_device_visible("-1", uuid) && !orion_device_visible("1,0", uuid));
    CHECK(!orion_device_visible("NoDevFiles", uuid));
    CHECK(orion_device_visible("GPU-abcd", uuid) && orion_device_visible("GPU-ABCD0102-0304", uuid));
    CHECK(!orion_device_visible("GPU-abce", uuid) && !orion_device_visible("GPU-", uuid));
}

CHECK_MAIN(CASE(numbers_are_taken), CASE(anything_else_is_refused_by_name), CASE(transport_is_one_of_two),
           CASE(addresses_have_one_of_three_forms), CASE(visible_devices_follow_cuda))
