//! `pyro workspace shell`: one file for each command that is more than its request and a line.

mod attach;
mod follow;
mod line;
mod list;
mod open;
mod read;

use std::process::ExitCode;

use pyro_api::{Operation, ShellObject, json};

use crate::arguments::{JsonFlag, ShellCommand};
use crate::exit::{Failure, Format};
use crate::session::Session;
use crate::sink::Sink;

use line::shell_line;

pub(super) fn execute(command: ShellCommand) -> (Format, Result<ExitCode, Failure>) {
    let format = |flag: JsonFlag| Format::from_flag(flag.json);
    match command {
        ShellCommand::Open(args) => (format(args.format), open::execute(args)),
        ShellCommand::List(args) => (format(args.format), list::execute(args.request, format(args.format))),
        ShellCommand::Read(args) => (format(args.format), read::execute(args)),
        ShellCommand::Write(args) => told("write", args.request, args.format, |result| &result.shell),
        ShellCommand::Signal(args) => told("signal", args.request, args.format, |result| &result.shell),
        ShellCommand::Resize(args) => told("resize", args.request, args.format, |shell| shell),
        ShellCommand::Close(args) => told("close", args.request, args.format, |result| &result.shell),
        ShellCommand::Attach(args) => (Format::Text, attach::execute(args)),
    }
}

/// Asks for an operation of which people are told how the shell stands then.
fn told<O: Operation>(
    name: &str,
    request: O,
    flag: JsonFlag,
    shell: impl FnOnce(&O::Response) -> &ShellObject,
) -> (Format, Result<ExitCode, Failure>) {
    let format = Format::from_flag(flag.json);
    let result = Session::starting().and_then(|session| session.call(request)).and_then(|result| {
        match format {
            Format::Json => Sink::stdout()?.own(&json::document(&result))?,
            Format::Text => Sink::stderr()?.own(&shell_line(name, shell(&result), ""))?,
        }
        Ok(ExitCode::SUCCESS)
    });
    (format, result)
}
