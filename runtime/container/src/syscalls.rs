//! Which system calls a container may make: the RuntimeDefault profile as a table.
//!
//! What is not named is refused: mounting, loading modules, other namespaces, keys of the kernel, io_uring, bpf, kexec, swap, clocks, raw ports and
//! whatever a newer kernel adds.

/// Numbers by name.
macro_rules! numbers {
    ($($name:ident)*) => { &[$(libc::$name as u32),*] };
}

/// Allowed on every architecture.
#[rustfmt::skip]
pub(crate) const ALLOWED: &[u32] = numbers! {
    // files
    SYS_read SYS_write SYS_readv SYS_writev SYS_pread64 SYS_pwrite64 SYS_preadv SYS_pwritev SYS_preadv2 SYS_pwritev2 SYS_close SYS_close_range SYS_openat
    SYS_openat2 SYS_lseek SYS_fstat SYS_newfstatat SYS_statx SYS_statfs SYS_fstatfs SYS_faccessat SYS_faccessat2 SYS_fchmod SYS_fchmodat 
    SYS_fchown SYS_fchownat SYS_utimensat SYS_truncate SYS_ftruncate SYS_fallocate SYS_fadvise64 SYS_readahead SYS_sync SYS_syncfs SYS_fsync SYS_fdatasync
    SYS_sync_file_range SYS_mkdirat SYS_mknodat SYS_linkat SYS_symlinkat SYS_unlinkat SYS_renameat2 SYS_readlinkat SYS_getdents64 SYS_getcwd SYS_chdir
    SYS_fchdir SYS_umask SYS_dup SYS_dup3 SYS_fcntl SYS_flock SYS_ioctl SYS_pipe2 SYS_splice SYS_tee SYS_vmsplice SYS_sendfile SYS_copy_file_range
    SYS_setxattr SYS_lsetxattr SYS_fsetxattr SYS_getxattr SYS_lgetxattr SYS_fgetxattr SYS_listxattr SYS_llistxattr SYS_flistxattr SYS_removexattr
    SYS_lremovexattr SYS_fremovexattr SYS_name_to_handle_at SYS_inotify_init1 SYS_inotify_add_watch SYS_inotify_rm_watch SYS_fanotify_mark SYS_memfd_create
    SYS_io_setup SYS_io_destroy SYS_io_submit SYS_io_cancel SYS_io_getevents 
    // memory
    SYS_brk SYS_mmap SYS_munmap SYS_mremap SYS_mprotect SYS_madvise SYS_mincore SYS_msync SYS_mlock SYS_mlock2 SYS_mlockall SYS_munlock SYS_munlockall
    SYS_remap_file_pages SYS_memfd_secret SYS_membarrier SYS_pkey_alloc SYS_pkey_free SYS_pkey_mprotect SYS_process_mrelease SYS_get_mempolicy
    // processes, threads and signals
    SYS_execve SYS_execveat SYS_exit SYS_exit_group SYS_wait4 SYS_waitid SYS_getpid SYS_getppid SYS_gettid SYS_getpgid SYS_setpgid SYS_getsid SYS_setsid
    SYS_kill SYS_tkill SYS_tgkill SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigpending SYS_rt_sigqueueinfo SYS_rt_sigreturn SYS_rt_sigsuspend
    SYS_rt_sigtimedwait SYS_rt_tgsigqueueinfo SYS_sigaltstack SYS_signalfd4 SYS_pidfd_open SYS_pidfd_send_signal SYS_ptrace SYS_process_vm_readv
    SYS_process_vm_writev SYS_process_madvise SYS_prctl SYS_seccomp SYS_set_tid_address SYS_set_robust_list SYS_get_robust_list SYS_restart_syscall SYS_rseq
    SYS_futex SYS_futex_waitv SYS_sched_yield SYS_sched_getaffinity SYS_sched_setaffinity
    SYS_sched_getparam SYS_sched_setparam SYS_sched_getscheduler SYS_sched_setscheduler SYS_sched_getattr SYS_sched_setattr SYS_sched_get_priority_max
    SYS_sched_get_priority_min SYS_sched_rr_get_interval SYS_getpriority SYS_setpriority SYS_ioprio_get SYS_ioprio_set SYS_prlimit64 SYS_getrlimit
    SYS_setrlimit SYS_getrusage SYS_times SYS_getcpu SYS_landlock_create_ruleset SYS_landlock_add_rule SYS_landlock_restrict_self
    
    // who it is
    SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getresuid SYS_getresgid SYS_getgroups SYS_setuid SYS_setgid SYS_setreuid SYS_setregid SYS_setresuid
    SYS_setresgid SYS_setfsuid SYS_setfsgid SYS_setgroups SYS_capget SYS_capset
    // time
    SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_gettimeofday SYS_nanosleep SYS_getitimer SYS_setitimer SYS_adjtimex SYS_clock_adjtime
    SYS_timer_create SYS_timer_delete SYS_timer_getoverrun SYS_timer_gettime SYS_timer_settime SYS_timerfd_create SYS_timerfd_gettime SYS_timerfd_settime
    // waiting
    SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_ppoll SYS_pselect6 SYS_eventfd2
    // sockets (which families: see the filter)
    SYS_socketpair SYS_bind SYS_listen SYS_accept SYS_accept4 SYS_connect SYS_shutdown SYS_getsockname SYS_getpeername SYS_getsockopt SYS_setsockopt
    SYS_sendto SYS_sendmsg SYS_sendmmsg SYS_recvfrom SYS_recvmsg SYS_recvmmsg
    // System V and POSIX messages between processes
    SYS_shmget SYS_shmat SYS_shmdt SYS_shmctl SYS_semget SYS_semop SYS_semtimedop SYS_semctl SYS_msgget SYS_msgsnd SYS_msgrcv SYS_msgctl SYS_mq_open
    SYS_mq_unlink SYS_mq_timedsend SYS_mq_timedreceive SYS_mq_notify SYS_mq_getsetattr
    // the system
    SYS_uname SYS_sysinfo SYS_getrandom
};

