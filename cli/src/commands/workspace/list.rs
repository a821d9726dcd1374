//! `pyro workspace list`

use std::process::ExitCode;

use pyro_api::{WorkspaceList, WorkspaceListRequest, WorkspaceObject};

use crate::commands::print;
use crate::exit::{Failure, Format};
use crate::sanitize;
use crate::session::Session;
use crate::table::table;

const HEADINGS: [&str; 6] = ["WORKSPACE ID", "STATE", "ENVIRONMENT", "MODE", "COMMANDS", "NAME"];

pub(crate) fn execute(request: WorkspaceListRequest, format: Format) -> Result<ExitCode, Failure> {
    print(&Session::starting()?.call(request)?, format, list_text)
}

fn list_text(list: &WorkspaceList) -> String {
    if list.workspaces.is_empty() {
        return "No workspaces found.\n".to_owned();
    }
    table(HEADINGS, list.workspaces.iter().map(row))
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
