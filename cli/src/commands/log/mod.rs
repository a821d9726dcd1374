//! `pyro log …`: one file for each command.

mod events;
mod show;

use std::process::ExitCode;

use crate::arguments::{LogArgs, LogCommand};
use crate::exit::{Failure, Format};

pub(crate) fn execute(args: LogArgs) -> (Format, Result<ExitCode, Failure>) {
    match args.command {
        None => (Format::from_flag(args.events.json), events::execute(args.events)),
        Some(LogCommand::Show(args)) => {
            let format = Format::from_flag(args.format.json);
            (format, show::execute(args.request, format))
        }
    }
}
