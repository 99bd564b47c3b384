// SPDX-License-Identifier: Apache-2.0
// The parent's side of a launch: clone3 on a private stack, which glibc cannot express together with a cgroup.

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "child.h"

enum { CHILD_STACK_SIZE = 64 << 10 };

// clone3, and in the child `function(argument)` followed by _exit. The child has its own stack: what the parent's
// frame holds is untouched when it resumes.
static long clone3_call(struct clone_args *args, int (*function)(void *), void *argument) {
    long result;
#if defined(__x86_64__)
    register int (*entry)(void *) __asm__("r12") = function;
    register void *data __asm__("r13") = argument;
    __asm__ volatile(
        "syscall\n\t"
        "testq %%rax, %%rax\n\t"
        "jnz 1f\n\t"
        "xorl %%ebp, %%ebp\n\t"
        "movq %%r13, %%rdi\n\t"
        "call *%%r12\n\t"
        "movl $99, %%edi\n\t"
        "movl $231, %%eax\n\t"  // exit_group
        "syscall\n\t"
        "hlt\n"
        "1:"
        : "=a"(result)
        : "0"((long)SYS_clone3), "D"(args), "S"(sizeof *args), "r"(entry), "r"(data)
        : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long number __asm__("x8") = SYS_clone3;
    register long x0 __asm__("x0") = (long)args;
    register long x1 __asm__("x1") = sizeof *args;
    register int (*entry)(void *) __asm__("x20") = function;
    register void *data __asm__("x21") = argument;
    __asm__ volatile(
        "svc #0\n\t"
        "cbnz x0, 1f\n\t"
        "mov x29, xzr\n\t"
        "mov x0, x21\n\t"
        "blr x20\n\t"
        "mov x0, #99\n\t"
        "mov x8, #94\n\t"  // exit_group
        "svc #0\n\t"
        "brk #0\n"
        "1:"
        : "+r"(x0)
        : "r"(number), "r"(x1), "r"(entry), "r"(data)
        : "memory", "x30");
    result = x0;
#else
#error "sandboxes are launched on x86-64 and arm64 only"
#endif
    if (result < 0) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

static int write_map(pid_t pid, const char *file, uint32_t inside, uint32_t outside) {
    char path[64], line[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    int length = snprintf(line, sizeof line, "%u %u 1\n", inside, outside);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t written = write(fd, line, (size_t)length);
    int error = errno;
    close(fd);
    errno = error;
    return written == length ? 0 : -1;
}

// Holds a user namespace until it is killed, or the thread that made it ends. Only raw calls, as in child.c.
static int hold(void *parent) {
    syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    while (syscall(SYS_getppid) == *(const pid_t *)parent)
        syscall(SYS_ppoll, 0, 0, &(struct timespec){.tv_sec = 3600}, 0, 0);
    return 0;
}

// A user namespace needs a process that is born in it: unshare(2) refuses a process with threads. It shares the daemon's
// memory and descriptors, as a copy of them would cost milliseconds.
int clinux_user_namespace(uint32_t inside, uint32_t outside) {
    enum { STACK_SIZE = 16 << 10 };
    pid_t self = getpid();
    void *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) return -1;
    struct clone_args args = {
        .flags = CLONE_VM | CLONE_FILES | CLONE_NEWUSER | CLONE_CLEAR_SIGHAND,
        .exit_signal = SIGCHLD,
        .stack = (uint64_t)(uintptr_t)stack,
        .stack_size = STACK_SIZE,
    };
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = (pid_t)clone3_call(&args, hold, &self);
    int error = errno, fd = -1;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid > 0) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/ns/user", pid);
        if (write_map(pid, "uid_map", inside, outside) == 0 && write_map(pid, "gid_map", inside, outside) == 0)
            fd = open(path, O_RDONLY | O_CLOEXEC);
        error = errno;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    munmap(stack, STACK_SIZE);
    errno = error;
    return fd;
}

static int fail(struct clinux_launched *launched, int step, int error) {
    launched->step = step;
    launched->error = error;
    return -1;
}

#ifdef EBB_FAILPOINTS
static volatile int32_t reached;

// The child has reached its step: the daemon dies now.
static void *killer(void *nothing) {
    while (!reached) usleep(100);
    kill(getpid(), SIGKILL);
    return nothing;
}

static void order(struct clinux_child *child) {
    int action;
    child->failing_step = clinux_failing_step(&action);
    child->failing_errno = action;
    child->reached = &reached;
    pthread_t thread;
    if (child->failing_step == CLINUX_STEP_CLONE && action == CLINUX_FAIL_KILL) reached = 1;
    if (child->failing_step != 0 && action == CLINUX_FAIL_KILL) pthread_create(&thread, NULL, killer, NULL);
    if (reached) pause();
}
#endif

// One child at a time runs on it: the thread that clones is suspended meanwhile. Kept, since making one and touching its
// pages anew costs more than the clone; a thread that launches does so for as long as the daemon lives.
static void *child_stack(void) {
    static _Thread_local void *own;
    if (own) return own;
    void *stack = mmap(NULL, CHILD_STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    return stack == MAP_FAILED ? NULL : (own = stack);
}

uint64_t clinux_ignored_signals(void) {
    uint64_t ignored = 0;
    for (int number = 1; number <= 64; number++) {
        // Not glibc's sigaction: it hides two signals that it uses itself.
        struct kernel_sigaction action;
        if (syscall(SYS_rt_sigaction, number, NULL, &action, 8) == 0 && action.handler == (void *)SIG_IGN)
            ignored |= 1ull << (number - 1);
    }
    return ignored;
}

int clinux_launch(const struct clinux_plan *plan, struct clinux_launched *launched) {
    memset(launched, 0, sizeof *launched);
    void *stack = child_stack();
    if (!stack) return fail(launched, CLINUX_STEP_CLONE, errno);
    struct clinux_life *life = clinux_life_of_this_thread();
    if (!life) return fail(launched, CLINUX_STEP_CLONE, ENOMEM);
    const volatile int32_t *word = clinux_life_word(life);
    struct clinux_child child = {.plan = plan, .launcher = word, .launcher_id = *word & FUTEX_TID_MASK};
    int pidfd = -1;
#ifdef EBB_FAILPOINTS
    order(&child);
    if (child.failing_step == CLINUX_STEP_CLONE) return fail(launched, CLINUX_STEP_CLONE, child.failing_errno);
#endif
    // CLONE_VFORK is for safety, not only speed: with CLONE_VM alone, a memory kill of the child would take the
    // daemon with it; the kernel spares tasks in vfork (mm/oom_kill.c, oom_badness).
    struct clone_args args = {
        .flags = CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_PIDFD | CLONE_CLEAR_SIGHAND | CLONE_INTO_CGROUP |
                 CLONE_NEWPID | CLONE_NEWCGROUP,
        .pidfd = (uint64_t)(uintptr_t)&pidfd,
        .exit_signal = SIGCHLD,
        .stack = (uint64_t)(uintptr_t)stack,
        .stack_size = CHILD_STACK_SIZE,
        .cgroup = (uint64_t)plan->cgroup,
    };
    // A handler of the daemon's must not run in the child, which has its memory.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    long pid = clone3_call(&args, clinux_child_main, &child);
    int clone_error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid < 0) return fail(launched, CLINUX_STEP_CLONE, clone_error);
    if (child.error != 0) {
        waitpid((pid_t)pid, NULL, 0);
        close(pidfd);
        return fail(launched, child.step, child.error);
    }
    launched->pid = (int32_t)pid;
    launched->pidfd = pidfd;
    return 0;
}
