// SPDX-License-Identifier: Apache-2.0
// System calls that no function needs and that have led out of sandboxes, or into the kernel.
#include <linux/bpf.h>
#include <linux/fanotify.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <linux/perf_event.h>
#include <linux/quota.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/timex.h>
#include <sys/uio.h>

#include "probe.h"

// Newer than this machine's headers may be; the same numbers everywhere.
enum { NR_listmount = 458, NR_mseal = 462 };

// Other processes.
PROBE(ptrace) { return ptrace(PTRACE_TRACEME, 0, 0, 0); }
PROBE(process_vm_readv) {
    char from[8] = "x", to[8];
    struct iovec ours = {to, 8}, theirs = {from, 8};
    return syscall(SYS_process_vm_readv, getpid(), &ours, 1, &theirs, 1, 0);
}
PROBE(process_vm_writev) {
    char from[8] = "x", to[8];
    struct iovec ours = {from, 8}, theirs = {to, 8};
    return syscall(SYS_process_vm_writev, getpid(), &ours, 1, &theirs, 1, 0);
}
static long own_pidfd(void) { return syscall(SYS_pidfd_open, getpid(), 0); }
PROBE(pidfd_open) { return own_pidfd(); }
PROBE(process_madvise) {
    struct iovec range = {mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096};
    return syscall(SYS_process_madvise, own_pidfd(), &range, 1, MADV_COLD, 0);
}
PROBE(pidfd_getfd) { return syscall(SYS_pidfd_getfd, own_pidfd(), 0, 0); }
PROBE(kcmp) { return syscall(SYS_kcmp, getpid(), getpid(), 0, 0, 0); }

// The kernel's own machines.
PROBE(bpf) {
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.map_type = BPF_MAP_TYPE_ARRAY;
    attributes.key_size = attributes.value_size = 4;
    attributes.max_entries = 1;
    return syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof attributes);
}
PROBE(perf_event_open) {
    struct perf_event_attr event = {
        .type = PERF_TYPE_SOFTWARE, .size = sizeof event, .config = PERF_COUNT_SW_CPU_CLOCK};
    return syscall(SYS_perf_event_open, &event, 0, -1, -1, 0);
}
PROBE(userfaultfd) { return syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* UFFD_USER_MODE_ONLY */); }
PROBE(io_uring_setup) {
    struct io_uring_params parameters;
    memset(&parameters, 0, sizeof parameters);
    return syscall(SYS_io_uring_setup, 1, &parameters);
}
PROBE(io_uring_enter) { return syscall(SYS_io_uring_enter, -1, 0, 0, 0, 0, 0); }
PROBE(io_uring_register) { return syscall(SYS_io_uring_register, -1, 0, 0, 0); }
PROBE(io_setup) {
    unsigned long context = 0;
    return syscall(SYS_io_setup, 1, &context);
}
PROBE(add_key) { return syscall(SYS_add_key, "user", "probe", "x", 1, KEY_SPEC_PROCESS_KEYRING); }
PROBE(request_key) { return syscall(SYS_request_key, "user", "probe", 0, 0); }
PROBE(keyctl) { return syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1); }
PROBE(fanotify_init) { return syscall(SYS_fanotify_init, FAN_CLASS_NOTIF, O_RDONLY); }
PROBE(fanotify_mark) { return syscall(SYS_fanotify_mark, -1, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "/"); }
struct handle {
    unsigned size;
    int type;
    char bytes[128];
};
PROBE(name_to_handle_at) {
    struct handle handle = {.size = 128};
    int mount;
    return syscall(SYS_name_to_handle_at, AT_FDCWD, "/", &handle, &mount, 0);
}
PROBE(open_by_handle_at) {
    struct handle handle = {.size = 8, .type = 1};
    return syscall(SYS_open_by_handle_at, open("/", O_RDONLY), &handle, O_RDONLY);
}
PROBE(memfd_secret) { return syscall(SYS_memfd_secret, 0); }
PROBE(memfd_create) { return memfd_create("probe", 0); }
PROBE(syslog) { return syscall(SYS_syslog, 10 /* size of the buffer */, 0, 0); }
PROBE(lookup_dcookie) {
    char path[64];
#ifdef SYS_lookup_dcookie
    return syscall(SYS_lookup_dcookie, 0L, path, sizeof path);
#else
    return syscall(18, 0L, path, sizeof path);
#endif
}

