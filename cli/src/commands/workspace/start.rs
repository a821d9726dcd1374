//! `pyro workspace start`

use std::process::ExitCode;

use pyro_api::WorkspaceStartRequest;

use super::status::object_text;
use crate::commands::print;
use crate::exit::{Failure, Format};
use crate::progress_view::call_with_progress;

pub(crate) fn execute(request: WorkspaceStartRequest, format: Format) -> Result<ExitCode, Failure> {
    print(&call_with_progress(request, format)?, format, object_text)
}
