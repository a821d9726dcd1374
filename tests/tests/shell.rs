//! Shells: they go on whatever happens to clients and daemon, and every byte of theirs arrives once.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _};

use pyro_tests::{Output, Pyro, QEMU, SANDBOX, finish, signal};
use rustix::process::Signal;
use serde_json::Value;

use super::seat::Seat;

/// Prints 60 lines for more than a second and ends with 3.
const COUNTING: &str = "for i in $(seq 1 60); do echo line $i; sleep 0.02; done; exit 3";

/// Runs a command about shells that succeeds.
#[track_caller]
fn shell(pyro: &Pyro, arguments: &[&str]) -> Output {
    let output = pyro.run(&[&["workspace", "shell"], arguments].concat());
    assert_eq!(output.code, Some(0), "{}", output.err());
    output
}

#[track_caller]
fn open(pyro: &Pyro, id: &str) -> String {
    shell(pyro, &["open", id, "--id-only"]).out().trim_end().to_owned()
}

#[track_caller]
fn write(pyro: &Pyro, id: &str, shell_id: &str, input: &str) {
    let _told = shell(pyro, &["write", id, shell_id, "--input", input]);
}

/// Reads as text what was printed until nothing is printed any more.
#[track_caller]
fn read(pyro: &Pyro, id: &str, shell_id: &str) -> String {
    shell(pyro, &["read", id, shell_id, "--plain", "--wait-for-idle-ms", "1000"]).out()
}

/// Reads all that was printed, and returns it with what is told of the shell.
#[track_caller]
fn whole(pyro: &Pyro, id: &str, shell_id: &str) -> (Value, String) {
    let result = shell(pyro, &["read", id, shell_id, "--max-chars", "10000000", "--json"]).json();
    let output = result["output"].as_str().unwrap().to_owned();
    (result, output)
}

fn lines(numbers: std::ops::RangeInclusive<u32>) -> String {
    numbers.map(|number| format!("line {number}\r\n")).collect()
}

#[track_caller]
fn sequence(pyro: &Pyro, options: &[&str], mode: &str) {
    let seed = tempfile::tempdir().unwrap();
    std::fs::write(seed.path().join("seeded"), "from the seed\n").unwrap();
    let id = pyro.create(&[options, &["--seed-path", seed.path().to_str().unwrap()]].concat());
    let exec = |script: &str| pyro.run(&["workspace", "exec", &id, "--", "sh", "-c", script]).out();
    assert_eq!(exec("cat seeded; echo made >made"), "from the seed\n");
    std::fs::write(seed.path().join("pushed"), "from the push\n").unwrap();
    let push = pyro.run(&["workspace", "sync", "push", &id, seed.path().to_str().unwrap()]);
    let source = seed.path().canonicalize().unwrap();
    assert_eq!(
        push.out(),
        format!(
            "[workspace-sync] workspace_id={id} mode=directory source={} destination=/workspace entry_count=2 \
             bytes_written=28 execution_mode={mode}\n",
            source.display()
        )
    );
    assert_eq!(exec("cat seeded pushed made"), "from the seed\nfrom the push\nmade\n");

    let opened = shell(pyro, &["open", &id]);
    let told = opened.err();
    let shell_id = told.split("shell_id=").nth(1).unwrap().split(' ').next().unwrap();
    assert_eq!(
        told,
        format!(
            "[workspace-shell-open] workspace_id={id} shell_id={shell_id} state=running cwd=/workspace cols=120 \
             rows=30 execution_mode={mode}\n"
        )
    );
    write(pyro, &id, shell_id, "echo $((6 * 7)); ls; stty size");
    let shown = read(pyro, &id, shell_id);
    assert!(shown.contains("\n42\nmade") && shown.contains("\n30 120\n"), "{shown:?}");
    // The id may be short, and the foreground job gets the signal.
    write(pyro, &id, &shell_id[..4], "sleep 1000; echo code $?");
    let _interrupted = shell(pyro, &["signal", &id, &shell_id[..4]]);
    let shown = read(pyro, &id, shell_id);
    assert!(shown.contains("\npyro$ ") && !shown.contains("code 0"), "{shown:?}");
    let list = shell(pyro, &["list", &id, "--json"]).json();
    assert_eq!((&list["count"], &list["shells"][0]["shell_id"]), (&1.into(), &shell_id.into()));
    let closed = shell(pyro, &["close", &id, shell_id, "--json"]).json();
    assert_eq!((&closed["closed"], &closed["state"]), (&true.into(), &"stopped".into()));
    let again = pyro.run(&["workspace", "shell", "close", &id, shell_id, "--json"]);
    assert_eq!((again.code, &again.json()["code"]), (Some(1), &"unknown_shell".into()));

    let logs = pyro.run(&["workspace", "logs", &id, "--json"]).json();
    assert_eq!(logs["count"], 2);
    let status = pyro.run(&["workspace", "status", &id, "--json"]).json();
    assert_eq!(
        (&status["state"], &status["workspace_seed"]["mode"]),
        (&"started".into(), &"directory".into())
    );
    assert_eq!(pyro.run(&["workspace", "delete", &id]).out(), format!("Deleted workspace: {id}\n"));
}

