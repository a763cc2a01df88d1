/* SPDX-License-Identifier: Apache-2.0 */
/* Connects and says hello, see greet.h. */
#define _GNU_SOURCE
#include "transport/greet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "shm/layout.h"
#include "stream/socket.h"
#include "wire/token.h"

#define PREFIX_BYTES 16

static int connect_unix(const char *path, char *why, size_t why_bytes)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof(address.sun_path)) {
        orion_explain(why, why_bytes, "the socket path \"%s\" is empty or longer than %zu characters", path,
                      sizeof(address.sun_path) - 1);
        return -1;
    }
    memcpy(address.sun_path, path, length + 1);
    socklen_t size = sizeof(address);
    if (path[0] == '@') { /* an abstract name */
        address.sun_path[0] = '\0';
        size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, size) == 0)
        return fd;
    orion_explain_errno(why, why_bytes, errno,
                        "cannot connect to an Orion server at unix:%s (start one with `orion up --listen unix:%s`, or "
                        "mount its socket here)",
                        path, path);
    orion_fd_close(fd);
    return -1;
}

/* One connection's greeting. */
typedef struct greeting {
    int socket;
    const char *name;           /* of the server, for messages */
    bool has_token;             /* ORION_TOKEN is set */
    bool challenged;            /* and the server has asked for it */
    bool must_prove;            /* the socket's other end could be anybody */
    bool redirected;            /* by a controller */
    bool gave_up;               /* waiting for it */
    orion_redirect_t *redirect; /* NULL: it is a server that we talk to */
    orion_greet_waits_t waits;
    void *context;
    orion_token_t token;
    orion_exchange_t exchange;
} greeting_t;

/* Answers the server's challenge. A second one is none of a correct server. */
static orion_status_t answer_challenge(greeting_t *g, const orion_notice_t *challenge, char *why, size_t why_bytes)
{
    orion_notice_t answer;
    if (!g->has_token || g->challenged) {
        orion_explain(why, why_bytes, g->challenged ? "it asked for the token twice" : "it asked for a token unnamed");
        return ORION_PROTOCOL;
    }
    memcpy(g->exchange.server_nonce, challenge->nonce, sizeof(challenge->nonce));
    if (orion_random_bytes(g->exchange.client_nonce, sizeof(g->exchange.client_nonce)) != 0) {
        orion_explain_errno(why, why_bytes, errno, "cannot draw a random number");
        return ORION_SYSTEM;
    }
    orion_notice_init(&answer, ORION_NOTICE_ANSWER);
    memcpy(answer.nonce, g->exchange.client_nonce, sizeof(answer.nonce));
    orion_token_answer(&g->token, &g->exchange, answer.mac);
    g->challenged = true;
    return orion_fd_send(g->socket, &answer, sizeof(answer), NULL, 0);
}

/* One message before the session: a welcome, or a notice that it takes longer or will not come. The first 16 bytes say
 * which, and how long it is: that depends on the server's version. ORION_AGAIN: wait on. */
static orion_status_t receive_answer(greeting_t *g, orion_welcome_t *welcome_p, int fds[2], char *why, size_t why_bytes)
{
    union {
        uint8_t bytes[sizeof(orion_welcome_t)]; /* the longest of them */
        struct {
            uint64_t magic;
            uint32_t words[2]; /* welcome: version, bytes; notice: bytes, kind */
        } prefix;
    } m;
    orion_notice_t notice;
    int64_t deadline = orion_clock_ns() + ORION_HELLO_SILENCE_NS;
    orion_status_t status = orion_fd_receive(g->socket, m.bytes, PREFIX_BYTES, fds, 2, deadline);
    if (status != ORION_OK)
        return status;
    bool is_notice = m.prefix.magic == ORION_NOTICE_MAGIC;
    bool is_redirect = m.prefix.magic == ORION_REDIRECT_MAGIC;
    if (is_redirect && g->redirect == NULL) {
        orion_explain(why, why_bytes, "it is a controller; name it in ORION_CONTROLLER, not in ORION_SERVER");
        return ORION_PROTOCOL;
    }
    size_t size = is_notice ? m.prefix.words[0] : m.prefix.words[1];
    size_t wanted = is_notice ? sizeof(notice) : is_redirect ? sizeof(*g->redirect) : sizeof(*welcome_p);
    if (size == wanted) {
        status = orion_fd_receive(g->socket, m.bytes + PREFIX_BYTES, size - PREFIX_BYTES, NULL, 0, deadline);
        if (status != ORION_OK)
            return status;
    } else {
        size = PREFIX_BYTES; /* another version's: enough for the decoder to name it */
    }
    if (is_redirect) {
        status = orion_redirect_decode(m.bytes, size, g->redirect, why, why_bytes);
        g->redirected = status == ORION_OK;
        return status;
    }
    if (!is_notice)
        return orion_welcome_decode(m.bytes, size, welcome_p, why, why_bytes);
    status = orion_notice_decode(m.bytes, size, &notice, why, why_bytes);
    if (status != ORION_OK)
        return status;
    if (notice.kind == ORION_NOTICE_WAIT) {
        g->gave_up = g->waits != NULL && !g->waits(g->context, notice.message);
        return g->gave_up ? ORION_TIMEOUT : ORION_AGAIN;
    }
    if (notice.kind == ORION_NOTICE_CHALLENGE) {
        status = answer_challenge(g, &notice, why, why_bytes);
        return status == ORION_OK ? ORION_AGAIN : status;
    }
    orion_explain(why, why_bytes, "%s", notice.kind == ORION_NOTICE_EPITAPH ? notice.message : "an extent came first");
    return ORION_PROTOCOL;
}

