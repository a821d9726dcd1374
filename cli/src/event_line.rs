//! An event of the log in one line, for people.

use std::fmt::Write as _;

use pyro_api::LogEvent;
use serde_json::Value;

use crate::sanitize;

/// Longest value that a line shows, in characters; `--json` shows all of it.
const VALUE_CHARS_MAX: usize = 160;

/// Returns `#SEQ TIME kind workspace details` with a line end.
pub(crate) fn event_line(event: &LogEvent) -> String {
    let workspace = event.workspace_id.as_deref().unwrap_or("-");
    let mut line = format!(
        "#{} {} {} {}",
        event.seq,
        sanitize::line(&event.at),
        sanitize::line(&event.kind),
        sanitize::line(workspace)
    );
    push_details("", &event.data, &mut line);
    line.push('\n');
    line
}

fn push_details(name: &str, value: &Value, line: &mut String) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            for (member, value) in members {
                let name = if name.is_empty() { member.clone() } else { format!("{name}.{member}") };
                push_details(&name, value, line);
            }
        }
        Value::Null if name.is_empty() => {}
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            line.push(' ');
            if !name.is_empty() {
                write!(line, "{}=", sanitize::line(name)).expect("a string takes everything");
            }
            line.push_str(&detail(value));
        }
    }
}

fn detail(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut shown: String = text.chars().take(VALUE_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    let quoted = shown.is_empty() || shown.contains([' ', '"', '=']) && value.is_string();
    let shown = sanitize::line(&shown);
    if quoted { format!("\"{}\"", shown.replace('"', "\\\"")) } else { shown }
}

#[cfg(test)]
mod tests {
    use pyro_api::{EventActor, Face};
    use serde_json::json;

    use super::*;

    fn event(data: Value) -> LogEvent {
        LogEvent {
            seq: 7,
            at: "2026-01-02T03:04:05.678901Z".to_owned(),
            actor: EventActor { face: Face::Cli, uid: 0, pid: 1, client: "pyro/2.5.0".to_owned() },
            kind: "exec_requested".to_owned(),
            workspace_id: Some("5f0c2a9be1d4".to_owned()),
            request_id: None,
            data,
            version: None,
            hash: None,
        }
    }

    #[test]
    fn details_are_names_and_values() {
        let data =
            json!({"exec": 1, "command": "echo \"a b\"", "cwd": null, "stdout": {"len": 3, "digest": "00"}});
        assert_eq!(
            event_line(&event(data)),
            "#7 2026-01-02T03:04:05.678901Z exec_requested 5f0c2a9be1d4 command=\"echo \\\"a b\\\"\" cwd=null exec=1 \
             stdout.digest=00 stdout.len=3\n"
        );
        let host = LogEvent { workspace_id: None, data: Value::Null, ..event(Value::Null) };
        assert_eq!(event_line(&host), "#7 2026-01-02T03:04:05.678901Z exec_requested -\n");
    }

    #[test]
    fn one_event_is_one_line_that_does_nothing() {
        let long = "x".repeat(100_000);
        let line = event_line(&event(json!({"command": format!("a\n#8 forged\u{1b}[2J\u{202e}{long}")})));
        assert_eq!(line.matches('\n').count(), 1);
        assert!(!line.contains(['\u{1b}', '\u{202e}']) && line.len() < 400, "{line}");
    }
}
