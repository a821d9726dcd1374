//! What nobody in a sandbox may do, although its root is root of a user namespace.
#![expect(unsafe_code, reason = "seccompiler sets no_new_privs, so that the filter is installed here")]

use std::collections::BTreeMap;
use std::io;

use rustix::thread::CapabilitySet;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::init::{Doing as _, InitError};

/// What a root of containers usually may: everything else is taken away for good.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::SETFCAP);

/// System calls that no command needs and that lead to what namespaces do not divide, such as keys and the kernel's
/// messages, or into parts of the kernel with a long record of holes.
const DENIED: &[libc::c_long] = &[
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_perf_event_open,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_userfaultfd,
];

/// Families of sockets that network namespaces divide and that commands need. Of the others, `AF_VSOCK` would reach the
/// agents of other workspaces and the host of a host.
const SOCKET_FAMILIES: &[libc::c_int] = &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Confines this process and all that it starts. It must be root of its user namespace.
pub(super) fn confine() -> Result<(), InitError> {
    let filter = filter().map_err(io::Error::other).doing("make the filter of system calls")?;
    install(&filter).doing("filter system calls")?;
    for capability in CapabilitySet::all().difference(KEPT).iter() {
        // A kernel that does not know a capability has not given it either.
        let _unknown = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    Ok(())
}

/// Makes the filter. Programs for another processor mode, such as that of 32 bits, are killed by it: their system calls
/// have other numbers.
fn filter() -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = DENIED.iter().map(|call| (*call, Vec::new())).collect();
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        let unlike = |family: &libc::c_int| {
            let family = u64::from(family.cast_unsigned());
            SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family)
        };
        let none_of_them = SOCKET_FAMILIES.iter().map(unlike).collect::<Result<_, _>>()?;
        rules.insert(call, vec![SeccompRule::new(none_of_them)?]);
    }
    #[cfg(target_arch = "x86_64")]
    add_x32(&mut rules);
    let denied = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, SeccompAction::Allow, denied, arch)?.try_into()
}

/// Adds the second set of numbers that some kernels accept for the same system calls.
#[cfg(target_arch = "x86_64")]
fn add_x32(rules: &mut BTreeMap<i64, Vec<SeccompRule>>) {
    /// `__X32_SYSCALL_BIT` of the kernel.
    const X32: i64 = 0x4000_0000;
    let doubles: Vec<_> = rules.iter().map(|(call, rules)| (call | X32, rules.clone())).collect();
    rules.extend(doubles);
}

/// Installs the filter without `no_new_privs`, under which `su` and `sudo` could not work. The kernel accepts that from
/// the root of a user namespace.
fn install(filter: &BpfProgram) -> io::Result<()> {
    let filter: Vec<_> = filter
        .iter()
        .map(|step| libc::sock_filter { code: step.code, jt: step.jt, jf: step.jf, k: step.k })
        .collect();
    let len = u16::try_from(filter.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the program points to as many steps as it says, which live until the call returns. The kernel checks
    // and copies them.
    let installed =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0_u32, &raw const program) };
    if installed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_one_that_the_kernel_can_take() {
        let steps = filter().unwrap().len();
        assert!(steps > DENIED.len() && steps < 4096, "{steps}");
    }
}
