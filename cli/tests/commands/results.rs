//! Results of the other commands, as text and as JSON.

use std::collections::BTreeMap;

use pyro_api::{
    BackendReport, Capabilities, DaemonStatus, DoctorReport, EnvList, EnvObject, EventActor, Face, KvmReport,
    LogEnd, LogEvent, LogRequest, MountObject, NetworkingReport, PruneResult, PullResult, Request, Response,
    RuntimeReport, ServerMessage, ToolReport,
};
use serde_json::{Value, json};

use crate::peer::{Peer, World};

type Script = Box<dyn FnOnce(&mut Peer) -> Request + Send>;

fn replying(response: Response) -> Script {
    Box::new(move |peer| {
        let request = peer.request();
        peer.reply(Ok(response));
        request
    })
}

/// Runs a command as text and as JSON against the same response.
fn both(arguments: &[&str], response: &Response) -> (String, Value) {
    let world = World::new();
    world.serve([replying(response.clone()), replying(response.clone())]);
    let text = world.run(arguments);
    let json = world.run(&[arguments, &["--json"]].concat());
    for output in [&text, &json] {
        assert_eq!(output.status.code(), Some(0), "{}", output.stderr.escape_ascii());
    }
    assert!(json.stderr.is_empty(), "{}", json.stderr.escape_ascii());
    let text = String::from_utf8(text.stdout).expect("it is text");
    (text, serde_json::from_slice(&json.stdout).expect("it is JSON"))
}

fn environment(name: &str, installed: bool) -> EnvObject {
    EnvObject {
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        description: "Debian 12 with Git.".to_owned(),
        distribution: "debian".to_owned(),
        distribution_version: "12".to_owned(),
        platform: "linux-x86_64".to_owned(),
        compatibility: ">=2.0.0,<3.0.0".to_owned(),
        catalog_version: "2.5.0".to_owned(),
        default_packages: vec!["bash".to_owned(), "git".to_owned()],
        cache_dir: "/c".to_owned(),
        install_dir: "/c/linux-x86_64/e".to_owned(),
        oci_registry: None,
        oci_repository: None,
        oci_reference: None,
        source_digest: None,
        installed,
        install_manifest: installed.then(|| "/c/linux-x86_64/e/environment.json".to_owned()),
    }
}

#[test]
fn env_list() {
    let environments = vec![environment("debian:12", true), environment("evil\n\u{1b}[2J", false)];
    let response = Response::EnvList(EnvList { catalog_version: "2.5.0".to_owned(), environments });
    let (text, json) = both(&["env", "list"], &response);
    insta::assert_snapshot!("env_list", text);
    assert_eq!(json["environments"][0]["install_manifest"], "/c/linux-x86_64/e/environment.json");
    assert!(json["environments"][1].get("install_manifest").is_none());
    assert!(json["environments"][1]["oci_registry"].is_null());
}

#[test]
fn env_inspect() {
    let object = EnvObject {
        oci_registry: Some("registry.example".to_owned()),
        oci_repository: Some("pyro/debian".to_owned()),
        oci_reference: Some("1.0.0".to_owned()),
        ..environment("debian:12", true)
    };
    let (text, json) = both(&["env", "inspect", "debian:12"], &Response::EnvInspect(object.clone()));
    insta::assert_snapshot!("env_inspect", text);
    assert_eq!(serde_json::from_value::<EnvObject>(json).expect("it is the object"), object);
}

#[test]
fn env_pull_and_prune() {
    let result = PullResult {
        environment: environment("debian:12", true),
        kernel_image: "/c/vmlinux".to_owned(),
        rootfs_image: "/c/rootfs.erofs".to_owned(),
        source: "mmdebstrap".to_owned(),
    };
    let (text, json) = both(&["env", "pull", "debian:12"], &Response::EnvPull(result));
    insta::assert_snapshot!("env_pull", text);
    assert_eq!((&json["name"], &json["kernel_image"]), (&json!("debian:12"), &json!("/c/vmlinux")));

    let one = PruneResult { deleted_environment_dirs: vec!["/c/.partial-1".to_owned()], count: 1 };
    let (text, json) = both(&["env", "prune"], &Response::EnvPrune(one));
    assert_eq!(text, "Deleted 1 cached environment entry.\n- /c/.partial-1\n");
    assert_eq!(json, json!({"deleted_environment_dirs": ["/c/.partial-1"], "count": 1}));
    let none = PruneResult { deleted_environment_dirs: Vec::new(), count: 0 };
    let (text, _) = both(&["env", "prune"], &Response::EnvPrune(none));
    assert_eq!(text, "Deleted 0 cached environment entries.\n");
}

