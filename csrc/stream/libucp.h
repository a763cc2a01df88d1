/* SPDX-License-Identifier: Apache-2.0 */
/* What we use of UCX's libucp, found at run time: version 1.12 or newer, never linked, no headers needed. Structures
 * are those of its API, each with a mask of the members that count, so that later ones may be longer. */
#ifndef ORION_STREAM_LIBUCP_H
#define ORION_STREAM_LIBUCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct orion_ucp_context orion_ucp_context_t;
typedef struct orion_ucp_worker orion_ucp_worker_t;
typedef struct orion_ucp_ep orion_ucp_ep_t;
typedef struct orion_ucp_address orion_ucp_address_t;
typedef struct orion_ucp_config orion_ucp_config_t;
typedef int8_t orion_ucs_status_t;

typedef struct orion_ucp_params {
    uint64_t field_mask, features;
    size_t request_size;
    void *rest[12];
} orion_ucp_params_t;

typedef struct orion_ucp_worker_params {
    uint64_t field_mask;
    int thread_mode;
    uint64_t rest[32];
} orion_ucp_worker_params_t;

typedef struct orion_ucp_ep_params {
    uint64_t field_mask;
    const orion_ucp_address_t *address;
    int err_mode;
    void (*on_error)(void *argument, orion_ucp_ep_t *ep, orion_ucs_status_t status);
    void *on_error_argument;
    void *rest[16];
} orion_ucp_ep_params_t;

typedef struct orion_ucp_request_param { /* all zero: contiguous bytes, no callback */
    uint32_t op_attr_mask, flags;
    void *rest[16];
} orion_ucp_request_param_t;

/* The functions, each a member of the same name. A request is NULL (done), a status as a pointer, or one to poll. */
#define ORION_LIBUCP_FUNCTIONS(F)                                                                                 \
    F(void, ucp_get_version, (unsigned *major_p, unsigned *minor_p, unsigned *release_p))                         \
    F(orion_ucs_status_t, ucp_config_read, (const char *prefix, const char *file, orion_ucp_config_t **config_p)) \
    F(orion_ucs_status_t, ucp_config_modify, (orion_ucp_config_t * config, const char *name, const char *value))  \
    F(void, ucp_config_release, (orion_ucp_config_t * config))                                                    \
    F(orion_ucs_status_t, ucp_init_version,                                                                       \
      (unsigned major, unsigned minor, const orion_ucp_params_t *params, const orion_ucp_config_t *config,        \
       orion_ucp_context_t **context_p))                                                                          \
    F(void, ucp_cleanup, (orion_ucp_context_t * context))                                                         \
    F(orion_ucs_status_t, ucp_worker_create,                                                                      \
      (orion_ucp_context_t * context, const orion_ucp_worker_params_t *params, orion_ucp_worker_t **worker_p))    \
    F(void, ucp_worker_destroy, (orion_ucp_worker_t * worker))                                                    \
    F(orion_ucs_status_t, ucp_worker_get_address,                                                                 \
      (orion_ucp_worker_t * worker, orion_ucp_address_t * *address_p, size_t *bytes_p))                           \
    F(void, ucp_worker_release_address, (orion_ucp_worker_t * worker, orion_ucp_address_t * address))             \
    F(orion_ucs_status_t, ucp_worker_get_efd, (orion_ucp_worker_t * worker, int *fd_p))                           \
    F(orion_ucs_status_t, ucp_worker_arm, (orion_ucp_worker_t * worker))                                          \
    F(unsigned, ucp_worker_progress, (orion_ucp_worker_t * worker))                                               \
    F(orion_ucs_status_t, ucp_ep_create,                                                                          \
      (orion_ucp_worker_t * worker, const orion_ucp_ep_params_t *params, orion_ucp_ep_t **ep_p))                  \
    F(void *, ucp_ep_flush_nbx, (orion_ucp_ep_t * ep, const orion_ucp_request_param_t *param))                    \
    F(void *, ucp_ep_close_nbx, (orion_ucp_ep_t * ep, const orion_ucp_request_param_t *param))                    \
    F(void *, ucp_stream_send_nbx,                                                                                \
      (orion_ucp_ep_t * ep, const void *data, size_t bytes, const orion_ucp_request_param_t *param))              \
    F(void *, ucp_stream_recv_data_nb, (orion_ucp_ep_t * ep, size_t *bytes_p))                                    \
    F(void, ucp_stream_data_release, (orion_ucp_ep_t * ep, void *data))                                           \
    F(orion_ucs_status_t, ucp_request_check_status, (void *request))                                              \
    F(void, ucp_request_free, (void *request))

#define ORION_UCP_PARAM_FEATURES 0x1u
#define ORION_UCP_FEATURE_WAKEUP 0x10u
#define ORION_UCP_FEATURE_STREAM 0x20u
#define ORION_UCP_WORKER_THREAD_MODE 0x1u
#define ORION_UCS_THREAD_MODE_SERIALIZED 1
#define ORION_UCP_EP_REMOTE_ADDRESS 0x1u
#define ORION_UCP_EP_ERR_MODE 0x2u
#define ORION_UCP_EP_ERR_HANDLER 0x4u
#define ORION_UCP_ERR_MODE_NONE 0
#define ORION_UCP_ERR_MODE_PEER 1
#define ORION_UCP_OP_FLAGS 0x10u
#define ORION_UCP_EP_CLOSE_FORCE 0x1u
#define ORION_UCS_OK 0
#define ORION_UCS_INPROGRESS 1
#define ORION_UCS_ERR_BUSY (-15)

/* A request that is a status and no pointer. */
static inline bool orion_ucp_failed(const void *request)
{
    return (uintptr_t)request >= (uintptr_t)-100;
}

typedef struct orion_libucp {
#define ORION_LIBUCP_MEMBER(result, name, parameters) result(*name) parameters;
    ORION_LIBUCP_FUNCTIONS(ORION_LIBUCP_MEMBER)
#undef ORION_LIBUCP_MEMBER
} orion_libucp_t;

/* Loads ORION_LIBUCP, else libucp.so.0, at the first call. NULL: there is none; why says so and what brings it. */
const orion_libucp_t *orion_libucp(char *why, size_t why_bytes);

#endif
