//! What cannot be done gets a clear error and the right exit code.

#![expect(clippy::print_stderr, reason = "a skipped test says why")]

use std::process::Command;

use pyro_tests::{Output, Pyro};

fn error_of(output: &Output) -> (Option<i32>, String, String) {
    let json = output.json();
    assert_eq!(json["ok"], false, "{json}");
    let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
    (output.code, text("code"), text("error"))
}

#[test]
fn arguments_that_make_no_sense_are_named() {
    let pyro = Pyro::new();
    let cases: [(&[&str], &str, &str); 5] = [
        (&["bad:env", "--", "true"], "unknown_environment", "debian:12-base"),
        (&["debian:12", "--vcpu-count", "0", "--", "true"], "invalid_argument", "vcpu_count"),
        (&["debian:12", "--mem-mib", "1", "--", "true"], "invalid_argument", "mem_mib"),
        (&["debian:12", "--ttl-seconds", "1", "--", "true"], "invalid_argument", "ttl_seconds"),
        (&["debian:12", "--timeout-seconds", "0", "--", "true"], "invalid_argument", "timeout_seconds"),
    ];
    for (arguments, code, mentioned) in cases {
        let output = pyro.run(&[&["run", "--json"], arguments].concat());
        let (exit, got, error) = error_of(&output);
        assert_eq!((exit, got.as_str()), (Some(1), code), "{error}");
        assert!(error.contains(mentioned), "{error}");
    }
    assert!(!pyro.kinds().iter().any(|kind| kind == "workspace_created"), "a refusal writes nothing");
}

#[test]
fn usage_errors_exit_with_2() {
    let pyro = Pyro::new();
    for arguments in [&["run"][..], &["run", "debian:12"], &["run", "debian:12", "--"], &["frobnicate"], &[]]
    {
        let output = pyro.run(arguments);
        assert_eq!(output.code, Some(2), "{arguments:?}: {}", output.err());
        assert!(output.err().contains("Usage"), "{arguments:?}: {}", output.err());
    }
}

#[test]
fn home_that_cannot_be_written_is_an_error() {
    let output = Pyro::new().variable("PYRO_HOME", "/proc/no/such/home").run(&["env", "list", "--json"]);
    let (exit, _, error) = error_of(&output);
    assert_eq!(exit, Some(1));
    assert!(error.contains("/proc/no"), "{error}");
}

#[test]
fn missing_qemu_is_named_with_its_package() {
    let pyro = Pyro::new().variable("PATH", "/nonexistent");
    let output = pyro.run(&["run", "--json", "debian:12", "--", "true"]);
    let (exit, code, error) = error_of(&output);
    assert_eq!((exit, code.as_str()), (Some(1), "guest_unavailable"), "{error}");
    assert!(error.contains("qemu-system-x86"), "{error}");
}

/// Mounts a small file system in a mount namespace of its own and runs the commands there.
#[test]
fn full_disk_is_a_clear_error_and_the_daemon_goes_on_when_there_is_room() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let pyro = pyro_tests::dist().join("bin/pyro");
    let script = r#"
        set -u
        mount -t tmpfs -o size=96m none "$PLACE" || exit 99
        export PYRO_HOME=$PLACE/h
        mkdir -m 700 "$PYRO_HOME"
        "$PYRO" env list >/dev/null || exit 98
        head -c 200000000 /dev/zero >"$PLACE/ballast" 2>/dev/null
        "$PYRO" run --json --allow-host-compat debian:12 -- true; echo "full=$?"
        rm "$PLACE/ballast"
        echo 'backend = "host_sandbox"' >"$PYRO_HOME/config.toml"
        "$PYRO" daemon stop >/dev/null
        timeout 30 "$PYRO" run --allow-host-compat debian:12 -- head -c 200000000 /dev/zero >/dev/null
        echo "outgrown=$?"
        "$PYRO" run --allow-host-compat debian:12 -- true; echo "again=$?"
        "$PYRO" log >/dev/null; echo "log=$?"
        "$PYRO" daemon stop >/dev/null; echo "stop=$?"
    "#;
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .env("PLACE", place.path())
        .env("PYRO", pyro)
        .env("PYRO_ENVIRONMENT_CACHE_DIR", pyro_tests::environments())
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(out.contains("full=1") && out.contains("\"code\": \"storage_full\""), "{out}");
    assert!(out.contains("outgrown=1"), "a command whose output has no room ends at once: {out}");
    assert!(out.contains("again=0") && out.contains("log=0") && out.contains("stop=0"), "{out}");
}

/// Catches a home on a read-only file system that gives no reason, hides its log, or is of no use afterwards.
#[test]
fn read_only_home_is_a_clear_error_until_it_can_be_written() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: a mount needs root");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let pyro = pyro_tests::dist().join("bin/pyro");
    let script = r#"
        set -u
        export PYRO_HOME=$PLACE/h
        mkdir -m 700 "$PYRO_HOME"
        "$PYRO" env list >/dev/null || exit 98
        "$PYRO" daemon stop >/dev/null
        mount --bind "$PYRO_HOME" "$PYRO_HOME" && mount -o remount,ro,bind "$PYRO_HOME" || exit 99
        "$PYRO" env list --json; echo "read-only=$?"
        "$PYRO" log verify >/dev/null; echo "verify=$?"
        mount -o remount,rw,bind "$PYRO_HOME"
        "$PYRO" env list >/dev/null; echo "again=$?"
        "$PYRO" daemon stop >/dev/null; echo "stop=$?"
    "#;
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .env("PLACE", place.path())
        .env("PYRO", pyro)
        .env("PYRO_ENVIRONMENT_CACHE_DIR", pyro_tests::environments())
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(out.contains("\"code\": \"home_unusable\"") && out.contains("read-only=1"), "{out}");
    assert!(out.contains("verify=0") && out.contains("again=0") && out.contains("stop=0"), "{out}");
}