fn report() -> DoctorReport {
    let text = str::to_owned;
    let backend = |backend: &str, accelerator: &str, verdict: &str| BackendReport {
        backend: backend.to_owned(),
        accelerator: accelerator.to_owned(),
        verdict: verdict.to_owned(),
        reason: None,
        remedy: None,
        network: true,
        boot_ms: None,
    };
    DoctorReport {
        platform: text("linux-x86_64"),
        runtime_ok: true,
        issues: vec![text("guests run 5 to 15 times slower without KVM")],
        kvm: KvmReport { exists: true, readable: true, writable: false },
        networking: NetworkingReport {
            enabled_by_default: false,
            tun_available: true,
            ip_forward_enabled: false,
            ip_binary: None,
            nft_binary: None,
            iptables_binary: None,
        },
        runtime: Some(RuntimeReport {
            bundle_root: text("/opt/pyro"),
            manifest_path: text("/opt/pyro/manifest.json"),
            firecracker_bin: text("firecracker"),
            jailer_bin: text("jailer"),
            guest_agent_path: Some(text("/opt/pyro/libexec/pyro/pyro-guest-agent")),
            guest_init_path: None,
            artifacts_dir: text("/opt/pyro/libexec/pyro"),
            notice_path: text("/opt/pyro/NOTICE"),
            artifacts_present: true,
            bundle_version: text("2.5.0"),
            component_versions: BTreeMap::new(),
            capabilities: Capabilities {
                supports_vm_boot: true,
                supports_guest_exec: true,
                supports_guest_network: false,
                reason: None,
            },
            catalog_version: text("2.5.0"),
            cache_dir: text("/c"),
            environments: Vec::new(),
        }),
        backend: Some(text("qemu")),
        accelerator: Some(text("tcg")),
        backends: vec![
            BackendReport { reason: Some(text("no boot in 10 s")), ..backend("qemu", "kvm", "fails") },
            BackendReport { boot_ms: Some(2914), ..backend("qemu", "tcg", "works") },
        ],
        last_boot_ms: Some(2914),
        tools: vec![
            ToolReport {
                name: text("qemu-system-x86_64"),
                path: Some(text("/q")),
                package: text("qemu-system-x86"),
            },
            ToolReport { name: text("nft"), path: None, package: text("nftables") },
        ],
    }
}

#[test]
fn doctor() {
    let (text, json) = both(&["doctor"], &Response::Doctor(report()));
    insta::assert_snapshot!("doctor", text);
    assert_eq!(json["kvm"], json!({"exists": true, "readable": true, "writable": false}));
    let incomplete = DoctorReport { runtime: None, backend: None, runtime_ok: false, ..report() };
    let (text, json) = both(&["doctor"], &Response::Doctor(incomplete));
    assert!(
        text.contains("Runtime: FAIL") && text.contains("Guests: none can be run on this host"),
        "{text}"
    );
    assert!(json.get("runtime").is_none());
    let sandbox =
        BackendReport { backend: "host_sandbox".to_owned(), network: false, ..report().backends.remove(1) };
    let weaker = DoctorReport { backend: None, backends: vec![sandbox], ..report() };
    let (text, _) = both(&["doctor"], &Response::Doctor(weaker));
    assert!(text.contains("Guests: only with --allow-host-compat"), "{text}");
    assert!(text.contains(" works, booted in 2914 ms, without a network\n"), "{text}");
}

fn event(seq: u64) -> LogEvent {
    LogEvent {
        seq,
        at: "2026-01-02T03:04:05.678901Z".to_owned(),
        actor: EventActor { face: Face::Cli, uid: 0, pid: 7, client: "pyro/2.5.0".to_owned() },
        kind: "exec_exited".to_owned(),
        workspace_id: Some("5f0c2a9be1d4".to_owned()),
        request_id: None,
        data: json!({"exec": 1, "exit_code": 7}),
        version: None,
        hash: None,
    }
}