// Pages of files into pipes.
static int pipe_ends[2], other_ends[2];
static void pipes(void) {
    if (pipe(pipe_ends) < 0 || pipe(other_ends) < 0 || write(pipe_ends[1], "x", 1) != 1) abort();
}
PROBE(splice) { return pipes(), syscall(SYS_splice, pipe_ends[0], 0, other_ends[1], 0, 1, 2); }
PROBE(tee) { return pipes(), syscall(SYS_tee, pipe_ends[0], other_ends[1], 1, 2); }
PROBE(vmsplice) {
    struct iovec page = {pipe_ends, 4};
    return pipes(), syscall(SYS_vmsplice, other_ends[1], &page, 1, 2);
}

// Namespaces and mounts.
PROBE(unshare_user) { return unshare(CLONE_NEWUSER); }
PROBE(unshare_mount) { return unshare(CLONE_NEWNS); }
PROBE(unshare_network) { return unshare(CLONE_NEWNET); }
PROBE(unshare_pid) { return unshare(CLONE_NEWPID); }
PROBE(unshare_ipc) { return unshare(CLONE_NEWIPC); }
PROBE(unshare_uts) { return unshare(CLONE_NEWUTS); }
PROBE(unshare_cgroup) { return unshare(CLONE_NEWCGROUP); }
PROBE(unshare_time) { return unshare(CLONE_NEWTIME); }
static long cloned(unsigned long flags) {
    long child = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    if (child == 0) _exit(0);
    return child;
}
PROBE(clone_plain) { return cloned(0); }
PROBE(clone_user) { return cloned(CLONE_NEWUSER); }
PROBE(clone_user_and_files) { return cloned(CLONE_NEWUSER | CLONE_FILES); }
PROBE(clone_mount) { return cloned(CLONE_NEWNS); }
PROBE(clone_network) { return cloned(CLONE_NEWNET); }
PROBE(clone_pid) { return cloned(CLONE_NEWPID); }
PROBE(clone_ipc) { return cloned(CLONE_NEWIPC); }
PROBE(clone_uts) { return cloned(CLONE_NEWUTS); }
PROBE(clone_cgroup) { return cloned(CLONE_NEWCGROUP); }
PROBE(clone3_user) {
    struct clone_args arguments = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    long child = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (child == 0) _exit(0);
    return child;
}
PROBE(setns) { return setns(open("/proc/self/ns/uts", O_RDONLY), CLONE_NEWUTS); }
PROBE(mount) { return syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, 0); }
PROBE(mount_bind) { return syscall(SYS_mount, "/", "/tmp", 0, MS_BIND, 0); }
PROBE(mount_remount) { return syscall(SYS_mount, 0, "/", 0, MS_REMOUNT | MS_BIND, 0); }
PROBE(umount2) { return syscall(SYS_umount2, "/tmp", 2 /* MNT_DETACH */); }
PROBE(pivot_root) { return syscall(SYS_pivot_root, "/", "/"); }
PROBE(chroot) { return syscall(SYS_chroot, "/tmp"); }
PROBE(fsopen) { return syscall(SYS_fsopen, "tmpfs", 0); }
PROBE(fsconfig) { return syscall(SYS_fsconfig, -1, 0, 0, 0, 0); }
PROBE(fsmount) { return syscall(SYS_fsmount, -1, 0, 0); }
PROBE(fspick) { return syscall(SYS_fspick, AT_FDCWD, "/", 0); }
PROBE(open_tree) { return syscall(SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLONE); }
PROBE(move_mount) { return syscall(SYS_move_mount, -1, "", -1, "", MOVE_MOUNT_F_EMPTY_PATH); }
PROBE(mount_setattr) {
    struct mount_attr nothing = {0};
    return syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, &nothing, sizeof nothing);
}
PROBE(listmount) {
    struct {
        uint32_t size, spare;
        uint64_t mount, after;
    } request = {24, 0, ~0UL /* LSMT_ROOT */, 0};
    uint64_t found[8];
    return syscall(NR_listmount, &request, found, 8, 0);
}
PROBE(mseal) { return syscall(NR_mseal, 0, 0, 0); }

