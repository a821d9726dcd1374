//! `pyro log compact`

use std::process::ExitCode;

use indicatif::HumanBytes;
use pyro_api::{LogCompactRequest, LogCompactResult, LogMark};

use crate::commands::print;
use crate::exit::{Failure, Format};
use crate::sanitize;
use crate::session::Session;

pub(crate) fn execute(request: LogCompactRequest, format: Format) -> Result<ExitCode, Failure> {
    print(&Session::starting()?.call(request)?, format, result_text)
}

fn result_text(result: &LogCompactResult) -> String {
    let first = result.first_seq;
    let Some(dropped) = &result.dropped else {
        return format!(
            "Nothing to drop: no segment file holds only events that are not to be kept.\nFirst event: {first}\n"
        );
    };
    let last = LogMark { seq: first - 1, hash: sanitize::line(&dropped.hash) };
    let (done, signature) = match result.signed_off_seq {
        Some(seq) => ("Dropped", format!("Signed off by: event {seq}\n")),
        None => ("Would drop", String::new()),
    };
    format!(
        "{done}: {} events, {} to {last}\nAccepted: {} to {}\nSegments: {} ({})\nFirst event: {first}\n{signature}",
        dropped.events,
        dropped.from_seq,
        sanitize::line(&dropped.since),
        sanitize::line(&dropped.until),
        dropped.segments,
        HumanBytes(dropped.bytes)
    )
}
