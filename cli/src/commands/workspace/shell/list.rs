//! `pyro workspace shell list`

use std::process::ExitCode;

use pyro_api::{ShellList, ShellListRequest, ShellObject};

use crate::commands::print;
use crate::exit::{Failure, Format};
use crate::sanitize;
use crate::session::Session;
use crate::table::table;

const HEADINGS: [&str; 5] = ["SHELL ID", "STATE", "EXIT CODE", "SIZE", "CWD"];

pub(super) fn execute(request: ShellListRequest, format: Format) -> Result<ExitCode, Failure> {
    print(&Session::starting()?.call(request)?, format, list_text)
}

fn list_text(list: &ShellList) -> String {
    if list.shells.is_empty() {
        return "No shells found.\n".to_owned();
    }
    table(HEADINGS, list.shells.iter().map(row))
}

fn row(shell: &ShellObject) -> [String; 5] {
    [
        sanitize::line(&shell.shell_id),
        sanitize::line(&shell.state),
        shell.exit_code.map_or_else(|| "-".to_owned(), |exit_code| exit_code.to_string()),
        format!("{}x{}", shell.cols, shell.rows),
        sanitize::line(&shell.cwd),
    ]
}
