// SPDX-License-Identifier: Apache-2.0
// What the files of the child share. Nothing here is seen from Swift.
#ifndef CLINUX_CHILD_H
#define CLINUX_CHILD_H

#include "clinux.h"

#ifdef EBB_FAILPOINTS
// Whether the step that has begun is to fail, with errno; or the daemon is killed there.
int clinux_child_failpoint(struct clinux_child *child);
#else
#define clinux_child_failpoint(child) 0
#endif

// Does one step: on failure, says which one it was and why, and leaves the function. `child` is in scope.
#define TRY(name, call)                                    \
    do {                                                   \
        child->step = CLINUX_STEP_##name;                  \
        if (clinux_child_failpoint(child) < 0 || (call) < 0) {   \
            child->error = errno;                          \
            return -1;                                     \
        }                                                  \
    } while (0)

// The kernel's struct sigaction on x86-64 and arm64.
struct kernel_sigaction {
    void *handler;
    unsigned long flags;
    void *restorer;
    uint64_t mask;
};

// Covers what plan->masks names, below the /proc that has just been mounted.
int clinux_mask_proc(struct clinux_child *child);

// Enters plan->landlock, where there is one. Takes no_new_privs.
int clinux_restrict_files(struct clinux_child *child);

#endif
