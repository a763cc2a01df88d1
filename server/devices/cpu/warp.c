/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Warp operations: shfl, vote, match, redux, bar.warp.sync, activemask, elect. The arguments of up to 32 lanes are
 * gathered from the block's arrays, the operation is done here, and each lane finds its result when it goes on.
 */
#include "block.h"

#include <string.h>

enum { SHFL_UP = 0, SHFL_DOWN = 1, SHFL_BFLY = 2, SHFL_IDX = 3 };
enum { VOTE_ALL = 0, VOTE_ANY = 1, VOTE_UNI = 2, VOTE_BALLOT = 3 };
enum { MATCH_ANY = 0, MATCH_ALL = 1 };
enum { REDUX_ADD, REDUX_SMIN, REDUX_SMAX, REDUX_UMIN, REDUX_UMAX, REDUX_AND, REDUX_OR, REDUX_XOR };

typedef struct {
    uint32_t group; /* lanes that take part */
    uint32_t arg[ORION_CPU_ARGS][ORION_CPU_WARP];
    uint32_t result[ORION_CPU_WARP], pred[ORION_CPU_WARP];
} warp_t;

static uint32_t lanes_of(const orion_cpu_block_t *block, uint32_t t)
{
    const uint32_t n = block->threads - t;

    return n >= ORION_CPU_WARP ? 0xffffffffu : (1u << n) - 1u;
}

/* --- the operations --- */

static void shuffle(warp_t *w, uint32_t op)
{
    for (uint32_t lane = 0; lane < ORION_CPU_WARP; lane++) {
        const uint32_t b = w->arg[1][lane] & 31u, c = w->arg[2][lane];
        const uint32_t segment = (c >> 8) & 31u, clamp = c & 31u;
        const uint32_t max = (lane & segment) | (clamp & ~segment), min = lane & segment;
        uint32_t from, valid;

        switch (op) {
        case SHFL_UP: /* for up the clamp is a lower bound */
            valid = lane >= b && lane - b >= max;
            from = lane - b;
            break;
        case SHFL_DOWN:
            from = lane + b;
            valid = from <= max;
            break;
        case SHFL_BFLY:
            from = lane ^ b;
            valid = from <= max;
            break;
        default:
            from = min | (b & ~segment);
            valid = from <= max;
            break;
        }
        if (!valid)
            from = lane;
        w->result[lane] = w->arg[0][from & 31u];
        w->pred[lane] = valid;
    }
}

static uint32_t vote_one(const warp_t *w, uint32_t op, uint32_t members, uint32_t ballot)
{
    (void)w;
    switch (op) {
    case VOTE_ALL:
        return ballot == members;
    case VOTE_ANY:
        return ballot != 0;
    case VOTE_UNI:
        return ballot == 0 || ballot == members;
    default:
        return ballot;
    }
}

static uint32_t redux_step(uint32_t op, uint32_t a, uint32_t b)
{
    switch (op) {
    case REDUX_ADD:
        return a + b;
    case REDUX_SMIN:
        return (int32_t)a < (int32_t)b ? a : b;
    case REDUX_SMAX:
        return (int32_t)a > (int32_t)b ? a : b;
    case REDUX_UMIN:
        return a < b ? a : b;
    case REDUX_UMAX:
        return a > b ? a : b;
    case REDUX_AND:
        return a & b;
    case REDUX_OR:
        return a | b;
    default:
        return a ^ b;
    }
}

static uint32_t redux_one(const warp_t *w, uint32_t op, uint32_t members)
{
    uint32_t value = 0, first = 1;

    for (; members != 0; members &= members - 1) {
        const uint32_t lane = (uint32_t)__builtin_ctz(members);
        value = first ? w->arg[0][lane] : redux_step(op, value, w->arg[0][lane]);
        first = 0;
    }
    return value;
}

static void match_one(warp_t *w, uint32_t op, uint32_t members, uint32_t lane)
{
    uint32_t same = 0;

    for (uint32_t left = members; left != 0; left &= left - 1) {
        const uint32_t other = (uint32_t)__builtin_ctz(left);
        if (w->arg[0][other] == w->arg[0][lane] && w->arg[1][other] == w->arg[1][lane])
            same |= 1u << other;
    }
    w->pred[lane] = same == members;
    w->result[lane] = op == MATCH_ANY ? same : (same == members ? members : 0);
}

