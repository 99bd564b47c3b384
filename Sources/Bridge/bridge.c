// SPDX-License-Identifier: Apache-2.0
// Starts a function that is a program of its own, and stands between the Runtime API and it where it is an HTTP server.
//
//     bridge PROGRAM [ARGUMENT...]
//
// With FN_HTTP_PORT=N the program is a child that has to listen at 127.0.0.1:N. Events of the form of function URLs
// (payload format 2.0) become the requests that they describe, any other event is POST / with the event as its body; what
// the server answers goes back in the same form. Without it the program takes this one's place and speaks the Runtime API
// itself. PROGRAM is looked for in PATH, as an image's entrypoint is.
//
// With FN_PREWARMED it is started before it is known for which function: it waits until it is one's, and has that one's
// environment and directory from then on.
//
// Linked without any library of the image's, which may hold none. It ends as the program ends.

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../Init/entrypoint.h"
#include "http.h"

// The daemon bounds both, with errors of its own; these keep the bridge from growing without end.
enum { EVENT_LIMIT = 64 << 20, BODY_LIMIT = 16 << 20 };

static unsigned short api_port, server_port;

static void put_json(struct text *out, const char *words) { json_encode(out, words, strlen(words)); }

// One request for an event, or what is wrong with it.
struct exchange {
    struct text request, scratch;
    int is_url, is_head;
    const char *problem;
};

// MARK: Events to requests

static int is_token(const char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c <= 0x20 || c >= 0x7F || strchr("\"(),/:;<=>?@[\\]{}", c)) return 0;
    }
    return length > 0;
}

static int is_plain(const char *bytes, size_t length, unsigned char least) {
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if ((c < least && c != '\t') || c == 0x7F) return 0;
    }
    return 1;
}

static int is_one_of(const char *const *names, const char *name, size_t length) {
    for (; *names; names++)
        if (strlen(*names) == length && strncasecmp(*names, name, length) == 0) return 1;
    return 0;
}

// What describes the connection, and is ours to say.
static int is_framing(const char *name, size_t length) {
    static const char *const names[] = {"connection", "content-length", "expect", "keep-alive", "te", "trailer",
                                        "transfer-encoding", "upgrade", "proxy-connection", NULL};
    return is_one_of(names, name, length);
}

// What `put_context` says, and nobody else may.
static int is_context(const char *name, size_t length) {
    static const char *const names[] = {"x-fn-request-id", "x-fn-deadline-ms", "x-amzn-trace-id", NULL};
    return is_one_of(names, name, length);
}

// The text of a value that may have only harmless bytes, after `prefix`.
static int put_text(struct exchange *it, struct json value, const char *prefix, unsigned char least) {
    text_clear(&it->scratch);
    if (!json_decode(value, &it->scratch) || !is_plain(it->scratch.bytes, it->scratch.length, least)) return 0;
    text_put(&it->request, prefix);
    text_add(&it->request, it->scratch.bytes, it->scratch.length);
    return 1;
}

static int put_headers(struct exchange *it, struct json event) {
    struct json headers = json_member(event, "headers"), cookies = json_member(event, "cookies"), name, value;
    const char *at = NULL;
    int has_cookies = json_is(cookies, '[');
    if (json_is(headers, '{'))
        while (json_next(&at, headers, &name, &value)) {
            text_clear(&it->scratch);
            if (!json_decode(name, &it->scratch) || !is_token(it->scratch.bytes, it->scratch.length)) return 0;
            if (is_framing(it->scratch.bytes, it->scratch.length) || is_context(it->scratch.bytes, it->scratch.length)) continue;
            if (has_cookies && strcasecmp(it->scratch.bytes, "cookie") == 0) continue;
            text_add(&it->request, it->scratch.bytes, it->scratch.length);
            if (!put_text(it, value, ": ", 0x20)) return 0;
            text_put(&it->request, "\r\n");
        }
    if (!has_cookies) return 1;
    const char *before = "Cookie: ";
    at = NULL;
    while (json_next(&at, cookies, NULL, &value)) {
        if (!put_text(it, value, before, 0x20)) return 0;
        before = "; ";
    }
    if (*before == ';') text_put(&it->request, "\r\n");
    return 1;
}

