/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvJitLink: the linked cubin is the PTX that went in, one text behind the other; the server links them. LTO IR is
 * linked by nvJitLink itself, to PTX. Every handle is nvJitLink's own; what we know of it is in a list beside it.
 */
#include "compilers.h"

#include "say.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct nvjitlink *handle_t;
typedef int (*create_fn)(handle_t *handle_p, uint32_t count, const char **options);
typedef int (*destroy_fn)(handle_t *handle_p);
typedef int (*add_data_fn)(handle_t handle, int type, const void *data, size_t size, const char *name);
typedef int (*add_file_fn)(handle_t handle, int type, const char *path);
typedef int (*complete_fn)(handle_t handle);
typedef int (*size_fn)(handle_t handle, size_t *size_p);
typedef int (*get_fn)(handle_t handle, void *out);

enum { LINK_INVALID_INPUT = 3, LINK_INTERNAL = 6 };
enum { INPUT_LTOIR = 3, INPUT_ANY = 10 };

typedef struct link {
    struct link *next;
    handle_t handle;
    char *text; /* all PTX so far */
    size_t bytes;
    int lto, ir, done;
} link_t;

typedef struct {
    orion_compiler_slot_t slot;
    create_fn create;
    destroy_fn destroy;
    add_data_fn add_data;
    add_file_fn add_file;
    complete_fn complete;
    size_fn cubin_size, ptx_size;
    get_fn cubin, ptx;
} nvjitlink_t;

static nvjitlink_t libraries[ORION_COMPILER_SLOTS];
static pthread_mutex_t links_lock = PTHREAD_MUTEX_INITIALIZER;
static link_t *links;

/* One handle is used by one thread at a time, as nvJitLink demands: only the list is locked. */
static link_t *find(handle_t handle)
{
    pthread_mutex_lock(&links_lock);
    link_t *link = links;
    while (link && link->handle != handle)
        link = link->next;
    pthread_mutex_unlock(&links_lock);
    return link;
}

static int append(link_t *link, const char *text, size_t bytes)
{
    bytes = strnlen(text, bytes);
    char *grown = realloc(link->text, link->bytes + bytes + 2);
    if (!grown)
        return LINK_INTERNAL;
    memcpy(grown + link->bytes, text, bytes);
    link->text = grown;
    link->bytes += bytes;
    link->text[link->bytes++] = '\n';
    link->text[link->bytes] = 0;
    return 0;
}

static int create(const nvjitlink_t *library, handle_t *handle_p, uint32_t count, const char **options)
{
    int lto = 0, ptx = 0;
    if (!orion_wants_ptx() || !handle_p || !options || count > 4096)
        return library->create(handle_p, count, options);
    for (uint32_t i = 0; i < count; i++) {
        lto |= options[i] && !strcmp(options[i], "-lto");
        ptx |= options[i] && !strcmp(options[i], "-ptx");
    }
    link_t *link = calloc(1, sizeof *link);
    const char **changed = malloc((count + 1) * sizeof *changed);
    int result = LINK_INTERNAL;
    if (link && changed) {
        memcpy(changed, options, count * sizeof *changed);
        changed[count] = "-ptx";
        result = library->create(handle_p, count + (lto && !ptx), changed);
    }
    free(changed);
    if (result) {
        free(link);
        return result;
    }
    link->handle = *handle_p;
    link->lto = lto;
    pthread_mutex_lock(&links_lock);
    link->next = links;
    links = link;
    pthread_mutex_unlock(&links_lock);
    return 0;
}

static int destroy(const nvjitlink_t *library, handle_t *handle_p)
{
    link_t *gone = NULL;
    if (handle_p) {
        pthread_mutex_lock(&links_lock);
        link_t **at = &links;
        while (*at && (*at)->handle != *handle_p)
            at = &(*at)->next;
        if ((gone = *at))
            *at = gone->next;
        pthread_mutex_unlock(&links_lock);
    }
    if (gone)
        free(gone->text);
    free(gone);
    return library->destroy(handle_p);
}

/* The server brings what it can do of CUDA's device runtime by itself. */
static int is_device_runtime(const char *name)
{
    return name && strstr(name, "libcudadevrt") != NULL;
}

static int add_data(const nvjitlink_t *library, handle_t handle, int type, const void *data, size_t size,
                    const char *name)
{
    link_t *link = find(handle);
    if (!link || !data)
        return library->add_data(handle, type, data, size, name);
    if (orion_looks_like_ptx(data, size))
        return append(link, data, size);
    if (link->lto && (type == INPUT_LTOIR || type == INPUT_ANY)) {
        link->ir = 1;
        return library->add_data(handle, type, data, size, name);
    }
    if (is_device_runtime(name))
        return 0;
    orion_say("nvJitLink: \"%s\" is no PTX and no LTO IR, and this device links nothing else", name ? name : "");
    return LINK_INVALID_INPUT;
}

