//! What this process is: the kernel, the host's sandbox and the agent itself start the same program.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::ExitCode;

/// The directory in which imports are staged: on the root's file system, from which they are moved in.
pub(crate) const STAGES: &str = "/.pyro";

/// What this process is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// PID 1 of a virtual machine, started by the kernel from the initramfs.
    Init,
    /// The agent of a host sandbox.
    Listen {
        /// The inherited listening socket.
        fd: RawFd,
        /// The directory in which imports are staged.
        stages: PathBuf,
    },
    /// The process between the agent and one command or shell.
    Warden,
}

/// The arguments are none of the known ones.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("usage: pyro-guest-agent --listen-fd N [--stage-root DIR] (or as /init of an initramfs)")]
pub(crate) struct Usage;

impl Mode {
    /// Returns what this process is by its arguments and its process id.
    pub(crate) fn of_this_process() -> Result<Self, Usage> {
        Self::parse(std::env::args_os().skip(1).collect(), std::process::id())
    }

    fn parse(arguments: Vec<OsString>, pid: u32) -> Result<Self, Usage> {
        let mut rest = arguments.into_iter();
        match rest.next().as_ref().and_then(|first| first.to_str()) {
            Some("--listen-fd") => {
                let fd = descriptor(rest.next())?;
                Ok(Self::Listen { fd, stages: stages(rest.next(), rest.next())? })
            }
            Some("--warden") => rest.next().map_or(Ok(Self::Warden), |_word| Err(Usage)),
            // The kernel hands words of its command line that it does not know to init as arguments.
            Some(_) | None => {
                if pid == 1 {
                    Ok(Self::Init)
                } else {
                    Err(Usage)
                }
            }
        }
    }
}

fn descriptor(argument: Option<OsString>) -> Result<RawFd, Usage> {
    let fd: RawFd =
        argument.as_ref().and_then(|text| text.to_str()).and_then(|text| text.parse().ok()).ok_or(Usage)?;
    if fd > 2 { Ok(fd) } else { Err(Usage) }
}

fn stages(option: Option<OsString>, directory: Option<OsString>) -> Result<PathBuf, Usage> {
    match (option.as_ref().and_then(|option| option.to_str()), directory) {
        (None, None) => Ok(PathBuf::from(STAGES)),
        (Some("--stage-root"), Some(directory)) => Ok(PathBuf::from(directory)),
        _ => Err(Usage),
    }
}

/// Tells a person on stderr how the program is used.
pub(crate) fn complain(usage: &Usage) -> ExitCode {
    // Nobody is left to tell when stderr is gone.
    let _unwritable = writeln!(std::io::stderr(), "{usage}");
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str], pid: u32) -> Result<Mode, Usage> {
        Mode::parse(arguments.iter().map(OsString::from).collect(), pid)
    }

    #[test]
    fn the_kernel_starts_init_whatever_it_passes_on() {
        assert_eq!(parse(&[], 1), Ok(Mode::Init));
        assert_eq!(parse(&["splash"], 1), Ok(Mode::Init));
        assert_eq!(parse(&[], 7), Err(Usage));
    }

    #[test]
    fn a_sandbox_names_its_socket() {
        let listen = |stages: &str| Ok(Mode::Listen { fd: 3, stages: PathBuf::from(stages) });
        assert_eq!(parse(&["--listen-fd", "3"], 1), listen("/.pyro"));
        assert_eq!(parse(&["--listen-fd", "3", "--stage-root", "/tmp/a"], 1), listen("/tmp/a"));
        assert_eq!(parse(&["--listen-fd", "3", "--stage-root"], 1), Err(Usage));
        assert_eq!(parse(&["--listen-fd", "3", "--other", "/tmp/a"], 1), Err(Usage));
        assert_eq!(parse(&["--listen-fd", "1"], 1), Err(Usage));
        assert_eq!(parse(&["--listen-fd", "x"], 1), Err(Usage));
        assert_eq!(parse(&["--listen-fd"], 1), Err(Usage));
    }

    #[test]
    fn a_warden_has_no_words() {
        assert_eq!(parse(&["--warden"], 9), Ok(Mode::Warden));
        assert_eq!(parse(&["--warden", "4"], 9), Err(Usage));
    }
}