#[test]
fn sequence_of_the_contract_in_the_sandbox() {
    sequence(&Pyro::new().config(SANDBOX), &["--allow-host-compat"], "host_compat");
}

#[test]
fn sequence_of_the_contract_in_a_vm() {
    sequence(&Pyro::new().config(QEMU), &[], "guest_vsock");
}

#[test]
fn objects_have_the_contracts_keys() {
    let (pyro, id) = Pyro::with_sandbox();
    let keys = |value: &Value| {
        let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        keys.join(" ")
    };
    let opened = shell(&pyro, &["open", &id, "--json"]).json();
    let object = "cols cwd ended_at execution_mode exit_code rows shell_id started_at state workspace_id";
    assert_eq!(keys(&opened), object);
    let shell_id = opened["shell_id"].as_str().unwrap();
    let written = shell(&pyro, &["write", &id, shell_id, "--input", "é", "--no-newline", "--json"]).json();
    assert_eq!((&written["input_length"], &written["append_newline"]), (&1.into(), &false.into()));
    let (read, _) = whole(&pyro, &id, shell_id);
    assert_eq!(
        keys(&read),
        "cols cursor cwd ended_at execution_mode exit_code next_cursor output rows shell_id started_at state \
         truncated workspace_id"
    );
}

#[track_caller]
fn killed_daemon(pyro: &Pyro, id: &str) {
    let shell_id = open(pyro, id);
    write(pyro, id, &shell_id, COUNTING);
    let mut follower = pyro.spawn(&["workspace", "shell", "read", id, &shell_id, "--follow"]);
    let mut stdout = BufReader::new(follower.stdout.take().unwrap());
    let mut followed = Vec::new();
    while !followed.ends_with(b"line 10\r\n") {
        assert_ne!(stdout.read_until(b'\n', &mut followed).unwrap(), 0, "{}", followed.escape_ascii());
    }
    signal(pyro.daemon_pid(), Signal::KILL);
    stdout.read_to_end(&mut followed).unwrap();
    let end = follower.wait_with_output().unwrap();
    assert_eq!(end.status.code(), Some(0), "{}", end.stderr.escape_ascii());
    let followed = String::from_utf8(followed).unwrap();
    assert!(followed.contains(&lines(1..=60)), "{followed:?}");
    let (told, output) = whole(pyro, id, &shell_id);
    assert_eq!((output, &told["exit_code"]), (followed, &3.into()));
}

/// Catches bytes that are lost or doubled, and a job that dies with the daemon.
#[test]
fn follower_and_job_outlive_the_daemon() {
    let (pyro, id) = Pyro::with_sandbox();
    killed_daemon(&pyro, &id);
}

#[test]
fn follower_and_job_in_a_vm_outlive_the_daemon() {
    let pyro = Pyro::new().config(QEMU);
    let id = pyro.create(&[]);
    killed_daemon(&pyro, &id);
}

#[test]
fn long_output_is_exact() {
    let (pyro, id) = Pyro::with_sandbox();
    let shell_id = open(&pyro, &id);
    write(&pyro, &id, &shell_id, "stty -onlcr; seq 200000; exit");
    let output = shell(&pyro, &["read", &id, &shell_id, "--follow"]);
    let numbers: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert!(output.out().contains(&numbers), "{} bytes", output.stdout.len());
    assert!(output.err().contains(" state=stopped cursor=0 "), "{}", output.err());
}