static int add_file(const nvjitlink_t *library, handle_t handle, int type, const char *path)
{
    FILE *file = path && find(handle) ? fopen(path, "rbe") : NULL;
    if (!file)
        return library->add_file(handle, type, path);
    char *data = NULL;
    size_t bytes = 0, room = 0, got;
    do {
        if (room - bytes < 65536) {
            char *grown = realloc(data, room = room ? 2 * room : 1 << 20);
            if (!grown)
                break;
            data = grown;
        }
        got = fread(data + bytes, 1, room - bytes, file);
        bytes += got;
    } while (got > 0);
    fclose(file);
    int result = data ? add_data(library, handle, type, data, bytes, path) : LINK_INTERNAL;
    free(data);
    return result;
}

static int complete(const nvjitlink_t *library, handle_t handle)
{
    link_t *link = find(handle);
    if (!link || (link->lto && !link->ir && !link->bytes))
        return library->complete(handle);
    if (link->ir) {
        size_t bytes = 0;
        int result = library->complete(handle);
        if (!result)
            result = library->ptx_size(handle, &bytes);
        char *text = result ? NULL : malloc(bytes + 1);
        if (!result)
            result = text ? library->ptx(handle, text) : LINK_INTERNAL;
        if (!result)
            result = append(link, text, bytes);
        free(text);
        if (result)
            return result;
    }
    link->done = 1;
    return link->bytes ? 0 : LINK_INVALID_INPUT;
}

static int cubin_size(const nvjitlink_t *library, handle_t handle, size_t *size_p)
{
    const link_t *link = find(handle);
    if (!link || !link->done || !size_p)
        return library->cubin_size(handle, size_p);
    *size_p = link->bytes + 1; /* with its NUL: the loader finds the end of text by that */
    return 0;
}

static int cubin(const nvjitlink_t *library, handle_t handle, void *out)
{
    const link_t *link = find(handle);
    if (!link || !link->done || !out)
        return library->cubin(handle, out);
    memcpy(out, link->text, link->bytes + 1);
    return 0;
}

/* name, parameters, arguments */
#define HOOKS(X, n)                                                                                       \
    X(n, create, (handle_t * handle_p, uint32_t count, const char **options), (handle_p, count, options)) \
    X(n, destroy, (handle_t * handle_p), (handle_p))                                                      \
    X(n, add_data, (handle_t handle, int type, const void *data, size_t size, const char *name),          \
      (handle, type, data, size, name))                                                                   \
    X(n, add_file, (handle_t handle, int type, const char *path), (handle, type, path))                   \
    X(n, complete, (handle_t handle), (handle))                                                           \
    X(n, cubin_size, (handle_t handle, size_t *size_p), (handle, size_p))                                 \
    X(n, cubin, (handle_t handle, void *out), (handle, out))
#define UNPACK(...) __VA_ARGS__
#define SLOT(n, verb, parameters, arguments)          \
    static int verb##_##n parameters                  \
    {                                                 \
        return verb(&libraries[n], UNPACK arguments); \
    }
HOOKS(SLOT, 0)
HOOKS(SLOT, 1)
HOOKS(SLOT, 2)
HOOKS(SLOT, 3)

#define ENTRY(n, verb, parameters, arguments) (void *)verb##_##n,
enum { NAMES = 9, HOOKED = 7 };
static void *const hooks[ORION_COMPILER_SLOTS][HOOKED] = {
    {HOOKS(ENTRY, 0)}, {HOOKS(ENTRY, 1)}, {HOOKS(ENTRY, 2)}, {HOOKS(ENTRY, 3)}};
static const char *const names[NAMES] = {
    "nvJitLinkCreate",         "nvJitLinkDestroy",          "nvJitLinkAddData",
    "nvJitLinkAddFile",        "nvJitLinkComplete",         "nvJitLinkGetLinkedCubinSize",
    "nvJitLinkGetLinkedCubin", "nvJitLinkGetLinkedPtxSize", "nvJitLinkGetLinkedPtx"};

/* `name` without the "__" in front; "_13_5" may follow, as in what nvJitLink's header calls. */
void *orion_nvjitlink_hook(const char *name, void *found)
{
    unsigned which = 0;
    size_t length = strcspn(name, "_");
    while (which < HOOKED && (strlen(names[which]) != length || strncmp(names[which], name, length) != 0))
        which++;
    int i = which < HOOKED ? orion_compiler_slot(&libraries[0].slot, sizeof libraries[0], found) : -1;
    if (i < 0)
        return found;
    void *real[NAMES];
    for (unsigned k = 0; k < NAMES; k++) {
        char full[96];
        snprintf(full, sizeof full, "%s%s%s", name[length] ? "__" : "", names[k], name + length);
        real[k] = orion_sibling(found, full);
        if (!real[k]) {
            orion_debug("the nvJitLink that is loaded has no %s; it is left alone", full);
            return found;
        }
    }
    nvjitlink_t *library = &libraries[i];
    library->create = (create_fn)real[0];
    library->destroy = (destroy_fn)real[1];
    library->add_data = (add_data_fn)real[2];
    library->add_file = (add_file_fn)real[3];
    library->complete = (complete_fn)real[4];
    library->cubin_size = (size_fn)real[5];
    library->cubin = (get_fn)real[6];
    library->ptx_size = (size_fn)real[7];
    library->ptx = (get_fn)real[8];
    return hooks[i][which];
}
