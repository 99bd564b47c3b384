// SPDX-License-Identifier: Apache-2.0
// A closed loop of HTTP requests over keep-alive connections, every answer checked.
// Usage: load PORT PATH CONNECTIONS REQUESTS BODY [EXPECTED]; prints `requests seconds p50_us p99_us`, or fails.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct connection {
    int fd;
    size_t held;
    int64_t sent_ns;
    char in[65536];
};

static int64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int by_size(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void fail(const char *what, const char *detail) {
    fprintf(stderr, "load: %s: %.300s\n", what, detail);
    exit(1);
}

int main(int count, char **words) {
    if (count < 6) fail("usage", "PORT PATH CONNECTIONS REQUESTS BODY [EXPECTED]");
    int connections = atoi(words[3]), requests = atoi(words[4]);
    const char *body = words[5], *expected = count > 6 ? words[6] : body;
    size_t expected_length = strlen(expected);
    char request[8192];
    int length = snprintf(request, sizeof request,
        "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
        words[2], strlen(body), body);
    struct connection *all = calloc((size_t)connections, sizeof *all);
    struct pollfd *polls = calloc((size_t)connections, sizeof *polls);
    int64_t *times = calloc((size_t)requests, sizeof *times);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int sent = 0, done = 0, on = 1;
    for (int i = 0; i < connections; i++) {
        all[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(all[i].fd, (struct sockaddr *)&address, sizeof address) != 0) fail("connect", words[1]);
        setsockopt(all[i].fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        polls[i] = (struct pollfd){.fd = all[i].fd, .events = POLLIN};
    }
    int64_t began = now_ns();
    for (int i = 0; i < connections && sent < requests; i++, sent++) {
        all[i].sent_ns = now_ns();
        if (write(all[i].fd, request, (size_t)length) != length) fail("write", "");
    }
    while (done < requests) {
        if (poll(polls, (nfds_t)connections, 60000) <= 0) fail("no answer", "within 60 s");
        for (int i = 0; i < connections; i++) {
            if (!(polls[i].revents & (POLLIN | POLLHUP | POLLERR))) continue;
            struct connection *one = &all[i];
            ssize_t got = read(one->fd, one->in + one->held, sizeof one->in - 1 - one->held);
            if (got <= 0) fail("connection closed", one->in);
            one->held += (size_t)got;
            one->in[one->held] = 0;
            char *end = strstr(one->in, "\r\n\r\n");
            if (end == NULL) continue;
            char *field = strcasestr(one->in, "\r\ncontent-length:");
            size_t size = field != NULL && field < end ? strtoul(field + 17, NULL, 10) : 0;
            if (one->held < (size_t)(end + 4 - one->in) + size) continue;
            if (strncmp(one->in + 9, "200", 3) != 0) fail("status", one->in);
            if (size != expected_length || memcmp(end + 4, expected, size) != 0) fail("wrong answer", end + 4);
            times[done++] = now_ns() - one->sent_ns;
            one->held = 0;
            if (sent < requests) {
                sent++;
                one->sent_ns = now_ns();
                if (write(one->fd, request, (size_t)length) != length) fail("write", "");
            }
        }
    }
    double seconds = (double)(now_ns() - began) / 1e9;
    qsort(times, (size_t)requests, sizeof *times, by_size);
    printf("%d %.6f %.1f %.1f\n", requests, seconds, (double)times[requests / 2] / 1e3, (double)times[requests * 99LL / 100] / 1e3);
    return 0;
}
