//! `pyro log head`

use std::process::ExitCode;

use pyro_api::{LogHead, LogHeadRequest, LogMark};

use crate::commands::print;
use crate::exit::{Failure, Format};
use crate::sanitize;
use crate::session::Session;

pub(crate) fn execute(format: Format) -> Result<ExitCode, Failure> {
    print(&Session::starting()?.call(LogHeadRequest {})?, format, head_text)
}

fn head_text(head: &LogHead) -> String {
    format!("{}\n", LogMark { seq: head.seq, hash: sanitize::line(&head.hash) })
}
