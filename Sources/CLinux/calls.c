// SPDX-License-Identifier: Apache-2.0
// Calls that glibc 2.36 does not wrap, or whose types do not import into Swift.

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clinux.h"

int clinux_detached_mount(const char *path) {
    int tree = (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree < 0) return -1;
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
    if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes) < 0) {
        int error = errno;
        close(tree);
        errno = error;
        return -1;
    }
    return tree;
}

int clinux_open_in_root(int root, const char *path, int32_t flags) {
    struct open_how how = {.flags = (uint64_t)(uint32_t)(flags | O_CLOEXEC),
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};
    for (;;) {
        // EAGAIN: somebody moved something meanwhile, and the kernel cannot vouch for `..`.
        int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof how);
        if (fd >= 0 || errno != EAGAIN) return fd;
    }
}

int clinux_own_root(void) { return unshare(CLONE_FS); }

int clinux_mount_in(int there, int home, int mount, const char *target) {
    if (setns(there, CLONE_NEWNS) < 0) return -1;
    int result = (int)syscall(SYS_move_mount, mount, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
    int error = errno;
    // Never left where a function's files are: without a way back the thread would be of no use, and a danger.
    if (setns(home, CLONE_NEWNS) < 0) abort();
    errno = error;
    return result;
}

int clinux_open_beneath(const char *root, const char *path) {
    // The place itself may be a link: it is the operator's word. What lies beneath is not.
    int directory = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) return -1;
    struct open_how how = {
        .flags = O_PATH | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
    };
    int fd = (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
    int error = errno;
    close(directory);
    errno = error;
    return fd;
}

int clinux_pivot_root_here(void) { return (int)syscall(SYS_pivot_root, ".", "."); }

int clinux_loopback_up(void) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    struct ifreq request;
    memset(&request, 0, sizeof request);
    strcpy(request.ifr_name, "lo");
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    int result = ioctl(fd, SIOCSIFFLAGS, &request);
    int error = errno;
    close(fd);
    errno = error;
    return result;
}

int clinux_wait_pidfd(int pidfd, int32_t *code, int32_t *status) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    if (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED) < 0) return -1;
    *code = info.si_code;
    *status = info.si_status;
    return 0;
}

int clinux_make_node(const char *path, uint32_t mode, uint32_t major, uint32_t minor) {
    return mknod(path, mode, makedev(major, minor));
}

int clinux_statfs_is_cgroup2(const char *path) {
    struct statfs info;
    if (statfs(path, &info) < 0) return -1;
    return info.f_type == CGROUP2_SUPER_MAGIC;
}

void clinux_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }

// On Linux a nice value belongs to a thread, against what POSIX says (setpriority(2), BUGS).
int clinux_background_thread(void) { return setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 10); }

int clinux_close_range(uint32_t first, uint32_t last) { return (int)syscall(SYS_close_range, first, last, 0); }

int clinux_pipe(int32_t ends[2]) { return pipe2(ends, O_CLOEXEC); }

int clinux_dup_over(int descriptor, int target) { return dup3(descriptor, target, O_CLOEXEC); }

int clinux_epoll_create(void) { return epoll_create1(EPOLL_CLOEXEC); }

int clinux_epoll_add(int epoll, int fd, int priority, uint64_t id) {
    struct epoll_event event = {.events = priority ? EPOLLPRI : EPOLLIN, .data.u64 = id};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

int clinux_epoll_remove(int epoll, int fd) { return epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL); }

int clinux_epoll_wait(int epoll, uint64_t *ids, int count) {
    struct epoll_event events[64];
    int ready = epoll_wait(epoll, events, count < 64 ? count : 64, -1);
    for (int i = 0; i < ready; i++) ids[i] = events[i].data.u64;
    return ready;
}

int clinux_eventfd(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

int clinux_unshare(enum clinux_namespace which) {
    switch (which) {
    case CLINUX_MOUNT: return unshare(CLONE_FS | CLONE_NEWNS);
    case CLINUX_NETWORK: return unshare(CLONE_NEWNET);
    case CLINUX_SET: return unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS);
    }
    errno = EINVAL;
    return -1;
}

