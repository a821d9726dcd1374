//! What work in a workspace costs: commands, shells, files, output.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pyro_api::{
    Client, ClientInfo, Face, Home, Incoming, Input, Sender, ShellAttachRequest, ShellOpenRequest, Start,
    WorkspaceExecRequest, new_request_id,
};
use pyro_tests::{Pyro, environments};

use crate::by_hand::Container;
use crate::sample::{Goal, Row, Samples, interleaved, timed};
use crate::succeed;

/// Rounds of what takes milliseconds.
const ROUNDS_FAST: usize = 60;
/// Rounds of what takes a good part of a second.
const ROUNDS_SLOW: usize = 5;

const MIB: usize = 1024 * 1024;
/// Most memory that the daemon may have used while output came in, in MiB.
const DAEMON_MIB_MAX: u64 = 96;

/// Measures, and shows each row as soon as it is known.
pub(crate) fn measure(show: fn(&Row)) {
    let pyro = Pyro::new().config("backend = \"host_sandbox\"\n");
    show(&create(&pyro));
    let sandbox = Place::new(&pyro, "host sandbox", &["--allow-host-compat", "--ttl-seconds", "0"]);
    let root = environments().join("linux-x86_64/debian_12-1.0.0/rootfs");
    match Container::start(&root) {
        Some(container) => exec(&sandbox, &container).iter().for_each(show),
        None => println!("skipped: runc cannot run a container here"),
    }
    show(&echo(&sandbox));
    push(&sandbox).iter().for_each(show);
    show(&ingest(&sandbox));
    let vm = Pyro::new().config("backend = \"qemu\"\n");
    let machine = Place::new(&vm, "QEMU", &["--mem-mib", "512", "--ttl-seconds", "0"]);
    if let Some(container) = Container::start(&root) {
        exec(&machine, &container).iter().for_each(show);
    }
    show(&echo(&machine));
}

/// A started workspace.
pub(crate) struct Place<'a> {
    pyro: &'a Pyro,
    name: &'static str,
    pub(crate) id: String,
}

impl<'a> Place<'a> {
    pub(crate) fn new(pyro: &'a Pyro, name: &'static str, options: &[&str]) -> Self {
        let arguments = [&["workspace", "create", "debian:12", "--id-only"], options].concat();
        let created = pyro.run(&arguments);
        assert_eq!(created.code, Some(0), "{}", created.err());
        let place = Self { pyro, name, id: created.out().trim_end().to_owned() };
        let _files_are_read = timed(|| place.exec_by_cli());
        place
    }

    pub(crate) fn client(&self) -> Client {
        let info = ClientInfo { client: "bench".to_owned(), face: Face::Cli };
        let home = Home::at(self.pyro.home()).expect("the home is there");
        Client::connect(&home, &info, &Start::Never).expect("the daemon runs")
    }

    /// Sends nothing of the command's output to the terminal of the benchmark.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.pyro.command(words);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn exec_by_cli(&self) {
        succeed(self.command(&["workspace", "exec", &self.id, "--", "true"]));
    }

    pub(crate) fn exec_by_socket(&self, client: &mut Client) {
        let request = WorkspaceExecRequest {
            workspace_id: self.id.clone(),
            command: "true".to_owned(),
            timeout_seconds: 30,
            request_id: None,
            resume: None,
        };
        let outcome = client.call(request, drop).expect("the command runs");
        assert_eq!(outcome.exit_code, 0);
    }
}

fn create(pyro: &Pyro) -> Row {
    let _the_daemon_starts = pyro.daemon_pid();
    let mut ids = Vec::new();
    let mut create = || {
        timed(|| {
            let words = ["workspace", "create", "debian:12", "--id-only", "--allow-host-compat"];
            let created = pyro.run(&[&words[..], &["--mem-mib", "128"]].concat());
            assert_eq!(created.code, Some(0), "{}", created.err());
            ids.push(created.out().trim_end().to_owned());
        })
    };
    let samples = Samples::alone((0..ROUNDS_FAST / 2).map(|_| create()).collect());
    for id in ids {
        succeed(pyro.command(&["workspace", "delete", &id]));
    }
    samples.row("`pyro workspace create`, host sandbox", "", Goal::Below(Duration::from_millis(30)))
}

fn exec(place: &Place<'_>, container: &Container) -> Vec<Row> {
    let by = "`runc exec`, same root";
    let (through_socket, through_cli) = match place.name {
        "host sandbox" => (Goal::AtMost(0.1), Goal::AtMost(0.25)),
        _ => (Goal::None, Goal::None),
    };
    let mut client = place.client();
    let socket = || timed(|| place.exec_by_socket(&mut client));
    let socket = interleaved(ROUNDS_FAST, socket, || timed(|| container.exec()));
    let cli = interleaved(ROUNDS_FAST, || timed(|| place.exec_by_cli()), || timed(|| container.exec()));
    vec![
        socket.row(&format!("`exec true` by socket, {}", place.name), by, through_socket),
        cli.row(&format!("`pyro workspace exec -- true`, {}", place.name), by, through_cli),
    ]
}

