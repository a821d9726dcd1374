//! The grammar of `pyro workspace`.

use clap::{Args, Subcommand};
use pyro_api::{
    WorkspaceCreateRequest, WorkspaceDeleteRequest, WorkspaceExecRequest, WorkspaceListRequest,
    WorkspaceLogsRequest, WorkspaceStartRequest, WorkspaceStatusRequest, WorkspaceStopRequest,
};

use super::shell::{ShellCommand, SyncCommand};
use super::{JsonFlag, WithFormat};

const CREATE_EXAMPLES: &str = "\
Examples:
  pyro workspace create debian:12
  pyro workspace create debian:12-build --mem-mib 4096 --ttl-seconds 0 --name build --label team=web
  pyro workspace create debian:12 --seed-path ~/src/app
  id=$(pyro workspace create debian:12 --id-only)

The workspace is started, and its files are in /workspace. With --seed-path it begins with the files
of a directory or archive, all of them, or it is not created. It is deleted when its time to live is
over, whatever runs in it.";

const STATUS_EXAMPLES: &str = "\
Examples:
  pyro workspace status 5f0c --json
  pyro workspace status 5f0c --at 120      right after event 120, also when it was deleted since
  pyro workspace status 5f0c --at 2h       two hours ago";

const EXEC_EXAMPLES: &str = "\
Examples:
  pyro workspace exec 5f0c2a9be1d4 -- git --version
  pyro workspace exec 5f0c --timeout-seconds 600 -- make test
  pyro workspace exec 5f0c --json -- sh -lc 'echo out; echo err >&2; exit 7'

The words behind `--` are quoted and joined to one command line for `/bin/sh -lc` in the guest, which
runs in /workspace. Standard output and standard error come as they are printed. On a terminal only
text and colours pass; into a file or pipe every byte does. With --json they are part of the result,
up to 1 MiB of each.

Several commands can run at the same time. Ctrl-C ends the command with everything it started, and
the workspace stays. When pyro is killed, the command goes on; `pyro workspace logs` has its output.";

const LOGS_EXAMPLES: &str = "\
Examples:
  pyro workspace logs 5f0c2a9be1d4       all commands that have ended
  pyro workspace logs 5f0c 3             the third one
  pyro workspace logs 5f0c --json | jq '.entries[].exit_code'";

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum WorkspaceCommand {
    /// Creates a workspace and starts it
    #[command(after_help = CREATE_EXAMPLES, allow_negative_numbers = true)]
    Create(WorkspaceCreateArgs),
    /// Lists all workspaces
    List(WorkspaceListArgs),
    /// Shows everything about one workspace
    #[command(after_help = STATUS_EXAMPLES)]
    Status(WithFormat<WorkspaceStatusRequest>),
    /// Runs one command in a started workspace
    #[command(after_help = EXEC_EXAMPLES, allow_negative_numbers = true)]
    Exec(WorkspaceExecArgs),
    /// Opens shells on terminals of their own, reads from them, types into them and attaches to them
    #[command(subcommand, arg_required_else_help = true)]
    Shell(ShellCommand),
    /// Brings files of the host into workspaces
    #[command(subcommand, arg_required_else_help = true)]
    Sync(SyncCommand),
    /// Shows the commands that have ended, with their output
    #[command(after_help = LOGS_EXAMPLES)]
    Logs(WithFormat<WorkspaceLogsRequest>),
    /// Stops the guest; running commands end, files stay
    Stop(WithFormat<WorkspaceStopRequest>),
    /// Boots a workspace that is stopped; its files are as they were
    Start(WithFormat<WorkspaceStartRequest>),
    /// Deletes a workspace with its files and its output; its events stay in the log
    Delete(WithFormat<WorkspaceDeleteRequest>),
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct WorkspaceListArgs {
    #[command(flatten)]
    pub(crate) request: WorkspaceListRequest,
    #[command(flatten)]
    pub(crate) format: JsonFlag,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct WorkspaceCreateArgs {
    #[command(flatten)]
    pub(crate) request: WorkspaceCreateRequest,
    /// Label of the workspace; can be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Print nothing but the id
    #[arg(long, conflicts_with = "json")]
    pub(crate) id_only: bool,
    #[command(flatten)]
    pub(crate) format: JsonFlag,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct WorkspaceExecArgs {
    #[command(flatten)]
    pub(crate) request: WorkspaceExecRequest,
    #[command(flatten)]
    pub(crate) format: JsonFlag,
    /// Let the output do to a terminal whatever it wants
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,
    /// Program and arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) words: Vec<String>,
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use clap::error::ErrorKind;

    use super::super::{Cli, Command};
    use super::*;

    fn parse(arguments: &[&str]) -> Result<WorkspaceCommand, ErrorKind> {
        let arguments = ["pyro", "workspace"].iter().chain(arguments);
        match Cli::try_parse_from(arguments).map_err(|error| error.kind())?.command {
            Command::Workspace(command) => Ok(command),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let Ok(WorkspaceCommand::Create(args)) = parse(&["create", "debian:12"]) else { panic!() };
        let request = &args.request;
        assert_eq!((request.vcpu_count, request.mem_mib, request.ttl_seconds), (1, 1024, 600));
        assert!(!request.network && !request.allow_host_compat && args.labels.is_empty());
        let Ok(WorkspaceCommand::Exec(args)) = parse(&["exec", "5f0c", "--", "true"]) else { panic!() };
        assert_eq!(args.request.timeout_seconds, 30);
    }

    /// Catches an option of pyro that is taken for a word of the command, or the other way round.
    #[test]
    fn options_stand_on_both_sides_of_the_id() {
        for arguments in [["exec", "--json", "5f0c"], ["exec", "5f0c", "--json"]] {
            let arguments = [&arguments[..], &["--", "git", "--json", "--", "-x"]].concat();
            let Ok(WorkspaceCommand::Exec(args)) = parse(&arguments) else { panic!("{arguments:?}") };
            assert!(args.format.json);
            assert_eq!(args.words, ["git", "--json", "--", "-x"]);
        }
    }

    #[test]
    fn labels_have_a_key() {
        let Ok(WorkspaceCommand::Create(args)) =
            parse(&["create", "debian:12", "--label", "a=b=c", "--label", "d="])
        else {
            panic!()
        };
        let owned = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(args.labels, [owned("a", "b=c"), owned("d", "")]);
        for label in ["a", "=b"] {
            let error = parse(&["create", "debian:12", "--label", label]).map(|_| ());
            assert_eq!(error, Err(ErrorKind::ValueValidation), "{label}");
        }
    }

    #[test]
    fn wrong_usage_is_refused() {
        let table: [(&[&str], ErrorKind); 5] = [
            (&[], ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            (&["create"], ErrorKind::MissingRequiredArgument),
            (&["exec", "5f0c"], ErrorKind::MissingRequiredArgument),
            (&["logs", "5f0c", "x"], ErrorKind::ValueValidation),
            (&["create", "debian:12", "--id-only", "--json"], ErrorKind::ArgumentConflict),
        ];
        for (arguments, kind) in table {
            assert_eq!(parse(arguments).map(|_| ()), Err(kind), "{arguments:?}");
        }
    }
}
