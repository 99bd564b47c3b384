// SPDX-License-Identifier: Apache-2.0
// Bytes that grow, and the parts of JSON that an event needs. Nothing here fails: who runs out of memory ends.
#ifndef TEXT_H
#define TEXT_H

#include <stddef.h>
#include <stdint.h>

// Bytes with a NUL behind them that does not count; `bytes` is NULL until there are some.
struct text {
    char *bytes;
    size_t length, room;
};

void text_add(struct text *text, const void *bytes, size_t length);
void text_put(struct text *text, const char *words);
void text_print(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_clear(struct text *text);  // gives large ones back

// A value inside a document, whole, as it is written there; `start` is NULL where there is none.
struct json {
    const char *start, *end;
};

// The document's value if all of it is one, nested no deeper than 64 levels.
struct json json_parse(const char *bytes, size_t length);
// The last member of that name; none when `object` is no object.
struct json json_member(struct json object, const char *name);
// Goes through members or items: `at` is advanced, `name` (NULL for lists) is set. 0 at the end.
int json_next(const char **at, struct json container, struct json *name, struct json *value);
int json_is(struct json value, char first);  // '"', '{', '[', 't', 'f', 'n'
// The text of a string value, decoded. 0 when it is none.
int json_decode(struct json value, struct text *out);
// Writes bytes as a JSON string. 0, with nothing written, when they are not UTF-8.
int json_encode(struct text *out, const char *bytes, size_t length);

void base64_encode(struct text *out, const char *bytes, size_t length);
int base64_decode(struct text *out, const char *bytes, size_t length);

#endif
