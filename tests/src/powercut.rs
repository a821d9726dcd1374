//! Power cuts: a guest appends to a log on ext4, QEMU is killed, and the disk is looked at.
//!
//! ```text
//! boot --> `opened SEQ` --> `acked TAG SEQ GROUP` ... --> SIGKILL of QEMU --> copy of the disk
//!   ^                                                                            | e2fsck, debugfs
//!   +---- the same disk, a few rounds long                                       v
//!                                        `powercut-writer check`, with the index as it is, and then damaged
//! ```
//!
//! What dies with QEMU is the guest's kernel with its page cache and the requests that its disk had not answered. A write
//! that the disk did answer is in the page cache of the host and stays: a disk that loses its own cache is not shown.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::environments;
use crate::torture::Chance;

/// A new disk after so many rounds; until then each boot goes on with what the cut before it left.
const ROUNDS_PER_DISK: u32 = 5;
/// Sizes of groups: one event, a few, many.
const GROUPS: [u64; 3] = [1, 4, 60];
/// Most acknowledgements that are waited for before a cut.
const ACKED_MAX: u64 = 250;
const DISK_LEN_BYTES: u64 = 256 << 20;
/// Longest time without a word from a guest, on a loaded machine without KVM.
const SILENCE_MAX: Timespec = Timespec { tv_sec: 120, tv_nsec: 0 };

/// What came of one round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Most events of a group.
    pub group: u64,
    /// What was acknowledged before the cut, on this disk.
    pub acked: usize,
    /// What the check said of the log as it was.
    pub found: String,
    /// What the check said when the index was damaged as well.
    pub found_without_index: String,
}

/// A round that went wrong.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// Something that is needed could not be done.
    #[error("failed to {doing}: {source}")]
    Io {
        /// What.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A program did not do what it was to do.
    #[error("{program} failed: {said}")]
    Program {
        /// Which one.
        program: String,
        /// What it said.
        said: String,
    },
    /// The guest ended, or said nothing any more.
    #[error("the guest ended by itself: {said}")]
    Guest {
        /// Its last words.
        said: String,
    },
    /// A promise is broken.
    #[error("{what}; the disk is kept in {}", disk.display())]
    Broken {
        /// Which one, and by what.
        what: String,
        /// Where the disk is.
        disk: PathBuf,
    },
}

fn io(doing: &'static str) -> impl FnOnce(io::Error) -> CutError {
    move |source| CutError::Io { doing, source }
}

/// A disk that loses power, and what was acknowledged on it.
#[derive(Debug)]
pub struct Cuts {
    scratch: tempfile::TempDir,
    writer: PathBuf,
    chance: Chance,
    rounds: u32,
    acked: Vec<String>,
}

impl Cuts {
    /// Prepares the first boot of a writer, a static build of the store's example `powercut-writer`.
    ///
    /// # Errors
    ///
    /// When the environment `debian:12` or the writer cannot be read.
    pub fn new(writer: &Path, seed: u64) -> Result<Self, CutError> {
        let scratch =
            tempfile::Builder::new().prefix("powercut").tempdir().map_err(io("make a directory"))?;
        let mut initramfs = fs::read(environment().join("modules.cpio")).map_err(io("read the modules"))?;
        let program = fs::read(writer).map_err(io("read the writer"))?;
        // The kernel unpacks several archives one after the other.
        initramfs.extend(member("init", 0o100_755, &program));
        initramfs.extend(member("TRAILER!!!", 0, &[]));
        fs::write(scratch.path().join("initramfs"), initramfs).map_err(io("write the initramfs"))?;
        let chance = Chance::new(seed);
        Ok(Self { scratch, writer: writer.to_owned(), chance, rounds: 0, acked: Vec::new() })
    }

    fn disk(&self) -> PathBuf {
        self.scratch.path().join("disk")
    }

