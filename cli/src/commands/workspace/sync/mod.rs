//! `pyro workspace sync`: one file for each command.

mod push;

use std::process::ExitCode;

use crate::arguments::SyncCommand;
use crate::exit::{Failure, Format};

pub(super) fn execute(command: SyncCommand) -> (Format, Result<ExitCode, Failure>) {
    match command {
        SyncCommand::Push(args) => {
            let format = Format::from_flag(args.format.json);
            (format, push::execute(args.request, format))
        }
    }
}
