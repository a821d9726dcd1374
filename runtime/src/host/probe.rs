//! The questions `pyro doctor` asks of the machine.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Access as Mode, access, statvfs};
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::system::uname;

use super::tool::{Tool, Tools};
use super::tsc::tsc_khz;

/// What the current user may do with a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The file is there.
    pub exists: bool,
    /// It can be opened for reading.
    pub readable: bool,
    /// It can be opened for writing.
    pub writable: bool,
}

impl Access {
    fn of(path: &Path) -> Self {
        Self {
            exists: path.exists(),
            readable: access(path, Mode::READ_OK).is_ok(),
            writable: access(path, Mode::WRITE_OK).is_ok(),
        }
    }
}

/// A tool and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolReport {
    /// Which one.
    pub tool: Tool,
    /// Its path; `None` when it is nowhere.
    pub path: Option<PathBuf>,
    /// Whether this version uses it.
    pub needed: bool,
}

/// Which namespaces a process of this user can enter; each was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespaces {
    /// A user namespace of its own.
    pub user: bool,
    /// Mount, pid, network, IPC and host name namespaces, inside a user namespace unless the user is root.
    pub sandbox: bool,
}

/// Something that is not there, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What is missing.
    pub what: String,
    /// What cannot be done without it.
    pub effect: &'static str,
    /// What to install or to change.
    pub remedy: String,
}

/// All that was found out about the machine.
#[derive(Clone, Debug)]
pub struct Probe {
    /// `/dev/kvm`. That it opens does not prove that a guest boots on it.
    pub kvm: Access,
    /// First line that QEMU prints as its version; `None` without QEMU.
    pub qemu_version: Option<String>,
    /// `/dev/vhost-vsock`.
    pub vhost_vsock: Access,
    /// The kernel makes sockets of the family `AF_VSOCK`.
    pub vsock_sockets: bool,
    /// Every tool of [`Tool`] that matters on a host, found or not.
    pub tools: Vec<ToolReport>,
    /// What namespaces can be made.
    pub namespaces: Namespaces,
    /// Directory of this process in the cgroup v2 hierarchy; `None` where there is none.
    pub cgroup_v2: Option<PathBuf>,
    /// Groups can be made below [`Self::cgroup_v2`].
    pub cgroup_v2_writable: bool,
    /// `/dev/fuse`.
    pub fuse: Access,
    /// `/dev/net/tun`.
    pub tun: Access,
    /// The kernel forwards IPv4 packets.
    pub ip_forward: bool,
    /// Release of the running kernel.
    pub kernel_release: String,
    /// All memory, in MiB.
    pub memory_mib: u64,
    /// Memory that can be used without swapping, in MiB.
    pub memory_available_mib: u64,
    /// Space for the current user in the file system of the probed directory, in MiB.
    pub disk_free_mib: u64,
    /// Frequency of the time stamp counter, in kHz.
    pub tsc_khz: u64,
    /// What is missing, most important first. Empty on a host that can do everything.
    pub missing: Vec<Missing>,
}

impl Probe {
    /// Returns where a tool is; `None` when it is nowhere or no tool of hosts.
    #[must_use]
    pub fn tool(&self, tool: Tool) -> Option<&Path> {
        self.tools.iter().find(|report| report.tool == tool)?.path.as_deref()
    }
}

/// What lacks what carries the network of namespaces.
const NO_NETWORK: &str = "guests in the host sandbox get no network";

/// The tools that are reported, with what cannot be done without them, most important first. Nothing lacks those without
/// an effect; the contract asks for them.
const REPORTED: &[(Tool, Option<&str>)] = &[
    (Tool::Qemu, Some("guests cannot be booted by QEMU")),
    (Tool::VhostDeviceVsock, Some("guests under QEMU need AF_VSOCK of the host's kernel")),
    (Tool::Mmdebstrap, Some("environments cannot be pulled")),
    (Tool::MkfsErofs, Some("environments cannot be pulled")),
    (Tool::MkfsExt4, Some("workspaces get no disk")),
    (Tool::Slirp4netns, Some(NO_NETWORK)),
    (Tool::Firecracker, None),
    (Tool::Ip, None),
    (Tool::Nft, None),
    (Tool::Iptables, None),
];

/// Looks at the machine and at the file system of `dir`, or of its nearest existing parent.
///
/// Takes about 100 ms, because QEMU is asked for its version, namespaces are tried and the clock is measured.
#[must_use]
pub fn probe(dir: &Path) -> Probe {
    let tools = Tools::of_host();
    let reports = REPORTED
        .iter()
        .map(|&(tool, effect)| ToolReport { tool, path: tools.find(tool.binary()), needed: effect.is_some() })
        .collect::<Vec<_>>();
    let qemu = tools.find(Tool::Qemu.binary());
    let cgroup_v2 = own_cgroup_v2();
    let mut probe = Probe {
        kvm: Access::of(Path::new("/dev/kvm")),
        qemu_version: qemu.as_deref().and_then(version_of),
        vhost_vsock: Access::of(Path::new("/dev/vhost-vsock")),
        vsock_sockets: socket(AddressFamily::VSOCK, SocketType::STREAM, None).is_ok(),
        tools: reports,
        namespaces: try_namespaces(&tools),
        cgroup_v2_writable: cgroup_v2.as_deref().is_some_and(|dir| access(dir, Mode::WRITE_OK).is_ok()),
        cgroup_v2,
        fuse: Access::of(Path::new("/dev/fuse")),
        tun: Access::of(Path::new("/dev/net/tun")),
        ip_forward: fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|text| text.trim() == "1"),
        kernel_release: uname().release().to_string_lossy().into_owned(),
        memory_mib: meminfo_mib("MemTotal"),
        memory_available_mib: meminfo_mib("MemAvailable"),
        disk_free_mib: disk_free_mib(dir),
        tsc_khz: tsc_khz(),
        missing: Vec::new(),
    };
    probe.missing = missing(&probe);
    probe
}

