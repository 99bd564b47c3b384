// SPDX-License-Identifier: Apache-2.0
// Writes the time of its first instruction: 8 bytes, CLOCK_MONOTONIC in nanoseconds. Without libc, whose own start comes
// before `main` and asks the processor what it can do: where that is a virtual one, each answer takes tens of microseconds.

#if defined(__x86_64__)
enum { NR_clock_gettime = 228, NR_write = 1, NR_exit_group = 231 };
static long call(long n, long a, long b, long c) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "0"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
enum { NR_clock_gettime = 113, NR_write = 64, NR_exit_group = 94 };
static long call(long n, long a, long b, long c) {
    register long x8 __asm__("x8") = n;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
}
#endif

void _start(void) {
    struct {
        long seconds, nanoseconds;
    } now;
    call(NR_clock_gettime, 1, (long)&now, 0);
    long time = now.seconds * 1000000000 + now.nanoseconds;
    call(NR_exit_group, call(NR_write, 1, (long)&time, sizeof time) != sizeof time, 0, 0);
    for (;;) {}
}