int clinux_landlock_abi(void) {
    return (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

int clinux_memfd(const char *name) { return memfd_create(name, MFD_CLOEXEC); }

int clinux_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *options) {
    return (int)syscall(SYS_mount, source, target, type, flags, options);
}

int clinux_detach_here(void) { return (int)syscall(SYS_umount2, ".", 2 /* MNT_DETACH */); }

int clinux_forget_start(int fd, int64_t size) {
    return size > 0 ? fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, size) : 0;
}

int clinux_sync_file_system(int fd) { return syncfs(fd); }

pid_t clinux_peer_process(int socket) {
    struct ucred peer;
    socklen_t length = sizeof peer;
    return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 ? peer.pid : 0;
}

int clinux_die_with(pid_t parent) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0) return -1;
    // One that ended before that call sends nothing.
    if (getppid() != parent) raise(SIGKILL);
    return 0;
}

int clinux_spawn_close_from(posix_spawn_file_actions_t *actions, int first) {
    return posix_spawn_file_actions_addclosefrom_np(actions, first);
}

void clinux_not_dumpable(void) { prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); }

int clinux_will_need(pid_t pid, const uint64_t *starts, const uint64_t *lengths, size_t count) {
    struct iovec ranges[256];
    if (count > 256) count = 256;
    for (size_t i = 0; i < count; i++) {
        ranges[i].iov_base = (void *)(uintptr_t)starts[i];
        ranges[i].iov_len = lengths[i];
    }
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) return -1;
    long done = syscall(SYS_process_madvise, fd, ranges, count, MADV_WILLNEED, 0);
    int error = errno;
    close(fd);
    errno = error;
    return done < 0 ? -1 : 0;
}

static int set_size(int context, uint64_t size) {
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)size);
    return (int)syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "size", text, 0);
}

int clinux_detached_tmpfs(uint64_t size, const char *mode, int read_only_inside) {
    int context = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC), mount = -1;
    if (context < 0) return -1;
    unsigned attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (read_only_inside ? MOUNT_ATTR_NOEXEC : 0);
    if (set_size(context, size) == 0 &&
        syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "mode", mode, 0) == 0 &&
        syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "nr_inodes", "65536", 0) == 0 &&
        syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0) == 0)
        mount = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes);
    int error = errno;
    close(context);
    errno = error;
    return mount;
}

int clinux_resize_tmpfs(int mount, uint64_t size) {
    int context = (int)syscall(SYS_fspick, mount, "", FSPICK_EMPTY_PATH | FSPICK_CLOEXEC);
    if (context < 0) return -1;
    int result = set_size(context, size);
    if (result == 0) result = (int)syscall(SYS_fsconfig, context, FSCONFIG_CMD_RECONFIGURE, 0, 0, 0);
    int error = errno;
    close(context);
    errno = error;
    return result;
}

int clinux_raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return -1;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit);
}

int clinux_limit_processes(pid_t pid, uint64_t limit) {
    struct rlimit both = {.rlim_cur = limit, .rlim_max = limit};
    return prlimit(pid, RLIMIT_NPROC, &both, NULL);
}

int clinux_connect_inside(int namespace, uint16_t port, int timeout_ms) {
    if (setns(namespace, CLONE_NEWNET) < 0) return -1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int error = 0;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        error = errno;
        if (error == EINPROGRESS) {
            struct pollfd connected = {.fd = fd, .events = POLLOUT};
            socklen_t size = sizeof error;
            if (poll(&connected, 1, timeout_ms) != 1)
                error = ETIMEDOUT;
            else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
                error = errno;
        }
    }
    if (error == 0) return fd;
    close(fd);
    errno = error;
    return -1;
}

int clinux_open_pidfd(int32_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

int clinux_signal_pidfd(int pidfd, int signal) { return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0); }
