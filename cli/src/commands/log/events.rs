//! `pyro log`: the events.

use std::process::ExitCode;

use pyro_api::{CancelToken, Events, LogEvent, NextEvent, json};

use crate::arguments::LogEventsArgs;
use crate::event_line::event_line;
use crate::exit::{Failure, Format};
use crate::session::Session;
use crate::sink::Sink;

/// Events are printed together up to so many bytes, as long as more of them are there already.
const BATCH_LEN_BYTES: usize = 64 * 1024;

pub(crate) fn execute(args: LogEventsArgs) -> Result<ExitCode, Failure> {
    let Session { home, info, start } = Session::starting()?;
    let format = Format::from_flag(args.json);
    let mut stdout = Sink::stdout()?;
    let mut events = Events::start(&home, &info, &start, args.request, &CancelToken::new())?;
    let mut batch = String::new();
    let result = loop {
        if batch.len() >= BATCH_LEN_BYTES || !events.has_buffered() {
            stdout.own(&std::mem::take(&mut batch))?;
        }
        match events.next_event() {
            Ok(NextEvent::Event(event)) => batch.push_str(&text(&event, format)),
            Ok(NextEvent::CaughtUp) => {}
            Ok(NextEvent::End) => break Ok(ExitCode::SUCCESS),
            Err(error) => break Err(error.into()),
        }
    };
    // What came before an error counts.
    stdout.own(&batch)?;
    result
}

fn text(event: &LogEvent, format: Format) -> String {
    match format {
        Format::Json => json::line(event),
        Format::Text => event_line(event),
    }
}
