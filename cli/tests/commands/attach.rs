//! `pyro workspace shell attach` on a terminal

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

use pyro_api::{
    ClientMessage, Request, Response, ShellAttachRequest, ShellFollowEnd, ShellObject, Stream, WindowSize,
};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{LocalModes, OutputModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::peer::{Peer, World};
use crate::shell::{joined, shell, stopped};
use crate::terminal::{read_until, terminal};

type Script<T> = Box<dyn FnOnce(&mut Peer) -> T + Send>;

const ID: &str = "5f0c2a9be1d4";
const SHELL: &str = "9a41c07d2e55";

/// The program at a terminal of its own.
struct Seat {
    master: File,
    terminal: OwnedFd,
    found: Termios,
    child: Child,
}

impl Seat {
    /// Starts it as the leader of the terminal's session, so that the terminal sends it signals.
    fn take(world: &World, arguments: &[&str]) -> Self {
        let (master, terminal) = terminal();
        resize(&master, 100, 40);
        let pyro = world.command(&[&["workspace", "shell", "attach", ID], arguments].concat());
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(pyro.get_program()).args(pyro.get_args());
        let set = pyro.get_envs().filter_map(|(name, value)| Some((name, value?)));
        command.envs(set);
        let end = || Stdio::from(terminal.try_clone().expect("it can be shared"));
        let child =
            command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("setsid is part of the system");
        drop(command);
        let found = tcgetattr(&terminal).expect("it is a terminal");
        Self { master, terminal, found, child }
    }

    fn modes(&self) -> Termios {
        tcgetattr(&self.terminal).expect("it is a terminal")
    }

    fn type_in(&mut self, keys: &[u8]) {
        self.master.write_all(keys).expect("the terminal takes it");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is not waited for yet");
    }

    /// Waits for the end, and returns what was shown until then and the exit code.
    #[track_caller]
    fn leave(mut self) -> (String, Option<i32>) {
        let code = self.child.wait().expect("it ends").code();
        let modes = self.modes();
        assert_eq!(modes.local_modes, self.found.local_modes, "the terminal is as it was found");
        assert_eq!(modes.output_modes, self.found.output_modes, "the terminal is as it was found");
        assert_eq!(modes.input_modes, self.found.input_modes, "the terminal is as it was found");
        drop(self.terminal);
        let mut shown = Vec::new();
        // The end of a terminal is an error.
        let _end = self.master.read_to_end(&mut shown);
        (String::from_utf8_lossy(&shown).into_owned(), code)
    }
}

fn resize(master: &File, cols: u16, rows: u16) {
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).expect("it is a terminal");
}

fn attached(peer: &mut Peer) -> ShellAttachRequest {
    match peer.request() {
        Request::ShellAttach(request) => request,
        other => panic!("{other:?}"),
    }
}

fn end(peer: &mut Peer, shell: ShellObject, next_cursor: u64) {
    peer.reply(Ok(Response::ShellAttach(ShellFollowEnd { shell, next_cursor })));
}

/// Shows a prompt, passes on what the client says, and ends with its leaving.
fn listening(heard: Sender<ClientMessage>) -> Script<ShellAttachRequest> {
    Box::new(move |peer| {
        let request = attached(peer);
        joined(peer, 10);
        peer.print(Stream::Stdout, b"\x1b[?2004h$ ");
        while let Some(message) = peer.read() {
            let leaves = message == ClientMessage::Cancel;
            heard.send(message).expect("the test listens");
            if leaves {
                end(peer, shell(), 20);
            }
        }
        request
    })
}

