/* SPDX-License-Identifier: Apache-2.0 */
/* Generated from csrc/spec by csrc/codegen/emit_server.py: edit those. */
#include "orion_generated/serve.h"
#include "orion_generated/wire.h"

static bool decoded_orionAsk(const orion_record_t *record, orion_args_orionAsk_t *args_p)
{
    return orion_decode_orionAsk(orion_record_payload_const(record), orion_record_payload_bytes(record), args_p);
}

static void serve_orionAsk(orion_worker_t *w, const orion_record_t *record, const orion_args_orionAsk_t *args)
{
    const orion_wire_orionAsk_t *a = args->fixed;
    CUresult result = CUDA_SUCCESS;
    unsigned int count = 0;
    uint32_t reply_bytes = 0;
    _Alignas(8) unsigned char reply[72];
    _Static_assert(72 <= ORION_REPLY_DATA, "fits a reply slot");
    unsigned char *answer = reply + 8;
    uint32_t answer_bytes = 0;
    result = orion_serve_orionAsk(w, (unsigned char)a->letter, args->name, (unsigned int)a->bytes, args->data, &count,
                                  answer, &answer_bytes);
    if (result == CUDA_SUCCESS) {
        orion_outs_orionAsk_t *outs = (void *)reply;
        memset(outs, 0, sizeof(*outs));
        outs->count = (uint32_t)count;
        reply_bytes = 8;
        if (answer_bytes > 64) answer_bytes = 64;
        outs->answer_bytes = answer_bytes;
        memmove(reply + reply_bytes, answer, answer_bytes);
        uint32_t answer_padded = (uint32_t)orion_wire_padded(answer_bytes);
        memset(reply + reply_bytes + answer_bytes, 0, answer_padded - answer_bytes);
        reply_bytes += answer_padded;
    }
    orion_worker_reply(w, record->slot, record->sequence, result, reply, reply_bytes);
}

static void run_orionAsk(orion_worker_t *w, const orion_record_t *record)
{
    orion_args_orionAsk_t args;
    if (decoded_orionAsk(record, &args)) serve_orionAsk(w, record, &args);
}

static orion_status_t dispatch_orionAsk(orion_worker_t *w, const orion_record_t *record)
{
    orion_args_orionAsk_t args;
    if (record->slot == ORION_SLOT_NONE) return ORION_PROTOCOL;
    if (!decoded_orionAsk(record, &args)) return ORION_PROTOCOL;
    return orion_worker_queue(w, record, run_orionAsk);
}

static bool decoded_cuMemAlloc_v2(const orion_record_t *record, orion_args_cuMemAlloc_v2_t *args_p)
{
    return orion_decode_cuMemAlloc_v2(orion_record_payload_const(record), orion_record_payload_bytes(record), args_p);
}

static void serve_cuMemAlloc_v2(orion_worker_t *w, const orion_record_t *record, const orion_args_cuMemAlloc_v2_t *args)
{
    const orion_wire_cuMemAlloc_v2_t *a = args->fixed;
    CUresult result = CUDA_SUCCESS;
    CUdeviceptr dptr = 0;
    uint32_t reply_bytes = 0;
    _Alignas(8) unsigned char reply[8];
    _Static_assert(8 <= ORION_REPLY_DATA, "fits a reply slot");
    result = orion_ledger_charge(w, a->bytesize);
    if (result != CUDA_SUCCESS) goto done;
    result = orion_serve_cuMemAlloc_v2(w, &dptr, (size_t)a->bytesize);
    if (result != CUDA_SUCCESS) orion_ledger_refund(w, a->bytesize);
done:
    if (result == CUDA_SUCCESS) {
        orion_outs_cuMemAlloc_v2_t *outs = (void *)reply;
        memset(outs, 0, sizeof(*outs));
        outs->dptr = (uint64_t)dptr;
        reply_bytes = 8;
    }
    orion_worker_reply(w, record->slot, record->sequence, result, reply, reply_bytes);
}

static orion_status_t dispatch_cuMemAlloc_v2(orion_worker_t *w, const orion_record_t *record)
{
    orion_args_cuMemAlloc_v2_t args;
    if (record->slot == ORION_SLOT_NONE) return ORION_PROTOCOL;
    if (!decoded_cuMemAlloc_v2(record, &args)) return ORION_PROTOCOL;
    serve_cuMemAlloc_v2(w, record, &args);
    return ORION_OK;
}

static bool decoded_cuMemsetD8_v2(const orion_record_t *record, orion_args_cuMemsetD8_v2_t *args_p)
{
    return orion_decode_cuMemsetD8_v2(orion_record_payload_const(record), orion_record_payload_bytes(record), args_p);
}

