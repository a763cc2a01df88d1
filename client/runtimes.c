/* SPDX-License-Identifier: Apache-2.0 */
/* Looks for CUDA runtimes among the loaded libraries, see runtimes.h. */
#define _GNU_SOURCE
#include "runtimes.h"

#include <link.h>
#include <stdbool.h>
#include <string.h>

#include "wire/hello.h"

#define PREFIX "libcudart.so."

typedef struct {
    char *name;
    size_t bytes;
    bool found;
} search_t;

/* "libcudart.so.10.0" and the like; its major number has one digit, or is 10. Before 11.0 the file had both numbers. */
static int look(struct dl_phdr_info *info, size_t size, void *context)
{
    search_t *search = context;
    const char *slash = info->dlpi_name != NULL ? strrchr(info->dlpi_name, '/') : NULL;
    const char *name = slash != NULL ? slash + 1 : info->dlpi_name;
    (void)size;
    if (name == NULL || strncmp(name, PREFIX, sizeof PREFIX - 1) != 0)
        return 0;
    const char *major = name + sizeof PREFIX - 1;
    size_t digits = strspn(major, "0123456789");
    if (digits == 1 || (digits == 2 && strncmp(major, "10", 2) == 0)) {
        orion_field_set(search->name, search->bytes, name);
        search->found = true;
    }
    return search->found;
}

bool orion_runtime_too_old(char *name, size_t name_bytes)
{
    search_t search = {.name = name, .bytes = name_bytes};
    (void)dl_iterate_phdr(look, &search);
    return search.found;
}
