/* SPDX-License-Identifier: Apache-2.0 */
/* Looks for old CUDA runtimes among what the program has loaded, see runtimes.h. */
#define _GNU_SOURCE
#include "runtimes.h"

#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "wire/hello.h"

#define PREFIX "libcudart.so."
#define FINDER "cuGetProcAddress"

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

/* Whether the object's read-only part has the name of the function; our own does not count. */
static int mentions_finder(struct dl_phdr_info *info, size_t size, void *context)
{
    bool *found = context, ours = false;
    const uintptr_t here = (uintptr_t)&mentions_finder;
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        ours |= part->p_type == PT_LOAD && here - (info->dlpi_addr + part->p_vaddr) < part->p_memsz;
    }
    for (int i = 0; !ours && !*found && i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && part->p_flags & PF_R && !(part->p_flags & PF_W))
            *found = memmem((const void *)(info->dlpi_addr + part->p_vaddr), part->p_filesz, FINDER,
                            sizeof FINDER - 1) != NULL;
    }
    return *found;
}

bool orion_runtime_finds_by_symbol(void)
{
    bool found = false;
    (void)dl_iterate_phdr(mentions_finder, &found);
    return !found;
}

void orion_runtime_advise(char *text, size_t bytes, const char *what)
{
    snprintf(text, bytes, "%s is older than what Orion serves, CUDA 11.8: build the program with CUDA 12 or 13", what);
}
