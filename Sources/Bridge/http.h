// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 to a server on loopback, one request at a time, over a connection that is kept (RFC 9112).
#ifndef HTTP_H
#define HTTP_H

#include "text.h"

struct http {
    unsigned short port;
    int fd;  // -1 when there is none
    // What has come: the head of the answer that is read, and what follows it.
    struct text input;
    size_t taken;
};

struct answer {
    int status;
    struct text fields;  // name, NUL, value, NUL, and so on; names in lower case
    struct text body;
};

// Why there is no answer.
enum http_result {
    HTTP_OK,
    HTTP_UNREACHABLE,  // nobody listens
    HTTP_BROKEN,       // the connection ended, or what came is no HTTP
    HTTP_TOO_LARGE,    // the body is larger than `limit`
};

// 0, or -1 with errno.
int http_connect(struct http *http);
// Sends `request`, which is whole, and reads its answer.
enum http_result http_exchange(struct http *http, const struct text *request, int is_head, size_t limit, struct answer *answer);
void http_close(struct http *http);

// The value of a field, or NULL.
const char *answer_field(const struct answer *answer, const char *name);

#endif
