//! `pyro workspace list`

use std::process::ExitCode;

use pyro_api::{WorkspaceList, WorkspaceListRequest, WorkspaceObject};

use crate::commands::print;
use crate::exit::{Failure, Format};
use crate::sanitize;
use crate::session::Session;

const HEADINGS: [&str; 6] = ["WORKSPACE ID", "STATE", "ENVIRONMENT", "MODE", "COMMANDS", "NAME"];

pub(crate) fn execute(format: Format) -> Result<ExitCode, Failure> {
    print(&Session::starting()?.call(WorkspaceListRequest {})?, format, list_text)
}

fn list_text(list: &WorkspaceList) -> String {
    if list.workspaces.is_empty() {
        return "No workspaces found.\n".to_owned();
    }
    let rows: Vec<_> =
        std::iter::once(HEADINGS.map(str::to_owned)).chain(list.workspaces.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..HEADINGS.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn row(object: &WorkspaceObject) -> [String; 6] {
    [
        sanitize::line(&object.workspace_id),
        sanitize::line(&object.state),
        sanitize::line(&object.environment),
        sanitize::line(&object.execution_mode),
        object.command_count.to_string(),
        object.name.as_deref().map_or_else(|| "-".to_owned(), sanitize::line),
    ]
}
