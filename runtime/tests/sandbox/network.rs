//! The way out of a sandbox, and that there is none without one.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use pyro_core::ExitStatus;
use pyro_runtime::host::Tools;
use pyro_runtime::network::{GUEST, MAC};
use pyro_runtime::process::{ProcessRef, processes_with};
use pyro_runtime::sandbox::{
    BootError, NetworkObstacle, SandboxSpec, Stop, adopt, boot, clear, destroy, network_obstacle,
};
use tokio::time::timeout;

use super::lifetime::{kill_while_booting, wait_for_the_end};
use super::place::{PATIENCE, Place, run};

/// What the host's server says.
const GREETING: &str = "bytes of the host's loopback\n";

/// Shows the interfaces, the routes and the name server.
const LOOK: &str =
    "ls /proc/sys/net/ipv4/conf; tail -n +2 /proc/net/route | cut -f 1-3; cat /etc/resolv.conf";

/// What [`LOOK`] shows without a network.
const NOTHING: &str = "all\ndefault\nlo\n";

/// Returns a place for a sandbox with a network; `None` where there can be none.
fn connected() -> Option<Place> {
    let mut place = Place::new()?;
    if let Some(obstacle) = network_obstacle(&place.spec.tools) {
        eprintln!("skipped: {obstacle}");
        return None;
    }
    place.spec.network = true;
    Some(place)
}

/// Greets everybody who connects to a port of the host's loopback, and returns the port.
fn greet() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for guest in listener.incoming() {
            let mut guest = guest.unwrap();
            guest.write_all(GREETING.as_bytes()).unwrap();
        }
    });
    port
}

/// Returns a command that shows what a server on the host says.
fn fetch(port: u16) -> String {
    format!("exec timeout 20 bash -c 'cat < /dev/tcp/10.0.2.2/{port}'")
}

/// Returns what carries the network of the sandbox in a place.
fn slirp4netns(place: &Place) -> ProcessRef {
    let mut found = processes_with(place.dir()).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    let process = found.remove(0);
    let line = fs::read_to_string(format!("/proc/{}/cmdline", process.process().pid)).unwrap();
    assert!(line.contains("/slirp4netns\0"), "{line}");
    process
}