// What every request says of its invocation.
static void put_context(struct exchange *it, const struct answer *next, size_t length) {
    const char *trace = answer_field(next, "lambda-runtime-trace-id");
    text_print(&it->request, "X-Fn-Request-Id: %s\r\nX-Fn-Deadline-Ms: %s\r\n",
               answer_field(next, "lambda-runtime-aws-request-id"), answer_field(next, "lambda-runtime-deadline-ms"));
    if (trace) text_print(&it->request, "X-Amzn-Trace-Id: %s\r\n", trace);
    text_print(&it->request, "Content-Length: %zu\r\n\r\n", length);
}

static int put_url_request(struct exchange *it, struct json event, struct json http, const struct answer *next) {
    struct json query = json_member(event, "rawQueryString"), body = json_member(event, "body");
    struct json encoded = json_member(event, "isBase64Encoded"), path = json_member(event, "rawPath");
    struct text content = {NULL, 0, 0};
    text_clear(&it->scratch);
    if (!json_decode(json_member(http, "method"), &it->scratch) || !is_token(it->scratch.bytes, it->scratch.length)) return 0;
    it->is_head = strcmp(it->scratch.bytes, "HEAD") == 0;
    text_add(&it->request, it->scratch.bytes, it->scratch.length);
    size_t start = it->request.length + 1;
    if (!put_text(it, path, " ", 0x21) || it->request.bytes[start] != '/' || memchr(it->scratch.bytes, '\t', it->scratch.length)) return 0;
    if (query.start && query.end - query.start > 2 && (!put_text(it, query, "?", 0x21) || memchr(it->scratch.bytes, '\t', it->scratch.length))) return 0;
    text_put(&it->request, " HTTP/1.1\r\n");
    if (!put_headers(it, event)) return 0;
    if (!json_member(json_member(event, "headers"), "host").start) text_print(&it->request, "Host: 127.0.0.1:%u\r\n", server_port);
    int is_right = !json_is(body, '"') || json_decode(body, &content);
    if (is_right && json_is(encoded, 't')) {
        struct text decoded = {NULL, 0, 0};
        is_right = base64_decode(&decoded, content.bytes ? content.bytes : "", content.length);
        free(content.bytes);
        content = decoded;
    }
    put_context(it, next, content.length);
    text_add(&it->request, content.bytes, content.length);
    free(content.bytes);
    return is_right;
}

static void make_request(struct exchange *it, const struct answer *next) {
    struct json event = json_parse(next->body.bytes, next->body.length);
    struct json http = json_member(json_member(event, "requestContext"), "http");
    text_clear(&it->request);
    it->is_head = 0;
    it->is_url = json_is(json_member(http, "method"), '"') && json_is(json_member(event, "rawPath"), '"');
    it->problem = NULL;
    if (it->is_url) {
        if (!put_url_request(it, event, http, next)) it->problem = "the event describes no HTTP request: its method, path, headers or body are not";
        return;
    }
    text_print(&it->request, "POST / HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nContent-Type: application/json\r\n", server_port);
    put_context(it, next, next->body.length);
    text_add(&it->request, next->body.bytes, next->body.length);
}

// MARK: Answers to answers

static int is_text(const char *type, const char *coding) {
    if (coding && *coding && strcmp(coding, "identity") != 0) return 0;
    if (!type) return 1;
    size_t length = strcspn(type, "; ");
    return strncasecmp(type, "text/", 5) == 0 || (length == 16 && strncasecmp(type, "application/json", 16) == 0) ||
           (length == 22 && strncasecmp(type, "application/javascript", 22) == 0) ||
           (length == 15 && strncasecmp(type, "application/xml", 15) == 0) ||
           (length > 5 && strncasecmp(type + length - 5, "+json", 5) == 0) ||
           (length > 4 && strncasecmp(type + length - 4, "+xml", 4) == 0);
}