// The machine. What would really change it is asked for in a way that is refused behind the check of privileges.
PROBE(reboot) { return syscall(SYS_reboot, 0, 0, 0, 0); }
PROBE(kexec_load) { return syscall(SYS_kexec_load, 0, 1000, 0, 0xffffUL); }
PROBE(kexec_file_load) { return syscall(SYS_kexec_file_load, -1, -1, 0, 0, 0xffffUL); }
PROBE(init_module) { return syscall(SYS_init_module, 0, 0, ""); }
PROBE(finit_module) { return syscall(SYS_finit_module, -1, "", 0); }
PROBE(delete_module) { return syscall(SYS_delete_module, "no-such-module", O_NONBLOCK); }
PROBE(swapon) { return syscall(SYS_swapon, "/nowhere", 0); }
PROBE(swapoff) { return syscall(SYS_swapoff, "/nowhere"); }
PROBE(acct) { return syscall(SYS_acct, "/nowhere"); }
PROBE(quotactl) { return syscall(SYS_quotactl, QCMD(Q_SYNC, USRQUOTA), 0, 0, 0); }
PROBE(settimeofday) { return syscall(SYS_settimeofday, 0, 0); }
PROBE(clock_settime) {
    struct timespec never = {0, 0};
    return syscall(SYS_clock_settime, 99, &never);
}
PROBE(adjtimex) {
    struct timex nothing = {0};
    return syscall(SYS_adjtimex, &nothing);
}
PROBE(clock_adjtime) {
    struct timex nothing = {0};
    return syscall(SYS_clock_adjtime, 0, &nothing);
}
PROBE(sethostname) { return sethostname("probe", 5); }
PROBE(setdomainname) { return setdomainname("probe", 5); }
PROBE(vhangup) { return vhangup(); }
PROBE(mbind) {
    void *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return syscall(SYS_mbind, page, 4096, 0, 0, 0, 0);
}
PROBE(set_mempolicy) { return syscall(SYS_set_mempolicy, 0, 0, 0); }
PROBE(move_pages) { return syscall(SYS_move_pages, 0, 0, 0, 0, 0, 0); }
PROBE(migrate_pages) { return syscall(SYS_migrate_pages, 0, 0, 0, 0); }
PROBE(personality_asked) { return syscall(SYS_personality, 0xffffffffUL); }
PROBE(personality_without_randomisation) { return syscall(SYS_personality, 0x0040000UL); }
PROBE(personality_high_bits) { return syscall(SYS_personality, HIGH | 0x0040000UL); }

#if defined(__x86_64__)
PROBE(modify_ldt) {
    char table[64];
    return syscall(SYS_modify_ldt, 0, table, sizeof table);
}
PROBE(iopl) { return syscall(SYS_iopl, 3); }
PROBE(ioperm) { return syscall(SYS_ioperm, 0x80, 1, 1); }
PROBE(x32_getpid) { return syscall(0x40000000 | SYS_getpid); }
PROBE(int80_getpid) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "0"(20L) : "memory", "r8", "r9", "r10", "r11");
    if (result < 0) errno = (int)-result;
    return result;
}
#endif
