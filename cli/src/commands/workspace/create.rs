//! `pyro workspace create`

use std::process::ExitCode;

use pyro_api::resolve_host_path;

use super::status::object_text;
use crate::arguments::WorkspaceCreateArgs;
use crate::commands::print;
use crate::exit::{Failure, Format};
use crate::progress_view::call_with_progress;
use crate::sanitize;

pub(crate) fn execute(args: WorkspaceCreateArgs) -> Result<ExitCode, Failure> {
    let WorkspaceCreateArgs { mut request, labels, id_only, format } = args;
    if let Some(path) = &request.seed_path {
        request.seed_path = Some(resolve_host_path(path)?);
    }
    request.labels = labels.into_iter().collect();
    let format = Format::from_flag(format.json);
    let object = call_with_progress(request, format)?;
    print(&object, format, |object| {
        if id_only { format!("{}\n", sanitize::line(&object.workspace_id)) } else { object_text(object) }
    })
}
