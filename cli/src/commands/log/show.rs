//! `pyro log show`

use std::fmt::Write as _;
use std::process::ExitCode;

use pyro_api::{LogEvent, LogExplanation, LogShowRequest, json};

use crate::commands::print;
use crate::event_line::event_line;
use crate::exit::{Failure, Format};
use crate::sanitize;
use crate::session::Session;

pub(crate) fn execute(request: LogShowRequest, format: Format) -> Result<ExitCode, Failure> {
    print(&Session::starting()?.call(request)?, format, explanation_text)
}

fn explanation_text(explanation: &LogExplanation) -> String {
    let event = &explanation.event;
    let actor = &event.actor;
    let face = serde_json::to_value(actor).ok().and_then(|actor| actor["face"].as_str().map(str::to_owned));
    let lines = [
        ("Event", event.seq.to_string()),
        ("Time", event.at.clone()),
        ("Kind", event.kind.clone()),
        ("Meaning", explanation.meaning.clone()),
        ("Version", event.version.map_or_else(|| "-".to_owned(), |version| version.to_string())),
        ("Workspace", event.workspace_id.clone().unwrap_or_else(|| "-".to_owned())),
        (
            "Actor",
            format!(
                "{} (user {}, process {}), by {}",
                actor.client,
                actor.uid,
                actor.pid,
                face.unwrap_or_default()
            ),
        ),
        (
            "Cause",
            event.request_id.as_ref().map_or_else(|| "observed".to_owned(), |id| format!("request {id}")),
        ),
        ("Hash", event.hash.clone().unwrap_or_default()),
        ("Hash before", explanation.previous_hash.clone()),
    ];
    let mut text = String::new();
    for (name, value) in lines {
        writeln!(text, "{name}: {}", sanitize::line(&value)).expect("a string takes everything");
    }
    // JSON in ASCII shows every character of it and does nothing to a terminal.
    text.push_str("Data:\n");
    for line in json::document(&event.data).lines() {
        writeln!(text, "  {line}").expect("a string takes everything");
    }
    push_events("Same request", &explanation.request, &mut text);
    push_events("Before in the workspace", explanation.workspace_before.as_slice(), &mut text);
    push_events("After in the workspace", explanation.workspace_after.as_slice(), &mut text);
    text
}

fn push_events(title: &str, events: &[LogEvent], text: &mut String) {
    if events.is_empty() {
        return;
    }
    writeln!(text, "{title}:").expect("a string takes everything");
    for event in events {
        write!(text, "  {}", event_line(event)).expect("a string takes everything");
    }
}
