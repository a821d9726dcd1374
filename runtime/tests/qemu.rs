//! Real guests under QEMU. They need an installed environment and the guest agent: `PYRO_TEST_ENVIRONMENTS` names the
//! directory of environments and `PYRO_TEST_AGENT` the agent; without them the tests say so and do nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "a skipped test says so")]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pyro_core::{ExitStatus, ProbeVerdict, WorkspaceId};
use pyro_runtime::environment::Environments;
use pyro_runtime::guest::{ExecSpec, Guest, GuestError, Observation};
use pyro_runtime::host::Tools;
use pyro_runtime::network;
use pyro_runtime::process::processes_with;
use pyro_runtime::qemu::{
    AdoptError, BootError, BootSpec, Images, Stop, VmAccelerator, adopt, boot, destroy, fingerprint,
    probe_kvm,
};
use tokio::io::AsyncWriteExt as _;

const WORKSPACE: WorkspaceId = WorkspaceId::from_bytes([0xab, 0xcd, 0xef, 1, 2, 3]);

/// Returns what guests boot from; `None` where the tests cannot run.
fn images() -> Option<Images> {
    let (Some(environments), Some(agent)) =
        (env::var_os("PYRO_TEST_ENVIRONMENTS"), env::var_os("PYRO_TEST_AGENT"))
    else {
        eprintln!("skipped: PYRO_TEST_ENVIRONMENTS and PYRO_TEST_AGENT are not set");
        return None;
    };
    let environments = Environments::new(PathBuf::from(environments));
    let installed = environments.installed(&"debian:12".parse().unwrap()).expect("debian:12 is installed");
    Some(Images::of(&installed, Path::new(&agent)).unwrap())
}

/// A directory of workspaces whose guests end with their test, also when it fails.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for dir in fs::read_dir(self.path()).into_iter().flatten().flatten() {
            for process in processes_with(&dir.path()).unwrap_or_default() {
                drop(process.kill());
            }
        }
    }
}

/// Returns the program that connects to guests.
fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_vsock-connector").into()
}

fn spec(images: Images, dir: PathBuf) -> BootSpec {
    BootSpec {
        workspace: WORKSPACE,
        dir,
        images,
        vcpu_count: 1,
        mem_mib: 512,
        disk_mib: 8192,
        network: false,
        accelerator: VmAccelerator::Tcg,
        deadline: VmAccelerator::Tcg.boot_deadline(),
        program: program(),
        tools: Tools::of_host(),
    }
}

