//! An I/O error that is not a full disk: nothing more is appended until the log is opened again.

use std::path::Path;
use std::process::Command;

use pyro_core::Seq;
use pyro_store::{AppendError, Draft, verify};

use crate::sample;

const DIR_VARIABLE: &str = "PYRO_STORE_POISON_DIR";

/// The child's limit on file sizes, in blocks of 512 bytes: 1 MiB. Writing beyond it is an error like any other.
const FILE_BLOCKS_MAX: u32 = 2048;

/// A large event, so that few of them reach the limit.
fn large(number: u32) -> Draft {
    let mut draft = sample::draft(number);
    draft.actor.client = "x".repeat(100_000);
    draft
}

#[test]
#[ignore = "the child process of the other test"]
fn child_appends_until_an_error() {
    let Some(dir) = std::env::var_os(DIR_VARIABLE) else { return };
    let log = sample::open(&dir);
    let mut count = 0;
    let error = loop {
        match log.append(vec![large(count)]) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, AppendError::Io { .. }), "{error:?}");
    let refused = log.append(sample::drafts(0..1));
    assert!(matches!(refused, Err(AppendError::Poisoned { .. })), "a small event would fit: {refused:?}");
    assert_eq!(log.head().seq, Seq(u64::from(count)));
    assert_eq!(log.reader().read(Seq(1)).count(), usize::try_from(count).unwrap());
    std::fs::write(Path::new(&dir).join("count"), count.to_string()).unwrap();
}

/// Catches a log that goes on after a failure, shows what failed, or leaves half a record behind.
#[test]
fn an_io_error_poisons_until_the_log_is_opened_again() {
    let dir = sample::dir();
    // An ignored SIGXFSZ turns the limit into an error of `write`; the child inherits both.
    let output = Command::new("/bin/sh")
        .args(["-c", &format!("trap '' XFSZ; ulimit -f {FILE_BLOCKS_MAX}; exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["poison::child_appends_until_an_error", "--exact", "--ignored"])
        .env(DIR_VARIABLE, dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let count: u32 = std::fs::read_to_string(dir.path().join("count")).unwrap().parse().unwrap();
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.damage, report.torn_len), (None, 0), "the failed write was taken back");
    let log = sample::open(dir.path());
    let drafts: Vec<_> = (0..count).map(large).collect();
    assert_eq!(sample::read(&log), sample::envelopes(&drafts));
    log.append(vec![large(count)]).unwrap();
}