/// Catches a terminal whose keys, sizes or end do not get through.
#[test]
fn person_at_a_terminal() {
    let (pyro, id) = Pyro::with_sandbox();
    let mut seat = Seat::take(&pyro, 100, 40, &["workspace", "shell", "attach", &id]);
    let _opened = seat.until("pyro$ ");
    seat.type_in("stty size\r");
    let _echo = seat.until("\r40 100\r\n");
    seat.resize(81, 25);
    seat.type_in("until [ \"$(stty size)\" = '25 81' ]; do :; done; echo resized\r");
    let _resized = seat.until("\rresized\r\n");
    // An interrupt before the job has the terminal would be bash's own.
    seat.type_in("sh -c 'echo as''leep; exec sleep 1000'\r");
    let _asleep = seat.until("\rasleep\r\n");
    seat.type_in("\u{3}");
    let _prompt = seat.until("pyro$ ");
    seat.type_in("seq 100 | more\r");
    let _page = seat.until("--More--");
    seat.type_in("q");
    let _prompt = seat.until("pyro$ ");
    seat.type_in("tput smcup; tput civis; echo in\\ it\r");
    let _inside = seat.until("in it\r\n");
    let _prompt = seat.until("pyro$ ");
    seat.type_in("\u{1c}");
    let (rest, code) = seat.end();
    assert_eq!(code, Some(0), "{rest:?}");
    assert!(rest.contains("\u{1b}[?1049l") && rest.contains("\u{1b}[?25h"), "{rest:?}");
    assert!(rest.contains(" state=running ") && rest.ends_with(" detached\r\n"), "{rest:?}");

    let list = shell(&pyro, &["list", &id, "--json"]).json();
    let shell_id = list["shells"][0]["shell_id"].as_str().unwrap();
    let mut seat = Seat::take(&pyro, 80, 24, &["workspace", "shell", "attach", &id, shell_id]);
    let _shown_again = seat.until("in it\r\n");
    seat.type_in("stty size; exit 7\r");
    let _size = seat.until("\r24 80\r\n");
    let (rest, code) = seat.end();
    assert_eq!(code, Some(7), "{rest:?}");
    assert!(rest.ends_with(" exit_code=7\r\n"), "{rest:?}");
}

#[test]
fn several_clients_share_a_shell_and_outlive_the_daemon() {
    let (pyro, id) = Pyro::with_sandbox();
    let shell_id = open(&pyro, &id);
    let attach = ["workspace", "shell", "attach", &id, &shell_id];
    let mut seats: Vec<_> = (0..3).map(|_| Seat::take(&pyro, 120, 30, &attach)).collect();
    for seat in &mut seats {
        let _prompt = seat.until("pyro$ ");
    }
    seats[0].type_in("echo first; read answer; echo got $answer\r");
    for seat in &mut seats {
        let _shown = seat.until("first\r\n");
    }
    signal(pyro.daemon_pid(), Signal::KILL);
    seats[1].type_in("yes\r");
    for seat in &mut seats {
        let _shown = seat.until("got yes\r\n");
    }
    seats[2].type_in("exit 4\r");
    for seat in seats {
        let (rest, code) = seat.end();
        assert_eq!(code, Some(4), "{rest:?}");
    }
    let (_, output) = whole(&pyro, &id, &shell_id);
    assert_eq!(output.matches("got yes").count(), 1, "{output:?}");
}