async fn until_gone(process: &ProcessRef) {
    timeout(PATIENCE, process.exited()).await.expect("slirp4netns lives on").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_loopback_is_reached_through_the_gateway() {
    let Some(place) = connected() else { return };
    let port = greet();
    let booted = boot(&place.spec).await.unwrap();
    let guest = booted.sandbox.guest();
    let (status, said) = run(guest, 1, &fetch(port)).await;
    assert_eq!((status, said.as_str()), (ExitStatus::Code(0), GREETING));
    let (_, said) = run(guest, 2, &format!("{LOOK}; ls -l /etc/resolv.conf | cut -c 1-10")).await;
    // The words of a route are hexadecimal and begin with the last byte.
    let routes = "eth0\t00000000\t0202000A\neth0\t0002000A\t00000000\n";
    let resolver = "nameserver 10.0.2.3\n-rw-r--r--\n";
    assert_eq!(said, format!("all\ndefault\neth0\nlo\n{routes}{resolver}"));
    // SIOCGIFADDR, SIOCGIFMTU and SIOCGIFHWADDR.
    let ask = "sub ask { my $r = pack(q(a16x24), q(eth0)); ioctl(S, $_[0], $r) or die $!; substr($r, 16) }";
    let show = concat!(
        "print inet_ntoa(substr(ask(0x8915), 4, 4)), q( ), unpack(q(l), ask(0x8921)), ",
        "q( ), unpack(q(H12), substr(ask(0x8927), 2))",
    );
    let program = format!("{ask} socket(S, PF_INET, SOCK_DGRAM, 0); {show}");
    let (_, said) = run(guest, 3, &format!("perl -MSocket -e '{program}'")).await;
    assert_eq!(
        said,
        format!("{GUEST} 65520 {}", MAC.to_string().replace(':', "")),
        "what network_info tells"
    );
    destroy(place.dir()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_network_there_is_no_way_out() {
    let Some(place) = Place::new() else { return };
    let port = greet();
    let booted = boot(&place.spec).await.unwrap();
    let (_, said) = run(booted.sandbox.guest(), 1, LOOK).await;
    assert_eq!(said, NOTHING);
    let (status, said) = run(booted.sandbox.guest(), 2, &fetch(port)).await;
    assert!(status != ExitStatus::Code(0) && said.is_empty(), "{status:?}: {said}");
    assert!(processes_with(place.dir()).unwrap().is_empty());
    destroy(place.dir()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn slirp4netns_ends_with_pid_1() {
    let Some(place) = connected() else { return };
    let booted = boot(&place.spec).await.unwrap();
    let network = slirp4netns(&place);
    booted.sandbox.process().kill().unwrap();
    until_gone(&network).await;
    destroy(place.dir()).await.unwrap();

    // Whoever stops a sandbox finds nothing left, not even for a moment.
    for grace in [PATIENCE, Duration::ZERO] {
        let booted = boot(&place.spec).await.unwrap();
        let network = slirp4netns(&place);
        booted.sandbox.stop(grace).await.unwrap();
        assert!(!network.is_alive().unwrap());
    }
    let booted = boot(&place.spec).await.unwrap();
    let recorded = booted.sandbox.process().process();
    let network = slirp4netns(&place);
    drop(booted);
    let adopted = adopt(place.dir(), recorded).await.unwrap();
    assert_eq!(adopted.stop(PATIENCE).await.unwrap(), Stop::Graceful);
    assert!(!network.is_alive().unwrap());
    let booted = boot(&place.spec).await.unwrap();
    let network = slirp4netns(&place);
    clear(place.dir()).await.unwrap();
    assert!(!network.is_alive().unwrap() && !booted.sandbox.process().is_alive().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_outlives_its_network() {
    let Some(place) = connected() else { return };
    let port = greet();
    let booted = boot(&place.spec).await.unwrap();
    let network = slirp4netns(&place);
    network.kill().unwrap();
    until_gone(&network).await;
    let (status, said) = run(booted.sandbox.guest(), 1, LOOK).await;
    assert_eq!((status, said), (ExitStatus::Code(0), format!("{NOTHING}nameserver 10.0.2.3\n")));
    let (status, _) = run(booted.sandbox.guest(), 2, &fetch(port)).await;
    assert_ne!(status, ExitStatus::Code(0));
    assert_eq!(booted.sandbox.stop(PATIENCE).await.unwrap(), Stop::Graceful);
    let booted = boot(&place.spec).await.unwrap();
    let (_, said) = run(booted.sandbox.guest(), 1, &fetch(port)).await;
    assert_eq!(said, GREETING, "the next start brings it back");
    destroy(place.dir()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_network_is_left_of_a_boot_that_is_given_up_or_whose_daemon_is_killed() {
    let Some(place) = connected() else { return };
    for step in 0..40 {
        // Not a wait: the boot is cut at another point each time.
        let cut = timeout(Duration::from_micros(step * 500), boot(&place.spec)).await;
        if let Ok(booted) = cut {
            booted.unwrap().sandbox.stop(Duration::ZERO).await.unwrap();
        }
        if place.dir().exists() {
            wait_for_the_end(place.dir()).await;
        }
    }
    kill_while_booting(&place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_sandbox_put_in_place_of_its_resolver_stays_and_holds_nothing_up() {
    let Some(place) = connected() else { return };
    let traps = [
        ("ln -s /root/target /etc/resolv.conf", "test ! -e /root/target"),
        ("rm -r /etc/resolv.conf; mkfifo /etc/resolv.conf", "test -p /etc/resolv.conf"),
        ("rm /etc/resolv.conf; echo own > /etc/resolv.conf", "test $(cat /etc/resolv.conf) = own"),
        ("mv /etc /other; ln -s other /etc; rm /other/resolv.conf", "test ! -e /other/resolv.conf"),
        ("rm /etc; touch /etc", "test -f /etc"),
        ("rm /etc; mv /other /etc", "grep -x 'nameserver 10.0.2.3' /etc/resolv.conf"),
    ];
    let booted = boot(&SandboxSpec { network: false, ..place.spec.clone() }).await.unwrap();
    let mut sandbox = booted.sandbox;
    run(sandbox.guest(), 1, "rm -f /etc/resolv.conf").await;
    for (trap, test) in traps {
        let (status, said) = run(sandbox.guest(), 2, trap).await;
        assert_eq!(status, ExitStatus::Code(0), "{trap}: {said}");
        sandbox.stop(PATIENCE).await.unwrap();
        sandbox = boot(&place.spec).await.unwrap().sandbox;
        let (status, said) = run(sandbox.guest(), 1, test).await;
        assert_eq!(status, ExitStatus::Code(0), "{test}: {said}");
    }
    destroy(place.dir()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_cannot_be_made_says_why() {
    let Some(mut place) = Place::new() else { return };
    place.spec.network = true;
    let none = SandboxSpec { tools: Tools::in_dirs(Vec::new()), ..place.spec.clone() };
    let error = boot(&none).await.unwrap_err();
    assert!(matches!(error, BootError::Network(NetworkObstacle::MissingTool(_))), "{error:?}");
    let told = "slirp4netns is not installed; it comes with the Debian package slirp4netns";
    assert_eq!(network_obstacle(&none.tools).unwrap().to_string(), told);
    if network_obstacle(&place.spec.tools).is_some() {
        eprintln!("skipped: without /dev/net/tun nothing else is tried");
        return;
    }
    // Two that fail, and one that cannot even be started.
    for (script, expected) in [
        ("#!/bin/sh\necho reason >&2; exit 1\n", "make the sandbox: start slirp4netns: reason"),
        ("#!/bin/sh\nkill -9 $$\n", "make the sandbox: start slirp4netns: it ended without a word"),
        ("#!/nonexistent\n", "make the sandbox: start slirp4netns: No such file"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let program: PathBuf = dir.path().join("slirp4netns");
        fs::write(&program, script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&program, mode).unwrap();
        let tools = Tools::in_dirs(vec![dir.path().to_owned()]);
        let error = boot(&SandboxSpec { tools, ..place.spec.clone() }).await.unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
        wait_for_the_end(place.dir()).await;
    }
}
