//! What those in a sandbox may try against its agent, the host, and those who remove what is left.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use pyro_core::ExitStatus;
use pyro_runtime::process::ProcessRef;
use pyro_runtime::sandbox::{SandboxSpec, boot, destroy};
use rustix::thread::CapabilitySet;

use super::place::{Place, run};

/// Most processes that a sandbox has.
const PROCESSES_MAX: u32 = 4096;

#[tokio::test(flavor = "multi_thread")]
async fn killing_everybody_spares_the_host_and_the_agent() {
    let Some(place) = Place::new() else { return };
    let bystander = tokio::process::Command::new("sleep").arg("1000").kill_on_drop(true).spawn().unwrap();
    let booted = boot(&place.spec).await.unwrap();
    let guest = booted.sandbox.guest();
    let (status, said) = run(guest, 1, "kill -9 1; kill -9 -1").await;
    // Of its own processes a command may end those that watch over it.
    assert!(status == ExitStatus::Code(0) || status == ExitStatus::Signal(9), "{status:?}: {said}");
    let (status, _) = run(guest, 2, "true").await;
    assert_eq!(status, ExitStatus::Code(0));
    assert!(booted.sandbox.process().is_alive().unwrap() && ProcessRef::own().unwrap().is_alive().unwrap());
    assert!(bystander.id().is_some_and(|pid| Path::new(&format!("/proc/{pid}/exe")).exists()));
    destroy(place.dir()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_ends_at_a_bound_and_ends_with_its_sandbox() {
    let Some(place) = Place::new() else { return };
    let booted = boot(&place.spec).await.unwrap();
    // The first process of each pair tells whether it could fork, the second stays.
    let bomb = "$| = 1; $n = 0; while (defined($p = fork)) { if (!$p) { sleep 1000; exit } $n++ } print $n";
    let (status, said) =
        run(booted.sandbox.guest(), 1, &format!("timeout 50 perl -e '{bomb}'; kill -9 -1")).await;
    assert!(matches!(status, ExitStatus::Code(_) | ExitStatus::Signal(9)), "{status:?}");
    let children = said.trim().parse::<u32>().unwrap();
    assert!((100..PROCESSES_MAX).contains(&children), "{children}");
    booted.sandbox.process().kill().unwrap();
    booted.sandbox.process().exited().await.unwrap();
    destroy(place.dir()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_a_sandbox_share_one_bound_where_the_kernel_has_it() {
    let Some(place) = Place::new() else { return };
    let hosts = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
    let said = place.ask("cat /proc/sys/kernel/pid_max").await;
    assert_eq!(fs::read_to_string("/proc/sys/kernel/pid_max").unwrap(), hosts, "the host's bound is its own");
    if said == hosts {
        eprintln!("skipped: this kernel has one bound of pids for all (it is per namespace since 6.14)");
        return;
    }
    assert_eq!(said, format!("{PROCESSES_MAX}\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_sockets_cannot_be_taken() {
    let Some(place) = Place::new() else { return };
    // pidfd_open and pidfd_getfd: of the command's parent, which shows that they work, and of PID 1.
    let take = "my $p = syscall(434, $pid + 0, 0); print $p >= 0 && syscall(438, $p, $fd, 0) >= 0 ? 1 : 0;";
    let program = format!("for $pid (getppid, 1) {{ $n = 0; for $fd (0..40) {{ {take} }} print qq(\\n) }}");
    let said =
        place.ask(&format!("perl -e '{program}'; readlink /proc/1/exe; cat /proc/1/environ || true")).await;
    let lines = said.lines().collect::<Vec<_>>();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[0].contains('1') && !lines[1].contains('1'), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_socket_has_its_name_on_the_host_only() {
    let Some(place) = Place::new() else { return };
    let spec = SandboxSpec { dir: place.home().join("w"), ..place.spec.clone() };
    let booted = boot(&spec).await.unwrap();
    let name = spec.dir.join("agent.sock").to_str().unwrap().to_owned();
    assert!(fs::read_to_string("/proc/net/unix").unwrap().contains(&name));
    let (status, said) = run(booted.sandbox.guest(), 1, "cat /proc/net/unix /proc/1/net/unix").await;
    assert!(status == ExitStatus::Code(0) && said.contains("Path") && !said.contains("agent.sock"), "{said}");
    destroy(&spec.dir).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_disks_and_keys_are_masked() {
    let Some(place) = Place::new() else { return };
    let names = ["cmdline", "diskstats", "kcore", "key-users", "keys", "partitions", "swaps", "timer_list"];
    let present = names.iter().filter(|name| Path::new("/proc").join(name).exists()).collect::<Vec<_>>();
    let said = place.ask("cd /proc; for file in *; do test -c $file && echo $file; done; true").await;
    for name in present {
        assert!(said.lines().any(|line| line == *name), "/proc/{name}: {said}");
    }
    let said = place
        .ask("ls -A /proc/bus /proc/fs /sys /mnt; cat /proc/sys/kernel/domainname; cat /proc/self/cgroup")
        .await;
    let empty = "/mnt:\n\n/proc/bus:\n\n/proc/fs:\n\n/sys:\n(none)\n";
    assert!(said.starts_with(empty) && !said.contains("/.."), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_core_is_dumped_and_the_oom_killer_finds_a_sandbox_first() {
    let Some(place) = Place::new() else { return };
    let said = place
        .ask(concat!(
            "cd /tmp; (ulimit -c unlimited) 2>/dev/null && echo raised; sh -c 'kill -SEGV $$'; ls -A\n",
            "(echo 0 > /proc/self/oom_score_adj) 2>/dev/null; cat /proc/$$/oom_score_adj /proc/self/oom_score_adj\n",
            "(echo 0 > /proc/$$/oom_score_adj) 2>/dev/null && echo lowered; true\n",
        ))
        .await;
    // Without the privilege to bind others, as an ordinary user is, anybody may go back to the score of the daemon.
    let own = rustix::thread::capabilities(None).unwrap().effective;
    let taken_back = if own.contains(CapabilitySet::SYS_RESOURCE) { "" } else { "lowered\n" };
    assert_eq!(said, format!("500\n500\n{taken_back}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_system_calls_fail_with_eperm() {
    let Some(place) = Place::new() else { return };
    if !cfg!(target_arch = "x86_64") {
        eprintln!("skipped: the numbers of system calls are those of x86-64");
        return;
    }
    // add_key, keyctl, bpf, userfaultfd, perf_event_open, io_uring_setup, syslog, reboot and, by the second set of
    // numbers, bpf; at last getpid, which is allowed.
    let numbers = [248, 250, 321, 323, 298, 425, 103, 169, 0x4000_0000 | 321, 39].map(|n| n.to_string());
    let program = "for (@ARGV) { print syscall($_ + 0, 0, 0, 0, 0, 0) < 0 ? $! + 0 : q(ok), qq(\\n) }";
    let said = place.ask(&format!("perl -e '{program}' {}", numbers.join(" "))).await;
    // 1 is EPERM.
    assert_eq!(said.lines().collect::<Vec<_>>(), [["1"; 9].as_slice(), &["ok"]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn writing_changes_nothing_but_the_workspaces_own_layer() {
    let Some(place) = Place::new() else { return };
    let shared = place.spec.rootfs.clone();
    let passwd = fs::read(shared.join("etc/passwd")).unwrap();
    let before = fs::metadata(shared.join("etc")).unwrap();
    let booted = boot(&place.spec).await.unwrap();
    let command = "set -e; echo changed > /etc/passwd; rm /etc/debian_version; chmod 700 /etc; touch /workspace/new /new";
    let (status, _) = run(booted.sandbox.guest(), 1, command).await;
    assert_eq!(status, ExitStatus::Code(0));
    let after = fs::metadata(shared.join("etc")).unwrap();
    assert_eq!((before.mode(), before.mtime()), (after.mode(), after.mtime()));
    assert_eq!(fs::read(shared.join("etc/passwd")).unwrap(), passwd);
    assert!(shared.join("etc/debian_version").exists() && !shared.join("new").exists());
    let own = place.dir().join("disk/upper");
    assert_eq!(fs::read_to_string(own.join("etc/passwd")).unwrap(), "changed\n");
    assert!(own.join("workspace/new").exists() && own.join("new").exists());
    destroy(place.dir()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_entered_or_is_too_deep_is_removed_too() {
    let Some(place) = Place::new() else { return };
    let booted = boot(&place.spec).await.unwrap();
    // Deeper than a path may be long, and than there are descriptors for an ordinary process.
    let deep = "for (1..3000) { mkdir q(d) or die $!; chdir q(d) or die $! }";
    let closed =
        "mkdir -p /tmp/a/b/c; touch /tmp/a/b/c/file; chmod 0 /tmp/a/b/c /tmp/a/b /tmp/a; ln -s / /tmp/link";
    let (status, _) =
        run(booted.sandbox.guest(), 1, &format!("set -e; {closed}; cd /root; perl -e '{deep}'")).await;
    assert_eq!(status, ExitStatus::Code(0));
    destroy(place.dir()).await.unwrap();
    assert!(!place.dir().exists());
}