/// Catches keys that are lost, doubled or mixed up when the daemon is killed while they are typed.
#[test]
fn keys_arrive_once_and_in_order_whatever_becomes_of_the_daemon() {
    const LEN: usize = 400_000;
    let (pyro, id) = Pyro::with_sandbox();
    let shell_id = open(&pyro, &id);
    write(&pyro, &id, &shell_id, &format!("stty raw -echo; echo ready; head -c {LEN} | sha256sum; exit 5"));
    while !whole(&pyro, &id, &shell_id).1.contains("ready\n") {}
    let mut client = pyro
        .command(&["workspace", "shell", "attach", &id, &shell_id])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // No byte of the pattern is like those 251 before it, so a part that is missing or moved shows.
    let keys: Vec<u8> = (0..=250).cycle().take(LEN).collect();
    let mut stdin = client.stdin.take().unwrap();
    let (parts, until_killed) = std::sync::mpsc::sync_channel(0);
    let typing = std::thread::spawn({
        let keys = keys.clone();
        move || {
            for part in keys.chunks(LEN / 4) {
                stdin.write_all(part).unwrap();
                parts.send(()).unwrap();
            }
        }
    });
    for () in until_killed.iter().take(3) {
        signal(pyro.daemon_pid(), Signal::KILL);
    }
    // The last part is told of as well.
    until_killed.recv().unwrap();
    typing.join().unwrap();
    let output = finish(client);
    assert_eq!(output.code, Some(5), "{}", output.err());
    let typed = pyro.log().iter().filter(|event| event["kind"] == "shell_input").count();
    assert!(typed > 1, "it came in pieces");
    let digest = std::process::Command::new("sh")
        .args(["-c", "sha256sum"])
        .stdin({
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&keys).unwrap();
            file.rewind().unwrap();
            file
        })
        .output()
        .unwrap();
    let digest = String::from_utf8(digest.stdout).unwrap();
    let digest = digest.split(' ').next().unwrap();
    assert!(output.out().contains(digest), "{digest}: {}", output.out());
}

/// Catches a write that waits for a job, or that stops other clients of the workspace.
#[test]
fn job_that_does_not_read_holds_nobody() {
    let (pyro, id) = Pyro::with_sandbox();
    let shell_id = open(&pyro, &id);
    write(&pyro, &id, &shell_id, "stty raw -echo; echo deaf; sleep 1000");
    while !whole(&pyro, &id, &shell_id).1.contains("\rdeaf\n") {}
    let mut seat = Seat::take(&pyro, 120, 30, &["workspace", "shell", "attach", &id, &shell_id]);
    let _shown = seat.until("\rdeaf\n");
    let text = "x".repeat(100_000);
    let mut taken = 0;
    let refused = loop {
        let output = pyro.run(&["workspace", "shell", "write", &id, &shell_id, "--input", &text, "--json"]);
        if output.code != Some(0) {
            break output;
        }
        taken += 1;
    };
    assert!(taken >= 2, "200 kB find room");
    assert_eq!(refused.json()["code"], "shell_busy");
    let other = pyro.run(&["workspace", "exec", &id, "--", "echo", "well"]);
    assert_eq!((other.out().as_str(), other.code), ("well\n", Some(0)), "{}", other.err());
    // Somebody who pastes even more can leave all the same.
    for _ in 0..40 {
        seat.type_in(&text);
    }
    seat.type_in("\u{1c}");
    let (rest, code) = seat.end();
    assert_eq!(code, Some(0), "{rest:?}");
    let _ended = shell(&pyro, &["signal", &id, &shell_id, "--signal", "kill"]);
    let end = finish(pyro.spawn(&["workspace", "shell", "read", &id, &shell_id, "--follow"]));
    assert!(end.err().contains(" state=stopped "), "{}", end.err());
    assert_eq!(whole(&pyro, &id, &shell_id).0["exit_code"], 137);
}

#[test]
fn stop_of_the_workspace_ends_its_shells_and_their_clients() {
    let (pyro, id) = Pyro::with_sandbox();
    let shell_id = open(&pyro, &id);
    let mut seat = Seat::take(&pyro, 120, 30, &["workspace", "shell", "attach", &id, &shell_id]);
    let _prompt = seat.until("pyro$ ");
    assert_eq!(pyro.run(&["workspace", "stop", &id]).code, Some(0));
    let (rest, _) = seat.end();
    assert!(rest.contains("[error] shell ") || rest.contains(" state=stopped "), "{rest:?}");
    let late = pyro.run(&["workspace", "shell", "write", &id, &shell_id, "--input", "x", "--json"]);
    let code = late.json()["code"].clone();
    assert!(late.code == Some(1) && (code == "shell_lost" || code == "invalid_state"), "{code}");
    let (told, output) = whole(&pyro, &id, &shell_id);
    assert!(told["state"] == "stopped" && output.contains("pyro$ "), "{told}");
    let none = pyro.run(&["workspace", "shell", "open", &id, "--json"]);
    assert_eq!((none.code, &none.json()["code"]), (Some(1), &"invalid_state".into()));
}
