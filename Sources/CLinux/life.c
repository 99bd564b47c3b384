// SPDX-License-Identifier: Apache-2.0
// Whether a thread lives, told by the kernel: a robust mutex that the thread holds for life. When the thread ends, the
// kernel marks the futex (kernel/futex/core.c, exit_robust_list) before it sends death signals (kernel/exit.c: do_exit
// calls exit_mm, then exit_notify).

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "clinux.h"

struct clinux_life {
    pthread_mutex_t held;
};

static _Thread_local struct clinux_life *own;

struct clinux_life *clinux_life_of_this_thread(void) {
    if (own) return own;
    pthread_mutexattr_t attributes;
    struct clinux_life *life = calloc(1, sizeof *life);
    if (!life) return NULL;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    int error = pthread_mutex_init(&life->held, &attributes);
    pthread_mutexattr_destroy(&attributes);
    if (error == 0) error = pthread_mutex_lock(&life->held);
    if (error != 0) {
        free(life);
        errno = error;
        return NULL;
    }
    return own = life;  // never freed: the kernel writes to it when the thread ends
}

const volatile int32_t *clinux_life_word(const struct clinux_life *life) { return &life->held.__data.__lock; }

void clinux_life_wait(struct clinux_life *life) {
    // EOWNERDEAD, or ENOTRECOVERABLE after another waiter.
    if (pthread_mutex_lock(&life->held) == 0) abort();
    pthread_mutex_unlock(&life->held);
}
