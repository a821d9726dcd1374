//! `pyro workspace delete`

use std::process::ExitCode;

use pyro_api::WorkspaceDeleteRequest;

use crate::commands::print;
use crate::exit::{Failure, Format};
use crate::sanitize;
use crate::session::Session;

pub(crate) fn execute(request: WorkspaceDeleteRequest, format: Format) -> Result<ExitCode, Failure> {
    print(&Session::starting()?.call(request)?, format, |result| {
        format!("Deleted workspace: {}\n", sanitize::line(&result.workspace_id))
    })
}
