//! `pyro log repair`

use std::process::ExitCode;

use pyro_api::{ApiError, Home, LogMark, LogRepaired};

use crate::arguments::LogRepairArgs;
use crate::commands::print;
use crate::exit::{Failure, Format};
use crate::sanitize;
use crate::session::Session;

/// A log that this process is to repair.
#[derive(Debug)]
pub struct LogRepair {
    home: Home,
    at: Option<u64>,
    format: Format,
}

pub(super) fn prepare(args: LogRepairArgs) -> Result<LogRepair, Failure> {
    Ok(LogRepair { home: Session::looking()?.home, at: args.at, format: Format::from_flag(args.format.json) })
}

impl LogRepair {
    /// Repairs the log by `repair`, tells the user what came of it, and returns the exit code.
    pub fn run(self, repair: impl FnOnce(&Home, Option<u64>) -> Result<LogRepaired, ApiError>) -> ExitCode {
        let result = repair(&self.home, self.at).map_err(Failure::from);
        let result = result.and_then(|repaired| print(&repaired, self.format, repaired_text));
        result.unwrap_or_else(|failure| failure.report(self.format))
    }
}

fn repaired_text(repaired: &LogRepaired) -> String {
    let head = LogMark { seq: repaired.seq, hash: sanitize::line(&repaired.hash) };
    let Some(damage) = &repaired.damage else {
        return format!("The log is not damaged and stays as it is.\nHead: {head}\n");
    };
    let lost = match repaired.reached_seq.saturating_sub(repaired.seq) {
        0 => "none that is known of".to_owned(),
        _ => format!("{} to {} or later", repaired.seq + 1, repaired.reached_seq),
    };
    format!(
        "Damage: {}\nLost events: {lost}\nKept in: {}\nHead: {head}\n",
        sanitize::line(damage),
        sanitize::line(repaired.kept_in.as_deref().unwrap_or("-"))
    )
}