// A header's value as JSON; bytes that are no UTF-8 are Latin-1, as HTTP once had it.
static void put_value(struct text *out, const char *value) {
    if (json_encode(out, value, strlen(value))) return;
    struct text latin = {NULL, 0, 0};
    for (const unsigned char *c = (const unsigned char *)value; *c; c++) {
        char utf8[2] = {(char)(0xC0 | *c >> 6), (char)(0x80 | (*c & 0x3F))};
        if (*c < 0x80) text_add(&latin, c, 1);
        else text_add(&latin, utf8, 2);
    }
    json_encode(out, latin.bytes, latin.length);
    free(latin.bytes);
}

static const char *field_after(const struct answer *answer, const char *at, const char **value) {
    const char *name = at ? at + strlen(at) + 1 : answer->fields.bytes;
    if (at) name += strlen(name) + 1;
    if (!name || name >= answer->fields.bytes + answer->fields.length) return NULL;
    *value = name + strlen(name) + 1;
    return name;
}

// The first field of its name carries the values of all of them, except of cookies.
static void put_fields(struct text *out, const struct answer *answer) {
    const char *value, *other;
    int count = 0;
    text_put(out, ",\"headers\":{");
    for (const char *name = field_after(answer, NULL, &value); name; name = field_after(answer, name, &value)) {
        if (is_framing(name, strlen(name)) || strcmp(name, "set-cookie") == 0 || answer_field(answer, name) != value) continue;
        if (!is_token(name, strlen(name)) || !is_plain(value, strlen(value), 0x20)) continue;
        struct text joined = {NULL, 0, 0};
        text_put(&joined, value);
        for (const char *next = field_after(answer, name, &other); next; next = field_after(answer, next, &other))
            if (strcmp(next, name) == 0 && is_plain(other, strlen(other), 0x20)) text_print(&joined, ", %s", other);
        if (count++) text_put(out, ",");
        put_json(out, name);
        text_put(out, ":");
        put_value(out, joined.bytes);
        free(joined.bytes);
    }
    text_put(out, "}");
    count = 0;
    for (const char *name = field_after(answer, NULL, &value); name; name = field_after(answer, name, &value)) {
        if (strcmp(name, "set-cookie") != 0 || !is_plain(value, strlen(value), 0x20)) continue;
        text_put(out, count++ ? "," : ",\"cookies\":[");
        put_value(out, value);
    }
    if (count) text_put(out, "]");
}

static void put_url_answer(struct text *out, const struct answer *answer) {
    text_print(out, "{\"statusCode\":%d", answer->status);
    put_fields(out, answer);
    if (answer->body.length) {
        size_t before = out->length;
        text_put(out, ",\"body\":");
        if (!is_text(answer_field(answer, "content-type"), answer_field(answer, "content-encoding")) ||
            !json_encode(out, answer->body.bytes, answer->body.length)) {
            out->length = before;
            text_put(out, ",\"isBase64Encoded\":true,\"body\":\"");
            base64_encode(out, answer->body.bytes, answer->body.length);
            text_put(out, "\"");
        }
    }
    text_put(out, "}");
}

// MARK: The loop

static void put_error(struct text *out, const char *type, const char *message) {
    text_put(out, "{\"errorType\":");
    put_json(out, type);
    text_put(out, ",\"errorMessage\":");
    put_value(out, message);
    text_put(out, "}");
}

// What the server said to an event that is no HTTP request. 0 when it is an error.
static int put_plain_answer(struct text *out, const struct answer *answer) {
    const struct text *body = &answer->body;
    if (answer->status < 200 || answer->status > 299) {
        char message[400];
        snprintf(message, sizeof message, "the server answered %d: %.300s", answer->status, body->length ? body->bytes : "");
        put_error(out, "Http.Status", message);
        return 0;
    }
    if (!body->length) text_put(out, "null");
    else if (json_parse(body->bytes, body->length).start) text_add(out, body->bytes, body->length);
    else if (!json_encode(out, body->bytes, body->length)) {
        put_error(out, "Http.NotText", "the server's answer is neither JSON nor text, and the event was no HTTP request");
        return 0;
    }
    return 1;
}