static void serve_cuMemsetD8_v2(orion_worker_t *w, const orion_record_t *record, const orion_args_cuMemsetD8_v2_t *args)
{
    const orion_wire_cuMemsetD8_v2_t *a = args->fixed;
    (void)record;
    CUresult result = CUDA_SUCCESS;
    orion_stream_t *default_stream = NULL;
    if (!orion_worker_stream(w, a->default_stream, &default_stream)) {
        result = CUDA_ERROR_INVALID_HANDLE;
        goto done;
    }
    result = orion_serve_cuMemsetD8_v2(w, (CUdeviceptr)a->dstDevice, (unsigned char)a->uc, (size_t)a->N,
                                       default_stream);
done:
    if (result != CUDA_SUCCESS) orion_worker_async_failed(w, result, "cuMemsetD8_v2");
}

static orion_status_t dispatch_cuMemsetD8_v2(orion_worker_t *w, const orion_record_t *record)
{
    orion_args_cuMemsetD8_v2_t args;
    if (record->slot != ORION_SLOT_NONE) return ORION_PROTOCOL;
    if (!decoded_cuMemsetD8_v2(record, &args)) return ORION_PROTOCOL;
    serve_cuMemsetD8_v2(w, record, &args);
    return ORION_OK;
}

static bool decoded_cuStreamCreate(const orion_record_t *record, orion_args_cuStreamCreate_t *args_p)
{
    return orion_decode_cuStreamCreate(orion_record_payload_const(record), orion_record_payload_bytes(record), args_p);
}

static void serve_cuStreamCreate(orion_worker_t *w, const orion_record_t *record,
                                 const orion_args_cuStreamCreate_t *args)
{
    const orion_wire_cuStreamCreate_t *a = args->fixed;
    (void)record;
    CUresult result = CUDA_SUCCESS;
    orion_stream_t *phStream = NULL;
    if ((a->Flags & ~0x1u) != 0) {
        result = CUDA_ERROR_INVALID_VALUE;
        goto done;
    }
    if (!orion_handles_claim(orion_worker_handles(w, ORION_HANDLE_STREAM), a->phStream)) {
        result = CUDA_ERROR_INVALID_HANDLE;
        goto done;
    }
    result = orion_serve_cuStreamCreate(w, &phStream, (unsigned int)a->Flags);
    if (result == CUDA_SUCCESS) {
        orion_handles_put(orion_worker_handles(w, ORION_HANDLE_STREAM), a->phStream, phStream);
    } else {
        orion_handles_abandon(orion_worker_handles(w, ORION_HANDLE_STREAM), a->phStream);
    }
done:
    if (result != CUDA_SUCCESS) orion_worker_async_failed(w, result, "cuStreamCreate");
}

static orion_status_t dispatch_cuStreamCreate(orion_worker_t *w, const orion_record_t *record)
{
    orion_args_cuStreamCreate_t args;
    if (record->slot != ORION_SLOT_NONE) return ORION_PROTOCOL;
    if (!decoded_cuStreamCreate(record, &args)) return ORION_PROTOCOL;
    serve_cuStreamCreate(w, record, &args);
    return ORION_OK;
}

static bool decoded_cuStreamDestroy_v2(const orion_record_t *record, orion_args_cuStreamDestroy_v2_t *args_p)
{
    return orion_decode_cuStreamDestroy_v2(orion_record_payload_const(record), orion_record_payload_bytes(record),
                                           args_p);
}

static void serve_cuStreamDestroy_v2(orion_worker_t *w, const orion_record_t *record,
                                     const orion_args_cuStreamDestroy_v2_t *args)
{
    const orion_wire_cuStreamDestroy_v2_t *a = args->fixed;
    (void)record;
    CUresult result = CUDA_SUCCESS;
    orion_stream_t *hStream = NULL;
    hStream = orion_handles_take(orion_worker_handles(w, ORION_HANDLE_STREAM), a->hStream);
    if (hStream == NULL) {
        result = CUDA_ERROR_INVALID_HANDLE;
        goto done;
    }
    result = orion_serve_cuStreamDestroy_v2(w, hStream);
done:
    if (result != CUDA_SUCCESS) orion_worker_async_failed(w, result, "cuStreamDestroy_v2");
}

static orion_status_t dispatch_cuStreamDestroy_v2(orion_worker_t *w, const orion_record_t *record)
{
    orion_args_cuStreamDestroy_v2_t args;
    if (record->slot != ORION_SLOT_NONE) return ORION_PROTOCOL;
    if (!decoded_cuStreamDestroy_v2(record, &args)) return ORION_PROTOCOL;
    serve_cuStreamDestroy_v2(w, record, &args);
    return ORION_OK;
}

static bool decoded_cuStreamSynchronize(const orion_record_t *record, orion_args_cuStreamSynchronize_t *args_p)
{
    return orion_decode_cuStreamSynchronize(orion_record_payload_const(record), orion_record_payload_bytes(record),
                                            args_p);
}

