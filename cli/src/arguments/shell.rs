//! The grammar of `pyro workspace shell` and `pyro workspace sync`.

use clap::{Args, Subcommand};
use pyro_api::{
    ShellCloseRequest, ShellListRequest, ShellOpenRequest, ShellReadRequest, ShellResizeRequest,
    ShellSignalRequest, ShellWriteRequest, WorkspaceSyncPushRequest,
};

use super::{JsonFlag, WithFormat};
use crate::detach_keys::DetachKeys;

const PUSH_EXAMPLES: &str = "\
Examples:
  pyro workspace sync push 5f0c2a9be1d4 .
  pyro workspace sync push 5f0c ~/src/app --dest app
  pyro workspace sync push 5f0c release.tar.gz
  pyro workspace sync push 5f0c . --watch

Modes, times and links stay as they are. Files with the same names are replaced, others stay. All of
it is brought or nothing: what leads out of the destination, devices and the like are refused by name,
and Ctrl-C leaves the workspace as it was.

With --watch a line is printed for each push. A push that fails is told on standard error and tried
again with the next change. Ctrl-C ends it, with exit code 0.";

const OPEN_EXAMPLES: &str = "\
Examples:
  shell=$(pyro workspace shell open 5f0c2a9be1d4 --id-only)
  pyro workspace shell open 5f0c --cwd src --cols 80 --rows 24

The shell is bash where the environment has it, on a terminal of its own. It goes on without clients
until it exits or is closed.";

const READ_EXAMPLES: &str = "\
Examples:
  pyro workspace shell read 5f0c2a9be1d4 9a41                      all of it, as it was printed
  pyro workspace shell read 5f0c 9a41 --cursor 4096 --json         what came behind a next_cursor
  pyro workspace shell read 5f0c 9a41 --plain --wait-for-idle-ms 300
  pyro workspace shell read 5f0c 9a41 --follow

Output is read again and again: reading takes nothing away. The line on standard error and the JSON
have the next_cursor to go on with. On a terminal only text and colours pass, unless --raw is given;
into a file or pipe everything does.

With --follow the output comes as it is printed, until the shell ends or Ctrl-C.";

const WRITE_EXAMPLES: &str = "\
Examples:
  pyro workspace shell write 5f0c2a9be1d4 9a41 --input 'make test'
  pyro workspace shell write 5f0c 9a41 --input y --no-newline
  pyro workspace shell write 5f0c 9a41 --no-newline --input \"$(printf '\\003')\"    Ctrl-C";

const SIGNAL_EXAMPLES: &str = "\
Examples:
  pyro workspace shell signal 5f0c2a9be1d4 9a41                 interrupts the foreground job
  pyro workspace shell signal 5f0c 9a41 --signal KILL           ends the shell with all in it";

const ATTACH_EXAMPLES: &str = "\
Examples:
  pyro workspace shell attach 5f0c2a9be1d4         a new shell
  pyro workspace shell attach 5f0c 9a41            one that runs; several clients can be there
  pyro workspace shell attach 5f0c --detach-keys ctrl-p,ctrl-q
  printf 'make test\\nexit\\n' | pyro workspace shell attach 5f0c >log

Every key goes to the shell, Ctrl-C and Ctrl-Z too, and the shell gets the size of the terminal.
Ctrl-\\ leaves; the shell goes on. When the shell exits, its exit code is the one of this command.