// Writes the answer, or the error, to one invocation; 1 when it is an answer.
static int serve(struct exchange *it, struct http *server, struct answer *answer, struct text *out) {
    char message[200];
    if (it->problem) {
        put_error(out, "Http.InvalidEvent", it->problem);
        return 0;
    }
    switch (http_exchange(server, &it->request, it->is_head, BODY_LIMIT, answer)) {
    case HTTP_OK:
        if (!it->is_url) return put_plain_answer(out, answer);
        put_url_answer(out, answer);
        return 1;
    case HTTP_TOO_LARGE:
        snprintf(message, sizeof message, "the server's answer is larger than %d bytes", BODY_LIMIT);
        put_error(out, "Function.ResponseSizeTooLarge", message);
        return 0;
    case HTTP_UNREACHABLE:
        snprintf(message, sizeof message, "the server does not listen at port %u any more", server_port);
        break;
    default: snprintf(message, sizeof message, "the server at port %u closed the connection without a whole answer", server_port);
    }
    poll(NULL, 0, 50);  // if it has ended, that is the better thing to say, and `main` is about to
    put_error(out, "Http.NoAnswer", message);
    return 0;
}

static void *work(void *unused) {
    struct http api = {.port = api_port, .fd = -1}, server = {.port = server_port, .fd = -1};
    struct answer next = {0}, answer = {0}, receipt = {0};
    struct exchange it = {0};
    struct text request = {0}, out = {0};
    (void)unused;
    for (;;) {
        text_clear(&request);
        text_print(&request, "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n\r\n", api_port);
        if (http_exchange(&api, &request, 0, EVENT_LIMIT, &next) != HTTP_OK) return NULL;  // the sandbox is going
        const char *id = answer_field(&next, "lambda-runtime-aws-request-id");
        if (next.status != 200 || !id) return NULL;
        make_request(&it, &next);
        text_clear(&out);
        int is_right = serve(&it, &server, &answer, &out);
        text_clear(&request);
        text_print(&request,
                   "POST /2018-06-01/runtime/invocation/%s/%s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n"
                   "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                   id, is_right ? "response" : "error", api_port, out.length);
        text_add(&request, out.bytes, out.length);
        if (http_exchange(&api, &request, 0, EVENT_LIMIT, &receipt) != HTTP_OK) return NULL;
        text_clear(&next.body);
        text_clear(&it.request);
        text_clear(&answer.body);
    }
}

// Waits until somebody listens, and asks for work from then on: the daemon bounds how long that may take.
static void *begin(void *places) {
    struct http server = {.port = server_port, .fd = -1};
    for (int wait_ms = 1; http_connect(&server) < 0; wait_ms = wait_ms < 16 ? wait_ms * 2 : 20) poll(NULL, 0, wait_ms);
    http_close(&server);
    for (long i = 1; i < (long)places; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, NULL) == 0) pthread_detach(thread);
    }
    return work(NULL);
}

static int number(const char *name, const char *text, long least, long most) {
    char *end;
    long value = strtol(text, &end, 10);
    if (*text && !*end && value >= least && value <= most) return (int)value;
    fprintf(stderr, "bridge: %s: expected a number from %ld to %ld, got '%s'\n", name, least, most, text);
    exit(64);
}

// Looks for the program as a shell would, and leaves why it could not be executed in errno. Not execvp: that has a shell
// read what is no program, which a start without the bridge does not.
static void execute(char **arguments) {
    const char *places = getenv("PATH");
    struct text path = {0};
    int error = ENOENT;
    if (strchr(arguments[0], '/') || !*arguments[0]) {
        execv(arguments[0], arguments);
        return;
    }
    if (!places) places = "/bin:/usr/bin";
    for (;; places++) {
        size_t length = strcspn(places, ":");
        text_clear(&path);
        text_add(&path, length ? places : ".", length ? length : 1);
        text_print(&path, "/%s", arguments[0]);
        execv(path.bytes, arguments);
        // One that is there and cannot be executed says more than that it is nowhere.
        if (errno != ENOENT && errno != ENOTDIR && error == ENOENT) error = errno;
        if (error != ENOENT && error != EACCES) break;
        places += length;
        if (!*places) break;
    }
    errno = error;
}

