//! The help of every command, as it is printed: it is part of the contract.

use clap::{Command, CommandFactory as _};
use pyro_cli::Cli;

/// Width of the terminal that the snapshots are made for.
const COLUMNS: usize = 100;

fn check(command: &mut Command, path: &str) {
    let help = command.render_help().to_string();
    insta::assert_snapshot!(path.replace(' ', "_"), help);
    let names: Vec<String> = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(|c| c.get_name().to_owned())
        .collect();
    for name in names {
        let subcommand = command.find_subcommand_mut(&name).expect("it was just listed");
        check(subcommand, &format!("{path} {name}"));
    }
}

/// Catches a change of a command, flag, default or sentence that nobody intended.
#[test]
fn help_of_every_command() {
    let mut command = Cli::command().term_width(COLUMNS);
    command.build();
    check(&mut command, "pyro");
}
