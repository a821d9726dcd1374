//! One JSON object a line.

use pyro_api::{LogEvent, json};
use serde_json::{Value, json};

/// Returns an event with sorted keys and a line end.
pub(super) fn line(event: &LogEvent) -> String {
    json::line(&json!({
        "seq": event.seq,
        "at": event.at,
        "actor": event.actor,
        "cause": cause(event),
        "kind": event.kind,
        "version": event.version,
        "workspace": event.workspace_id,
        "data": event.data,
        "hash": event.hash,
    }))
}

fn cause(event: &LogEvent) -> Value {
    match &event.request_id {
        Some(id) => json!({ "type": "request", "request_id": id }),
        None => json!({ "type": "observation" }),
    }
}