Standard input that is no terminal is typed until its end, and the output still comes until the
shell ends. Without SHELL_ID a new shell is opened.";

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SyncCommand {
    /// Brings a directory or archive of the host into a started workspace
    #[command(after_help = PUSH_EXAMPLES)]
    Push(WithFormat<WorkspaceSyncPushRequest>),
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ShellCommand {
    /// Opens a shell
    #[command(after_help = OPEN_EXAMPLES, allow_negative_numbers = true)]
    Open(ShellOpenArgs),
    /// Lists the shells of a workspace that are not closed
    #[command(after_help = "Example:\n  pyro workspace shell list 5f0c --json")]
    List(WithFormat<ShellListRequest>),
    /// Reads what a shell printed, or follows it
    #[command(after_help = READ_EXAMPLES, allow_negative_numbers = true)]
    Read(ShellReadArgs),
    /// Types text into a shell
    #[command(after_help = WRITE_EXAMPLES)]
    Write(WithFormat<ShellWriteRequest>),
    /// Sends a signal to a shell
    #[command(after_help = SIGNAL_EXAMPLES)]
    Signal(WithFormat<ShellSignalRequest>),
    /// Gives the terminal of a shell another size
    #[command(
        after_help = "Example:\n  pyro workspace shell resize 5f0c 9a41 --cols 80 --rows 24",
        allow_negative_numbers = true
    )]
    Resize(WithFormat<ShellResizeRequest>),
    /// Ends a shell if it runs, and forgets it
    #[command(after_help = "Example:\n  pyro workspace shell close 5f0c 9a41")]
    Close(WithFormat<ShellCloseRequest>),
    /// Joins this terminal to a shell
    #[command(after_help = ATTACH_EXAMPLES)]
    Attach(ShellAttachArgs),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ShellOpenArgs {
    #[command(flatten)]
    pub(crate) request: ShellOpenRequest,
    /// Print nothing but the id, on standard output
    #[arg(long, conflicts_with = "json")]
    pub(crate) id_only: bool,
    #[command(flatten)]
    pub(crate) format: JsonFlag,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ShellReadArgs {
    #[command(flatten)]
    pub(crate) request: ShellReadRequest,
    /// Go on with what comes, until the shell ends or Ctrl-C
    #[arg(long, short, conflicts_with_all = ["max_chars", "plain", "wait_for_idle_ms", "at", "json"])]
    pub(crate) follow: bool,
    /// Let the output do to a terminal whatever it wants
    #[arg(long, conflicts_with_all = ["json", "plain"])]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) format: JsonFlag,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ShellAttachArgs {
    /// Id of the workspace, at least its first 4 characters if no other begins so, or its name
    #[arg(value_name = "WORKSPACE_ID")]
    pub(crate) workspace_id: String,
    /// Id of the shell, or an unambiguous beginning of it of at least 4 characters; without it, a new one
    #[arg(value_name = "SHELL_ID")]
    pub(crate) shell_id: Option<String>,
    /// Keys that leave the shell when they are typed in a row, such as ctrl-p,ctrl-q; `none` for no such keys
    #[arg(long, value_name = "KEYS", default_value = "ctrl-\\")]
    pub(crate) detach_keys: DetachKeys,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use clap::error::ErrorKind;

    use super::super::workspace::WorkspaceCommand;
    use super::super::{Cli, Command};
    use super::*;

    fn parse(arguments: &[&str]) -> Result<WorkspaceCommand, ErrorKind> {
        let arguments = ["pyro", "workspace"].iter().chain(arguments);
        match Cli::try_parse_from(arguments).map_err(|error| error.kind())?.command {
            Command::Workspace(command) => Ok(command),
            other => panic!("{other:?}"),
        }
    }

    fn shell(arguments: &[&str]) -> ShellCommand {
        match parse(&[&["shell"], arguments].concat()) {
            Ok(WorkspaceCommand::Shell(command)) => command,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let ShellCommand::Open(args) = shell(&["open", "5f0c"]) else { panic!() };
        let request = args.request;
        assert_eq!((request.cwd.as_str(), request.cols, request.rows), ("/workspace", 120, 30));
        let ShellCommand::Read(args) = shell(&["read", "5f0c", "9a41"]) else { panic!() };
        let request = args.request;
        assert_eq!((request.cursor, request.max_chars), (0, 65_536));
        assert!(!request.plain && request.wait_for_idle_ms.is_none() && !args.follow && !args.raw);
        let ShellCommand::Signal(args) = shell(&["signal", "5f0c", "9a41"]) else { panic!() };
        assert_eq!(args.request.signal_name, "INT");
        let Ok(WorkspaceCommand::Sync(SyncCommand::Push(args))) = parse(&["sync", "push", "5f0c", "."])
        else {
            panic!()
        };
        assert_eq!((args.request.dest.as_str(), args.request.watch), ("/workspace", false));
        let ShellCommand::Attach(args) = shell(&["attach", "5f0c"]) else { panic!() };
        assert_eq!((args.shell_id, args.detach_keys), (None, "ctrl-\\".parse().unwrap()));
    }

    /// Catches text that is taken for an option, and Enter that is typed or not typed against the wish.
    #[test]
    fn text_is_typed_as_it_is() {
        for (arguments, input, append_newline) in [
            (&["--input", "-rf --json"][..], "-rf --json", true),
            (&["--input="], "", true),
            (&["--no-newline", "--input", "\u{3}"], "\u{3}", false),
            (&["--input", "--no-newline"], "--no-newline", true),
        ] {
            let arguments = [&["write", "5f0c", "9a41"], arguments].concat();
            let ShellCommand::Write(args) = shell(&arguments) else { panic!("{arguments:?}") };
            let request = args.request;
            assert_eq!((request.input.as_str(), request.append_newline), (input, append_newline));
            assert!(!args.format.json, "{arguments:?}");
        }
    }

    #[test]
    fn wrong_usage_is_refused() {
        let read =
            |option: &'static [&str]| [&["shell", "read", "5f0c", "9a41", "--follow"], option].concat();
        let table: [(Vec<&str>, ErrorKind); 13] = [
            (vec!["shell"], ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            (vec!["sync"], ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            (vec!["sync", "push", "5f0c"], ErrorKind::MissingRequiredArgument),
            (vec!["shell", "read", "5f0c"], ErrorKind::MissingRequiredArgument),
            (vec!["shell", "write", "5f0c", "9a41"], ErrorKind::MissingRequiredArgument),
            (vec!["shell", "signal", "5f0c", "9a41", "--signal", "USR1"], ErrorKind::InvalidValue),
            (vec!["shell", "read", "5f0c", "9a41", "--cursor", "-1"], ErrorKind::ValueValidation),
            (vec!["shell", "open", "5f0c", "--id-only", "--json"], ErrorKind::ArgumentConflict),
            (read(&["--max-chars", "9"]), ErrorKind::ArgumentConflict),
            (read(&["--plain"]), ErrorKind::ArgumentConflict),
            (read(&["--wait-for-idle-ms", "9"]), ErrorKind::ArgumentConflict),
            (read(&["--json"]), ErrorKind::ArgumentConflict),
            (vec!["shell", "attach", "5f0c", "--detach-keys", "ctrl-1"], ErrorKind::ValueValidation),
        ];
        for (arguments, kind) in table {
            assert_eq!(parse(&arguments).map(|_| ()), Err(kind), "{arguments:?}");
        }
    }
}
