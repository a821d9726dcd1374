//! What the kernel's tables say of the threads that call the mount.
//!
//! A thread that waits in a call of the mount cannot take a signal before the call returns, and nobody else tells the mount
//! that one waits.

/// Tells whether a signal waits for a thread that neither blocks nor ignores it. One that is gone has nothing to wait for.
pub(crate) fn is_signalled(thread: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{thread}/status")).map_or(true, |status| has_signal(&status))
}

/// Returns the process that a thread belongs to; the thread itself when it is gone.
pub(crate) fn process_of(thread: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let process = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok());
    process.unwrap_or(thread)
}

fn has_signal(status: &str) -> bool {
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0)
    };
    (mask("SigPnd") | mask("ShdPnd")) & !(mask("SigBlk") | mask("SigIgn")) != 0
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_thread_without_signals_and_one_that_is_gone() {
        assert!(!is_signalled(std::process::id()));
        assert!(is_signalled(u32::MAX));
    }
}
