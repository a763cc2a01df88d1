/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel with a wild pointer ends its worker. The handler tells the supervisor what happened (one packet, no locks,
 * no allocation: it may interrupt anything) and exits, so that the client's epitaph says CUDA_ERROR_ILLEGAL_ADDRESS
 * with the address and the kernel's name instead of "the server is gone".
 */
#include "worker/faults.h"

#include "base/futex.h"
#include "orion_generated/orion_cuda.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define STACK_BYTES (64u << 10)
#define HOLD_NS (50 * 1000 * 1000) /* between looks; the hold itself lasts as long as a copy */

/* The CPU device knows which kernel a thread runs; a worker without that device has no such function. */
extern const char *orion_cpu_running_kernel(void) __attribute__((weak));

static const orion_control_line_t *control;

static uint32_t holds; /* atomic futex word: counts begins and ends, odd between them */

void orion_faults_hold(void)
{
    __atomic_fetch_add(&holds, 1, __ATOMIC_SEQ_CST);
}

void orion_faults_go(void)
{
    __atomic_fetch_add(&holds, 1, __ATOMIC_SEQ_CST); /* pairs with the load in is_held() */
    orion_futex_wake(&holds, ORION_WAKE_ALL);
}

/* Whether the access may succeed by now: once for each hold, so that a kernel's own fault is not tried for ever. */
static int is_held(void)
{
    static _Thread_local uint32_t tried;
    uint32_t now;
    while ((now = __atomic_load_n(&holds, __ATOMIC_SEQ_CST)) & 1)
        orion_futex_wait(&holds, now, HOLD_NS);
    if (now == tried)
        return 0;
    tried = now;
    return 1;
}

static char *append(char *at, const char *end, const char *text)
{
    while (*text && at < end)
        *at++ = *text++;
    return at;
}

static char *append_hex(char *at, const char *end, uint64_t value)
{
    char digits[16];
    int n = 0;
    do
        digits[n++] = "0123456789abcdef"[value & 15];
    while ((value >>= 4) && n < 16);
    at = append(at, end, "0x");
    while (n && at < end)
        *at++ = digits[--n];
    return at;
}

static void last_words(int number, siginfo_t *info, void *context)
{
    char text[256], *at = text;
    const char *end = text + sizeof text;
    const char *kernel = orion_cpu_running_kernel ? orion_cpu_running_kernel() : NULL;
    CUresult result = CUDA_ERROR_LAUNCH_FAILED;

    (void)context;
    if (number == SIGSEGV && info->si_code == SEGV_ACCERR && __atomic_load_n(&holds, __ATOMIC_RELAXED) && is_held())
        return;
    switch (number) {
    case SIGSEGV:
    case SIGBUS:
        result = CUDA_ERROR_ILLEGAL_ADDRESS;
        at = append(at, end, "illegal address ");
        at = append_hex(at, end, (uint64_t)(uintptr_t)info->si_addr);
        break;
    case SIGFPE:
        at = append(at, end, "arithmetic trap");
        break;
    case SIGILL:
        result = CUDA_ERROR_ILLEGAL_INSTRUCTION;
        at = append(at, end, "illegal instruction");
        break;
    default:
        at = append(at, end, "the worker gave up (abort)");
        break;
    }
    if (kernel) {
        at = append(at, end, " in kernel ");
        at = append(at, end, kernel);
    } else if (number != SIGABRT)
        at = append(at, end, " in the worker, outside of any kernel");
    orion_control_tell(control, ORION_CONTROL_FAULT, (int32_t)result, 0, 0, text, (size_t)(at - text));
    _exit(128 + number);
}

void orion_faults_thread(void)
{
    void *memory = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return; /* the handler then runs on the thread's own stack */
    const stack_t stack = {.ss_sp = memory, .ss_size = STACK_BYTES};
    sigaltstack(&stack, NULL);
}

void orion_faults_install(const orion_control_line_t *line)
{
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    struct sigaction action = {.sa_sigaction = last_words, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    control = line;
    sigfillset(&action.sa_mask); /* a fault inside of the handler ends the process */
    orion_faults_thread();
    for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        sigaction(numbers[i], &action, NULL);
}