/// Allowed calls of kernels newer than the library that names the others; their numbers are the same on every architecture.
#[rustfmt::skip]
pub(crate) const RECENT: &[u32] = &[
    451, // cachestat
    452, // fchmodat2
    453, // map_shadow_stack
    454, 455, 456, // futex_wake, futex_wait, futex_requeue
    457, 458, // statmount, listmount
    459, 460, 461, // lsm_get_self_attr, lsm_set_self_attr, lsm_list_modules
    462, // mseal
    463, 464, 465, 466, // setxattrat, getxattrat, listxattrat, removexattrat
    468, 469, // file_getattr, file_setattr
];

/// Older forms that only x86-64 still has.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
pub(crate) const ALLOWED_HERE: &[u32] = numbers! {
    SYS_open SYS_creat SYS_stat SYS_lstat SYS_access SYS_poll SYS_select SYS_pipe SYS_dup2 SYS_pause SYS_alarm SYS_fork SYS_vfork SYS_rename SYS_renameat
    SYS_mkdir SYS_rmdir SYS_link SYS_unlink SYS_symlink SYS_readlink SYS_chmod SYS_chown SYS_lchown SYS_mknod SYS_utime SYS_utimes SYS_futimesat SYS_getdents
    SYS_getpgrp SYS_time SYS_epoll_create SYS_epoll_wait SYS_epoll_ctl_old SYS_epoll_wait_old SYS_eventfd SYS_signalfd SYS_inotify_init SYS_arch_prctl
    SYS_modify_ldt SYS_get_thread_area SYS_set_thread_area 
};

/// Older forms that this architecture still has.
#[cfg(target_arch = "aarch64")]
pub(crate) const ALLOWED_HERE: &[u32] = numbers! { SYS_renameat };

/// Allowed in addition to a container that has the capability which the kernel checks for them anyway.
#[rustfmt::skip]
pub(crate) const ALLOWED_WITH: &[(&str, &[u32])] = &[
    ("SYS_ADMIN", numbers! {
        SYS_mount SYS_umount2 SYS_mount_setattr SYS_move_mount SYS_open_tree SYS_fsopen SYS_fsconfig SYS_fsmount SYS_fspick SYS_pivot_root SYS_setns SYS_unshare
        SYS_sethostname SYS_setdomainname SYS_quotactl SYS_quotactl_fd SYS_fanotify_init SYS_bpf SYS_perf_event_open SYS_syslog
    }),
    ("SYS_CHROOT", numbers! { SYS_chroot }),
    ("SYS_PTRACE", numbers! { SYS_kcmp SYS_pidfd_getfd }),
    ("SYS_TIME", numbers! { SYS_settimeofday SYS_clock_settime }),
    ("SYS_NICE", numbers! { SYS_mbind SYS_set_mempolicy SYS_set_mempolicy_home_node SYS_migrate_pages SYS_move_pages }),
    ("SYS_MODULE", numbers! { SYS_init_module SYS_finit_module SYS_delete_module }),
    ("SYS_BOOT", numbers! { SYS_reboot }),
    ("SYS_PACCT", numbers! { SYS_acct }),
    ("SYS_TTY_CONFIG", numbers! { SYS_vhangup }),
    ("SYSLOG", numbers! { SYS_syslog }),
    ("BPF", numbers! { SYS_bpf }),
    ("PERFMON", numbers! { SYS_perf_event_open }),
    ("DAC_READ_SEARCH", numbers! { SYS_open_by_handle_at }),
    #[cfg(target_arch = "x86_64")]
    ("SYS_RAWIO", numbers! { SYS_iopl SYS_ioperm }),
];

/// The largest number this table knows of: beyond it a program is told that the call does not exist, so that it falls back to an older one.
pub(crate) const LAST_KNOWN: u32 = 469;