/// Waits for keys, however the terminal cuts them.
#[track_caller]
fn hear(heard: &Receiver<ClientMessage>, keys: &[u8]) {
    let mut typed = Vec::new();
    while typed.len() < keys.len() {
        match heard.recv().expect("the client is there") {
            ClientMessage::Input(input) => typed.extend(input.data),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(typed, keys);
}

/// Catches a terminal that eats keys or changes output, a size that does not arrive, and a terminal that is left raw.
#[test]
fn terminal_is_the_shells_until_the_detach_key() {
    let world = World::new();
    let (heard, hears) = channel();
    let peer = world.serve([listening(heard)]);
    let mut seat = Seat::take(&world, &[SHELL]);
    assert_eq!(read_until(&mut seat.master, "$ "), "\u{1b}[?2004h$ ");
    let raw = seat.modes();
    assert!(!raw.local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG));
    assert!(!raw.output_modes.contains(OutputModes::OPOST));

    // Ctrl-C, Ctrl-Z, Enter and half a character are keys like others.
    seat.type_in(b"a\x03\x1a\r\xe6");
    hear(&hears, b"a\x03\x1a\r\xe6");
    resize(&seat.master, 81, 25);
    let size = WindowSize { cols: 81, rows: 25 };
    assert_eq!(hears.recv().expect("the client is there"), ClientMessage::Resize(size));

    seat.type_in(b"b\x1cignored");
    hear(&hears, b"b");
    assert_eq!(hears.recv().expect("the client is there"), ClientMessage::Cancel);
    let (shown, code) = seat.leave();
    assert_eq!(code, Some(0), "{shown:?}");
    assert_eq!(
        shown,
        format!(
            "\u{1b}[?2004l\r\n[workspace-shell-attach] workspace_id={ID} shell_id={SHELL} state=running \
             cwd=/workspace cols=120 rows=30 execution_mode=guest_vsock detached\r\n"
        )
    );
    let requests = peer.join().expect("the peer saw what it expected");
    let (workspace_id, shell_id) = (ID.to_owned(), SHELL.to_owned());
    let size = Some(WindowSize { cols: 100, rows: 40 });
    assert_eq!(requests, [ShellAttachRequest { workspace_id, shell_id, cursor: None, size }]);
}

#[test]
fn other_keys_can_detach() {
    let world = World::new();
    let (heard, hears) = channel();
    world.serve([listening(heard)]);
    let mut seat = Seat::take(&world, &[SHELL, "--detach-keys", "ctrl-p,ctrl-q"]);
    read_until(&mut seat.master, "$ ");
    seat.type_in(b"\x1c\x10x\x10\x11");
    hear(&hears, b"\x1c\x10x");
    assert_eq!(hears.recv().expect("the client is there"), ClientMessage::Cancel);
    assert_eq!(seat.leave().1, Some(0));
}

/// Catches a terminal that stays in the alternate screen or without a cursor, and an exit code that is not the shell's.
#[test]
fn shell_that_ends_gives_its_exit_code_and_the_terminal_back() {
    let world = World::new();
    let opening: Script<()> = Box::new(|peer| {
        let Request::ShellOpen(request) = peer.request() else { panic!("a shell is opened first") };
        assert_eq!((request.cols, request.rows, request.cwd.as_str()), (100, 40, "/workspace"));
        peer.reply(Ok(Response::ShellOpen(shell())));
    });
    let ending: Script<()> = Box::new(|peer| {
        assert_eq!(attached(peer).shell_id, SHELL);
        joined(peer, 0);
        peer.print(Stream::Stdout, b"\x1b[?1049h\x1b[?25l\x1b[7mtop\r\n");
        end(peer, stopped(7), 23);
    });
    let peer = world.serve([opening, ending]);
    let (shown, code) = Seat::take(&world, &[]).leave();
    peer.join().expect("the peer saw what it expected");
    assert_eq!(code, Some(7), "{shown:?}");
    let tail = "\u{1b}[7mtop\r\n\u{1b}[?1049l\u{1b}[?25h\u{1b}[0m[workspace-shell-attach] ";
    assert!(shown.starts_with("[workspace-shell-open] ") && shown.contains(tail), "{shown:?}");
    assert!(shown.ends_with(" exit_code=7\r\n"), "{shown:?}");
}

#[test]
fn signals_leave_the_shell_and_give_the_terminal_back() {
    for (signal, expected) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::INT, 130)] {
        let world = World::new();
        let (heard, hears) = channel();
        world.serve([listening(heard)]);
        let mut seat = Seat::take(&world, &[SHELL]);
        read_until(&mut seat.master, "$ ");
        seat.signal(signal);
        assert_eq!(hears.recv().expect("the client is there"), ClientMessage::Cancel);
        let (shown, code) = seat.leave();
        assert_eq!(code, Some(expected), "{shown:?}");
    }
}

