//! From boot to removal: what lives on, what ends, and what is left.

use std::env;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use pyro_core::{ExitStatus, Process};
use pyro_runtime::guest::{ExecSpec, Observation};
use pyro_runtime::process::{ProcessRef, processes_with};
use pyro_runtime::sandbox::{AdoptError, BootError, SandboxSpec, Stop, adopt, boot, clear, destroy};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::place::{AGENT, PATIENCE, Place, ROOTFS, run};

/// Names the directory in which [`booter`] starts a sandbox.
const BOOT_IN: &str = "PYRO_TEST_BOOT_IN";

/// Set for a [`booter`] whose sandbox has a network.
const WITH_NETWORK: &str = "PYRO_TEST_BOOT_WITH_NETWORK";

/// User and group `nobody` of the host.
const USER: u32 = 65_534;

/// Returns the pids on the host of all processes that are in a sandbox with its PID 1.
fn inhabitants(sandbox: &ProcessRef) -> Vec<u32> {
    let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = namespace(sandbox.process().pid).expect("PID 1 runs");
    let pids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != sandbox.process().pid && namespace(*pid).as_ref() == Some(&own)).collect()
}

/// Waits until no process has the listening socket any more, which is inherited by all that a boot starts, and until
/// the one has ended that a network is left to.
pub(crate) async fn wait_for_the_end(dir: &Path) {
    let ended = async {
        loop {
            // The path is too long for an address.
            let here = fs::File::open(dir).unwrap();
            let socket = format!("/proc/self/fd/{}/agent.sock", std::os::fd::AsRawFd::as_raw_fd(&here));
            match tokio::net::UnixStream::connect(socket).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return,
                Ok(_) | Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    timeout(PATIENCE, ended).await.expect("a process of the boot lives on");
    for process in processes_with(dir).unwrap() {
        timeout(PATIENCE, process.exited()).await.expect("a detached process lives on").unwrap();
    }
}

fn assert_nothing_runs(dir: &Path) {
    assert!(processes_with(dir).unwrap().is_empty());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("/proc/self/fd/") && !mounts.contains(dir.to_str().unwrap()), "{mounts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_works_is_adopted_and_keeps_its_files() {
    let Some(place) = Place::new() else { return };
    let booted = boot(&place.spec).await.unwrap();
    let (status, _) = run(booted.sandbox.guest(), 1, "echo kept > /root/file; rm -r /media").await;
    assert_eq!(status, ExitStatus::Code(0));
    let (status, bytes) = run(booted.sandbox.guest(), 2, "head -c 5000000 /dev/zero; exit 7").await;
    assert_eq!((status, bytes.len()), (ExitStatus::Code(7), 5_000_000));

    let recorded = booted.sandbox.process().process();
    drop(booted);
    let adopted = adopt(place.dir(), recorded).await.unwrap();
    let (status, _) = run(adopted.guest(), 3, "test -e /root/file").await;
    assert_eq!(status, ExitStatus::Code(0));
    assert_eq!(adopted.stop(PATIENCE).await.unwrap(), Stop::Graceful);
    assert_eq!(adopted.stop(PATIENCE).await.unwrap(), Stop::Gone);
    assert_nothing_runs(place.dir());
    assert!(matches!(adopt(place.dir(), recorded).await, Err(AdoptError::Gone)));

    let again = boot(&place.spec).await.unwrap();
    let (status, kept) = run(again.sandbox.guest(), 1, "cat /root/file; ls -d /media /mnt").await;
    assert_eq!((status, kept.as_str()), (ExitStatus::Code(2), "kept\n/mnt\n"));
    destroy(place.dir()).await.unwrap();
    assert!(!again.sandbox.process().is_alive().unwrap());
    assert!(!place.dir().exists());
    assert_nothing_runs(place.dir());
    destroy(place.dir()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_ends_with_pid_1() {
    let Some(place) = Place::new() else { return };
    let booted = boot(&place.spec).await.unwrap();
    let command = "setsid sleep 1000 & (trap '' TERM HUP INT; sleep 1000) & echo; exec sleep 1000".to_owned();
    let spec = ExecSpec { op: 1, command, cwd: None, create_cwd: false, timeout: PATIENCE };
    let mut operation = booted.sandbox.guest().exec(spec).await.unwrap();
    assert!(matches!(operation.next().await.unwrap(), Observation::Started { .. }));
    assert!(matches!(operation.next().await.unwrap(), Observation::Output { .. }));
    let within = inhabitants(booted.sandbox.process());
    assert!(within.len() > 2, "{within:?}");
    let namespace = fs::read_link(format!("/proc/{}/ns/pid", within[0])).unwrap();
    booted.sandbox.process().kill().unwrap();
    booted.sandbox.process().exited().await.unwrap();
    for pid in within {
        assert_ne!(
            fs::read_link(format!("/proc/{pid}/ns/pid")).ok().as_ref(),
            Some(&namespace),
            "{pid} lives"
        );
    }
    assert_eq!(booted.sandbox.stop(PATIENCE).await.unwrap(), Stop::Gone);
    assert_nothing_runs(place.dir());
}

/// Starts a sandbox on behalf of the next tests, says which, and waits to be killed.
#[tokio::test]
async fn booter() {
    let Some(dir) = env::var_os(BOOT_IN) else { return };
    let Some(place) = Place::new() else { return };
    let network = env::var_os(WITH_NETWORK).is_some();
    let booted = boot(&SandboxSpec { dir: dir.into(), network, ..place.spec.clone() }).await.unwrap();
    let Process { pid, start_ticks } = booted.sandbox.process().process();
    eprintln!("booted {pid} {start_ticks}");
    std::future::pending().await
}

/// Starts this program again, to run nothing but [`booter`].
fn start_booter(place: &Place) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "lifetime::booter", "--nocapture"])
        .env(BOOT_IN, place.dir())
        .envs(place.spec.network.then_some((WITH_NETWORK, "1")))
        // It is killed before it can remove a directory of its own.
        .env("TMPDIR", place.home())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_outlives_who_booted_it() {
    let Some(place) = Place::new() else { return };
    let mut booter = start_booter(&place);
    let mut lines = BufReader::new(booter.stderr.take().unwrap()).lines();
    let process = loop {
        let line = lines.next_line().await.unwrap().expect("the booter tells what it booted");
        if let Some(("booted", numbers)) = line.split_once(' ') {
            let (pid, start_ticks) = numbers.split_once(' ').unwrap();
            break Process { pid: pid.parse().unwrap(), start_ticks: start_ticks.parse().unwrap() };
        }
    };
    booter.kill().await.unwrap();
    let adopted = adopt(place.dir(), process).await.unwrap();
    let (_, said) = run(adopted.guest(), 1, "echo alive").await;
    assert_eq!(said, "alive\n");
    // The same as a daemon that was killed before it could tell anybody about its sandbox.
    clear(place.dir()).await.unwrap();
    assert!(!adopted.process().is_alive().unwrap());
    assert_nothing_runs(place.dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_while_booting_leaves_a_sandbox_on_record_or_none() {
    let Some(place) = Place::new() else { return };
    kill_while_booting(&place).await;
}

/// Has the sandbox of a place booted many times by somebody who is killed earlier or later.
pub(crate) async fn kill_while_booting(place: &Place) {
    let (mut recorded, mut unrecorded) = (0, 0);
    for step in 0.. {
        // On a busy host it takes longer until there is a record.
        if step >= 40 && recorded > 0 {
            break;
        }
        let mut booter = start_booter(place);
        while !place.dir().join("agent.sock").exists() {
            tokio::task::yield_now().await;
        }
        // Not a wait: the boot is cut at another point each time.
        let booted = timeout(Duration::from_micros(step * 200), booter.wait()).await;
        assert!(booted.is_err(), "the booter waits to be killed");
        booter.kill().await.unwrap();
        if place.dir().join("init.json").exists() {
            recorded += 1;
            clear(place.dir()).await.unwrap();
        } else {
            unrecorded += 1;
        }
        wait_for_the_end(place.dir()).await;
        assert_nothing_runs(place.dir());
        destroy(place.dir()).await.unwrap();
    }
    eprintln!("killed {recorded} times after the record was made, {unrecorded} times before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_ends_what_an_earlier_one_left() {
    let Some(place) = Place::new() else { return };
    let earlier = boot(&place.spec).await.unwrap().sandbox;
    let later = boot(&place.spec).await.unwrap().sandbox;
    assert!(!earlier.process().is_alive().unwrap() && later.process().is_alive().unwrap());
    destroy(place.dir()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_that_is_given_up_leaves_no_process() {
    let Some(place) = Place::new() else { return };
    for step in 0..40 {
        // Not a wait: the boot is cut at another point each time.
        let cut = timeout(Duration::from_micros(step * 250), boot(&place.spec)).await;
        if let Ok(booted) = cut {
            booted.unwrap().sandbox.stop(Duration::ZERO).await.unwrap();
        }
        if place.dir().exists() {
            wait_for_the_end(place.dir()).await;
            assert_nothing_runs(place.dir());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_cannot_be_made_says_why_and_is_gone() {
    let Some(place) = Place::new() else { return };
    let text = place.home().join("text");
    fs::write(&text, "no program").unwrap();
    fs::set_permissions(&text, Permissions::from_mode(0o755)).unwrap();
    let missing = place.home().join("missing");
    let cases = [
        (
            SandboxSpec { rootfs: missing.clone(), ..place.spec.clone() },
            "open the environment's files: No such",
        ),
        (SandboxSpec { agent: missing.clone(), ..place.spec.clone() }, "open the guest agent: No such"),
        (SandboxSpec { agent: text, ..place.spec.clone() }, "start the guest agent: Exec format error"),
    ];
    for (spec, expected) in cases {
        let error = boot(&spec).await.unwrap_err();
        assert!(matches!(&error, BootError::Init(why) if why.starts_with(expected)), "{error:?}");
        wait_for_the_end(place.dir()).await;
        assert_nothing_runs(place.dir());
    }
    let error = boot(&SandboxSpec { program: missing, ..place.spec.clone() }).await.unwrap_err();
    assert!(matches!(error, BootError::Start(_)), "{error:?}");
    let silent = SandboxSpec { program: "/bin/true".into(), ..place.spec.clone() };
    let error = boot(&silent).await.unwrap_err();
    assert!(matches!(error, BootError::Init(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_was_only_begun_is_finished_and_one_that_cannot_be_written_is_refused() {
    let Some(place) = Place::new() else { return };
    // What is left when sandbox-init is killed before the directories have their owner.
    for begun in ["disk/upper.new", "disk/work.new"] {
        fs::create_dir_all(place.dir().join(begun)).unwrap();
    }
    assert_eq!(place.ask("echo kept > /root/file && cat /root/file").await, "kept\n");
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: an ordinary user's directories belong to the sandbox");
        return;
    }
    for foreign in ["disk/upper", "disk/work"] {
        fs::create_dir_all(place.dir().join(foreign)).unwrap();
    }
    let error = boot(&place.spec).await.unwrap_err();
    let told = "make the sandbox: join the environment with the workspace's disk: read-only";
    assert!(error.to_string().starts_with(told), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sandboxes_start_at_once_and_do_not_meet() {
    let Some(places) = (0..8).map(|_| Place::new()).collect::<Option<Vec<_>>>() else { return };
    let mut asked = tokio::task::JoinSet::new();
    for (number, place) in places.into_iter().enumerate() {
        asked.spawn(async move {
            assert_eq!(
                place.ask(&format!("echo {number} > /tmp/own; ls /tmp; cat /tmp/own")).await,
                format!("own\n{number}\n")
            );
        });
    }
    while let Some(done) = asked.join_next().await {
        done.unwrap();
    }
}

/// Runs all tests again as an ordinary user, with a copy of the files that belongs to that user.
#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_user_has_the_same() {
    let Some(place) = Place::new() else { return };
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: already an ordinary user, or another user cannot be become");
        return;
    }
    let (rootfs, agent, tests) =
        (place.home().join("rootfs"), place.home().join("agent"), place.home().join("tests"));
    fs::set_permissions(place.home(), Permissions::from_mode(0o755)).unwrap();
    let temporary = place.home().join("tmp");
    fs::create_dir(&temporary).unwrap();
    std::os::unix::fs::chown(&temporary, Some(USER), Some(USER)).unwrap();
    fs::copy(&place.spec.agent, &agent).unwrap();
    // Who owns the agent could change it, if the sandbox did not forbid that.
    std::os::unix::fs::chown(&agent, Some(USER), Some(USER)).unwrap();
    fs::copy(env::current_exe().unwrap(), &tests).unwrap();
    let program = place.home().join("sandbox-init");
    fs::copy(&place.spec.program, &program).unwrap();
    let copied = Command::new("cp").arg("-a").args([&place.spec.rootfs, &rootfs]).status().await.unwrap();
    let given =
        Command::new("chown").args(["-hR", &format!("{USER}:{USER}")]).arg(&rootfs).status().await.unwrap();
    assert!(copied.success() && given.success());
    let output = Command::new("setpriv")
        .args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups", "--inh-caps=-all"])
        .arg(&tests)
        .envs([(ROOTFS, &rootfs), (AGENT, &agent), (super::place::PROGRAM, &program)])
        .env("TMPDIR", &temporary)
        .output()
        .await
        .unwrap();
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
