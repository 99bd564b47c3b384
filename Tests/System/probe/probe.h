// SPDX-License-Identifier: Apache-2.0
// A program that tries, one after the other, what a sandbox has to refuse, and reports what each attempt came to.
//
// Each probe runs in a process of its own and returns what a system call returns: -1 with errno, or anything else where
// it worked. They are written so that each works, or fails in another way, for root outside of a sandbox: then a
// refusal inside is the sandbox's. `probe --report` is that run; `bootstrap` (no argument) is a function of runtime `provided`.
#ifndef PROBE_H
#define PROBE_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

void add_probe(const char *name, long (*run)(void));

// PROBE(name) { return …; }
#define PROBE(name)                                                                           \
    static long probe_##name(void);                                                           \
    __attribute__((constructor)) static void add_##name(void) { add_probe(#name, probe_##name); } \
    static long probe_##name(void)

// For what an argument's upper half may not hide.
#define HIGH (1UL << 32)

// Facts are told as they are: a name and a text, in main.c's report.
void add_fact(const char *name, const char *text);
void collect_facts(void);

#endif