/// Types a line into `cat` and waits until the terminal shows it twice: the echo, and what `cat` writes.
fn echo(place: &Place<'_>) -> Row {
    let open = ShellOpenRequest {
        workspace_id: place.id.clone(),
        cwd: "/workspace".to_owned(),
        cols: 120,
        rows: 30,
        request_id: None,
    };
    let shell = place.client().call(open, drop).expect("a shell opens");
    let mut client = place.client();
    let sender = client.sender();
    let attach = ShellAttachRequest {
        workspace_id: place.id.clone(),
        shell_id: shell.shell_id,
        cursor: None,
        size: None,
    };
    client.send(attach).expect("the daemon listens");
    type_until_shown(&mut client, &sender, "echo re''ady; exec cat", "ready\r\n");
    let samples = (0..ROUNDS_FAST)
        .map(|round| {
            let line = format!("round-{round}-");
            let shown = format!("{line}\r\n{line}\r\n");
            timed(|| type_until_shown(&mut client, &sender, &line, &shown))
        })
        .collect();
    sender.cancel().expect("the daemon listens");
    Samples::alone(samples).row(&format!("a line typed and shown twice, {}", place.name), "", Goal::None)
}

fn type_until_shown(client: &mut Client, sender: &Sender, line: &str, expected: &str) {
    let input = Input { request_id: new_request_id(), data: format!("{line}\n").into_bytes() };
    sender.input(&input).expect("the daemon listens");
    let mut shown = Vec::new();
    loop {
        match client.receive().expect("the daemon answers") {
            Incoming::Output(_, bytes) => shown.extend_from_slice(&bytes),
            Incoming::Progress(_) | Incoming::Event(_) => {}
            Incoming::Reply(reply) => panic!("the shell ended: {reply:?}"),
        }
        if String::from_utf8_lossy(&shown).contains(expected) {
            return;
        }
    }
}

fn push(place: &Place<'_>) -> Vec<Row> {
    let large = tempfile::tempdir().expect("a temporary directory can be made");
    let block: Vec<u8> = (0..MIB).map(|index| u8::try_from(index % 251).expect("below 251")).collect();
    let mut file = fs::File::create(large.path().join("large")).expect("a file can be made");
    for _ in 0..200 {
        file.write_all(&block).expect("the disk has room");
    }
    let small = tempfile::tempdir().expect("a temporary directory can be made");
    for number in 0..2000 {
        fs::write(small.path().join(format!("file-{number}")), &block[..1024]).expect("the disk has room");
    }
    vec![
        push_against_tar(place, large.path()).row(
            "push of one file of 200 MiB, host sandbox",
            "`tar \\| tar`",
            Goal::AtMost(1.5),
        ),
        push_against_tar(place, small.path()).row(
            "push of 2,000 files of 1 kB, host sandbox",
            "`tar \\| tar`",
            Goal::AtMost(2.0),
        ),
    ]
}

fn push_against_tar(place: &Place<'_>, source: &Path) -> Samples {
    let source = source.to_str().expect("the path is UTF-8");
    let mut round = 0;
    let ours = || {
        round += 1;
        let dest = format!("pushed-{round}");
        let took = timed(|| {
            succeed(place.command(&["workspace", "sync", "push", &place.id, source, "--dest", &dest]))
        });
        succeed(place.command(&["workspace", "exec", &place.id, "--", "rm", "-r", &dest]));
        took
    };
    let by_tar = || {
        // On the file system of the workspace.
        let target = tempfile::tempdir_in(place.pyro.home()).expect("a temporary directory can be made");
        let script = r#"tar -C "$0" -cf - . | tar -C "$1" -xf -"#;
        let mut command = Command::new("sh");
        command.args(["-c", script, source]).arg(target.path());
        timed(|| succeed(command))
    };
    interleaved(ROUNDS_SLOW, ours, by_tar)
}

fn ingest(place: &Place<'_>) -> Row {
    let size = "1073741824";
    let target = place.pyro.home().join("ingested");
    let ours = || {
        timed(|| {
            succeed(place.command(&["workspace", "exec", &place.id, "--", "head", "-c", size, "/dev/zero"]))
        })
    };
    let by_cat = || {
        let mut command = Command::new("sh");
        command.args(["-c", r#"head -c "$0" /dev/zero | cat > "$1""#, size]).arg(&target);
        timed(|| succeed(command))
    };
    let samples = interleaved(ROUNDS_SLOW, ours, by_cat);
    fs::remove_file(&target).expect("the file is there");
    let peak = peak_mib(place.pyro.daemon_pid());
    assert!(peak < DAEMON_MIB_MAX, "the daemon used {peak} MiB");
    let what = format!("1 GiB of output of a command, host sandbox (daemon at most {peak} MiB)");
    samples.row(&what, "`cat > file`", Goal::SpeedAtLeast(0.3))
}

/// Returns the most memory that a process has had at once.
pub(crate) fn peak_mib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel tells");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib / 1024
}
