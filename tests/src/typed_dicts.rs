//! Types of Python for the answers of the daemon, made from their schemas.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use pyro_api::{
    DeleteResult, EnvObject, ExecResult, LogEvent, NetworkInfo, PruneResult, PullResult, ReapResult,
    RunResult, ShellCloseResult, ShellList, ShellObject, ShellReadResult, ShellSignalResult,
    ShellWriteResult, SyncResult, VmObject, WorkspaceDeleteResult, WorkspaceList, WorkspaceLogs,
    WorkspaceObject,
};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};

/// Where the generated module is, from the root of the repository.
pub const PATH: &str = "python/pyro_mcp/results.py";

/// Longest line of a comment, in bytes.
const LINE_LEN_MAX: usize = 110;

const HEAD: &str = r#""""The dictionaries that the methods return.

Made from the schemas of the daemon's answers by `cargo run -p pyro-tests --bin python-types`. Keys of classes that are
declared with `total=False` are there only when they have something to say.
"""

from __future__ import annotations

from typing import Any, Optional, TypedDict, Union
"#;

type Schemas = BTreeMap<String, Value>;

/// Returns the text of the module.
#[must_use]
pub fn module() -> String {
    let schemas = schemas();
    let mut text = HEAD.to_owned();
    let mut written = BTreeSet::new();
    for name in schemas.keys() {
        push_type(name, &schemas, &mut written, &mut text);
    }
    text.push_str("\n__all__ = [\n");
    for name in schemas.keys() {
        writeln!(text, "    \"{name}\",").expect("a string takes everything");
    }
    text.push_str("]\n");
    text
}

/// Returns the schemas of all answers and of what they are made of, by name.
fn schemas() -> Schemas {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    add::<DeleteResult>(&mut generator);
    add::<EnvObject>(&mut generator);
    add::<ExecResult>(&mut generator);
    add::<LogEvent>(&mut generator);
    add::<NetworkInfo>(&mut generator);
    add::<PruneResult>(&mut generator);
    add::<PullResult>(&mut generator);
    add::<ReapResult>(&mut generator);
    add::<RunResult>(&mut generator);
    add::<ShellCloseResult>(&mut generator);
    add::<ShellList>(&mut generator);
    add::<ShellObject>(&mut generator);
    add::<ShellReadResult>(&mut generator);
    add::<ShellSignalResult>(&mut generator);
    add::<ShellWriteResult>(&mut generator);
    add::<SyncResult>(&mut generator);
    add::<VmObject>(&mut generator);
    add::<WorkspaceDeleteResult>(&mut generator);
    add::<WorkspaceList>(&mut generator);
    add::<WorkspaceLogs>(&mut generator);
    add::<WorkspaceObject>(&mut generator);
    generator.take_definitions(true).into_iter().collect()
}

fn add<T: JsonSchema>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}

/// Writes a type behind those that it refers to.
fn push_type(name: &str, schemas: &Schemas, written: &mut BTreeSet<String>, text: &mut String) {
    if !written.insert(name.to_owned()) {
        return;
    }
    let schema = schemas.get(name).and_then(Value::as_object).expect("references lead to definitions");
    for other in references(schema) {
        push_type(&other, schemas, written, text);
    }
    match schema.get("anyOf").and_then(Value::as_array) {
        Some(variants) => {
            let variants: Vec<_> = variants.iter().map(python_type).collect();
            writeln!(text, "\n{name} = Union[{}]", variants.join(", ")).expect("a string takes everything");
        }
        None => push_classes(name, schema, text),
    }
}

/// Writes a class, and below it one for the keys that are not always there.
fn push_classes(name: &str, schema: &Map<String, Value>, text: &mut String) {
    let description = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let required: BTreeSet<_> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let fields = schema.get("properties").and_then(Value::as_object).expect("answers are objects");
    let (always, sometimes): (Vec<_>, Vec<_>) =
        fields.iter().partition(|(field, _)| required.contains(field.as_str()));
    let heads = if sometimes.is_empty() {
        vec![(format!("class {name}(TypedDict):"), always)]
    } else {
        vec![
            (format!("class _{name}(TypedDict):"), always),
            (format!("class {name}(_{name}, total=False):"), sometimes),
        ]
    };
    for (head, fields) in heads {
        writeln!(text, "\n\n{head}\n    \"\"\"{description}\"\"\"").expect("a string takes everything");
        for (field, schema) in fields {
            let kind = python_type(schema);
            // A key that has nothing to say is left out, so its value is never `None`.
            let left_out = !required.contains(field.as_str());
            let kind = kind
                .strip_prefix("Optional[")
                .filter(|_| left_out)
                .map_or(&*kind, |kind| kind.strip_suffix(']').expect("the bracket is closed"));
            push_field(field, kind, schema, text);
        }
    }
}

fn push_field(field: &str, kind: &str, schema: &Value, text: &mut String) {
    text.push('\n');
    let mut line = "    #".to_owned();
    for word in schema.get("description").and_then(Value::as_str).unwrap_or_default().split_whitespace() {
        if line.len() + 1 + word.len() > LINE_LEN_MAX {
            writeln!(text, "{line}").expect("a string takes everything");
            "    #".clone_into(&mut line);
        }
        line.push(' ');
        line.push_str(word);
    }
    writeln!(text, "{line}\n    {field}: {kind}").expect("a string takes everything");
}

/// Returns the names that a schema refers to.
fn references(schema: &Map<String, Value>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for value in schema.values() {
        match value {
            Value::Object(schema) => names.extend(references(schema)),
            Value::Array(schemas) => {
                names.extend(schemas.iter().filter_map(Value::as_object).flat_map(references));
            }
            Value::String(text) => names.extend(text.strip_prefix("#/$defs/").map(str::to_owned)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    names
}

fn python_type(schema: &Value) -> String {
    let Some(schema) = schema.as_object() else { return "Any".to_owned() };
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        return reference.trim_start_matches("#/$defs/").to_owned();
    }
    if let Some(variants) = schema.get("anyOf").and_then(Value::as_array) {
        let names: Vec<_> = variants.iter().map(python_type).filter(|name| name != "None").collect();
        let union = if names.len() == 1 { names[0].clone() } else { format!("Union[{}]", names.join(", ")) };
        return if names.len() < variants.len() { format!("Optional[{union}]") } else { union };
    }
    match schema.get("type") {
        None => "Any".to_owned(),
        Some(Value::Array(names)) => {
            let named = names.iter().find(|name| *name != "null").expect("a value can be there");
            format!("Optional[{}]", named_type(named, schema))
        }
        Some(name) => named_type(name, schema),
    }
}

fn named_type(name: &Value, schema: &Map<String, Value>) -> String {
    match name.as_str() {
        Some("string") => "str".to_owned(),
        Some("integer") => "int".to_owned(),
        Some("number") => "float".to_owned(),
        Some("boolean") => "bool".to_owned(),
        Some("null") => "None".to_owned(),
        Some("array") => {
            format!("list[{}]", schema.get("items").map_or_else(|| "Any".to_owned(), python_type))
        }
        Some("object") => {
            let values = schema.get("additionalProperties").map_or_else(|| "Any".to_owned(), python_type);
            format!("dict[str, {values}]")
        }
        _ => panic!("no type of Python for {name}"),
    }
}
