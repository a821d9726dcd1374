//! `pyro workspace stop`

use std::process::ExitCode;

use pyro_api::WorkspaceStopRequest;

use super::status::object_text;
use crate::commands::print;
use crate::exit::{Failure, Format};
use crate::session::Session;

pub(crate) fn execute(request: WorkspaceStopRequest, format: Format) -> Result<ExitCode, Failure> {
    print(&Session::starting()?.call(request)?, format, object_text)
}