/* Members may differ between lanes (several groups, each with its own mask, at one instruction). */
static void operate(warp_t *w, uint32_t kind, uint32_t op)
{
    uint32_t last = 0, cached = 0, have = 0, ballot = 0;

    if (kind == ORION_CPU_SYNC_SHUFFLE) {
        shuffle(w, op);
        return;
    }
    if (kind == ORION_CPU_SYNC_VOTE)
        for (uint32_t left = w->group; left != 0; left &= left - 1)
            ballot |= (w->arg[0][__builtin_ctz(left)] != 0 ? 1u : 0u) << __builtin_ctz(left);
    for (uint32_t left = w->group; left != 0; left &= left - 1) {
        const uint32_t lane = (uint32_t)__builtin_ctz(left);
        const uint32_t members = w->arg[3][lane] & w->group;

        switch (kind) {
        case ORION_CPU_SYNC_MATCH:
            match_one(w, op, members, lane);
            continue;
        case ORION_CPU_SYNC_ELECT:
            w->result[lane] = members != 0 ? (uint32_t)__builtin_ctz(members) : 0;
            w->pred[lane] = members != 0 && w->result[lane] == lane;
            continue;
        case ORION_CPU_SYNC_ACTIVE:
            w->result[lane] = w->group;
            continue;
        case ORION_CPU_SYNC_WARP:
            continue;
        default:
            break;
        }
        if (!have || members != last) {
            cached = kind == ORION_CPU_SYNC_VOTE ? vote_one(w, op, members, ballot & members)
                                                 : redux_one(w, op, members);
            last = members;
            have = 1;
        }
        w->result[lane] = cached;
        w->pred[lane] = cached;
    }
}

/* --- all lanes of a block at one point --- */

static void gather_row(const orion_cpu_block_t *block, const orion_cpu_sync_t *sync, uint32_t t, uint32_t n, warp_t *w)
{
    for (uint32_t i = 0; i < ORION_CPU_ARGS; i++) {
        if ((sync->fixed >> i) & 1u)
            for (uint32_t lane = 0; lane < ORION_CPU_WARP; lane++)
                w->arg[i][lane] = sync->imm[i];
        else
            memcpy(w->arg[i], block->arg[i] + t, n * sizeof(uint32_t));
    }
}

/* The shuffles of reductions and scans: one distance for the whole, full warp, no segments. */
static int shuffle_fast(orion_cpu_block_t *block, const orion_cpu_sync_t *sync, uint32_t t)
{
    const uint32_t b = sync->imm[1] & 31u, op = sync->op;
    const uint32_t *value = block->arg[0] + t;
    uint32_t *result = block->result + t, *pred = block->result_pred + t;

    switch (op) {
    case SHFL_DOWN:
        for (uint32_t i = 0; i < ORION_CPU_WARP; i++) {
            result[i] = value[i + b < ORION_CPU_WARP ? i + b : i];
            pred[i] = i + b < ORION_CPU_WARP;
        }
        return 1;
    case SHFL_BFLY:
        for (uint32_t i = 0; i < ORION_CPU_WARP; i++) {
            result[i] = value[i ^ b];
            pred[i] = 1;
        }
        return 1;
    case SHFL_IDX:
        for (uint32_t i = 0; i < ORION_CPU_WARP; i++) {
            result[i] = value[b];
            pred[i] = 1;
        }
        return 1;
    default:
        return 0;
    }
}

void orion_cpu_warp_all(orion_cpu_block_t *block, uint32_t k)
{
    const orion_cpu_sync_t *sync = &block->kernel->sync[k];
    const int plain = sync->kind == ORION_CPU_SYNC_SHUFFLE && (sync->fixed & 7u) == 6u && sync->imm[2] == 31u;
    warp_t w;

    if (sync->kind == ORION_CPU_SYNC_WARP)
        return;
    memset(&w, 0, sizeof(w));
    for (uint32_t t = 0; t < block->threads; t += ORION_CPU_WARP) {
        const uint32_t left = block->threads - t, n = left < ORION_CPU_WARP ? left : ORION_CPU_WARP;
        if (plain && n == ORION_CPU_WARP && shuffle_fast(block, sync, t))
            continue;
        w.group = lanes_of(block, t);
        gather_row(block, sync, t, n, &w);
        operate(&w, sync->kind, sync->op & 0xffu);
        memcpy(block->result + t, w.result, n * sizeof(uint32_t));
        memcpy(block->result_pred + t, w.pred, n * sizeof(uint32_t));
    }
}