/// Runs a command to its end and returns how it ended and its standard output.
async fn run(guest: &Guest, op: u64, command: &str) -> (ExitStatus, Vec<u8>) {
    let timeout = Duration::from_secs(60);
    let spec = ExecSpec { op, command: command.to_owned(), cwd: None, create_cwd: false, timeout };
    let mut operation = guest.exec(spec).await.unwrap();
    let mut stdout = Vec::new();
    loop {
        match operation.next().await.unwrap() {
            Observation::Started { .. } => (),
            Observation::Output { stream, offset, data } => {
                operation.acknowledge(stream, offset + u64::try_from(data.len()).unwrap());
                if stream == pyro_protocol::Stream::Stdout {
                    stdout.extend_from_slice(&data);
                } else {
                    eprintln!("stderr: {}", String::from_utf8_lossy(&data));
                }
            }
            Observation::Exited { status, .. } => {
                operation.forget().await.unwrap();
                return (status, stdout);
            }
            other @ (Observation::Input { .. } | Observation::Gap { .. } | Observation::Failed(_)) => {
                panic!("{other:?}")
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_boots_works_is_adopted_and_keeps_its_disk() {
    let Some(images) = images() else { return };
    let home = Home::new();
    // A comma and a long path are what option parsers and socket addresses stumble over.
    let dir = home.path().join(format!("a,b-{}", "x".repeat(100)));
    let spec = spec(images, dir.clone());

    let booted = boot(&spec).await.unwrap();
    eprintln!("boot_ms={}", booted.boot_ms);
    let guest = booted.machine.guest().clone();
    let (status, name) = run(&guest, 1, "cat /proc/sys/kernel/hostname; id -u; echo kept > /root/file").await;
    assert_eq!((status, name.as_slice()), (ExitStatus::Code(0), b"abcdef010203\n0\n".as_slice()));
    let (status, bytes) = run(&guest, 2, "head -c 50000000 /dev/zero; exit 7").await;
    assert_eq!((status, bytes.len()), (ExitStatus::Code(7), 50_000_000));
    assert_eq!(processes_with(&dir).unwrap().len(), 3, "QEMU, bridge and connector");

    let recorded = booted.machine.process().process();
    drop(booted);
    let adopted = adopt(WORKSPACE, &dir, recorded).await.unwrap();
    let (status, _) = run(adopted.guest(), 3, "test -e /root/file").await;
    assert_eq!(status, ExitStatus::Code(0));
    assert_eq!(adopted.stop(Duration::from_secs(20)).await.unwrap(), Stop::Graceful);
    assert!(processes_with(&dir).unwrap().is_empty(), "nothing runs after a stop");
    assert!(matches!(adopt(WORKSPACE, &dir, recorded).await, Err(AdoptError::Gone)));

    let again = boot(&spec).await.unwrap();
    let (status, kept) = run(again.machine.guest(), 1, "cat /root/file").await;
    assert_eq!((status, kept.as_slice()), (ExitStatus::Code(0), b"kept\n".as_slice()));
    destroy(&dir).await.unwrap();
    assert!(!again.machine.process().is_alive().unwrap());
    assert!(processes_with(&dir).unwrap().is_empty());
    assert!(!dir.exists());
}

/// Catches a bridge that ends when a daemon is killed while it connects.
#[tokio::test(flavor = "multi_thread")]
async fn who_goes_while_connecting_leaves_the_guest_in_reach() {
    let Some(images) = images() else { return };
    let home = Home::new();
    let dir = home.path().join("w");
    let booted = boot(&spec(images, dir.clone())).await.unwrap();
    let guest = booted.machine.guest();
    for patience in 0..50 {
        let fresh = Guest::new(guest.transport().clone());
        let patience = Duration::from_micros(patience * 500);
        let _gone_or_answered = tokio::time::timeout(patience, fresh.ping()).await;
    }
    let (status, _) = run(guest, 1, "true").await;
    assert_eq!(status, ExitStatus::Code(0));
    let recorded = booted.machine.process().process();
    let adopted = adopt(WORKSPACE, &dir, recorded).await.unwrap();
    // Those that are under way are killed with everything else.
    let _not_waited_for =
        tokio::time::timeout(Duration::ZERO, Guest::new(guest.transport().clone()).ping()).await;
    assert_eq!(adopted.stop(Duration::ZERO).await.unwrap(), Stop::Forced);
    assert!(processes_with(&dir).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_whose_agent_cannot_start_tells_so_by_its_console() {
    let Some(mut images) = images() else { return };
    let home = Home::new();
    let image = home.path().join("no.erofs");
    fs::write(&image, vec![0; 1 << 20]).unwrap();
    images.rootfs = image;
    let dir = home.path().join("w");
    let error = boot(&spec(images, dir.clone())).await.unwrap_err();
    assert!(matches!(error, BootError::Ended { .. }), "{error}");
    let console = error.console().unwrap();
    assert!(console.contains("join image and disk"), "{console}");
    assert!(processes_with(&dir).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_guest_is_given_up_and_gone() {
    let Some(images) = images() else { return };
    let home = Home::new();
    let dir = home.path().join("w");
    let spec = BootSpec { deadline: Duration::from_millis(300), ..spec(images, dir.clone()) };
    let error = boot(&spec).await.unwrap_err();
    assert!(matches!(error, BootError::Silent { .. }), "{error}");
    assert!(processes_with(&dir).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_that_is_given_up_leaves_no_process() {
    let Some(images) = images() else { return };
    let home = Home::new();
    let dir = home.path().join("w");
    let spec = spec(images, dir.clone());
    let mut boot = Box::pin(boot(&spec));
    let processes = loop {
        assert!(tokio::time::timeout(Duration::from_millis(5), &mut boot).await.is_err(), "it is too fast");
        match processes_with(&dir).unwrap() {
            processes if processes.len() == 3 => break processes,
            _ => (),
        }
    };
    drop(boot);
    for process in processes {
        process.exited().await.unwrap();
    }
    assert!(processes_with(&dir).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_has_the_processors_and_the_memory_it_was_given() {
    let Some(images) = images() else { return };
    let home = Home::new();
    let dir = home.path().join("w");
    let spec = BootSpec { vcpu_count: 2, mem_mib: 3500, ..spec(images, dir.clone()) };
    let booted = boot(&spec).await.unwrap();
    let (_, said) =
        run(booted.machine.guest(), 1, "nproc; awk '/MemTotal/ { print $2 }' /proc/meminfo").await;
    let said = String::from_utf8(said).unwrap();
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some("2"));
    let memory_kib = lines.next().unwrap().parse::<u64>().unwrap();
    assert!((3_300 * 1024..=3_500 * 1024).contains(&memory_kib), "{memory_kib} KiB");
    assert_eq!(booted.machine.stop(Duration::ZERO).await.unwrap(), Stop::Forced);
    assert_eq!(booted.machine.stop(Duration::ZERO).await.unwrap(), Stop::Gone);
    assert!(processes_with(&dir).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_reaches_the_host_only_with_a_network() {
    let Some(images) = images() else { return };
    let home = Home::new();
    let server = tokio::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = server.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = server.accept().await {
            let _client_gone = client.write_all(b"hello\n").await;
        }
    });
    let read = format!("bash -c 'cat </dev/tcp/{}/{port}'; cat /etc/resolv.conf", network::GATEWAY);
    for (connected, expected) in
        [(true, format!("hello\nnameserver {}\n", network::NAME_SERVER)), (false, String::new())]
    {
        let dir = home.path().join(connected.to_string());
        let booted =
            boot(&BootSpec { network: connected, ..spec(images.clone(), dir.clone()) }).await.unwrap();
        let (_, heard) = run(booted.machine.guest(), 1, &read).await;
        destroy(&dir).await.unwrap();
        assert_eq!(String::from_utf8(heard).unwrap(), expected, "connected: {connected}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_whose_qemu_was_killed_is_gone_with_its_bridge_after_a_stop() {
    let Some(images) = images() else { return };
    let home = Home::new();
    let dir = home.path().join("w");
    let booted = boot(&spec(images, dir.clone())).await.unwrap();
    let machine = booted.machine;
    let timeout = Duration::from_secs(60);
    let sleep = ExecSpec { op: 1, command: "sleep 1000".to_owned(), cwd: None, create_cwd: false, timeout };
    let mut operation = machine.guest().exec(sleep).await.unwrap();
    assert!(matches!(operation.next().await.unwrap(), Observation::Started { .. }));
    machine.process().kill().unwrap();
    machine.process().exited().await.unwrap();
    assert_eq!(machine.stop(Duration::from_secs(5)).await.unwrap(), Stop::Gone);
    let error = operation.next().await.unwrap_err();
    assert!(matches!(error, GuestError::Closed | GuestError::Broken(_)), "{error}");
    assert!(processes_with(&dir).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_program_is_named() {
    let Some(images) = images() else { return };
    let home = Home::new();
    let spec = BootSpec { tools: Tools::in_dirs(Vec::new()), ..spec(images, home.path().join("w")) };
    let error = boot(&spec).await.unwrap_err();
    assert!(matches!(error, BootError::MissingTool(_)), "{error}");
    assert!(error.hint().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_of_kvm_ends_and_leaves_nothing() {
    let Some(images) = images() else { return };
    let home = Home::new();
    let dir = home.path().join("probe");
    let verdict = probe_kvm(images, program(), Tools::of_host(), dir.clone()).await;
    eprintln!("{verdict:?}");
    match verdict {
        ProbeVerdict::Works { boot_ms } => assert!(boot_ms > 0),
        ProbeVerdict::Fails { reason } => assert!(reason.contains("kvm"), "{reason}"),
    }
    assert!(processes_with(&dir).unwrap().is_empty());
    assert!(!dir.exists());
    let tools = Tools::of_host();
    assert_ne!(fingerprint(&tools, "6.1.0").unwrap(), fingerprint(&tools, "6.1.1").unwrap());
}