// In its place the caller hears why there is no program: what a runtime says that cannot start.
static void start_program(char **arguments) {
    execute(arguments);
    int error = errno;
    char message[400], number[24];
    const char *problem = entrypoint_problem(error);
    snprintf(number, sizeof number, "error %d", error);
    snprintf(message, sizeof message, "cannot execute %.200s: %s", arguments[0], problem ? problem : number);
    fprintf(stderr, "Runtime.InvalidEntrypoint: %s\n", message);
    struct http api = {.port = api_port, .fd = -1};
    struct text request = {0}, document = {0};
    struct answer receipt = {0};
    put_error(&document, "Runtime.InvalidEntrypoint", message);
    text_print(&request,
               "POST /2018-06-01/runtime/init/error HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nContent-Type: application/json\r\n"
               "Lambda-Runtime-Function-Error-Type: Runtime.InvalidEntrypoint\r\nContent-Length: %zu\r\n\r\n",
               api_port, document.length);
    text_add(&request, document.bytes, document.length);
    http_exchange(&api, &request, 0, EVENT_LIMIT, &receipt);
    _exit(127);
}

// Replaces the whole environment by the assignment's. 0 when there is none.
static int take_environment(const struct text *document) {
    struct json environment = json_member(json_parse(document->bytes, document->length), "environment"), name, value;
    struct text key = {0}, word = {0};
    const char *at = NULL;
    if (!json_is(environment, '{')) return 0;
    clearenv();
    while (json_next(&at, environment, &name, &value)) {
        text_clear(&key);
        text_clear(&word);
        if (!json_decode(name, &key) || !json_decode(value, &word) || setenv(key.bytes ? key.bytes : "", word.bytes ? word.bytes : "", 1) < 0)
            return 0;
    }
    return 1;
}

// What the daemon does not answer, or not as it has promised, ends this runtime: nobody has it yet.
static void await_function(void) {
    struct http api = {.port = api_port, .fd = -1};
    struct text request = {0};
    struct answer assignment = {0};
    text_print(&request, "GET /fn/function HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n\r\n", api_port);
    // The directory that this stands in was there before the code was.
    if (http_exchange(&api, &request, 0, EVENT_LIMIT, &assignment) == HTTP_OK && assignment.status == 200 &&
        take_environment(&assignment.body) && chdir("/var/task") == 0)
        return http_close(&api);
    fprintf(stderr, "bridge: no function came\n");
    exit(1);
}

int main(int count, char **arguments) {
    const char *api = getenv("AWS_LAMBDA_RUNTIME_API");
    if (count < 2) {
        fprintf(stderr, "usage: bridge PROGRAM [ARGUMENT...]\n");
        return 64;
    }
    const char *colon = api ? strrchr(api, ':') : NULL;
    api_port = (unsigned short)number("AWS_LAMBDA_RUNTIME_API", colon ? colon + 1 : "", 1, 65535);
    if (getenv("FN_PREWARMED")) await_function();
    const char *port = getenv("FN_HTTP_PORT"), *places = getenv("AWS_LAMBDA_MAX_CONCURRENCY");
    if (!port) start_program(arguments + 1);
    server_port = (unsigned short)number("FN_HTTP_PORT", port, 1, 65535);
    long most = places ? number("AWS_LAMBDA_MAX_CONCURRENCY", places, 1, 64) : 1;
    mallopt(M_ARENA_MAX, 1);

    pid_t program = fork();
    if (program == 0) start_program(arguments + 1);
    pthread_t thread;
    if (program < 0 || pthread_create(&thread, NULL, begin, (void *)most) != 0) {
        fprintf(stderr, "bridge: cannot start: %s\n", strerror(errno));
        return 1;
    }
    int status = 0;
    while (waitpid(program, &status, 0) < 0 && errno == EINTR) {}
    _exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}
