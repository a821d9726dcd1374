//! `pyro workspace shell attach`

use std::io::{self, IsTerminal as _, Read as _};
use std::process::ExitCode;

use nix::sys::signal::Signal;
use pyro_api::{
    ApiError, Attachment, ErrorCode, Keyboard, ShellAttachRequest, ShellEvent, ShellFollowEnd,
    ShellOpenRequest, Stream, WindowSize, new_request_id,
};

use super::line::shell_line;
use crate::arguments::ShellAttachArgs;
use crate::detach_keys::{DetachKeys, DetachScanner};
use crate::exit::Failure;
use crate::follow::gap_line;
use crate::interrupts::Interrupts;
use crate::raw_mode::RawMode;
use crate::screen_debts::ScreenDebts;
use crate::session::Session;
use crate::sink::Sink;
use crate::window_changes::{WindowChanges, window_size};

/// Most keys that are taken at once.
const READ_LEN: usize = 16 * 1024;

/// Where a shell that is opened on the way begins.
const CWD: &str = "/workspace";

/// Size of the terminal of a shell when this process has none.
const SIZE_WITHOUT_TERMINAL: WindowSize = WindowSize { cols: 120, rows: 30 };

pub(super) fn execute(args: ShellAttachArgs) -> Result<ExitCode, Failure> {
    let keyboard = Keyboard::new()?;
    let changes = WindowChanges::take_over()?;
    let interrupts = Interrupts::leaving(&keyboard)?;
    let session = Session::starting()?;
    let size = window_size();
    let shell_id = match args.shell_id {
        Some(shell_id) => shell_id,
        None => open(&session, &args.workspace_id, size)?,
    };
    let request = ShellAttachRequest { workspace_id: args.workspace_id, shell_id, cursor: None, size };
    let attachment = Attachment::attach(session.link(), request, &keyboard)?;
    if size.is_some() {
        changes.tell(&keyboard)?;
    }
    let end = show(attachment, &keyboard, args.detach_keys)?;
    report(&end, interrupts.first())
}

fn open(session: &Session, workspace_id: &str, size: Option<WindowSize>) -> Result<String, Failure> {
    let WindowSize { cols, rows } = size.unwrap_or(SIZE_WITHOUT_TERMINAL);
    let (workspace_id, cwd) = (workspace_id.to_owned(), CWD.to_owned());
    let request = ShellOpenRequest { workspace_id, cwd, cols, rows, request_id: Some(new_request_id()) };
    let shell = session.call(request)?;
    Sink::stderr()?.own(&shell_line("open", &shell, ""))?;
    Ok(shell.shell_id)
}

/// Lets the terminal and the shell talk until one of them ends.
fn show(
    mut attachment: Attachment,
    keyboard: &Keyboard,
    keys: DetachKeys,
) -> Result<ShellFollowEnd, Failure> {
    let mut screen = Screen::new()?;
    let mut keys = Some(keys);
    let mut raw = None;
    loop {
        match attachment.next_event()? {
            // Only now: nothing is typed into a shell that is not there.
            ShellEvent::Joined { .. } => {
                raw = io::stdin().is_terminal().then(|| RawMode::enter(&io::stdin())).transpose()?;
                let scanner = keys.take().filter(|_| raw.is_some()).map(DetachScanner::new);
                read_keys(keyboard, scanner)?;
            }
            ShellEvent::Output(bytes) => screen.show(&bytes)?,
            ShellEvent::Gap(len_bytes) => screen.tell(&gap_line(Stream::Stdout, len_bytes))?,
            ShellEvent::Ended(end) => {
                screen.leave()?;
                drop(raw);
                return Ok(end);
            }
        }
    }
}

/// Says how the attachment ended. A shell that ended gives its exit code.
fn report(end: &ShellFollowEnd, interrupted: Option<Signal>) -> Result<ExitCode, Failure> {
    let shell = &end.shell;
    let mut stderr = Sink::stderr()?;
    match (shell.ended_at, shell.exit_code, interrupted) {
        (None, _, Some(signal)) => Err(Failure::Interrupted(signal)),
        (None, _, None) => {
            stderr.own(&shell_line("attach", shell, " detached"))?;
            Ok(ExitCode::SUCCESS)
        }
        (Some(_), Some(exit_code), _) => {
            stderr.own(&shell_line("attach", shell, &format!(" exit_code={exit_code}")))?;
            Ok(ExitCode::from(exit_code))
        }
        (Some(_), None, _) => {
            let reason = shell.error.as_deref().unwrap_or("its guest is gone");
            let message = format!("shell {} is lost: {reason}", shell.shell_id);
            let hint =
                "what it printed can be read until it is closed; `pyro workspace shell open` opens another";
            Err(ApiError::new(ErrorCode::ShellLost, message).with_hint(hint).into())
        }
    }
}

/// Passes on what is typed, in a thread of its own. Keys that leave the shell are looked for where a person types.
fn read_keys(keyboard: &Keyboard, mut scanner: Option<DetachScanner>) -> io::Result<()> {
    let keyboard = keyboard.clone();
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        let (mut stdin, mut chunk, mut passed) = (io::stdin().lock(), [0; READ_LEN], Vec::new());
        while let Ok(len @ 1..) = stdin.read(&mut chunk) {
            match &mut scanner {
                Some(scanner) => {
                    passed.clear();
                    let leaves = scanner.push(&chunk[..len], &mut passed);
                    // Like a terminal whose job does not read for long: what finds no room is dropped.
                    let _dropped = keyboard.offer(&passed);
                    if leaves {
                        keyboard.leave();
                        return;
                    }
                }
                None => {
                    if !keyboard.type_in(&chunk[..len]) {
                        return;
                    }
                }
            }
        }
        // A terminal ends only by a hang-up, and nobody sits there any more.
        if scanner.is_some() {
            keyboard.leave();
        }
    })?;
    Ok(())
}

/// Standard output, on which a guest may do what it wants as long as it is there.
#[derive(Debug)]
struct Screen {
    stdout: Sink,
    debts: ScreenDebts,
    left: bool,
}

impl Screen {
    fn new() -> io::Result<Self> {
        let mut stdout = Sink::stdout()?;
        stdout.raw();
        Ok(Self { stdout, debts: ScreenDebts::default(), left: false })
    }

    fn show(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.stdout.is_terminal() {
            self.debts.push(bytes);
        }
        self.stdout.guest(bytes)
    }

    /// Writes a line of our own below what the guest shows. A terminal in raw mode needs to be told to begin at the left.
    fn tell(&mut self, line: &str) -> io::Result<()> {
        let begin = if self.stdout.has_open_line() { "\r\n" } else { "" };
        Sink::stderr()?.own(&format!("{begin}{}\r\n", line.trim_end()))
    }

    /// Gives the terminal back as it was found, with the cursor at the beginning of a line.
    fn leave(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.left, true) {
            return Ok(());
        }
        let line_open = self.stdout.has_open_line();
        self.stdout.guest(&std::mem::take(&mut self.debts).settle())?;
        if line_open {
            self.stdout.guest(b"\r\n")?;
        }
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // After an error the terminal is given back as well; it is reported on a terminal that shows it.
        let _unwritable = self.leave();
    }
}