fn missing(probe: &Probe) -> Vec<Missing> {
    let mut list = Vec::new();
    let mut add =
        |what: &str, effect, remedy: String| list.push(Missing { what: what.to_owned(), effect, remedy });
    for &(tool, effect) in REPORTED {
        let Some(effect) = effect else { continue };
        // The bridge is only needed without the kernel's own vsock.
        let replaced = tool == Tool::VhostDeviceVsock && probe.vhost_vsock.writable && probe.vsock_sockets;
        if probe.tool(tool).is_none() && !replaced {
            add(tool.binary(), effect, format!("install {}", tool.source()));
        }
    }
    if !probe.kvm.exists {
        let remedy = "enable virtualisation in the firmware or nested virtualisation in the hypervisor";
        add("/dev/kvm", "guests run under emulation, 5 to 15 times slower", remedy.to_owned());
    } else if !(probe.kvm.readable && probe.kvm.writable) {
        let remedy = "add the user to the group kvm";
        add("access to /dev/kvm", "guests run under emulation, 5 to 15 times slower", remedy.to_owned());
    }
    if !probe.namespaces.sandbox {
        let remedy = "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1) or run as root";
        add("namespaces", "the host sandbox cannot be used", remedy.to_owned());
    }
    if !probe.tun.exists {
        add("/dev/net/tun", NO_NETWORK, "load the kernel's module tun (modprobe tun)".to_owned());
    } else if !(probe.tun.readable && probe.tun.writable) {
        let remedy = "let the user read and write it (its mode is 0666 on Debian)";
        add("access to /dev/net/tun", NO_NETWORK, remedy.to_owned());
    }
    list
}

fn version_of(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(str::to_owned)
}

/// Tries namespaces in children, because what sysctls, LSMs and seccomp filters allow cannot be read anywhere.
fn try_namespaces(tools: &Tools) -> Namespaces {
    let Some(unshare) = tools.find(Tool::Unshare.binary()) else {
        return Namespaces { user: false, sandbox: false };
    };
    let enters = |arguments: &[&str]| {
        Command::new(&unshare)
            .args(arguments)
            .args(["--", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let all = ["--mount", "--pid", "--fork", "--net", "--ipc", "--uts"];
    let user = enters(&["--user", "--map-root-user"]);
    let sandbox = if rustix::process::geteuid().is_root() {
        enters(&all)
    } else {
        enters(&[["--user", "--map-root-user"].as_slice(), &all].concat())
    };
    Namespaces { user, sandbox }
}

/// Returns the directory of this process in the unified hierarchy, wherever that is mounted.
fn own_cgroup_v2() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount_point = mounts.lines().find_map(|line| {
        // "id parent device root mount-point options optional... - type source super-options"
        let (front, back) = line.split_once(" - ")?;
        (back.split(' ').next() == Some("cgroup2")).then(|| front.split(' ').nth(4))?
    })?;
    Some(Path::new(mount_point).join(own.trim_start_matches('/')))
}

fn meminfo_mib(key: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok());
    kib.unwrap_or(0_u64) / 1024
}

fn disk_free_mib(dir: &Path) -> u64 {
    let nearest = dir.ancestors().find(|place| fs::metadata(place).is_ok_and(|meta| meta.mode() != 0));
    let free =
        nearest.and_then(|place| statvfs(place).ok()).map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize));
    free.unwrap_or(0) / (1024 * 1024)
}

#[cfg(test)]
mod tests {
    use super::{Access, Probe, Tool, missing, probe};
    use std::path::Path;

    #[test]
    fn the_machine_is_seen() {
        let found = probe(Path::new("/nonexistent/below/the/root"));
        assert!(found.memory_mib >= found.memory_available_mib && found.memory_available_mib > 0);
        assert!(found.disk_free_mib > 0, "the nearest existing parent is /");
        assert!(!found.kernel_release.is_empty());
        assert_eq!(found.qemu_version.is_some(), found.tool(Tool::Qemu).is_some());
    }

    #[test]
    fn a_replaced_tool_is_not_missing() {
        let mut host = probe(Path::new("/"));
        host.tools.iter_mut().for_each(|report| report.path = Some("/bin/true".into()));
        let remove = |host: &mut Probe, tool| {
            host.tools.iter_mut().filter(|report| report.tool == tool).for_each(|report| report.path = None);
        };
        let named = |host: &Probe, what: &str| missing(host).iter().any(|entry| entry.what == what);
        remove(&mut host, Tool::Nft);
        assert!(!named(&host, "nft"), "nothing lacks it");
        remove(&mut host, Tool::VhostDeviceVsock);
        let kernel_has_it = host.vhost_vsock.writable && host.vsock_sockets;
        assert_eq!(named(&host, "vhost-device-vsock"), !kernel_has_it);
        host.kvm = Access { exists: true, readable: true, writable: false };
        assert!(named(&host, "access to /dev/kvm") && !named(&host, "/dev/kvm"));
        host.tun = Access { exists: true, readable: true, writable: false };
        assert!(named(&host, "access to /dev/net/tun") && !named(&host, "/dev/net/tun"));
    }
}
