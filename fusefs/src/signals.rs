//! What the kernel's tables say of the threads that call the mount.
//!
//! A thread that waits in a call of the mount cannot take a signal before the call returns, and nobody else tells the mount
//! that one waits.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::io::Errno;

/// A thread that waits in a call of the mount.
#[derive(Debug)]
pub(crate) struct Caller {
    thread: u32,
    /// What the first look showed.
    known: Option<Known>,
}

#[derive(Debug)]
struct Known {
    /// The kernel's statistics of the thread, of which the third number says how often it has run; `None` where it does not
    /// count.
    statistics: Option<File>,
    /// How often it had run at the last close look.
    runs: Option<u64>,
    /// Its signals count among those of the user who looks.
    is_ours: bool,
}

/// How closely those who wait are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// No signal is queued for any process of this user. One that ends a process may have come nevertheless, but it has
    /// woken the thread, so that a look at how often this has run is enough. It takes a tenth of the time.
    Brief,
    Close,
}

impl Look {
    /// Returns how close a look has to be now.
    pub(crate) fn needed() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if queued(&status) == Some(0) { Self::Brief } else { Self::Close }
    }
}

impl Caller {
    /// Returns the caller with the number of a thread; `None` for 0, which the kernel tells of one that cannot be seen.
    pub(crate) fn seen(thread: u32) -> Option<Self> {
        (thread != 0).then_some(Self { thread, known: None })
    }

    /// Tells whether a signal waits for it that it neither blocks nor ignores. One that is gone has nothing to wait for.
    pub(crate) fn is_signalled(&mut self, look: Look) -> bool {
        let runs = self.known.as_ref().and_then(Known::count);
        if let (Look::Brief, Some(known)) = (look, &self.known)
            && known.is_ours
            && runs.is_some()
            && runs == known.runs
        {
            return false;
        }
        let status = match fs::read_to_string(format!("/proc/{}/status", self.thread)) {
            Ok(status) => status,
            Err(error) => return is_gone(&error),
        };
        // It was counted before the look, so that a signal which came in between is seen in the next count.
        match &mut self.known {
            Some(known) => known.runs = runs,
            known @ None => *known = Some(Known::new(self.thread, &status)),
        }
        has_signal(&status)
    }
}

impl Known {
    fn new(thread: u32, status: &str) -> Self {
        let namespace = |of: &str| fs::read_link(format!("/proc/{of}/ns/user")).ok();
        // Signals are counted for a user in a namespace.
        let own = namespace("self");
        let is_ours = own.is_some()
            && namespace(&thread.to_string()) == own
            && user(status) == Some(rustix::process::getuid().as_raw());
        let statistics = File::open(format!("/proc/{thread}/schedstat")).ok();
        Self { statistics, runs: None, is_ours }
    }

    fn count(&self) -> Option<u64> {
        /// Three numbers of 64 bits.
        const LEN_MAX: usize = 64;
        let mut text = [0; LEN_MAX];
        let len = self.statistics.as_ref()?.read_at(&mut text, 0).ok()?;
        let runs = str::from_utf8(&text[..len]).ok()?.split_whitespace().nth(2)?.parse().ok()?;
        // A kernel that does not count says 0.
        Some(runs).filter(|runs| *runs > 0)
    }
}

/// Tells whether a look failed because there is nothing any more; it may have failed for want of descriptors as well.
fn is_gone(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::SRCH))
}

/// Returns the process that a thread belongs to; the thread itself when it is gone.
pub(crate) fn process_of(thread: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    field(&status, "Tgid").and_then(|process| process.parse().ok()).unwrap_or(thread)
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Returns how many signals are queued for the processes of its user.
fn queued(status: &str) -> Option<u64> {
    field(status, "SigQ")?.split('/').next()?.parse().ok()
}

/// Returns the real user id.
fn user(status: &str) -> Option<u32> {
    field(status, "Uid")?.split_whitespace().next()?.parse().ok()
}

fn has_signal(status: &str) -> bool {
    let mask =
        |name: &str| field(status, name).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0);
    (mask("SigPnd") | mask("ShdPnd")) & !(mask("SigBlk") | mask("SigIgn")) != 0
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    use super::*;

    fn status(own: u64, shared: u64, blocked: u64, ignored: u64) -> String {
        format!(
            "Name:\tcat\nSigQ:\t0/1\nSigPnd:\t{own:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t0\n"
        )
    }

    /// Catches a signal that ends nothing, and one that ends a read although its program does not want it.
    #[test]
    fn a_signal_counts_when_the_process_would_take_it() {
        const INT: u64 = 1 << 1;
        assert!(has_signal(&status(INT, 0, 0, 0)) && has_signal(&status(0, INT, 0, 0)));
        assert!(!has_signal(&status(0, 0, 0, 0)) && !has_signal(""));
        assert!(!has_signal(&status(0, INT, INT, 0)) && !has_signal(&status(0, INT, 0, INT)));
        assert!(has_signal(&status(1 << 8, INT, INT, INT)), "SIGKILL cannot be blocked");
    }

    /// Catches a caller that is taken for one with a signal, or one that nobody lets go.
    #[test]
    fn a_thread_without_signals_and_one_that_is_gone() {
        for look in [Look::Brief, Look::Close] {
            let mut there = Caller::seen(std::process::id()).unwrap();
            assert!(!there.is_signalled(look) && !there.is_signalled(look));
            assert!(Caller::seen(u32::MAX).unwrap().is_signalled(look));
        }
        assert!(Caller::seen(0).is_none());
    }

    /// Catches a brief look that does not see that a thread has run, which is all that a deadly signal leaves to see.
    #[test]
    fn a_thread_that_has_run_is_looked_at_closely() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let known = Known::new(child.id(), "");
        let asleep = || {
            let stat = format!("/proc/{}/stat", child.id());
            while !fs::read_to_string(&stat).unwrap().contains(") S ") {
                std::thread::yield_now();
            }
            known.count()
        };
        input.write_all(b"x").unwrap();
        output.read_exact(&mut [0]).unwrap();
        for _ in 0..3 {
            let before = asleep();
            input.write_all(b"x").unwrap();
            output.read_exact(&mut [0]).unwrap();
            let after = asleep();
            assert!(before.is_none() || after > before, "{before:?} {after:?}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(known.count(), None);
    }

    #[test]
    fn what_the_kernel_counts() {
        let text = "Name:\tcat\nUid:\t1000\t0\t0\t0\nSigQ:\t3/9000\n";
        assert_eq!((queued(text), user(text), queued("")), (Some(3), Some(1000), None));
    }
}
