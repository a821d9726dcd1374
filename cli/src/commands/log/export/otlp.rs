//! The JSON encoding of OTLP logs: one `LogsData` with a record for each event.

use pyro_api::{LogEvent, LogPoint, json};
use serde_json::{Map, Value, json};

/// `SEVERITY_NUMBER_INFO` and `SEVERITY_NUMBER_WARN` of the specification.
const INFO: (u8, &str) = (9, "INFO");
const WARN: (u8, &str) = (13, "WARN");

const BEGINNING: &str = concat!(
    r#"{"resourceLogs": [{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "pyro"}}]}, "#,
    r#""scopeLogs": [{"logRecords": ["#
);
const END: &str = "\n], \"scope\": {\"name\": \"pyro.log\", \"version\": \"1\"}}]}]}\n";

/// A document on its way.
#[derive(Debug, Default)]
pub(super) struct Otlp {
    begun: bool,
}

impl Otlp {
    pub(super) fn push(&mut self, event: &LogEvent, text: &mut String) {
        text.push_str(if self.begun { ",\n" } else { BEGINNING });
        if !self.begun {
            text.push('\n');
        }
        self.begun = true;
        text.push_str(json::line(&record(event)).trim_end());
    }

    pub(super) fn finish(self, text: &mut String) {
        if !self.begun {
            text.push_str(BEGINNING);
        }
        text.push_str(END);
    }
}

fn record(event: &LogEvent) -> Value {
    // Numbers of 64 bits are texts in this encoding.
    let nanos = match event.at.parse() {
        Ok(LogPoint::Time(time)) => (u128::from(time.0) * 1000).to_string(),
        Ok(LogPoint::Seq(_)) | Err(_) => "0".to_owned(),
    };
    let failed = event.kind.ends_with("_failed") || event.kind.ends_with("_lost");
    let (severity_number, severity_text) = if failed { WARN } else { INFO };
    let mut record = json!({
        "timeUnixNano": nanos,
        "observedTimeUnixNano": nanos,
        "severityNumber": severity_number,
        "severityText": severity_text,
        "eventName": format!("pyro.{}", event.kind),
        "body": any_value(&event.data),
        "attributes": attributes(event),
    });
    // A request id is 16 bytes, as a trace id is: what one request caused is one trace.
    if let Some(request) = &event.request_id {
        record["traceId"] = json!(request);
    }
    record
}

fn attributes(event: &LogEvent) -> Value {
    let mut attributes: Map<String, Value> = Map::new();
    for (name, value) in json!(event.actor).as_object().into_iter().flatten() {
        attributes.insert(format!("pyro.actor.{name}"), value.clone());
    }
    attributes.insert("pyro.hash".to_owned(), json!(event.hash));
    attributes.insert("pyro.seq".to_owned(), json!(event.seq));
    attributes.insert("pyro.version".to_owned(), json!(event.version));
    if let Some(workspace) = &event.workspace_id {
        attributes.insert("pyro.workspace".to_owned(), json!(workspace));
    }
    key_values(&attributes)
}

fn key_values(members: &Map<String, Value>) -> Value {
    let mut members: Vec<_> = members.iter().collect();
    members.sort_unstable_by_key(|(name, _)| *name);
    members.into_iter().map(|(name, value)| json!({ "key": name, "value": any_value(value) })).collect()
}

/// Returns a value as an `AnyValue`, which is empty for `null`.
fn any_value(value: &Value) -> Value {
    match value {
        Value::Null => json!({}),
        Value::Bool(value) => json!({ "boolValue": value }),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => json!({ "intValue": int.to_string() }),
            // There are no integers beyond 63 bits.
            (None, Some(large)) => json!({ "stringValue": large.to_string() }),
            (None, None) => json!({ "doubleValue": number }),
        },
        Value::String(value) => json!({ "stringValue": value }),
        Value::Array(values) => {
            let values: Vec<_> = values.iter().map(any_value).collect();
            json!({ "arrayValue": { "values": values } })
        }
        Value::Object(members) => json!({ "kvlistValue": { "values": key_values(members) } }),
    }
}
