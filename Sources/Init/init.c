// SPDX-License-Identifier: Apache-2.0
// Process 1 of a sandbox: starts the extensions and the runtime, reaps orphans, ends as the runtime ends.
//
// It is needed because a sandbox has a pid namespace of its own: whoever is process 1 inherits every orphan, and a
// runtime that does not wait for children it never had would fill pids.max with zombies. Static and without libc, so
// that it starts in microseconds and needs nothing of the image.
//
// Extensions are the executables in /opt/extensions and /var/task/extensions. Each is announced to the Runtime API
// before the runtime starts, so that the daemon knows by then whom it has to wait for, and its end is told there too.
// Extensions outlive the runtime until the daemon has given them their last event and ends the sandbox.
//
// A SIGTERM from the daemon is passed on to the runtime; the second one kills it.
//
// Extensions print to descriptor 3, where the launcher left one, so that their lines are told apart from the function's.
//
// Exit status: the runtime's own, or 128 + N when signal N killed it.

#include "entrypoint.h"

typedef unsigned long word;

enum { PR_SET_DUMPABLE = 4, SIGCHLD = 17, SIGTERM = 15, SIGKILL = 9, WNOHANG = 1 };
enum { EINTR = 4, ECHILD = 10 };
enum { CLONE_VM = 0x100, CLONE_VFORK = 0x4000 };
enum { SIG_SETMASK = 2, F_GETFD = 1, F_SETFD = 2, FD_CLOEXEC = 1, EXTENSION_OUTPUT = 3 };
enum { AT_FDCWD = -100, O_CLOEXEC = 02000000, O_PATH = 010000000, X_OK = 1 };
enum { AF_INET = 2, SOCK_STREAM = 1, SOCK_CLOEXEC = O_CLOEXEC };

