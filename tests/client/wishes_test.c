/* SPDX-License-Identifier: Apache-2.0 */
/* Environment variables are read strictly, and a sentence names the bad one. */
#include "wishes.h"

#include "settings.h"
#include "wire/hello.h"

#include "../csrc/check.h"

static char why[256];
static bool is_controller;

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
    return orion_server_address(buffer, sizeof buffer, &is_controller, why, sizeof why);
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

static void the_controller_is_asked_last(void)
{
    setenv("ORION_CONTROLLER", "gpu7:9123", 1);
    CHECK(strcmp(address("unix:/tmp/x.sock"), "unix:/tmp/x.sock") == 0 && !is_controller);
    if (access(ORION_DEFAULT_SOCKET, F_OK) != 0) {
        CHECK(strcmp(address(NULL), "gpu7:9123") == 0 && is_controller);
        setenv("ORION_CONTROLLER", "unix:/tmp/x.sock", 1);
        CHECK(!address(NULL) && strstr(why, "ORION_CONTROLLER=unix:/tmp/x.sock"));
    }
    unsetenv("ORION_CONTROLLER");
}

static void wait_and_cross_node_are_numbers(void)
{
    orion_wishes_t wishes;
    CHECK(orion_wishes_read(&wishes, why, sizeof why) && wishes.wait < 0 && !wishes.cross_node && wishes.vgpu == 0);
    setenv("ORION_WAIT", "0", 1);
    setenv("ORION_CROSS_NODE", "1", 1);
    setenv("ORION_VGPU", "2", 1);
    CHECK(orion_wishes_read(&wishes, why, sizeof why) && wishes.wait == 0 && wishes.cross_node && wishes.vgpu == 2);
    setenv("ORION_WAIT", "soon", 1);
    CHECK(!orion_wishes_read(&wishes, why, sizeof why) && strstr(why, "ORION_WAIT=soon"));
    unsetenv("ORION_WAIT");
    setenv("ORION_CROSS_NODE", "2", 1);
    CHECK(!orion_wishes_read(&wishes, why, sizeof why) && strstr(why, "ORION_CROSS_NODE=2"));
    unsetenv("ORION_CROSS_NODE");
    unsetenv("ORION_VGPU");
}

static const char *write_file(char path[64], const char *text)
{
    snprintf(path, 64, "/tmp/orion-settings-XXXXXX");
    int fd = mkstemp(path);
    MUST(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    return path;
}

static void files_give_way_to_the_environment_and_to_the_users_own(void)
{
    char user[64], system[64];
    orion_wishes_t wishes;
    orion_settings_read(write_file(user, "# mine\n[client]\nORION_GMEM = 100 ; MiB\ncontroller_addr=\"here:1\"\n"),
                        write_file(system, "gmem = 200\nratio=30\nenable_net=false\n[controller]\nwait = 5\n"));
    CHECK(orion_wishes_read(&wishes, why, sizeof why) && wishes.gmem_mib == 100 && wishes.ratio == 30);
    CHECK(wishes.wait == 5 && strcmp(orion_setting("ORION_CONTROLLER"), "here:1") == 0);
    setenv("ORION_GMEM", "300", 1);
    CHECK(orion_wishes_read(&wishes, why, sizeof why) && wishes.gmem_mib == 300);
    unsetenv("ORION_GMEM");
    CHECK(!orion_setting("ORION_VGPU"));
    unlink(user);
    unlink(system);
    orion_settings_read(user, NULL);
    CHECK(!orion_setting("ORION_GMEM"));
}

static void a_file_of_anything_is_read_within_its_bounds(void)
{
    static char text[20000];
    char path[64];
    memset(text, 'x', sizeof text - 1);
    orion_settings_read(write_file(path, text), NULL);
    unlink(path);
    for (size_t i = 0; i < 8000; i += 2)
        memcpy(text + i, "=\n", 2);
    text[8000] = 0;
    orion_settings_read(write_file(path, text), "/");
    unlink(path);
    CHECK(!orion_setting("ORION_GMEM"));
    orion_settings_read(NULL, NULL);
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
           CASE(addresses_have_one_of_three_forms), CASE(visible_devices_follow_cuda),
           CASE(the_controller_is_asked_last), CASE(wait_and_cross_node_are_numbers),
           CASE(files_give_way_to_the_environment_and_to_the_users_own),
           CASE(a_file_of_anything_is_read_within_its_bounds))
