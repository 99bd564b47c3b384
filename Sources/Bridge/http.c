// SPDX-License-Identifier: Apache-2.0
#include "http.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEAD_LIMIT = 1 << 20, READ = 64 << 10 };

void http_close(struct http *http) {
    if (http->fd >= 0) close(http->fd);
    http->fd = -1;
    text_clear(&http->input);
    http->taken = 0;
}

int http_connect(struct http *http) {
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(http->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    http_close(http);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0) return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&place, sizeof place) < 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    http->fd = fd;
    return 0;
}

// A server may have closed a connection that it kept for a while: that is seen before a request is lost in it.
static int is_stale(const struct http *http) {
    struct pollfd poller = {.fd = http->fd, .events = POLLIN};
    return poll(&poller, 1, 0) != 0;
}

static int send_all(int fd, const struct text *text) {
    for (size_t sent = 0; sent < text->length;) {
        ssize_t count = send(fd, text->bytes + sent, text->length - sent, MSG_NOSIGNAL);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return -1;
        sent += (size_t)count;
    }
    return 0;
}

// Reads more into `input`: how much, 0 at the end, -1 on an error.
static ssize_t more(struct http *http) {
    char buffer[READ];
    // Some servers write an answer in two pieces, and the second waits until the first is acknowledged: not 40 ms later.
    int one = 1;
    setsockopt(http->fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);
    for (;;) {
        ssize_t count = recv(http->fd, buffer, sizeof buffer, 0);
        if (count < 0 && errno == EINTR) continue;
        if (count > 0) text_add(&http->input, buffer, (size_t)count);
        return count;
    }
}

// Takes a line, without its end; NULL when none comes. It lies in `input` until that grows.
static char *line(struct http *http) {
    for (;;) {
        char *start = http->input.bytes ? http->input.bytes + http->taken : NULL;
        char *end = start ? memchr(start, '\n', http->input.length - http->taken) : NULL;
        if (end) {
            http->taken = (size_t)(end + 1 - http->input.bytes);
            if (end > start && end[-1] == '\r') end--;
            *end = 0;
            return start;
        }
        if (http->input.length - http->taken > HEAD_LIMIT || more(http) <= 0) return NULL;
    }
}

// Takes up to `count` bytes of a body into `body`: 0, or -1 when they do not come.
static int take(struct http *http, size_t count, struct text *body) {
    while (count) {
        size_t here = http->input.length - http->taken;
        if (here > count) here = count;
        if (body) text_add(body, http->input.bytes + http->taken, here);
        http->taken += here;
        count -= here;
        if (http->taken == http->input.length) http->taken = 0, text_clear(&http->input);
        if (count && more(http) <= 0) return -1;
    }
    return 0;
}

static int read_head(struct http *http, struct answer *answer) {
    do {
        answer->fields.length = 0;
        char *status = line(http);
        if (!status || strncmp(status, "HTTP/1.", 7) != 0 || strlen(status) < 12) return -1;
        answer->status = atoi(status + 9);
        if (answer->status < 100 || answer->status > 999) return -1;
        for (;;) {
            char *field = line(http);
            if (!field) return -1;
            if (!*field) break;
            char *colon = strchr(field, ':');
            if (!colon || answer->fields.length > HEAD_LIMIT) return -1;
            for (char *c = field; c < colon; c++) *c = (char)tolower((unsigned char)*c);
            char *value = colon + 1 + strspn(colon + 1, " \t"), *end = value + strlen(value);
            while (end > value && (end[-1] == ' ' || end[-1] == '\t')) end--;
            text_add(&answer->fields, field, (size_t)(colon - field));
            text_add(&answer->fields, "", 1);
            text_add(&answer->fields, value, (size_t)(end - value));
            text_add(&answer->fields, "", 1);
        }
    } while (answer->status < 200 && answer->status != 101);
    return answer->status == 101 ? -1 : 0;
}

const char *answer_field(const struct answer *answer, const char *name) {
    const char *at = answer->fields.bytes, *end = at ? at + answer->fields.length : at;
    while (at < end) {
        const char *value = at + strlen(at) + 1;
        if (strcmp(at, name) == 0) return value;
        at = value + strlen(value) + 1;
    }
    return NULL;
}

static enum http_result read_chunks(struct http *http, size_t limit, struct text *body) {
    for (;;) {
        char *size = line(http), *end;
        if (!size || !isxdigit((unsigned char)*size)) return HTTP_BROKEN;
        unsigned long long count = strtoull(size, &end, 16);
        if (*end && *end != ';' && *end != ' ') return HTTP_BROKEN;
        if (count > limit || body->length + count > limit) return HTTP_TOO_LARGE;
        if (count == 0) break;
        if (take(http, (size_t)count, body) < 0) return HTTP_BROKEN;
        char *rest = line(http);
        if (!rest || *rest) return HTTP_BROKEN;
    }
    for (char *trailer = line(http);; trailer = line(http)) {
        if (!trailer) return HTTP_BROKEN;
        if (!*trailer) return HTTP_OK;
    }
}

static enum http_result read_body(struct http *http, int is_head, size_t limit, struct answer *answer, int *keeps) {
    const char *coding = answer_field(answer, "transfer-encoding"), *length = answer_field(answer, "content-length");
    if (is_head || answer->status == 204 || answer->status == 304) return HTTP_OK;
    if (coding) {
        size_t size = strlen(coding);
        if (size < 7 || strcasecmp(coding + size - 7, "chunked") != 0) return HTTP_BROKEN;
        return read_chunks(http, limit, &answer->body);
    }
    if (length) {
        char *end;
        unsigned long long count = strtoull(length, &end, 10);
        if (*end || !isdigit((unsigned char)*length)) return HTTP_BROKEN;
        if (count > limit) return HTTP_TOO_LARGE;
        return take(http, (size_t)count, &answer->body) < 0 ? HTTP_BROKEN : HTTP_OK;
    }
    *keeps = 0;  // the end of the connection is the end of the body
    for (;;) {
        size_t here = http->input.length - http->taken;
        if (answer->body.length + here > limit) return HTTP_TOO_LARGE;
        if (here) take(http, here, &answer->body);
        ssize_t count = more(http);
        if (count < 0) return HTTP_BROKEN;
        if (count == 0) return HTTP_OK;
    }
}

enum http_result http_exchange(struct http *http, const struct text *request, int is_head, size_t limit, struct answer *answer) {
    text_clear(&answer->fields);
    text_clear(&answer->body);
    if (http->taken == http->input.length) http->taken = 0, text_clear(&http->input);
    if (http->fd >= 0 && is_stale(http)) http_close(http);
    if (http->fd < 0 && http_connect(http) < 0) return HTTP_UNREACHABLE;
    // A server may refuse a request before it has read all of it: its answer is looked for in any case.
    int sent = send_all(http->fd, request), keeps = sent == 0;
    enum http_result result = read_head(http, answer) < 0 ? HTTP_BROKEN : read_body(http, is_head, limit, answer, &keeps);
    const char *connection = answer_field(answer, "connection");
    if (result != HTTP_OK || !keeps || (connection && strcasecmp(connection, "close") == 0)) http_close(http);
    return result;
}