/// Sends the events; ends with a reply, or without one like a daemon that dies.
fn logging(events: impl IntoIterator<Item = u64> + Send + 'static, end: Option<u64>) -> Script {
    Box::new(move |peer| {
        let request = peer.request();
        for seq in events {
            peer.send(&ServerMessage::Event(event(seq)));
        }
        if let Some(head_seq) = end {
            peer.reply(Ok(Response::Log(LogEnd { head_seq })));
        }
        request
    })
}

#[test]
fn log_as_text_and_as_json_lines() {
    let world = World::new();
    world.serve([logging(1..=2, Some(2)), logging(1..=2, Some(2))]);
    let text = String::from_utf8(world.run(&["log"]).stdout).expect("it is text");
    let line = "2026-01-02T03:04:05.678901Z exec_exited 5f0c2a9be1d4 exec=1 exit_code=7\n";
    assert_eq!(text, format!("#1 {line}#2 {line}"));
    let lines = String::from_utf8(world.run(&["log", "--json"]).stdout).expect("it is text");
    let events: Vec<LogEvent> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(events, [event(1), event(2)]);
}

/// Catches events that are lost or doubled when the daemon is replaced under a follower.
#[test]
fn follower_goes_on_with_the_next_daemon() {
    let world = World::new();
    let peer = world.serve([logging(5..=7, None), logging(8..=9, Some(9))]);
    let output =
        world.run(&["log", "--follow", "--since", "5", "--limit", "9", "--kind", "exec_*", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr.escape_ascii());
    let lines = String::from_utf8(output.stdout).expect("it is text");
    let seqs: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["seq"].clone()).collect();
    assert_eq!(seqs, [5, 6, 7, 8, 9]);
    let requests = peer.join().expect("the peer does not panic");
    let asked: Vec<_> = requests
        .into_iter()
        .map(|request| if let Request::Log(log) = request { log } else { panic!("{request:?}") })
        .collect();
    let first = LogRequest {
        since: "5".parse().ok(),
        limit: Some(9),
        kinds: vec!["exec_*".to_owned()],
        follow: true,
        ..LogRequest::default()
    };
    let second = LogRequest { since: "8".parse().ok(), limit: None, ..first.clone() };
    assert_eq!(asked, [first, second], "the last nine of what is behind them would be too few");
}

#[test]
fn long_log_is_printed_whole_and_stops_when_nobody_reads() {
    let world = World::new();
    world.serve([logging(1..=20_000, Some(20_000))]);
    let output = world.run(&["log"]);
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 20_000);

    let world = World::new();
    world.serve([logging(1..=20_000, None)]);
    let mut child = world.spawn(&["log", "--follow"]);
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(141), b"".as_slice()));
}

#[test]
fn daemon_status_only_looks() {
    let world = World::new();
    let output = world.run(&["daemon", "status", "--json"]);
    let error: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!((output.status.code(), &error["code"]), (Some(1), &json!("daemon_unavailable")));
    let output = world.run(&["daemon", "stop"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"No daemon runs.\n".as_slice()));

    let status = DaemonStatus {
        pid: 7,
        version: "2.5.0".to_owned(),
        api: 1,
        home: "/h".to_owned(),
        log_file: "/h/run/daemon.log".to_owned(),
        uptime_seconds: 60,
        head_seq: 12,
        guests: 1,
        workspaces: 2,
        clients: 1,
        mounts: vec![MountObject { path: "/mnt/pyro".to_owned(), allow_other: false }],
    };
    let (text, json) = both(&["daemon", "status"], &Response::DaemonStatus(status));
    insta::assert_snapshot!("daemon_status", text);
    assert_eq!(json["head_seq"], 12);
}

#[test]
fn wrong_usage_exits_with_2() {
    let world = World::new();
    for arguments in
        [&["nonsense"][..], &[], &["run", "debian:12"], &["env", "pull"], &["run", "--frobnicate"]]
    {
        let output = world.run(arguments);
        assert_eq!(
            (output.status.code(), output.stdout.as_slice()),
            (Some(2), b"".as_slice()),
            "{arguments:?}"
        );
        assert!(String::from_utf8_lossy(&output.stderr).contains("Usage:"), "{arguments:?}");
    }
    let output = world.run(&["--version"]);
    let version = concat!("pyro ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), version.as_bytes()));
}