/* --- lanes at different points --- */

static int is_waiting(uint32_t next)
{
    return next != ORION_CPU_DONE && !(next & ORION_CPU_READY);
}

/* Lanes of the warp that wait for the same operation as the given one. */
static uint32_t peers(const orion_cpu_block_t *block, uint32_t t, uint32_t lane, uint32_t lanes)
{
    const uint32_t k = block->next[t + lane];
    const orion_cpu_sync_t *mine = &block->kernel->sync[k];
    const int same_place = (mine->op & ORION_CPU_OP_LEGACY) != 0 || mine->kind == ORION_CPU_SYNC_ACTIVE;
    uint32_t found = 0;

    for (uint32_t left = lanes; left != 0; left &= left - 1) {
        const uint32_t other = (uint32_t)__builtin_ctz(left);
        const uint32_t next = block->next[t + other];
        if (!is_waiting(next))
            continue;
        const orion_cpu_sync_t *sync = &block->kernel->sync[next];
        if (next == k || (!same_place && sync->kind == mine->kind && sync->op == mine->op))
            found |= 1u << other;
    }
    return found;
}

static void release_group(orion_cpu_block_t *block, uint32_t t, uint32_t group, const orion_cpu_sync_t *sync)
{
    warp_t w;

    memset(&w, 0, sizeof(w));
    w.group = group;
    for (uint32_t left = group; left != 0; left &= left - 1) {
        const uint32_t lane = (uint32_t)__builtin_ctz(left);
        const orion_cpu_sync_t *own = &block->kernel->sync[block->next[t + lane]];
        for (uint32_t i = 0; i < ORION_CPU_ARGS; i++)
            w.arg[i][lane] = orion_cpu_arg(block, own, t + lane, i);
    }
    operate(&w, sync->kind, sync->op & 0xffu);
    for (uint32_t left = group; left != 0; left &= left - 1) {
        const uint32_t lane = (uint32_t)__builtin_ctz(left);
        block->result[t + lane] = w.result[lane];
        block->result_pred[t + lane] = w.pred[lane];
        block->next[t + lane] |= ORION_CPU_READY;
    }
}

int orion_cpu_warp_release(orion_cpu_block_t *block, uint32_t t)
{
    const uint32_t lanes = lanes_of(block, t);
    uint32_t live = 0, ready = 0;
    int any = 0;

    for (uint32_t left = lanes; left != 0; left &= left - 1) {
        const uint32_t lane = (uint32_t)__builtin_ctz(left), next = block->next[t + lane];
        live |= (next != ORION_CPU_DONE ? 1u : 0u) << lane;
        /* A polling lane may poll for what the lanes here do next: it is not waited for. */
        if (next != ORION_CPU_DONE && (next & ORION_CPU_READY) &&
            block->kernel->sync[next & ~ORION_CPU_READY].kind != ORION_CPU_SYNC_SPIN)
            ready |= 1u << lane;
    }
    for (uint32_t lane = 0; lane < ORION_CPU_WARP; lane++) {
        if (!((live >> lane) & 1u) || !is_waiting(block->next[t + lane]))
            continue;
        const orion_cpu_sync_t *sync = &block->kernel->sync[block->next[t + lane]];
        if (!orion_cpu_is_warp_kind(sync->kind))
            continue;
        const uint32_t here = peers(block, t, lane, lanes);
        uint32_t group = here;
        if ((sync->op & ORION_CPU_OP_LEGACY) || sync->kind == ORION_CPU_SYNC_ACTIVE) {
            /* No member mask: wait until no other lane could still join, then whoever is here takes part. */
            if (ready != 0)
                continue;
        } else {
            group = (orion_cpu_arg(block, sync, t + lane, 3) | 1u << lane) & live;
            if ((here & group) != group)
                continue;
        }
        release_group(block, t, group, sync);
        any = 1;
    }
    return any;
}
