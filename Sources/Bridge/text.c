// SPDX-License-Identifier: Apache-2.0
#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEPT = 256 << 10 };

static void make_room(struct text *text, size_t more) {
    size_t needed = text->length + more + 1;
    if (needed <= text->room) return;
    size_t room = text->room ? text->room : 512;
    while (room < needed) room *= 2;
    text->bytes = realloc(text->bytes, room);
    if (!text->bytes) {
        fprintf(stderr, "bridge: out of memory\n");
        exit(1);
    }
    text->room = room;
}

void text_add(struct text *text, const void *bytes, size_t length) {
    make_room(text, length);
    if (length) memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
    text->bytes[text->length] = 0;
}

void text_put(struct text *text, const char *words) { text_add(text, words, strlen(words)); }

void text_print(struct text *text, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    make_room(text, (size_t)length);
    vsnprintf(text->bytes + text->length, (size_t)length + 1, format, again);
    text->length += (size_t)length;
    va_end(again);
    va_end(arguments);
}

void text_clear(struct text *text) {
    text->length = 0;
    if (text->room > KEPT) {
        free(text->bytes);
        text->bytes = NULL;
        text->room = 0;
    } else if (text->bytes) {
        text->bytes[0] = 0;
    }
}

// MARK: Reading JSON (RFC 8259). Skipping a value checks its form.

enum { DEPTH = 64 };

static const char *space(const char *at, const char *end) {
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) at++;
    return at;
}

static int hex4(const char *at, const char *end, uint32_t *code) {
    if (end - at < 4) return 0;
    *code = 0;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        uint32_t digit = c >= '0' && c <= '9' ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10) : 16;
        if (digit == 16) return 0;
        *code = *code << 4 | digit;
    }
    return 1;
}

static const char *skip_string(const char *at, const char *end) {
    uint32_t code;
    if (at >= end || *at != '"') return NULL;
    for (at++; at < end; at++) {
        if (*at == '"') return at + 1;
        if ((unsigned char)*at < 0x20) return NULL;
        if (*at != '\\') continue;
        if (++at >= end || !*at || !strchr("\"\\/bfnrtu", *at)) return NULL;
        if (*at == 'u' && !hex4(at + 1, end, &code)) return NULL;
    }
    return NULL;
}

static const char *skip_digits(const char *at, const char *end) {
    const char *start = at;
    while (at < end && *at >= '0' && *at <= '9') at++;
    return at > start ? at : NULL;
}

static const char *skip_number(const char *at, const char *end) {
    if (*at == '-') at++;
    at = at < end && *at == '0' ? at + 1 : skip_digits(at, end);
    if (at && at < end && *at == '.') at = skip_digits(at + 1, end);
    if (!at || at == end || (*at != 'e' && *at != 'E')) return at;
    at++;
    if (at < end && (*at == '+' || *at == '-')) at++;
    return skip_digits(at, end);
}

static const char *skip_word(const char *at, const char *end) {
    static const char *const words[] = {"true", "false", "null"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t length = strlen(words[i]);
        if ((size_t)(end - at) >= length && memcmp(at, words[i], length) == 0) return at + length;
    }
    return skip_number(at, end);
}

static const char *skip(const char *at, const char *end, int depth) {
    at = space(at, end);
    if (at >= end) return NULL;
    if (*at == '"') return skip_string(at, end);
    if (*at != '{' && *at != '[') return skip_word(at, end);
    if (depth == DEPTH) return NULL;
    char close = *at == '{' ? '}' : ']';
    at = space(at + 1, end);
    if (at < end && *at == close) return at + 1;
    for (;;) {
        if (close == '}') {
            at = skip_string(space(at, end), end);
            if (!at) return NULL;
            at = space(at, end);
            if (at >= end || *at++ != ':') return NULL;
        }
        at = skip(at, end, depth + 1);
        if (!at) return NULL;
        at = space(at, end);
        if (at >= end) return NULL;
        if (*at == close) return at + 1;
        if (*at++ != ',') return NULL;
    }
}

struct json json_parse(const char *bytes, size_t length) {
    struct json none = {NULL, NULL}, value;
    if (!bytes) return none;
    const char *end = bytes + length;
    value.start = space(bytes, end);
    value.end = skip(value.start, end, 0);
    if (!value.end || space(value.end, end) != end) return none;
    return value;
}

int json_is(struct json value, char first) { return value.start && *value.start == first; }

int json_next(const char **at, struct json container, struct json *name, struct json *value) {
    const char *here = *at ? *at : container.start + 1;
    here = space(here, container.end);
    if (*here == ',') here = space(here + 1, container.end);
    if (*here == '}' || *here == ']') return 0;
    if (name) {
        name->start = here;
        name->end = skip_string(here, container.end);
        here = space(name->end, container.end) + 1;
    }
    value->start = space(here, container.end);
    value->end = skip(here, container.end, 0);
    *at = value->end;
    return 1;
}

struct json json_member(struct json object, const char *wanted) {
    struct json name, value, found = {NULL, NULL};
    const char *at = NULL;
    size_t length = strlen(wanted);
    if (!json_is(object, '{')) return found;
    while (json_next(&at, object, &name, &value))
        if ((size_t)(name.end - name.start) == length + 2 && memcmp(name.start + 1, wanted, length) == 0) found = value;
    return found;
}