#if defined(__x86_64__)
enum { NR_execve = 59, NR_exit_group = 231, NR_wait4 = 61, NR_prctl = 157, NR_clone = 56, NR_write = 1 };
enum { NR_read = 0, NR_close = 3, NR_openat = 257, NR_getdents64 = 217, NR_faccessat = 269, NR_socket = 41 };
enum { NR_connect = 42, NR_dup3 = 292, NR_fcntl = 72, NR_kill = 62, NR_rt_sigprocmask = 14, NR_rt_sigtimedwait = 128 };
enum { O_DIRECTORY = 0200000 };
static long call(long n, word a, word b, word c, word d, word e) {
    long result;
    register word r10 __asm__("r10") = d;
    register word r8 __asm__("r8") = e;
    __asm__ volatile("syscall" : "=a"(result) : "0"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
    return result;
}
__asm__(".globl _start\n_start:\n\tmovq %rsp, %rdi\n\tandq $-16, %rsp\n\tcall start\n\thlt\n");
static long clone_and_run(word flags, void *stack, void (*function)(void *), void *argument) {
    long result;
    register void (*entry)(void *) __asm__("r12") = function;
    register void *data __asm__("r13") = argument;
    __asm__ volatile(
        "syscall\n\ttestq %%rax, %%rax\n\tjnz 1f\n\txorl %%ebp, %%ebp\n\tmovq %%r13, %%rdi\n\tcall *%%r12\n\thlt\n1:"
        : "=a"(result)
        : "0"((long)NR_clone), "D"(flags), "S"(stack), "r"(entry), "r"(data)
        : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
enum { NR_execve = 221, NR_exit_group = 94, NR_wait4 = 260, NR_prctl = 167, NR_clone = 220, NR_write = 64 };
enum { NR_read = 63, NR_close = 57, NR_openat = 56, NR_getdents64 = 61, NR_faccessat = 48, NR_socket = 198 };
enum { NR_connect = 203, NR_dup3 = 24, NR_fcntl = 25, NR_kill = 129, NR_rt_sigprocmask = 135, NR_rt_sigtimedwait = 137 };
enum { O_DIRECTORY = 040000 };
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
static long clone_and_run(word flags, void *stack, void (*function)(void *), void *argument) {
    register long x8 __asm__("x8") = NR_clone;
    register word x0 __asm__("x0") = flags;
    register void *x1 __asm__("x1") = stack;
    register void (*entry)(void *) __asm__("x20") = function;
    register void *data __asm__("x21") = argument;
    __asm__ volatile(
        "svc #0\n\tcbnz x0, 1f\n\tmov x29, xzr\n\tmov x0, x21\n\tblr x20\n\tbrk #0\n1:"
        : "+r"(x0)
        : "r"(x8), "r"(x1), "r"(entry), "r"(data)
        : "memory", "x30");
    return (long)x0;
}
#endif

static word length(const char *text) {
    word count = 0;
    while (text[count]) count++;
    return count;
}

static void complain(const char *text) { call(NR_write, 2, (word)text, length(text), 0, 0); }

// As the compiler may ask for them where there is no libc.
__attribute__((used)) void *memset(void *target, int value, word count) {
    for (volatile unsigned char *byte = target; count--; byte++) *byte = (unsigned char)value;
    return target;
}

// A path or a request, put together.
struct text {
    word length;
    char bytes[1024];
};

static void add(struct text *text, const char *more) {
    for (; *more && text->length < sizeof text->bytes - 1; more++) text->bytes[text->length++] = *more;
    text->bytes[text->length] = 0;
}

static void add_number(struct text *text, int number) {
    char digits[4] = {(char)('0' + number / 100 % 10), (char)('0' + number / 10 % 10), (char)('0' + number % 10), 0};
    add(text, number < 10 ? digits + 2 : number < 100 ? digits + 1 : digits);
}

// One call of the Runtime API, which listens inside since before this process was made: its path and fields of its own,
// each ended by a line's end, and its body. Returns whether it was accepted; waits for the answer, because closing a
// connection before that may discard what was sent.
static int post(const struct text *path_and_fields, const char *body) {
    static const struct {
        unsigned short family;
        unsigned char port[2], address[4], rest[8];
    } api = {AF_INET, {9001 >> 8, 9001 & 0xff}, {127, 0, 0, 1}, {0}};
    struct text request;
    request.length = 0;
    add(&request, "POST ");
    add(&request, path_and_fields->bytes);
    add(&request, "Host: 127.0.0.1\r\nConnection: close\r\nContent-Length: ");
    add_number(&request, (int)length(body));
    add(&request, "\r\n\r\n");
    add(&request, body);
    long connection = call(NR_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0, 0, 0);
    if (connection < 0) return 0;
    char answer[16];
    word got = 0;
    if (call(NR_connect, (word)connection, (word)&api, sizeof api, 0, 0) == 0 &&
        call(NR_write, (word)connection, (word)request.bytes, request.length, 0, 0) == (long)request.length) {
        while (got < 12) {  // "HTTP/1.1 202"
            long count = call(NR_read, (word)connection, (word)(answer + got), sizeof answer - got, 0, 0);
            if (count == -EINTR) continue;
            if (count <= 0) break;
            got += (word)count;
        }
    }
    call(NR_close, (word)connection, 0, 0, 0, 0);
    return got >= 12 && answer[9] == '2';
}

static int tell(const char *what, const char *name, int status) {
    struct text text;
    text.length = 0;
    add(&text, "/fn/");
    add(&text, what);
    add(&text, " HTTP/1.1\r\nFn-Exit-Status: ");
    add_number(&text, status);
    add(&text, "\r\nLambda-Extension-Name: ");
    add(&text, name);
    add(&text, "\r\n");
    return post(&text, "");
}

// What a runtime says that cannot start, in the place of one that could not even be executed. The path is the daemon's own
// words, and needs no escapes in JSON.
static void tell_unstartable(const char *path, int error) {
    static const char fields[] =
        "/2018-06-01/runtime/init/error HTTP/1.1\r\n"
        "Lambda-Runtime-Function-Error-Type: Runtime.InvalidEntrypoint\r\nContent-Type: application/json\r\n";
    struct text text, body;
    text.length = body.length = 0;
    add(&text, fields);
    add(&body, "{\"errorType\":\"Runtime.InvalidEntrypoint\",\"errorMessage\":\"cannot execute ");
    add(&body, path);
    add(&body, ": ");
    const char *problem = entrypoint_problem(error);
    if (problem) {
        add(&body, problem);
    } else {
        add(&body, "error ");
        add_number(&body, error);
    }
    add(&body, "\"}");
    post(&text, body.bytes);
}

static void block(word signals) { call(NR_rt_sigprocmask, SIG_SETMASK, (word)&signals, 0, sizeof signals, 0); }

struct program {
    const char *path;
    char **arguments, **environment;
    int output;  // where it prints to; negative leaves that as it is
    int error;   // why it could not be executed; 0 when it was
};

static void become(void *argument) {
    struct program *program = argument;
    block(0);
    if (program->output >= 0)
        for (int target = 1; target <= 2; target++) call(NR_dup3, (word)program->output, (word)target, 0, 0, 0);
    program->error = -(int)call(NR_execve, (word)program->path, (word)program->arguments, (word)program->environment, 0, 0);
    complain("Runtime.InvalidEntrypoint: cannot execute ");
    complain(program->path);
    const char *problem = entrypoint_problem(program->error);
    if (problem) complain(": ");
    if (problem) complain(problem);
    complain("\n");
    for (;;) call(NR_exit_group, 127, 0, 0, 0, 0);
}

// The child has this process's memory until it executes its program, and this one waits for that: a copy of the memory,
// small as it is, would take longer than all that process 1 does.
static long spawn(struct program *program) {
    static char stack[8192] __attribute__((aligned(16)));
    return clone_and_run(CLONE_VM | CLONE_VFORK | SIGCHLD, stack + sizeof stack, become, program);
}

// More than the daemon allows (ExtensionRegistry.limit) are never started.
static struct {
    long process;
    char name[128];
} extensions[10];
static int extension_count, extensions_alive, extension_output = -1;

// As the kernel writes it (include/linux/dirent.h).
struct entry {
    unsigned long inode;
    long offset;
    unsigned short size;
    unsigned char type;
    char name[];
};

static int is_header_value(const char *name) {
    word count = 0;
    for (; name[count]; count++)
        if (name[count] < ' ' || name[count] == 127) return 0;
    return count < sizeof extensions[0].name;
}

static void start_extension(const char *directory, const char *name, char **environment) {
    struct text path;
    path.length = 0;
    add(&path, directory);
    add(&path, "/");
    add(&path, name);
    long inner = call(NR_openat, (word)AT_FDCWD, (word)path.bytes, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, 0);
    if (inner >= 0) {
        call(NR_close, (word)inner, 0, 0, 0, 0);
        return;
    }
    if (call(NR_faccessat, (word)AT_FDCWD, (word)path.bytes, X_OK, 0, 0) != 0) return;
    if (extension_count == sizeof extensions / sizeof extensions[0] || !is_header_value(name) ||
        !tell("extension/launched", name, 0)) {
        complain("init: not started, as there are too many, or its name is taken or too long: ");
        complain(path.bytes);
        complain("\n");
        return;
    }
    char *arguments[2] = {path.bytes, 0};
    word size = length(name) + 1;
    for (word i = 0; i < size; i++) extensions[extension_count].name[i] = name[i];
    struct program program = {path.bytes, arguments, environment, extension_output, 0};
    extensions[extension_count].process = spawn(&program);
    extension_count++;
    extensions_alive++;
}

static void start_extensions(const char *directory, char **environment) {
    long list = call(NR_openat, (word)AT_FDCWD, (word)directory, O_DIRECTORY | O_CLOEXEC, 0, 0);
    if (list < 0) return;
    static unsigned long buffer[512];
    for (;;) {
        long size = call(NR_getdents64, (word)list, (word)buffer, sizeof buffer, 0, 0);
        if (size <= 0) break;
        for (long at = 0; at < size;) {
            struct entry *entry = (struct entry *)((char *)buffer + at);
            if (entry->name[0] != '.') start_extension(directory, entry->name, environment);
            at += entry->size;
        }
    }
    call(NR_close, (word)list, 0, 0, 0, 0);
}

static void extension_ended(long process, int status) {
    for (int i = 0; i < extension_count; i++) {
        if (extensions[i].process != process) continue;
        extensions[i].process = 0;
        extensions_alive--;
        tell("extension/ended", extensions[i].name, status);
    }
}

// The kernel leaves argc, the arguments and the environment on the stack.
__attribute__((used, noreturn)) void start(word *stack) {
    word count = stack[0];
    char **arguments = (char **)(stack + 1);
    char **environment = arguments + count + 1;
    call(NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);  // nothing inside may look into process 1

    // Waited for below, as processes that end are: a signal that is blocked is kept, even for process 1.
    word signals = 1UL << (SIGTERM - 1) | 1UL << (SIGCHLD - 1);
    block(signals);
    if (call(NR_fcntl, EXTENSION_OUTPUT, F_GETFD, 0, 0, 0) >= 0) {
        call(NR_fcntl, EXTENSION_OUTPUT, F_SETFD, FD_CLOEXEC, 0, 0);
        extension_output = EXTENSION_OUTPUT;
    }
    start_extensions("/opt/extensions", environment);
    start_extensions("/var/task/extensions", environment);
    struct program program = {arguments[1], arguments + 1, environment, -1, 0};
    long runtime = spawn(&program);
    if (runtime < 0) {
        complain("init: no process may be started\n");
        call(NR_exit_group, 125, 0, 0, 0, 0);
    }
    if (program.error != 0) tell_unstartable(program.path, program.error);
    int code = 0, has_ended = 0, was_asked = 0;
    for (;;) {
        int status = 0;
        long ended = call(NR_wait4, (word)-1, (word)&status, WNOHANG, 0, 0);
        if (ended == 0) {
            if (call(NR_rt_sigtimedwait, (word)&signals, 0, 0, sizeof signals, 0) != SIGTERM || has_ended) continue;
            call(NR_kill, (word)runtime, was_asked ? SIGKILL : SIGTERM, 0, 0, 0);
            was_asked = 1;
            continue;
        }
        if (ended == -EINTR) continue;
        int signal = status & 0x7f;
        int own = signal ? 128 + signal : (status >> 8) & 0xff;
        if (ended == runtime) {
            code = own;
            has_ended = 1;
            if (extensions_alive > 0) tell("runtime/ended", "", code);
        } else if (ended > 0) {
            extension_ended(ended, own);
        }
        if (ended == -ECHILD || (has_ended && extensions_alive == 0)) call(NR_exit_group, (word)code, 0, 0, 0, 0);
    }
}
