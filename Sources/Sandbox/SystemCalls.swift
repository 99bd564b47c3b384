// SPDX-License-Identifier: Apache-2.0

/// The names that `SeccompProfile` knows. Grouped by what they are for; a reader should miss nothing and wonder at nothing.
enum SystemCalls {
    /// Allowed whatever their arguments are.
    static let allowed: [String] = [
        files, directories, memory, processes, signals, time, synchronisation, sockets, polling, identity,
    ]
    .flatMap { $0.split(whereSeparator: \.isWhitespace).map(String.init) }

    private static let files = """
        read write pread64 pwrite64 readv writev preadv pwritev preadv2 pwritev2 open openat openat2 creat close
        close_range lseek dup dup2 dup3 pipe pipe2 fcntl ioctl flock fsync fdatasync sync_file_range truncate ftruncate
        fallocate fadvise64 readahead sendfile copy_file_range stat fstat lstat newfstatat statx statfs fstatfs ustat
        access faccessat faccessat2 chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat umask utime utimes
        utimensat futimesat getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr setxattr lsetxattr fsetxattr
        removexattr lremovexattr fremovexattr memfd_create sync syncfs cachestat
        """
    private static let directories = """
        getcwd chdir fchdir rename renameat renameat2 mkdir mkdirat rmdir link linkat unlink unlinkat symlink symlinkat
        readlink readlinkat mknod mknodat getdents getdents64 inotify_init inotify_init1 inotify_add_watch
        inotify_rm_watch
        """
    private static let memory = """
        brk mmap munmap mremap mprotect madvise msync mincore mlock mlock2 munlock mlockall munlockall pkey_alloc
        pkey_free pkey_mprotect membarrier map_shadow_stack shmget shmat shmdt shmctl
        """
    private static let processes = """
        fork vfork execve execveat exit exit_group wait4 waitid set_tid_address set_robust_list get_robust_list rseq
        arch_prctl prctl getpid getppid gettid getpgid setpgid getpgrp getsid setsid sched_yield sched_getaffinity
        sched_setaffinity sched_getparam sched_setparam sched_getscheduler sched_setscheduler sched_getattr
        sched_setattr sched_get_priority_max sched_get_priority_min sched_rr_get_interval getpriority setpriority
        ioprio_get ioprio_set getrlimit setrlimit prlimit64 getrusage times sysinfo uname getcpu pidfd_open
        pidfd_send_signal capget capset seccomp restart_syscall landlock_create_ruleset landlock_add_rule
        landlock_restrict_self
        """
    private static let signals = """
        kill tkill tgkill rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait
        rt_sigqueueinfo rt_tgsigqueueinfo sigaltstack pause alarm signalfd signalfd4
        """
    private static let time = """
        time gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep getitimer setitimer timer_create
        timer_settime timer_gettime timer_getoverrun timer_delete timerfd_create timerfd_settime timerfd_gettime
        """
    private static let synchronisation = """
        futex futex_waitv futex_wake futex_wait futex_requeue eventfd eventfd2 semget semop semtimedop semctl msgget
        msgsnd msgrcv msgctl mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
        """
    private static let sockets = """
        bind connect listen accept accept4 getsockname getpeername getsockopt shutdown
        """
    private static let polling = """
        select pselect6 poll ppoll epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old
        epoll_pwait epoll_pwait2
        """
    private static let identity = """
        getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid setregid setresuid setresgid
        setgroups setfsuid setfsgid getrandom
        """

    /// Refused with `EPERM` rather than `ENOSYS`: programs probe for these, and should hear that they may not rather
    /// than that the kernel is old. None of them is in `allowed`; the list is here for its errno and for its readers.
    static let refused: [String] = """
        ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_getfd bpf perf_event_open userfaultfd
        io_uring_setup io_uring_enter io_uring_register unshare setns mount umount2 pivot_root chroot fsopen fsmount
        fsconfig fspick open_tree move_mount mount_setattr swapon swapoff reboot kexec_load kexec_file_load init_module
        finit_module delete_module iopl ioperm quotactl acct settimeofday clock_settime adjtimex clock_adjtime
        sethostname setdomainname vhangup keyctl add_key request_key splice tee vmsplice open_by_handle_at
        name_to_handle_at fanotify_init fanotify_mark lookup_dcookie move_pages migrate_pages mbind set_mempolicy syslog
        modify_ldt memfd_secret
        """
        .split(whereSeparator: \.isWhitespace).map(String.init)
}
