//! `pyro workspace`: one file for each command.

mod create;
mod delete;
mod exec;
mod list;
mod logs;
mod shell;
mod start;
mod status;
mod stop;
mod sync;

use std::process::ExitCode;

use crate::arguments::{JsonFlag, WorkspaceCommand};
use crate::exit::{Failure, Format};

pub(crate) fn execute(command: WorkspaceCommand) -> (Format, Result<ExitCode, Failure>) {
    let format = |flag: JsonFlag| Format::from_flag(flag.json);
    match command {
        WorkspaceCommand::Create(args) => (format(args.format), create::execute(args)),
        WorkspaceCommand::List(args) => {
            (format(args.format), list::execute(args.request, format(args.format)))
        }
        WorkspaceCommand::Status(args) => {
            (format(args.format), status::execute(args.request, format(args.format)))
        }
        WorkspaceCommand::Exec(args) => (format(args.format), exec::execute(args)),
        WorkspaceCommand::Shell(command) => shell::execute(command),
        WorkspaceCommand::Sync(command) => sync::execute(command),
        WorkspaceCommand::Logs(args) => {
            (format(args.format), logs::execute(args.request, format(args.format)))
        }
        WorkspaceCommand::Stop(args) => {
            (format(args.format), stop::execute(args.request, format(args.format)))
        }
        WorkspaceCommand::Start(args) => {
            (format(args.format), start::execute(args.request, format(args.format)))
        }
        WorkspaceCommand::Delete(args) => {
            (format(args.format), delete::execute(args.request, format(args.format)))
        }
    }
}