/// Catches a terminal that stays raw when the daemon does not even answer the wish to leave.
#[test]
fn second_signal_gives_the_terminal_back_as_well() {
    let world = World::new();
    let (heard, hears) = channel();
    world.serve([Box::new(move |peer: &mut Peer| {
        attached(peer);
        joined(peer, 0);
        peer.print(Stream::Stdout, b"$ ");
        while let Some(message) = peer.read() {
            heard.send(message).expect("the test listens");
        }
    }) as Script<()>]);
    let mut seat = Seat::take(&world, &[SHELL]);
    read_until(&mut seat.master, "$ ");
    seat.signal(Signal::TERM);
    assert_eq!(hears.recv().expect("the client is there"), ClientMessage::Cancel);
    seat.signal(Signal::TERM);
    assert_eq!(seat.leave().1, Some(143));
}

/// Catches output that is lost or doubled, a size that is forgotten, and keys that go to nobody after the next daemon is
/// there.
#[test]
fn terminal_stays_while_the_daemon_is_replaced() {
    let world = World::new();
    let (ready, is_ready) = channel();
    let dying: Script<ShellAttachRequest> = Box::new(move |peer| {
        let request = attached(peer);
        joined(peer, 10);
        peer.print(Stream::Stdout, b"one ");
        is_ready.recv().expect("the test goes on");
        let Some(ClientMessage::Resize(_)) = peer.read() else { panic!("another size is told") };
        request
    });
    let (heard, hears) = channel();
    let next: Script<ShellAttachRequest> = Box::new(move |peer| {
        let request = attached(peer);
        joined(peer, 14);
        peer.print(Stream::Stdout, b"two ");
        let Some(key) = peer.read() else { panic!("a key is typed") };
        heard.send(key).expect("the test listens");
        end(peer, stopped(0), 18);
        request
    });
    let peer = world.serve([dying, next]);
    let mut seat = Seat::take(&world, &[SHELL]);
    read_until(&mut seat.master, "one ");
    ready.send(()).expect("the peer waits");
    resize(&seat.master, 90, 20);
    assert_eq!(read_until(&mut seat.master, "two "), "two ");
    seat.type_in(b"k");
    hear(&hears, b"k");
    let (shown, code) = seat.leave();
    assert_eq!(code, Some(0), "{shown:?}");
    let requests = peer.join().expect("the peer saw what it expected");
    let asked: Vec<_> = requests.iter().map(|request| (request.cursor, request.size)).collect();
    let size = |cols, rows| Some(WindowSize { cols, rows });
    assert_eq!(asked, [(None, size(100, 40)), (Some(14), size(90, 20))]);
}

/// Catches an error that is printed into a raw terminal, or a terminal that was touched for nothing.
#[test]
fn shell_that_is_not_there_touches_no_terminal() {
    let world = World::new();
    world.serve([Box::new(|peer: &mut Peer| {
        peer.request();
        let error = pyro_api::ApiError::new(pyro_api::ErrorCode::UnknownShell, "no shell");
        peer.reply(Err(error));
    }) as Script<()>]);
    let (shown, code) = Seat::take(&world, &[SHELL]).leave();
    assert_eq!((shown.as_str(), code), ("[error] no shell\r\n", Some(1)));
}