static void serve_cuStreamSynchronize(orion_worker_t *w, const orion_record_t *record,
                                      const orion_args_cuStreamSynchronize_t *args)
{
    const orion_wire_cuStreamSynchronize_t *a = args->fixed;
    CUresult result = CUDA_SUCCESS;
    orion_stream_t *hStream = NULL;
    if (!orion_worker_stream(w, a->hStream, &hStream)) {
        result = CUDA_ERROR_INVALID_HANDLE;
        goto done;
    }
    result = orion_serve_cuStreamSynchronize(w, (orion_ticket_t){record->slot, record->sequence}, hStream);
    if (result == ORION_DEFERRED) return;
done:
    orion_worker_reply(w, record->slot, record->sequence, result, NULL, 0);
}

static orion_status_t dispatch_cuStreamSynchronize(orion_worker_t *w, const orion_record_t *record)
{
    orion_args_cuStreamSynchronize_t args;
    if (record->slot == ORION_SLOT_NONE) return ORION_PROTOCOL;
    if (!decoded_cuStreamSynchronize(record, &args)) return ORION_PROTOCOL;
    serve_cuStreamSynchronize(w, record, &args);
    return ORION_OK;
}

void orion_reply_cuStreamSynchronize(orion_worker_t *w, orion_ticket_t ticket, CUresult result)
{
    orion_worker_reply(w, ticket.slot, ticket.sequence, result, NULL, 0);
}

static bool decoded_orionFetch(const orion_record_t *record, orion_args_orionFetch_t *args_p)
{
    return orion_decode_orionFetch(orion_record_payload_const(record), orion_record_payload_bytes(record), args_p);
}

static void serve_orionFetch(orion_worker_t *w, const orion_record_t *record, const orion_args_orionFetch_t *args)
{
    const orion_wire_orionFetch_t *a = args->fixed;
    CUresult result = CUDA_SUCCESS;
    orion_stream_t *stream = NULL;
    if (!orion_worker_stream(w, a->stream, &stream)) {
        result = CUDA_ERROR_INVALID_HANDLE;
        goto done;
    }
    result = orion_serve_orionFetch(w, (orion_ticket_t){record->slot, record->sequence}, stream);
    if (result == ORION_DEFERRED) return;
done:
    orion_worker_reply(w, record->slot, record->sequence, result, NULL, 0);
}

static orion_status_t dispatch_orionFetch(orion_worker_t *w, const orion_record_t *record)
{
    orion_args_orionFetch_t args;
    if (record->slot == ORION_SLOT_NONE) return ORION_PROTOCOL;
    if (!decoded_orionFetch(record, &args)) return ORION_PROTOCOL;
    serve_orionFetch(w, record, &args);
    return ORION_OK;
}

void orion_reply_orionFetch(orion_worker_t *w, orion_ticket_t ticket, CUresult result, const void *data,
                            uint32_t data_bytes)
{
    _Alignas(8) unsigned char reply[112];
    _Static_assert(112 <= ORION_REPLY_DATA, "fits a reply slot");
    uint32_t reply_bytes = 0;
    if (result == CUDA_SUCCESS) {
        orion_outs_orionFetch_t *outs = (void *)reply;
        memset(outs, 0, sizeof(*outs));
        reply_bytes = 8;
        if (data_bytes > 100) data_bytes = 100;
        outs->data_bytes = data_bytes;
        memmove(reply + reply_bytes, data, data_bytes);
        uint32_t data_padded = (uint32_t)orion_wire_padded(data_bytes);
        memset(reply + reply_bytes + data_bytes, 0, data_padded - data_bytes);
        reply_bytes += data_padded;
    }
    orion_worker_reply(w, ticket.slot, ticket.sequence, result, reply, reply_bytes);
}


typedef orion_status_t (*dispatch_func_t)(orion_worker_t *, const orion_record_t *);

static const dispatch_func_t table[ORION_OP_LIMIT] = {
    [ORION_OP_orionAsk] = dispatch_orionAsk,
    [ORION_OP_cuMemAlloc_v2] = dispatch_cuMemAlloc_v2,
    [ORION_OP_cuMemsetD8_v2] = dispatch_cuMemsetD8_v2,
    [ORION_OP_cuStreamCreate] = dispatch_cuStreamCreate,
    [ORION_OP_cuStreamDestroy_v2] = dispatch_cuStreamDestroy_v2,
    [ORION_OP_cuStreamSynchronize] = dispatch_cuStreamSynchronize,
    [ORION_OP_orionFetch] = dispatch_orionFetch,
};

orion_status_t orion_dispatch(orion_worker_t *w, const orion_record_t *record)
{
    if (record->opcode >= ORION_OP_LIMIT || table[record->opcode] == NULL) return ORION_PROTOCOL;
    return table[record->opcode](w, record);
}