    /// Boots, cuts the power and checks what is left.
    ///
    /// # Errors
    ///
    /// [`CutError::Broken`] when what is left is not what was promised; the others when that could not be found out.
    pub fn round(&mut self) -> Result<Round, CutError> {
        if self.rounds.is_multiple_of(ROUNDS_PER_DISK) {
            let disk = File::create(self.disk()).map_err(io("make the disk"))?;
            disk.set_len(DISK_LEN_BYTES).map_err(io("make the disk"))?;
            run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(self.disk()), &[0])?;
            self.acked.clear();
        }
        self.rounds += 1;
        let group = *self.chance.pick(&GROUPS).expect("there are some");
        self.boot_and_cut(group)?;
        let (found, found_without_index) = self.look().map_err(|error| self.keep(error))?;
        Ok(Round { group, acked: self.acked.len(), found, found_without_index })
    }

    fn boot_and_cut(&mut self, group: u64) -> Result<(), CutError> {
        let mut qemu = self.qemu(group).spawn().map_err(io("start QEMU"))?;
        let stdout = qemu.stdout.take().expect("it is piped");
        let seen = self.watch(BufReader::new(stdout), &mut qemu);
        // It may have ended by itself, which `watch` has found out then.
        let _ended = qemu.kill();
        qemu.wait().map_err(io("wait for QEMU"))?;
        seen
    }

    /// Waits for as many acknowledgements as chance wants, cuts, and keeps all that were complete.
    fn watch(&mut self, mut console: BufReader<ChildStdout>, qemu: &mut Child) -> Result<(), CutError> {
        let mut wanted = self.chance.below(ACKED_MAX);
        let pause = Duration::from_micros(self.chance.below(20_000));
        let mut said = String::new();
        loop {
            let line = next_line(&mut console, &said)?;
            said.push_str(&line);
            if let Some(opened) = line.strip_prefix("opened ") {
                self.compare_with_opened(opened)?;
            }
            if line.starts_with("failed") {
                return Err(CutError::Guest { said });
            }
            let Some(acked) = acknowledgement(&line) else { continue };
            self.acked.push(acked);
            wanted = wanted.saturating_sub(1);
            if wanted == 0 {
                break;
            }
        }
        let pause = Timespec::try_from(pause).expect("pauses are short");
        let pid = rustix::process::Pid::from_child(qemu);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty());
        let pidfd = pidfd.map_err(|error| CutError::Io { doing: "hold QEMU", source: error.into() })?;
        let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&pause)).unwrap_or(0) > 0;
        if ended {
            return Err(CutError::Guest { said });
        }
        qemu.kill().map_err(io("kill QEMU"))?;
        let mut rest = String::new();
        console.read_to_string(&mut rest).map_err(io("read the console"))?;
        self.acked.extend(rest.split_inclusive('\n').filter_map(acknowledgement));
        Ok(())
    }

    /// The kernel of the guest has played the journal of its file system back: the log must reach as far as it did.
    fn compare_with_opened(&self, opened: &str) -> Result<(), CutError> {
        let head = opened.split(' ').next().and_then(|head| head.parse::<u64>().ok()).unwrap_or(0);
        let last = self.acked.iter().filter_map(|line| line.split(' ').nth(2)?.parse::<u64>().ok()).max();
        if last.is_none_or(|last| last <= head) {
            return Ok(());
        }
        Err(self.keep(CutError::Guest { said: format!("it opened a log of {head} events after {last:?}") }))
    }

    /// Checks a copy, so that the next boot finds the disk as the cut left it.
    fn look(&self) -> Result<(String, String), CutError> {
        let copy = self.scratch.path().join("copy");
        run(Command::new("cp").arg("--sparse=always").arg(self.disk()).arg(&copy), &[0])?;
        // 1 says that something was corrected: the journal was played back.
        run(Command::new("e2fsck").args(["-f", "-y"]).arg(&copy), &[0, 1])?;
        let log = self.scratch.path().join("log");
        let dump = format!("rdump /log {}", self.scratch.path().display());
        run(Command::new("debugfs").args(["-R", &dump]).arg(&copy), &[0])?;
        let found = self.check(&log)?;
        fs::write(log.join("index/db"), [0x5a; 4096]).map_err(io("damage the index"))?;
        let found_without_index = self.check(&log)?;
        if !found_without_index.contains("index_rebuilt=true") {
            let said = format!("a damaged index was used: {found_without_index}");
            return Err(CutError::Program { program: self.writer.display().to_string(), said });
        }
        fs::remove_dir_all(&log).map_err(io("remove the log"))?;
        Ok((found, found_without_index))
    }

    fn check(&self, log: &Path) -> Result<String, CutError> {
        let acked = self.scratch.path().join("acked");
        let mut file = File::create(&acked).map_err(io("write what was acknowledged"))?;
        self.acked
            .iter()
            .try_for_each(|line| writeln!(file, "{line}"))
            .map_err(io("write what was acknowledged"))?;
        let input = File::open(&acked).map_err(io("read what was acknowledged"))?;
        run(Command::new(&self.writer).arg("check").arg(log).stdin(input), &[0])
    }

    /// Keeps the disk of a broken promise.
    fn keep(&self, error: CutError) -> CutError {
        let disk = std::env::temp_dir().join(format!("pyro-powercut-{}", std::process::id()));
        // The promise is broken whether the disk can be kept or not.
        let _kept = fs::copy(self.disk(), &disk);
        CutError::Broken { what: error.to_string(), disk }
    }

    fn qemu(&self, group: u64) -> Command {
        let khz = pyro_runtime::host::tsc_khz();
        let line = format!(
            "console=ttyS0 quiet panic=-1 reboot=t cryptomgr.notests tsc=reliable tsc_early_khz={khz} POWERCUT_GROUP={group}"
        );
        let drive = format!("id=disk,if=none,format=raw,cache=writeback,file={}", self.disk().display());
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-M", "microvm,pit=on,pic=on,rtc=on,isa-serial=on", "-accel", "tcg,thread=multi"])
            .args(["-cpu", "max,la57=off,erms=off,fsrm=off", "-smp", "2", "-m", "256M"])
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
            .arg("-kernel")
            .arg(environment().join("vmlinux"))
            .arg("-initrd")
            .arg(self.scratch.path().join("initramfs"))
            .args(["-append", &line, "-serial", "stdio"])
            .args(["-drive", &drive, "-device", "virtio-blk-device,drive=disk"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        qemu
    }
}

fn environment() -> PathBuf {
    environments().join("linux-x86_64/debian_12-1.0.0")
}

/// Returns the next line of a console, complete.
fn next_line(console: &mut BufReader<ChildStdout>, said: &str) -> Result<String, CutError> {
    let mut line = String::new();
    while !line.ends_with('\n') {
        if console.buffer().is_empty() {
            let ready = poll(&mut [PollFd::new(console.get_ref(), PollFlags::IN)], Some(&SILENCE_MAX));
            if ready.unwrap_or(0) == 0 {
                return Err(CutError::Guest { said: format!("{said}{line}") });
            }
        }
        if console.read_line(&mut line).map_err(io("read the console"))? == 0 {
            return Err(CutError::Guest { said: format!("{said}{line}") });
        }
    }
    Ok(line.replace('\r', ""))
}

/// Returns the acknowledgement in a line; `None` when there is another one, or only a part of one.
fn acknowledgement(line: &str) -> Option<String> {
    let line = line.strip_suffix('\n')?.trim_end_matches('\r');
    let numbers = line.strip_prefix("acked ")?;
    let whole = numbers.split(' ').filter(|number| number.parse::<u64>().is_ok()).count() == 3;
    whole.then(|| line.to_owned())
}

/// Runs a program that must end with one of these codes, and returns what it printed.
fn run(command: &mut Command, codes: &[i32]) -> Result<String, CutError> {
    let output = command.output().map_err(io("start a program"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.code().is_some_and(|code| codes.contains(&code)) {
        return Ok(text(&output.stdout));
    }
    let said = format!("{} {}", text(&output.stdout), text(&output.stderr));
    Err(CutError::Program { program: command.get_program().display().to_string(), said })
}

/// Returns one member of an archive in the format `newc` (kernel documentation, "initramfs buffer format").
fn member(name: &str, mode: u32, content: &[u8]) -> Vec<u8> {
    let (len, name_len) = (content.len(), name.len() + 1);
    let mut bytes = format!(
        "070701{:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{len:08x}{:08x}{:08x}{:08x}{:08x}{name_len:08x}{:08x}{name}\0",
        1, 0, 0, 1, 0, 0, 0, 0, 0, 0
    )
    .into_bytes();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a cut line that is taken for an acknowledgement, and one that is overlooked.
    #[test]
    fn only_complete_lines_are_acknowledgements() {
        assert_eq!(acknowledgement("acked 17 4 1\r\n").as_deref(), Some("acked 17 4 1"));
        for line in ["acked 17 4 1", "acked 17 4\n", "opened 3 torn=0 rebuilt=false\n", "acked 1 2 x\n"] {
            assert_eq!(acknowledgement(line), None, "{line:?}");
        }
    }

    /// Catches an archive that the kernel would not unpack.
    #[test]
    fn members_are_aligned() {
        let bytes = member("init", 0o100_755, b"12345");
        assert_eq!(bytes.len(), 116 + 8);
        assert!(
            bytes.starts_with(b"070701")
                && bytes[110..].starts_with(b"init\0\0")
                && bytes[116..].starts_with(b"12345")
        );
    }
}
