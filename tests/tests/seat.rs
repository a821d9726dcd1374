//! A person at a terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use pyro_tests::Pyro;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Longest time for which nothing may be shown while something is expected, on a loaded machine without KVM.
const DEADLINE_SECONDS: i64 = 60;

/// The program at a terminal of its own, which sends it signals like any other.
#[derive(Debug)]
pub(crate) struct Seat {
    master: File,
    child: Child,
    /// What was shown and not asked for yet.
    shown: Vec<u8>,
}

impl Seat {
    #[track_caller]
    pub(crate) fn take(pyro: &Pyro, cols: u16, rows: u16, arguments: &[&str]) -> Self {
        Self::at(cols, rows, &pyro.command(arguments))
    }

    /// Runs any program at a terminal.
    #[track_caller]
    pub(crate) fn at(cols: u16, rows: u16, program: &Command) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("there are terminals");
        grantpt(&master).expect("it is ours");
        unlockpt(&master).expect("it is ours");
        let terminal = ioctl_tiocgptpeer(&master, flags).expect("it is ours");
        let master = File::from(master);
        resize(&master, cols, rows);
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(program.get_program()).args(program.get_args());
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let end = || Stdio::from(terminal.try_clone().expect("it can be shared"));
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn();
        Self { master, child: child.expect("setsid is part of the system"), shown: Vec::new() }
    }

    pub(crate) fn type_in(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("the terminal takes it");
    }

    pub(crate) fn resize(&self, cols: u16, rows: u16) {
        resize(&self.master, cols, rows);
    }

    /// Reads until this is shown, and returns everything up to its end.
    #[track_caller]
    pub(crate) fn until(&mut self, text: &str) -> String {
        let mut chunk = [0; 4096];
        loop {
            if let Some(position) =
                self.shown.windows(text.len()).position(|window| window == text.as_bytes())
            {
                let rest = self.shown.split_off(position + text.len());
                return String::from_utf8_lossy(&std::mem::replace(&mut self.shown, rest)).into_owned();
            }
            let timeout = Timespec { tv_sec: DEADLINE_SECONDS, tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(&self.master, PollFlags::IN)], Some(&timeout));
            match ready.map(|ready| if ready > 0 { self.master.read(&mut chunk).ok() } else { None }) {
                Ok(Some(len @ 1..)) => self.shown.extend_from_slice(&chunk[..len]),
                _ => panic!("{text:?} does not come: {:?}", String::from_utf8_lossy(&self.shown)),
            }
        }
    }

    /// Waits for the end, and returns what was shown until then and the exit code.
    pub(crate) fn end(mut self) -> (String, Option<i32>) {
        // The end of a terminal is an error.
        let _end = self.master.read_to_end(&mut self.shown);
        let code = self.child.wait().expect("a child can be waited for").code();
        (String::from_utf8_lossy(&std::mem::take(&mut self.shown)).into_owned(), code)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ended = self.child.kill();
        let _waited = self.child.wait();
    }
}

fn resize(master: &File, cols: u16, rows: u16) {
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).expect("it is a terminal");
}