static orion_status_t receive_welcome(greeting_t *g, orion_welcome_t *welcome_p, int fds[2], char *why,
                                      size_t why_bytes)
{
    char what[256] = "";
    int64_t limit = orion_clock_ns() + ORION_HELLO_LIMIT_NS;
    orion_status_t status;
    for (;;) {
        status = receive_answer(g, welcome_p, fds, what, sizeof(what));
        if (status == ORION_OK)
            return ORION_OK;
        orion_fd_close(fds[0]);
        orion_fd_close(fds[1]);
        fds[0] = fds[1] = -1;
        if (status != ORION_AGAIN)
            break;
        if (g->redirect == NULL && orion_clock_ns() >= limit) {
            status = ORION_TIMEOUT;
            break;
        }
    }
    if (status == ORION_PEER_GONE) {
        orion_explain(why, why_bytes,
                      "the Orion server at %s closed the connection without a welcome; its log says why", g->name);
    } else if (status == ORION_TIMEOUT) {
        orion_explain(
            why, why_bytes,
            "what listens at %s did not answer the hello within %d s; is it an Orion server, and not stopped?", g->name,
            (int)(ORION_HELLO_SILENCE_NS / ORION_NS_PER_S));
    } else if (what[0] != '\0') {
        orion_explain(why, why_bytes, "cannot use the server at %s: %s", g->name, what);
    } else {
        orion_explain_errno(why, why_bytes, errno, "cannot read from the Orion server at %s", g->name);
    }
    return status;
}

int orion_greet_connect(const char *address, char *why, size_t why_bytes)
{
    if (strncmp(address, "unix:", 5) == 0)
        return connect_unix(address + 5, why, why_bytes);
    return orion_socket_connect(address, why, why_bytes);
}

bool orion_greet_has_token(void)
{
    bool bound;
    return orion_token_chosen(&bound) != NULL;
}

static bool begin(greeting_t *g, const orion_hello_t *hello, char *why, size_t why_bytes)
{
    bool bound;
    const char *text = orion_token_chosen(&bound);
    int domain = AF_INET;
    socklen_t bytes = sizeof(domain);
    g->exchange.hello = *hello;
    g->has_token = text != NULL;
    if (!g->has_token)
        return true;
    if (!orion_token_parse(text, &g->token, why, why_bytes))
        return false;
    orion_field_set(g->exchange.hello.token, sizeof(g->exchange.hello.token), g->token.id);
    (void)getsockopt(g->socket, SOL_SOCKET, SO_DOMAIN, &domain, &bytes);
    g->must_prove = bound || domain != AF_UNIX;
    return true;
}

/* After the welcome: has the server shown that it knows the token as well? */
static bool is_proven(const greeting_t *g, const orion_welcome_t *welcome, char *why, size_t why_bytes)
{
    uint8_t proof[ORION_MAC_BYTES];
    if (!g->challenged) {
        if (!g->must_prove)
            return true;
        orion_explain(why, why_bytes,
                      "the server at %s did not ask for the token of ORION_TOKEN, so it cannot be told from an "
                      "impostor: start it with --token-file, or unset ORION_TOKEN",
                      g->name);
        return false;
    }
    orion_token_proof(&g->token, &g->exchange, welcome, proof);
    if (orion_same_bytes(proof, welcome->proof, sizeof(proof)))
        return true;
    orion_explain(why, why_bytes,
                  "what answers at %s does not know the secret of token %s: it is not the server that the token is for",
                  g->name, g->token.id);
    return false;
}

