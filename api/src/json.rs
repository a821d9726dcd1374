//! JSON as the contract has it: sorted keys, ASCII only, the layout of Python's `json.dumps`.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

/// How the parts of a document are set apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// One element a line, indented by two blanks a level.
    Indented,
    /// Everything in one line.
    Line,
}

/// Returns a document with an indentation of two blanks and a line end.
///
/// # Panics
///
/// For a type with keys that are no strings, which the contract has none of.
#[must_use]
pub fn document(value: &impl Serialize) -> String {
    format(value, Layout::Indented)
}

/// Returns a document in one line, with a line end.
///
/// # Panics
///
/// As [`document`].
#[must_use]
pub fn line(value: &impl Serialize) -> String {
    format(value, Layout::Line)
}

fn format(value: &impl Serialize, layout: Layout) -> String {
    let value = serde_json::to_value(value).expect("the types of the contract have only string keys");
    let mut text = String::new();
    push_value(&value, layout, 0, &mut text);
    text.push('\n');
    text
}

fn push_value(value: &Value, layout: Layout, depth: usize, text: &mut String) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => push_float(float, text),
            _ => text.push_str(&number.to_string()),
        },
        Value::String(value) => push_string(value, text),
        Value::Array(values) => push_list(['[', ']'], values, layout, depth, text, |value, text| {
            push_value(value, layout, depth + 1, text);
        }),
        Value::Object(members) => {
            // The map keeps the order of insertion when any crate of the build asks for that.
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            push_list(['{', '}'], members, layout, depth, text, |(name, value), text| {
                push_string(name, text);
                text.push_str(": ");
                push_value(value, layout, depth + 1, text);
            });
        }
    }
}

fn push_list<T>(
    [open, close]: [char; 2],
    items: impl IntoIterator<Item = T>,
    layout: Layout,
    depth: usize,
    text: &mut String,
    push: impl Fn(T, &mut String),
) {
    text.push(open);
    let mut empty = true;
    for item in items {
        match (layout, empty) {
            (Layout::Indented, _) => {
                text.push_str(if empty { "\n" } else { ",\n" });
                push_indentation(depth + 1, text);
            }
            (Layout::Line, true) => {}
            (Layout::Line, false) => text.push_str(", "),
        }
        empty = false;
        push(item, text);
    }
    if layout == Layout::Indented && !empty {
        text.push('\n');
        push_indentation(depth, text);
    }
    text.push(close);
}

fn push_indentation(depth: usize, text: &mut String) {
    (0..depth).for_each(|_| text.push_str("  "));
}

fn push_string(value: &str, text: &mut String) {
    text.push('"');
    for character in value.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            ' '..='~' => text.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(text, "\\u{unit:04x}").expect("a string takes everything");
                }
            }
        }
    }
    text.push('"');
}

/// Writes the shortest digits that give the same number, in the notation that Python chooses.
fn push_float(value: f64, text: &mut String) {
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("the notation has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    if (-4..16).contains(&exponent) {
        let plain = value.to_string();
        text.push_str(&plain);
        if !plain.contains('.') {
            text.push_str(".0");
        }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(text, "{mantissa}e{sign}{:02}", exponent.abs()).expect("a string takes everything");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Returns what Python makes of the same documents; one process for all of them.
    fn python(values: &[Value], arguments: &str) -> String {
        let script = format!(
            "import json,sys\nfor line in sys.stdin: print(json.dumps(json.loads(line), sort_keys=True{arguments}))"
        );
        let mut child = Command::new("python3")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed");
        let mut stdin = child.stdin.take().unwrap();
        let input: String = values.iter().map(|value| format!("{value}\n")).collect();
        let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn tricky() -> Vec<Value> {
        vec![
            json!({"z": 1, "a": [], "m": {}, "ä": null, "A": [1, [2, {"x": [true, false]}]]}),
            json!(
                "quote \" backslash \\ slash / controls \0\u{1}\u{8}\t\n\u{b}\u{c}\r\u{1f}\u{7f}\u{80}\u{9f}"
            ),
            json!("é ü 漢字 \u{2028} \u{feff} \u{ffff} \u{10000} 😀 \u{10ffff}"),
            json!([0, -1, u64::MAX, i64::MIN]),
            json!([0.0, -0.0, 1.0, 1.5, 0.1, 1e-4, 1e-5, 1.5e-7, 1e15, 1e16, 1.25e22, 5e-324, f64::MAX]),
            json!([1_758_000_000.123_456, 12_345_678_901_234_567.0]),
        ]
    }

    #[test]
    fn layout_is_that_of_python() {
        let values = tricky();
        let documents: String = values.iter().map(document).collect();
        assert_eq!(documents, python(&values, ", indent=2"));
        let lines: String = values.iter().map(line).collect();
        assert_eq!(lines, python(&values, ""));
    }

    proptest! {
        /// Catches a string or number that another reader would take for something else.
        #[test]
        fn documents_are_read_back(text in any::<String>(), float in prop::num::f64::NORMAL, int in any::<i64>()) {
            let value = json!({"text": text, "float": float, "int": int, "list": [text, {}]});
            let written = document(&value);
            prop_assert!(written.is_ascii());
            prop_assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), value);
        }
    }
}
