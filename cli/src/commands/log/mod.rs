//! `pyro log …`: one file for each command.

mod compact;
mod events;
mod export;
mod head;
pub(crate) mod repair;
mod show;
pub(crate) mod verify;

use std::process::ExitCode;

use crate::arguments::{LogArgs, LogCommand};
use crate::exit::{Failure, Format};

use repair::LogRepair;
use verify::LogVerification;

/// What became of `pyro log`.
pub(crate) enum Execution {
    /// This process shall check the log itself.
    Verify(LogVerification),
    /// This process shall repair the log itself.
    Repair(LogRepair),
    /// The command has ended.
    Done(Format, Result<ExitCode, Failure>),
}

pub(crate) fn execute(args: LogArgs) -> Execution {
    let (format, result) = match args.command {
        None => (Format::from_flag(args.events.json), events::execute(args.events)),
        Some(LogCommand::Show(args)) => {
            let format = Format::from_flag(args.format.json);
            (format, show::execute(args.request, format))
        }
        Some(LogCommand::Head(flag)) => {
            let format = Format::from_flag(flag.json);
            (format, head::execute(format))
        }
        Some(LogCommand::Compact(args)) => {
            let format = Format::from_flag(args.format.json);
            (format, compact::execute(args.request, format))
        }
        Some(LogCommand::Export(args)) => (Format::Text, export::execute(args)),
        Some(LogCommand::Verify(args)) => {
            let format = Format::from_flag(args.format.json);
            match verify::prepare(args) {
                Ok(verification) => return Execution::Verify(verification),
                Err(failure) => (format, Err(failure)),
            }
        }
        Some(LogCommand::Repair(args)) => {
            let format = Format::from_flag(args.format.json);
            match repair::prepare(args) {
                Ok(repair) => return Execution::Repair(repair),
                Err(failure) => (format, Err(failure)),
            }
        }
    };
    Execution::Done(format, result)
}
