/* SPDX-License-Identifier: Apache-2.0 */
/* Reads ORION_SERVER, ORION_CONTROLLER, ORION_GMEM, ORION_VGPU, ORION_RATIO, ORION_CROSS_NODE, ORION_WAIT,
 * ORION_TRANSPORT and CUDA_VISIBLE_DEVICES. */
#include "wishes.h"

#include "settings.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "wire/hello.h"

/* Decimal digits only, no sign, no blanks, within lowest..highest. */
static int parse_number(const char *text, uint64_t lowest, uint64_t highest, uint64_t *value_p)
{
    uint64_t value = 0;
    if (!*text)
        return 0;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || value > highest / 10)
            return 0;
        value = value * 10 + (uint64_t)(*text - '0');
    }
    if (value < lowest || value > highest)
        return 0;
    *value_p = value;
    return 1;
}

static int read_wish(const char *name, uint64_t lowest, uint64_t highest, const char *unit, uint64_t *value_p,
                     char *why, size_t why_bytes)
{
    const char *text = orion_setting(name);
    *value_p = 0;
    if (!text)
        return 1;
    if (parse_number(text, lowest, highest, value_p))
        return 1;
    snprintf(why, why_bytes, "%s=%.64s is not %s between %llu and %llu; unset it or give a plain number", name, text,
             unit, (unsigned long long)lowest, (unsigned long long)highest);
    return 0;
}

static int read_transport(uint32_t *transport_p, char *why, size_t why_bytes)
{
    const char *text = orion_setting("ORION_TRANSPORT");
    *transport_p = ORION_TRANSPORT_ANY;
    if (!text || !*text)
        return 1;
    if (!strcmp(text, "auto"))
        return 1;
    if (!strcmp(text, "shm") || !strcmp(text, "memfd"))
        *transport_p = ORION_TRANSPORT_MEMFD;
    else if (!strcmp(text, "tcp"))
        *transport_p = ORION_TRANSPORT_TCP;
    else if (!strcmp(text, "ucx"))
        *transport_p = ORION_TRANSPORT_UCX;
    else if (!strcmp(text, "devshm"))
        *transport_p = ORION_TRANSPORT_DEVSHM;
    else
        snprintf(why, why_bytes, "ORION_TRANSPORT=%.64s is not known; unset it, or say auto, shm, devshm, tcp or ucx",
                 text);
    return *transport_p != ORION_TRANSPORT_ANY;
}

int orion_wishes_read(orion_wishes_t *wishes_p, char *why, size_t why_bytes)
{
    uint64_t gmem, vgpu, ratio, cross_node, wait;
    uint32_t transport;
    if (!read_wish("ORION_GMEM", 1, 1u << 30, "a number of MiB", &gmem, why, why_bytes) ||
        !read_wish("ORION_VGPU", 1, 64, "a number of vGPUs", &vgpu, why, why_bytes) ||
        !read_wish("ORION_RATIO", 1, 100, "a percentage", &ratio, why, why_bytes) ||
        !read_wish("ORION_CROSS_NODE", 0, 1, "a number", &cross_node, why, why_bytes) ||
        !read_wish("ORION_WAIT", 0, 31536000, "a number of seconds", &wait, why, why_bytes) ||
        !read_transport(&transport, why, why_bytes))
        return 0;
    *wishes_p = (orion_wishes_t){.gmem_mib = gmem,
                                 .vgpu = (uint32_t)vgpu,
                                 .ratio = (uint32_t)ratio,
                                 .transport = transport,
                                 .cross_node = cross_node == 1,
                                 .wait = orion_setting("ORION_WAIT") ? (int64_t)wait : -1};
    return 1;
}

static int is_host_port(const char *address)
{
    const char *colon = strrchr(address, ':');
    uint64_t port;
    return colon && colon != address && parse_number(colon + 1, 1, 65535, &port);
}

const char *orion_server_address(char *buffer, size_t buffer_bytes, bool *is_controller_p, char *why, size_t why_bytes)
{
    const char *address = orion_setting("ORION_SERVER");
    *is_controller_p = false;
    if (address && *address) {
        if ((!strncmp(address, "unix:", 5) && address[5]) || (!strncmp(address, "local:", 6) && address[6]) ||
            is_host_port(address))
            return address;
        snprintf(why, why_bytes, "ORION_SERVER=%.200s is not an address; use unix:PATH or HOST:PORT", address);
        return NULL;
    }
    if (access(ORION_DEFAULT_SOCKET, F_OK) == 0) {
        snprintf(buffer, buffer_bytes, "unix:%s", ORION_DEFAULT_SOCKET);
        return buffer;
    }
    address = orion_setting("ORION_CONTROLLER");
    if (address && *address) {
        *is_controller_p = true;
        if (is_host_port(address))
            return address;
        snprintf(why, why_bytes, "ORION_CONTROLLER=%.200s is not an address; use HOST:PORT", address);
        return NULL;
    }
    snprintf(
        why, why_bytes,
        "no server: neither ORION_SERVER nor ORION_CONTROLLER is set and %s does not exist; start one with `orion up` "
        "and set ORION_SERVER, or run the program under `orion run`",
        ORION_DEFAULT_SOCKET);
    return NULL;
}

/* "GPU-" and a prefix of the dashed UUID in hex, as long as it is unique; with one device every prefix is. */
static int uuid_matches(const char *text, size_t length, const unsigned char uuid[16])
{
    char full[48];
    snprintf(full, sizeof full, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", uuid[0],
             uuid[1], uuid[2], uuid[3], uuid[4], uuid[5], uuid[6], uuid[7], uuid[8], uuid[9], uuid[10], uuid[11],
             uuid[12], uuid[13], uuid[14], uuid[15]);
    if (length <= 4 || length > strlen(full))
        return 0;
    for (size_t i = 0; i < length; i++) {
        char c = i >= 4 && text[i] >= 'A' && text[i] <= 'F' ? (char)(text[i] + 32) : text[i];
        if (c != full[i])
            return 0;
    }
    return 1;
}

int orion_device_visible(const char *visible, const unsigned char uuid[16])
{
    if (!visible)
        return 1;
    while (*visible == ' ')
        visible++;
    size_t length = strcspn(visible, ", ");
    /* CUDA stops at the first entry that names no device, so only the first one can show ours. */
    size_t zeros = strspn(visible, "0");
    if (length > 0 && zeros == length)
        return 1;
    return uuid_matches(visible, length, uuid);
}
