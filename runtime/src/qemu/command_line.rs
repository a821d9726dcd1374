//! The command lines of QEMU and of the guest's kernel.

use std::ffi::OsString;
use std::path::Path;

use super::BootSpec;
use super::accelerator::VmAccelerator;
use super::network;
use super::vsock::Vsock;

/// Largest translation cache of TCG, in MiB. Its default of a gigabyte is memory that no limit of ours counts.
const TRANSLATIONS_MIB: u32 = 256;

/// All that TCG can do, without what is slow in it. A fifth level of page tables is one more step in each walk, and no
/// guest has that much memory. Processors that say that string instructions are fast get copies byte by byte, which TCG
/// interprets one by one: without it a boot is a tenth shorter.
const TCG_PROCESSOR: &str = "max,la57=off,erms=off,fsrm=off";

/// What QEMU may not do once it runs: the guest that breaks out of its machine finds no `exec` and no `setuid`.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// Returns the arguments of QEMU. The descriptor 0 is the connection to the bridge, if there is one, and 1 takes the
/// guest's console.
pub(super) fn arguments(
    spec: &BootSpec,
    vsock: &Vsock,
    disk: &Path,
    tsc_khz: u64,
    firmware: Option<&Path>,
) -> Vec<OsString> {
    let mem_mib = spec.mem_mib;
    let mut line = Line(Vec::new());
    // TCG guests need the interval timer and its interrupt controller to come up.
    line.pair("-M", "microvm,pit=on,pic=on,rtc=on,isa-serial=on,memory-backend=ram");
    match spec.accelerator {
        VmAccelerator::Kvm => {
            line.pair("-accel", "kvm");
            line.pair("-cpu", "host");
        }
        VmAccelerator::Tcg => {
            line.pair("-accel", &format!("tcg,thread=multi,tb-size={TRANSLATIONS_MIB}"));
            line.pair("-cpu", TCG_PROCESSOR);
        }
    }
    line.pair("-smp", &spec.vcpu_count.to_string());
    line.pair("-m", &format!("{mem_mib}M"));
    // vhost-user needs memory that another process can map.
    line.pair("-object", &format!("memory-backend-memfd,id=ram,size={mem_mib}M,share=on"));
    line.flags(&["-nodefaults", "-no-user-config", "-no-reboot"]);
    line.pair("-display", "none");
    line.pair("-sandbox", SANDBOX);
    if let Some(firmware) = firmware {
        line.path("-bios", firmware);
    }
    line.path("-kernel", &spec.images.kernel);
    line.path("-initrd", &spec.images.initramfs);
    line.pair("-append", &kernel_command_line(spec, tsc_khz));
    line.pair("-chardev", "file,id=console,path=/dev/stdout");
    line.pair("-serial", "chardev:console");
    line.drive("image", &spec.images.rootfs, "readonly=on");
    line.drive("disk", disk, "discard=unmap,detect-zeroes=unmap");
    match vsock {
        Vsock::Kernel { cid } => line.pair("-device", &format!("vhost-vsock-device,guest-cid={cid}")),
        Vsock::Bridge { .. } => {
            line.pair("-chardev", "socket,id=vsock,fd=0");
            line.pair("-device", "vhost-user-vsock-device,chardev=vsock");
        }
    }
    if spec.network {
        for (option, value) in network::arguments() {
            line.pair(option, &value);
        }
    }
    line.pair("-object", "rng-random,id=entropy,filename=/dev/urandom");
    line.pair("-device", "virtio-rng-device,rng=entropy");
    line.0
}

/// Returns what the guest's kernel and its agent are told.
fn kernel_command_line(spec: &BootSpec, tsc_khz: u64) -> String {
    // A panic ends the machine at once, with its reason on the console. The self-tests of the kernel's ciphers would
    // take a tenth of the boot under TCG.
    let mut line = "console=ttyS0 quiet panic=-1 reboot=t cryptomgr.notests".to_owned();
    match spec.accelerator {
        VmAccelerator::Kvm => (),
        // Calibration against the emulated timer hangs in some boots.
        VmAccelerator::Tcg => line.push_str(&format!(" tsc=reliable tsc_early_khz={tsc_khz}")),
    }
    line.push_str(&format!(" pyro.image=/dev/vda pyro.disk=/dev/vdb pyro.hostname={}", spec.workspace));
    if spec.network {
        line.push(' ');
        line.push_str(&network::kernel_word());
    }
    line
}

struct Line(Vec<OsString>);

impl Line {
    fn flags(&mut self, flags: &[&str]) {
        self.0.extend(flags.iter().map(OsString::from));
    }

    fn pair(&mut self, option: &str, value: &str) {
        self.0.extend([option.into(), value.into()]);
    }

    fn path(&mut self, option: &str, path: &Path) {
        self.0.extend([option.into(), path.into()]);
    }

    /// Adds a block device; the first is `/dev/vda`.
    fn drive(&mut self, id: &str, file: &Path, properties: &str) {
        let mut drive = OsString::from(format!("if=none,format=raw,id={id},{properties},file="));
        drive.push(escaped(file));
        self.0.extend(["-drive".into(), drive]);
        self.pair("-device", &format!("virtio-blk-device,drive={id}"));
    }
}

/// Returns a path as it stands in a list of properties, where a comma is written twice.
fn escaped(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let bytes = path.as_os_str().as_bytes().iter();
    let doubled = bytes.flat_map(|byte| std::iter::repeat_n(*byte, if *byte == b',' { 2 } else { 1 }));
    OsString::from_vec(doubled.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_path_begins_no_property() {
        assert_eq!(escaped(Path::new("/a,readonly=off/b")), OsString::from("/a,,readonly=off/b"));
    }
}
