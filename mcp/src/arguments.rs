//! What a client passes to a tool: taken as leniently as it can be understood in one way only.

use serde_json::{Map, Value};

/// Most text that the arguments of a call have, in bytes: twice what the longest of them, typed text, may have.
const TEXT_MAX: usize = 2 * 1024 * 1024;

/// Longest name that is repeated, in characters.
const NAME_MAX: usize = 64;

/// Takes the arguments of a tool. `properties` and `required` are those of its input schema.
///
/// A text that is a number is taken where a number is wanted, and likewise for true and false. An unknown argument is
/// refused with the known name that is nearest to it: a model that misspells one would otherwise not get what it asked for.
///
/// # Errors
///
/// What is wrong and how it would be right.
pub(crate) fn take(
    tool: &str,
    properties: &Map<String, Value>,
    required: &[String],
    mut arguments: Map<String, Value>,
) -> Result<Map<String, Value>, String> {
    let len = text_len(&arguments);
    if len > TEXT_MAX {
        return Err(format!(
            "the arguments of {tool} have {len} bytes, and {TEXT_MAX} are the most; workspace_sync_push takes files of any size"
        ));
    }
    if let Some(unknown) = arguments.keys().find(|name| !properties.contains_key(*name)) {
        return Err(refuse_unknown(tool, properties, unknown));
    }
    // A model that has nothing to say about an argument may say null.
    arguments.retain(|name, value| !value.is_null() || required.contains(name));
    if let Some(missing) = required.iter().find(|name| !arguments.contains_key(*name)) {
        return Err(format!("{tool} needs the argument `{missing}`{}", described(properties, missing)));
    }
    for (name, value) in &mut arguments {
        let wanted = types(&properties[name]);
        if !wanted.iter().any(|wanted| is(value, wanted))
            && let Some(coerced) = wanted.iter().find_map(|wanted| coerced(value, wanted))
        {
            *value = coerced;
        }
    }
    Ok(arguments)
}

/// Returns how many bytes the names and texts have.
fn text_len(arguments: &Map<String, Value>) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::String(text) => text.len(),
            Value::Array(values) => values.iter().map(of).sum(),
            Value::Object(members) => text_len(members),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
    }
    arguments.iter().map(|(name, value)| name.len() + of(value)).sum()
}

fn refuse_unknown(tool: &str, properties: &Map<String, Value>, unknown: &str) -> String {
    let unknown = unknown.chars().take(NAME_MAX).collect::<String>();
    let unknown = unknown.as_str();
    if properties.is_empty() {
        return format!("{tool} takes no arguments, and `{unknown}` was passed");
    }
    let nearest = properties.keys().map(|name| (distance(unknown, name), name)).min();
    let known = properties.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    match nearest.filter(|(distance, name)| *distance <= name.len() / 2) {
        Some((_, name)) => {
            format!("{tool} has no argument `{unknown}`; did you mean `{name}`? It takes: {known}")
        }
        None => format!("{tool} has no argument `{unknown}`. It takes: {known}"),
    }
}

fn described(properties: &Map<String, Value>, name: &str) -> String {
    let description = properties.get(name).and_then(|property| property["description"].as_str());
    description.map_or_else(String::new, |description| format!(": {description}"))
}

/// Returns the types that a property may have.
fn types(property: &Value) -> Vec<&str> {
    match &property["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is(value: &Value, wanted: &str) -> bool {
    match wanted {
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        _ => value.is_null(),
    }
}

fn coerced(value: &Value, wanted: &str) -> Option<Value> {
    match (wanted, value) {
        ("integer", Value::String(text)) => text.trim().parse::<i64>().ok().map(Value::from),
        ("integer", Value::Number(number)) => {
            // `3.0` is how some clients write 3; as a text it has no fraction to lose.
            number.to_string().strip_suffix(".0")?.parse::<i64>().ok().map(Value::from)
        }
        ("boolean", Value::String(text)) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true.into()),
            "false" | "no" | "off" | "0" => Some(false.into()),
            _ => None,
        },
        ("boolean", Value::Number(number)) => match number.as_u64()? {
            0 => Some(false.into()),
            1 => Some(true.into()),
            _ => None,
        },
        _ => None,
    }
}

