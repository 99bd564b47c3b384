// SPDX-License-Identifier: Apache-2.0
// Process 1 of a sandbox: starts the runtime, reaps orphans, ends as the runtime ends.
//
// It is needed because a sandbox has a pid namespace of its own: whoever is process 1 inherits every orphan, and a
// runtime that does not wait for children it never had would fill pids.max with zombies. Static and without libc, so
// that it starts in microseconds and needs nothing of the image.
//
// Exit status: the runtime's own, or 128 + N when signal N killed it.

typedef unsigned long word;

enum { PR_SET_DUMPABLE = 4, SIGCHLD = 17, EINTR = 4, ECHILD = 10 };

#if defined(__x86_64__)
enum { NR_execve = 59, NR_exit_group = 231, NR_wait4 = 61, NR_prctl = 157, NR_clone = 56, NR_write = 1 };
static long call(long n, word a, word b, word c, word d, word e) {
    long result;
    register word r10 __asm__("r10") = d;
    register word r8 __asm__("r8") = e;
    __asm__ volatile("syscall" : "=a"(result) : "0"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
    return result;
}
__asm__(".globl _start\n_start:\n\tmovq %rsp, %rdi\n\tandq $-16, %rsp\n\tcall start\n\thlt\n");
#elif defined(__aarch64__)
enum { NR_execve = 221, NR_exit_group = 94, NR_wait4 = 260, NR_prctl = 167, NR_clone = 220, NR_write = 64 };
static long call(long n, word a, word b, word c, word d, word e) {
    register long x8 __asm__("x8") = n;
    register word x0 __asm__("x0") = a;
    register word x1 __asm__("x1") = b;
    register word x2 __asm__("x2") = c;
    register word x3 __asm__("x3") = d;
    register word x4 __asm__("x4") = e;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return (long)x0;
}
__asm__(".globl _start\n_start:\n\tmov x0, sp\n\tbl start\n\tbrk #0\n");
#endif

static void complain(const char *text) {
    word length = 0;
    while (text[length]) length++;
    call(NR_write, 2, (word)text, length, 0, 0);
}

// The kernel leaves argc, the arguments and the environment on the stack.
__attribute__((used, noreturn)) void start(word *stack) {
    word count = stack[0];
    char **arguments = (char **)(stack + 1);
    char **environment = arguments + count + 1;
    call(NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);  // nothing inside may look into process 1

    long runtime = call(NR_clone, SIGCHLD, 0, 0, 0, 0);
    if (runtime == 0) {
        call(NR_execve, (word)arguments[1], (word)(arguments + 1), (word)environment, 0, 0);
        complain("init: cannot execute ");
        complain(arguments[1]);
        complain("\n");
        call(NR_exit_group, 127, 0, 0, 0, 0);
    }
    for (;;) {
        int status = 0;
        long ended = call(NR_wait4, (word)-1, (word)&status, 0, 0, 0);
        if (ended == -EINTR) continue;
        if (ended != runtime && ended != -ECHILD) continue;
        int signal = status & 0x7f;
        call(NR_exit_group, (word)(signal ? 128 + signal : (status >> 8) & 0xff), 0, 0, 0, 0);
    }
}
