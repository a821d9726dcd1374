//! What a sandbox sees and reaches of the host, which is to be nothing.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use pyro_core::ExitStatus;
use pyro_runtime::sandbox::{boot, destroy};
use rustix::io::FdFlags;

use super::place::{Place, run};

/// A program for perl that tells whether a socket of a family can be made.
const SOCKET: &str = r#"perl -e 'exit(socket(my $s, $ARGV[0], $ARGV[1], 0) ? 0 : 1)'"#;

/// Runs commands of which each must fail, because it would act on the host, and one that must not, because it
/// shows that the program is there.
async fn refused(commands: &[(&str, &str)]) {
    let Some(place) = Place::new() else { return };
    let booted = boot(&place.spec).await.unwrap();
    let guest = booted.sandbox.guest();
    let mut op = 0;
    for (bad, good) in commands {
        op += 2;
        let (status, said) = run(guest, op, &format!("({bad}) 2>&1")).await;
        assert_ne!(status, ExitStatus::Code(0), "{bad}: {said}");
        assert_ne!(status, ExitStatus::Code(127), "{bad}: {said}");
        let (status, said) = run(guest, op + 1, &format!("({good}) 2>&1")).await;
        assert_eq!(status, ExitStatus::Code(0), "{good}: {said}");
    }
    destroy(place.dir()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_the_host_have_no_name() {
    let Some(place) = Place::new() else { return };
    fs::write(place.home().join("secret"), "secret").unwrap();
    let hidden = [place.home(), &place.spec.rootfs, &place.spec.agent, env!("CARGO_MANIFEST_DIR").as_ref()];
    let tests = hidden.map(|path| format!("test ! -e '{}'", path.display())).join(" && ");
    let said = place.ask(&format!("{tests} && ls -d / /workspace && cat /proc/mounts /proc/1/cmdline")).await;
    assert!(said.starts_with("/\n/workspace\n"), "{said}");
    for path in hidden {
        assert!(!said.contains(path.to_str().unwrap()), "{} is in {said}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_namespace_is_another_than_the_hosts() {
    let Some(place) = Place::new() else { return };
    let kinds = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"];
    let said = place.ask(&format!("cd /proc/self/ns && readlink {}", kinds.join(" "))).await;
    let names = said.lines().collect::<Vec<_>>();
    assert_eq!(names.len(), kinds.len(), "{said}");
    for (kind, name) in kinds.iter().zip(names) {
        let hosts = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(hosts.to_str().unwrap(), name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_variables_nor_descriptors_are_inherited() {
    let Some(place) = Place::new() else { return };
    let inherited = File::open(&place.spec.agent).unwrap();
    rustix::io::fcntl_setfd(&inherited, FdFlags::empty()).unwrap();
    let booted = boot(&place.spec).await.unwrap();
    drop(inherited);
    // Within the sandbox, nobody may look at PID 1.
    let first = PathBuf::from(format!("/proc/{}", booted.sandbox.process().process().pid));
    assert!(fs::read(first.join("environ")).unwrap().is_empty());
    assert_eq!(fs::read_link(first.join("cwd")).unwrap(), Path::new("/"));
    for fd in fs::read_dir(first.join("fd")).unwrap() {
        let target = fs::read_link(fd.unwrap().path()).unwrap();
        let known = ["/dev/null", "socket:", "pipe:", "anon_inode:"];
        assert!(known.iter().any(|start| target.to_str().unwrap().starts_with(start)), "{target:?}");
    }
    let (_, said) = run(booted.sandbox.guest(), 1, "env; echo ---; ls /proc/self/fd").await;
    let (env, descriptors) = said.split_once("---\n").unwrap();
    assert!(!env.contains("PYRO_TEST") && !env.contains("CARGO"), "{said}");
    assert_eq!(
        descriptors.split_whitespace().collect::<Vec<_>>(),
        ["0", "1", "2", "3"],
        "3 is the directory"
    );
    destroy(place.dir()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_host_nothing_runs_as_root() {
    let Some(place) = Place::new() else { return };
    let booted = boot(&place.spec).await.unwrap();
    let (_, said) =
        run(booted.sandbox.guest(), 1, "id -u; id -G; cat /proc/sys/kernel/hostname; echo $$").await;
    assert_eq!(said.lines().take(3).collect::<Vec<_>>(), ["0", "0", "abcdef010203"]);
    let pid = booted.sandbox.process().process().pid;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel tells it");
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    for ids in [field("Uid:"), field("Gid:")] {
        assert!(ids.iter().all(|id| *id != "0"), "{status}");
    }
    // Without the numbers of CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_SYS_RESOURCE, CAP_MKNOD, CAP_SYS_PTRACE, CAP_BPF.
    let capabilities = u64::from_str_radix(&field("CapBnd:")[0], 16).unwrap();
    for number in [21, 12, 24, 27, 19, 39] {
        assert_eq!(capabilities & 1 << number, 0, "capability {number}: {status}");
    }
    assert_eq!(field("Seccomp:"), ["2"]);
    destroy(place.dir()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kernel_cannot_be_configured() {
    refused(&[
        ("echo '|/bin/sh' > /proc/sys/kernel/core_pattern", "cat /proc/sys/kernel/core_pattern"),
        ("echo other > /proc/sys/kernel/hostname", "cat /proc/sys/kernel/hostname"),
        ("echo 1 > /proc/sys/net/ipv4/ip_forward", "cat /proc/sys/net/ipv4/ip_forward"),
        ("echo 9 > /proc/sys/user/max_user_namespaces", "cat /proc/sys/user/max_user_namespaces"),
        ("grep . /proc/keys", "test -c /proc/keys"),
        ("dmesg", "dmesg --version"),
        ("date -s '2001-01-01'", "date"),
        ("hostname other", "hostname"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_mounted_and_no_privilege_comes_back() {
    refused(&[
        ("mount -t tmpfs none /mnt", "mount --version"),
        ("mount --bind / /mnt", "ls /mnt"),
        ("umount /proc/sys", "umount --version"),
        ("mount -o remount,bind,rw /proc/sys", "ls /proc/sys"),
        ("unshare --user true", "unshare --version"),
        ("unshare --mount true", "unshare --version"),
        ("unshare --net true", "unshare --version"),
        ("mknod /tmp/disk b 8 0", "mknod /tmp/fifo p"),
        ("nsenter --target 1 --mount true", "nsenter --version"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_that_namespaces_do_not_divide_cannot_be_made() {
    // AF_VSOCK and AF_ALG of <linux/socket.h>; then AF_INET and AF_UNIX. The types are SOCK_STREAM and SOCK_SEQPACKET.
    let socket = |family, kind| format!("{SOCKET} {family} {kind}");
    refused(&[(&socket(40, 1), &socket(2, 1)), (&socket(38, 5), &socket(1, 5))]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_file_cannot_be_written() {
    let Some(place) = Place::new() else { return };
    let before = fs::read(&place.spec.agent).unwrap();
    // The parent of a command runs the same file as PID 1, at which nobody may look.
    let change = "(echo changed >> /proc/$PPID/exe) || (chmod 777 /proc/$PPID/exe) 2>&1 || echo refused";
    // That it is busy, and who its owner is, would be reasons as well, but not for ever and not for everybody.
    let said = place.ask(change).await;
    assert!(said.ends_with("refused\n") && said.contains("Read-only file system"), "{said}");
    assert_eq!(fs::read(&place.spec.agent).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_find_what_they_expect() {
    let Some(place) = Place::new() else { return };
    let said = place
        .ask(concat!(
            "set -e; echo x > /dev/null; test $(head -c 4 /dev/zero | wc -c) = 4; head -c 1 /dev/urandom > /dev/shm/x\n",
            "echo one > /run/one; cd /tmp; mv /etc/hostname h; rm -r /media; ln -s a b; perl -e 'open(P, \"+<\", \"/dev/ptmx\") or die'\n",
            "ls /dev/pts; tail -n 1 /proc/net/dev | cut -d: -f1\n",
            "perl -MSocket -e 'socket(S,PF_INET,SOCK_STREAM,0); bind(S,sockaddr_in(80,INADDR_LOOPBACK)) or die $!; ",
            "listen(S,1); socket(C,PF_INET,SOCK_STREAM,0); connect(C,sockaddr_in(80,INADDR_LOOPBACK)) or die $!'\n",
        ))
        .await;
    assert_eq!(said, "ptmx\n    lo\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_users_can_be_become_where_there_are_any() {
    let Some(place) = Place::new() else { return };
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: an ordinary user's sandbox has no users but root");
        return;
    }
    let said = place.ask("su -s /bin/sh -c 'id -un; touch /tmp/own' www-data; stat -c %U /tmp/own").await;
    assert_eq!(said, "www-data\nwww-data\n");
}
