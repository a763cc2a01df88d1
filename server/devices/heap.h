/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device memory: a reserved address range, filled with extents that the granter maps, cut into blocks by best fit.
 * Nothing about the blocks is kept inside the memory, for kernels may write anywhere in it. Any thread; one lock.
 */
#ifndef ORION_DEVICES_HEAP_H
#define ORION_DEVICES_HEAP_H

#include "device.h"

#include <pthread.h>

#include "tree.h"

#define ORION_HEAP_ALIGN 4096u          /* an allocation has its pages for itself: it can be shown to another process */
#define ORION_HEAP_PAGE (2ull << 20)    /* extents begin on multiples */
#define ORION_HEAP_FIRST (4ull << 20)   /* smallest extent asked for, if there is as much; it grows with the heap */
#define ORION_HEAP_EXTENT (64ull << 20) /* what it grows to */

typedef enum orion_block_use {
    ORION_BLOCK_FREE,
    ORION_BLOCK_MEMORY, /* cuMemAlloc and the like */
    ORION_BLOCK_MODULE, /* a module's variables */
    ORION_BLOCK_DYING,  /* freed; work that may use it is under way */
    ORION_BLOCK_OPENED  /* memory of another process */
} orion_block_use_t;

typedef struct orion_extent orion_extent_t;

typedef struct orion_heap {
    pthread_mutex_t lock;
    uint64_t base, bytes, limit;
    uint64_t used, dying, granted;
    int own_range; /* reserved by the heap itself */
    orion_granter_t granter;
    orion_broker_t broker;
    orion_extent_t *extents; /* by address */
    orion_tree_t by_size;    /* free blocks: (bytes, address) */
    orion_tree_t by_address; /* all others: (address, 0) */
} orion_heap_t;

CUresult orion_heap_init(orion_heap_t *heap, const orion_device_config_t *config, char *why, size_t why_bytes);
void orion_heap_fini(orion_heap_t *heap);

/* INVALID_VALUE for 0 bytes; OUT_OF_MEMORY beyond the limit or what the granter gives. */
CUresult orion_heap_alloc(orion_heap_t *heap, uint64_t bytes, orion_block_use_t use, uint64_t *address_p);
/* From now on the address is no allocation any more; retire gives the memory back. INVALID_VALUE: none of that use
 * begins there. */
CUresult orion_heap_doom(orion_heap_t *heap, uint64_t address, orion_block_use_t use);
void orion_heap_undoom(orion_heap_t *heap, uint64_t address); /* for memory, when its free could not be enqueued */
/* Undoes doom for a new owner if the block holds `bytes`; exact: it must be just that large. 1: done. */
int orion_heap_revive(orion_heap_t *heap, uint64_t address, uint64_t bytes, int exact);
void orion_heap_retire(orion_heap_t *heap, uint64_t address); /* frees a doomed block */
CUresult orion_heap_find(orion_heap_t *heap, uint64_t address, uint64_t *base_p, uint64_t *bytes_p);
/* Makes the allocation that holds the address known to the broker, and its pages nobody else's. The same handle each
 * time. INVALID_VALUE: no allocation. Kernels that write there meanwhile wait. */
CUresult orion_heap_share(orion_heap_t *heap, uint64_t address, orion_ipc_handle_t *handle_p);
/* Maps memory of another process. */
CUresult orion_heap_open(orion_heap_t *heap, const orion_ipc_handle_t *handle, uint64_t *address_p, uint64_t *bytes_p);
/* INVALID_VALUE: nothing of another process begins there. */
CUresult orion_heap_close(orion_heap_t *heap, uint64_t address);
/* Gives the granter back what no allocation uses; 0: there was nothing. */
int orion_heap_trim(orion_heap_t *heap);
void orion_heap_usage(orion_heap_t *heap, uint64_t *used_p, uint64_t *dying_p, uint64_t *granted_p);
/* Frees everything and gives all extents back. */
void orion_heap_reset(orion_heap_t *heap);
/* Whether blocks and extents agree with each other; for tests. why: what does not. */
int orion_heap_check(orion_heap_t *heap, const char **why);

#endif