static void add_code(struct text *out, uint32_t code) {
    char utf8[4];
    size_t length;
    if (code < 0x80) {
        utf8[0] = (char)code;
        length = 1;
    } else if (code < 0x800) {
        utf8[0] = (char)(0xC0 | code >> 6);
        utf8[1] = (char)(0x80 | (code & 0x3F));
        length = 2;
    } else if (code < 0x10000) {
        utf8[0] = (char)(0xE0 | code >> 12);
        utf8[1] = (char)(0x80 | (code >> 6 & 0x3F));
        utf8[2] = (char)(0x80 | (code & 0x3F));
        length = 3;
    } else {
        utf8[0] = (char)(0xF0 | code >> 18);
        utf8[1] = (char)(0x80 | (code >> 12 & 0x3F));
        utf8[2] = (char)(0x80 | (code >> 6 & 0x3F));
        utf8[3] = (char)(0x80 | (code & 0x3F));
        length = 4;
    }
    text_add(out, utf8, length);
}

int json_decode(struct json value, struct text *out) {
    static const char escapes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    if (!json_is(value, '"')) return 0;
    const char *at = value.start + 1, *end = value.end - 1;
    while (at < end) {
        const char *plain = memchr(at, '\\', (size_t)(end - at));
        text_add(out, at, (size_t)((plain ? plain : end) - at));
        if (!plain) break;
        at = plain + 1;
        const char *escape = *at ? strchr(escapes, *at) : NULL;
        if (escape) {
            text_add(out, meanings + (escape - escapes), 1);
            at++;
            continue;
        }
        uint32_t code, low;
        if (*at != 'u' || !hex4(at + 1, end, &code)) return 0;
        at += 5;
        if (code >= 0xD800 && code < 0xDC00 && end - at >= 6 && at[0] == '\\' && at[1] == 'u' && hex4(at + 2, end, &low) &&
            low >= 0xDC00 && low < 0xE000) {
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
            at += 6;
        }
        add_code(out, code >= 0xD800 && code < 0xE000 ? 0xFFFD : code);
    }
    return 1;
}

// MARK: Writing JSON

// How many bytes the UTF-8 character at `at` has; 0 when there is none (Unicode 15, table 3-7).
static size_t character(const unsigned char *at, size_t left) {
    unsigned char first = at[0];
    if (first < 0x80) return 1;
    size_t length = first >= 0xC2 && first < 0xE0 ? 2 : first >= 0xE0 && first < 0xF0 ? 3 : first >= 0xF0 && first < 0xF5 ? 4 : 0;
    if (!length || left < length) return 0;
    unsigned char least = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    unsigned char most = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (at[1] < least || at[1] > most) return 0;
    for (size_t i = 2; i < length; i++)
        if ((at[i] & 0xC0) != 0x80) return 0;
    return length;
}

int json_encode(struct text *out, const char *bytes, size_t length) {
    size_t before = out->length;
    const unsigned char *at = (const unsigned char *)bytes, *end = at + length;
    text_add(out, "\"", 1);
    while (at < end) {
        size_t size = character(at, (size_t)(end - at));
        if (!size) {
            out->length = before;
            return 0;
        }
        if (*at == '"' || *at == '\\') {
            char escaped[2] = {'\\', (char)*at};
            text_add(out, escaped, 2);
        } else if (*at < 0x20) {
            text_print(out, "\\u%04x", *at);
        } else {
            text_add(out, at, size);
        }
        at += size;
    }
    text_add(out, "\"", 1);
    return 1;
}

// MARK: Base64 (RFC 4648, 4)

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct text *out, const char *bytes, size_t length) {
    make_room(out, (length + 2) / 3 * 4);
    const unsigned char *at = (const unsigned char *)bytes;
    char *to = out->bytes + out->length;
    for (size_t i = 0; i < length; i += 3) {
        size_t left = length - i;
        uint32_t word = (uint32_t)at[i] << 16 | (left > 1 ? (uint32_t)at[i + 1] << 8 : 0) | (left > 2 ? at[i + 2] : 0);
        *to++ = alphabet[word >> 18];
        *to++ = alphabet[word >> 12 & 63];
        *to++ = left > 1 ? alphabet[word >> 6 & 63] : '=';
        *to++ = left > 2 ? alphabet[word & 63] : '=';
    }
    out->length = (size_t)(to - out->bytes);
    *to = 0;
}

int base64_decode(struct text *out, const char *bytes, size_t length) {
    while (length && bytes[length - 1] == '=') length--;
    if (length % 4 == 1) return 0;
    uint32_t word = 0;
    int bits = 0;
    for (size_t i = 0; i < length; i++) {
        const char *place = bytes[i] ? strchr(alphabet, bytes[i]) : NULL;
        if (!place) return 0;
        word = word << 6 | (uint32_t)(place - alphabet);
        bits += 6;
        if (bits < 8) continue;
        bits -= 8;
        char byte = (char)(word >> bits);
        text_add(out, &byte, 1);
    }
    return 1;
}