/// Returns how many characters must be inserted, removed or replaced to make one name of the other.
pub(crate) fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (place, character) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], place + 1);
        for (column, known) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(*known != character);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn properties() -> Map<String, Value> {
        let properties = json!({
            "environment": {"type": "string", "description": "What to boot"},
            "vcpu_count": {"type": "integer"},
            "network": {"type": "boolean"},
            "seed_path": {"type": ["string", "null"]},
        });
        properties.as_object().unwrap().clone()
    }

    fn taken(arguments: Value) -> Result<Value, String> {
        let arguments = arguments.as_object().unwrap().clone();
        take("t", &properties(), &["environment".to_owned()], arguments).map(Value::Object)
    }

    /// Catches a text that is not taken for the number it is, and a number that becomes another one.
    #[test]
    fn what_can_mean_one_thing_only_is_taken() {
        for (given, wanted) in [
            (json!("2"), json!(2)),
            (json!(" 2 "), json!(2)),
            (json!(2.0), json!(2)),
            (json!(2.5), json!(2.5)),
            (json!("two"), json!("two")),
            (json!(-1), json!(-1)),
        ] {
            let taken = taken(json!({"environment": "e", "vcpu_count": given})).unwrap();
            assert_eq!(taken["vcpu_count"], wanted, "{given}");
        }
        for (given, wanted) in [
            (json!("true"), json!(true)),
            (json!("False"), json!(false)),
            (json!(1), json!(true)),
            (json!(2), json!(2)),
            (json!("maybe"), json!("maybe")),
        ] {
            let taken = taken(json!({"environment": "e", "network": given})).unwrap();
            assert_eq!(taken["network"], wanted, "{given}");
        }
        let untouched = json!({"environment": "5", "seed_path": "true"});
        assert_eq!(taken(untouched.clone()).unwrap(), untouched);
        assert_eq!(
            taken(json!({"environment": "e", "seed_path": null})).unwrap(),
            json!({"environment": "e"})
        );
    }

    /// Catches an argument that is dropped in silence.
    #[test]
    fn what_is_wrong_is_said_with_what_would_be_right() {
        let refusal = taken(json!({"enviroment": "e"})).unwrap_err();
        assert!(refusal.contains("did you mean `environment`?"), "{refusal}");
        let refusal = taken(json!({"environment": "e", "zzz": 1})).unwrap_err();
        assert_eq!(refusal, "t has no argument `zzz`. It takes: environment, network, seed_path, vcpu_count");
        assert_eq!(taken(json!({})).unwrap_err(), "t needs the argument `environment`: What to boot");
        let refusal = take("t", &Map::new(), &[], properties()).unwrap_err();
        assert!(refusal.starts_with("t takes no arguments"), "{refusal}");
    }

    /// Catches a refusal that costs the server more than the call.
    #[test]
    fn what_is_too_long_is_not_looked_at() {
        let long = "x".repeat(TEXT_MAX);
        let refusal = taken(json!({"environment": long})).unwrap_err();
        assert_eq!(
            refusal.split(';').next(),
            Some("the arguments of t have 2097163 bytes, and 2097152 are the most")
        );
        let refusal = taken(json!({"environment": ["y", {"z": long}]})).unwrap_err();
        assert!(refusal.contains("2097165 bytes"), "{refusal}");
        let refusal = taken(json!({"x".repeat(1_000_000): 1})).unwrap_err();
        assert!(refusal.len() < 300, "{refusal}");
    }

    #[test]
    fn distances_count_changes() {
        for (one, other, changes) in
            [("", "", 0), ("a", "", 1), ("vcpus", "vcpu_count", 6), ("mem_mb", "mem_mib", 1), ("ab", "ba", 2)]
        {
            assert_eq!((distance(one, other), distance(other, one)), (changes, changes), "{one} {other}");
        }
    }
}
