// SPDX-License-Identifier: Apache-2.0
// Faults on order. Only builds for tests have them: Package.swift defines EBB_FAILPOINTS for debug builds alone.
//
// The environment's EBB_FAILPOINT names a file, which is read at each place that can fail. Its one line is PLACE ACTION:
//
//   launch:3 12       step 3 of a launch (enum clinux_step) fails with errno 12
//   launch:3 kill     the daemon is killed (SIGKILL) while a launch is at step 3
//   accepted kill     the daemon is killed when it comes to `accepted` in the Swift sources; also:
//   request trap      it stops as after a failed precondition
//   launcher thread   the thread that comes there ends
#ifdef EBB_FAILPOINTS

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "clinux.h"

// What is ordered now: the place, and an errno or one of the negative actions. 0 when nothing is.
static int ordered(char place[64]) {
    const char *path = getenv("EBB_FAILPOINT");
    FILE *file = path ? fopen(path, "re") : NULL;
    if (!file) return 0;
    char action[16] = "";
    int fields = fscanf(file, "%63s %15s", place, action);
    fclose(file);
    if (fields != 2) return 0;
    if (strcmp(action, "kill") == 0) return CLINUX_FAIL_KILL;
    if (strcmp(action, "trap") == 0) return CLINUX_FAIL_TRAP;
    if (strcmp(action, "thread") == 0) return CLINUX_FAIL_THREAD;
    return atoi(action);
}

int clinux_failpoint(const char *place) {
    char wanted[64] = "";
    int action = ordered(wanted);
    if (action == 0 || strcmp(place, wanted) != 0) return 0;
    switch (action) {
    case CLINUX_FAIL_KILL: kill(getpid(), SIGKILL); pause(); break;
    case CLINUX_FAIL_TRAP: __builtin_trap();
    case CLINUX_FAIL_THREAD: syscall(SYS_exit, 0); break;
    }
    return action;
}

int clinux_failing_step(int *action) {
    char wanted[64] = "";
    int step = 0;
    *action = ordered(wanted);
    return *action != 0 && sscanf(wanted, "launch:%d", &step) == 1 ? step : 0;
}

#else
// A file of C needs a declaration.
typedef int clinux_no_failpoints;
#endif