static orion_status_t check_welcome(const greeting_t *g, const orion_welcome_t *welcome, char *why, size_t why_bytes)
{
    const orion_hello_t *hello = &g->exchange.hello;
    bool proposed = false;
    if (welcome->status != ORION_OK) {
        orion_explain(why, why_bytes, "the Orion server at %s refused: %s", g->name, welcome->message);
        return ORION_REFUSED;
    }
    if (!is_proven(g, welcome, why, why_bytes))
        return ORION_PROTOCOL;
    for (uint32_t i = 0; i < ORION_CANDIDATES; i++)
        proposed |= hello->candidates[i] == welcome->range_base;
    if ((welcome->range_base != 0 && !proposed) || welcome->slots > ORION_REPLY_SLOTS ||
        welcome->arena_bytes > hello->range_bytes) {
        orion_explain(why, why_bytes, "the Orion server at %s answered with an address range or slots nobody proposed",
                      g->name);
        return ORION_PROTOCOL;
    }
    return ORION_OK;
}

orion_status_t orion_greet(int socket, const char *name, const orion_hello_t *hello, orion_welcome_t *welcome_p,
                           int fds[2], orion_greet_key_t *key_p, char *why, size_t why_bytes)
{
    greeting_t g = {.socket = socket, .name = name};
    orion_status_t status = ORION_INVALID;
    fds[0] = fds[1] = -1;
    if (!begin(&g, hello, why, why_bytes))
        goto out;
    status = orion_fd_send(socket, &g.exchange.hello, sizeof(g.exchange.hello), NULL, 0);
    if (status != ORION_OK) {
        orion_explain(why, why_bytes, "the Orion server at %s closed the connection at once", name);
        goto out;
    }
    status = receive_welcome(&g, welcome_p, fds, why, why_bytes);
    if (status == ORION_OK)
        status = check_welcome(&g, welcome_p, why, why_bytes);
    if (status == ORION_OK && key_p != NULL) {
        *key_p = (orion_greet_key_t){.proven = g.challenged};
        if (g.challenged)
            orion_token_key(&g.token, &g.exchange, key_p->key);
    }
out:
    orion_forget_bytes(&g.token, sizeof(g.token));
    return status;
}

/* What came instead of a redirect, or a redirect that anybody could have sent. */
static orion_status_t check_redirect(greeting_t *g, const orion_welcome_t *welcome, int32_t *cuda_result_p, char *why,
                                     size_t why_bytes)
{
    if (!g->redirected && welcome->status != ORION_OK) {
        *cuda_result_p = welcome->cuda_result;
        orion_explain(why, why_bytes, "the Orion controller at %s refused: %s", g->name, welcome->message);
        return ORION_REFUSED;
    }
    if (!g->redirected) {
        orion_explain(why, why_bytes, "%s is a server; name it in ORION_SERVER, not in ORION_CONTROLLER", g->name);
        return ORION_PROTOCOL;
    }
    if (g->challenged ? orion_token_uncover(&g->token, &g->exchange, g->redirect) : !g->must_prove)
        return ORION_OK;
    orion_explain(why, why_bytes,
                  "what answers at %s does not know the secret of token %s: it is not the controller that ORION_TOKEN "
                  "is for",
                  g->name, g->token.id);
    return ORION_PROTOCOL;
}

orion_status_t orion_greet_controller(int socket, const char *name, const orion_hello_t *hello,
                                      orion_redirect_t *redirect_p, orion_greet_waits_t waits, void *context,
                                      int32_t *cuda_result_p, char *why, size_t why_bytes)
{
    orion_redirect_t redirect;
    orion_welcome_t welcome;
    int fds[2] = {-1, -1};
    greeting_t g = {.socket = socket, .name = name, .redirect = &redirect, .waits = waits, .context = context};
    orion_status_t status = ORION_INVALID;
    memset(&welcome, 0, sizeof(welcome));
    if (!begin(&g, hello, why, why_bytes))
        goto out;
    status = orion_fd_send(socket, &g.exchange.hello, sizeof(g.exchange.hello), NULL, 0);
    if (status != ORION_OK) {
        orion_explain(why, why_bytes, "the Orion controller at %s closed the connection at once", name);
        goto out;
    }
    status = receive_welcome(&g, &welcome, fds, why, why_bytes);
    orion_fd_close(fds[0]); /* nothing that we could use */
    orion_fd_close(fds[1]);
    if (g.gave_up)
        why[0] = '\0';
    else if (status == ORION_OK)
        status = check_redirect(&g, &welcome, cuda_result_p, why, why_bytes);
    if (status == ORION_OK)
        *redirect_p = redirect;
    orion_forget_bytes(&redirect, sizeof(redirect));
out:
    orion_forget_bytes(&g.token, sizeof(g.token));
    return status;
}
