//! A tool: its name, what it takes and gives, and the request that it becomes.

use std::sync::Arc;

use pyro_api::Request;
use rmcp::model::{JsonObject, Tool as Described, ToolAnnotations};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::arguments;

/// What a call of a tool changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    Looks,
    /// Something comes into being.
    Adds,
    /// Something is done that can be done again without harm.
    Settles,
    /// What a command does, which can be anything within the guest.
    Acts,
    /// Something is gone.
    Destroys,
}

/// A tool.
#[derive(Debug)]
pub(crate) struct Tool {
    described: Described,
    required: Vec<String>,
    into_request: fn(Value) -> Result<Request, String>,
}

impl Tool {
    /// Returns a tool whose arguments are some of the fields of a request.
    pub(crate) fn new<Asked, Answer>(
        name: &'static str,
        description: &'static str,
        effect: Effect,
        inputs: &[&str],
    ) -> Self
    where
        Asked: JsonSchema + DeserializeOwned + Into<Request>,
        Answer: JsonSchema,
    {
        let mut schema = schema_of::<Asked>();
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            properties.retain(|name, _| inputs.contains(&name.as_str()));
            assert_eq!(properties.len(), inputs.len(), "{name} takes fields that its request has");
            properties.values_mut().for_each(require_value);
        }
        schema.insert("additionalProperties".to_owned(), false.into());
        // The tool has a description of its own.
        schema.remove("description");
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        let required = required.filter_map(Value::as_str).map(str::to_owned).collect();
        let mut output = schema_of::<Answer>();
        if output.get("type").and_then(Value::as_str) == Some("array") {
            output.remove("properties");
            output = wrapped(output);
        }
        output.entry("type").or_insert_with(|| "object".into());
        // What comes with a later version must not be an error for who reads by this schema.
        output.remove("additionalProperties");
        let described = Described::new(name, description, Arc::new(schema))
            .with_raw_output_schema(Arc::new(output))
            .with_annotations(annotations(effect));
        Self { described, required, into_request: parse::<Asked> }
    }

    pub(crate) fn name(&self) -> &str {
        &self.described.name
    }

    /// Returns the tool as clients are told of it.
    pub(crate) const fn described(&self) -> &Described {
        &self.described
    }

    /// Returns the request of a call.
    ///
    /// # Errors
    ///
    /// What is wrong with the arguments.
    pub(crate) fn request(&self, passed: Option<JsonObject>) -> Result<Request, String> {
        let none = Map::new();
        let properties = self.described.input_schema.get("properties").and_then(Value::as_object);
        let (properties, passed) = (properties.unwrap_or(&none), passed.unwrap_or_default());
        let taken = arguments::take(self.name(), properties, &self.required, passed)?;
        (self.into_request)(Value::Object(taken))
    }
}

fn parse<Asked: DeserializeOwned + Into<Request>>(arguments: Value) -> Result<Request, String> {
    match serde_path_to_error::deserialize::<_, Asked>(arguments) {
        Ok(asked) => Ok(asked.into()),
        Err(error) => Err(format!("`{}`: {}", error.path(), error.inner())),
    }
}

/// Returns the schema of a type, whole, without references to other documents.
fn schema_of<Type: JsonSchema>() -> Map<String, Value> {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.meta_schema = None);
    let mut schema = SchemaGenerator::new(settings).into_root_schema_for::<Type>().to_value();
    drop_formats(&mut schema);
    let mut schema = match schema {
        Value::Object(schema) => schema,
        _ => Map::new(),
    };
    // The names of Rust's types say nothing to a client.
    schema.remove("title");
    schema.entry("properties").or_insert_with(|| Value::Object(Map::new()));
    schema
}

/// Takes the formats of numbers away: those of Rust are no formats of JSON Schema, and clients warn of what they do not know.
fn drop_formats(part: &mut Value) {
    match part {
        Value::Object(members) => {
            if members.get("format").is_some_and(Value::is_string) {
                members.remove("format");
            }
            members.values_mut().for_each(drop_formats);
        }
        Value::Array(parts) => parts.iter_mut().for_each(drop_formats),
        _ => {}
    }
}

/// Takes null away from the types of an argument, which can be left out as well: some models know properties of one type
/// only. Null is taken for an argument that was left out, whatever the schema says.
fn require_value(property: &mut Value) {
    let Some(types) = property.get_mut("type").and_then(Value::as_array_mut) else { return };
    types.retain(|kind| kind != "null");
    if let [one] = types.as_slice() {
        property["type"] = one.clone();
    }
    if let Some(members) = property.as_object_mut()
        && members.get("default").is_some_and(Value::is_null)
    {
        members.remove("default");
    }
}

/// Returns the schema of an answer that is no object: it stands under `result`.
fn wrapped(mut schema: Map<String, Value>) -> Map<String, Value> {
    // References begin at the root of the document.
    let definitions = schema.remove("$defs");
    let mut whole = Map::new();
    whole.insert("type".to_owned(), "object".into());
    whole.insert("properties".to_owned(), serde_json::json!({"result": schema}));
    whole.insert("required".to_owned(), serde_json::json!(["result"]));
    whole.extend(definitions.map(|definitions| ("$defs".to_owned(), definitions)));
    whole
}

fn annotations(effect: Effect) -> ToolAnnotations {
    let (reads, destroys, idempotent) = match effect {
        Effect::Looks => (true, false, true),
        Effect::Adds => (false, false, false),
        Effect::Settles => (false, false, true),
        Effect::Acts => (false, true, false),
        Effect::Destroys => (false, true, true),
    };
    let hints = ToolAnnotations::new().read_only(reads).destructive(destroys);
    // What a guest can reach is outside of what is known here only when it has a network.
    hints.idempotent(idempotent).open_world(effect == Effect::Acts)
}

#[cfg(test)]
mod tests {
    use crate::settings::Profile;
    use crate::tools;

    use super::*;

    /// Checks that each reference of a part of a schema leads somewhere, and returns how many there are.
    fn follow(part: &Value, whole: &Value) -> usize {
        match part {
            Value::Object(members) => {
                let named = members.get("$ref").and_then(Value::as_str);
                let place =
                    named.map(|name| name.strip_prefix('#').expect("references stay in the document"));
                assert!(place.is_none_or(|place| whole.pointer(place).is_some()), "{named:?} in {whole}");
                usize::from(place.is_some()) + members.values().map(|part| follow(part, whole)).sum::<usize>()
            }
            Value::Array(parts) => parts.iter().map(|part| follow(part, whole)).sum(),
            _ => 0,
        }
    }

    /// Catches an argument that some models cannot be told of, and a format that some clients do not know.
    #[test]
    fn schemas_are_plain() {
        for tool in tools::of(Profile::WorkspaceFull) {
            let schema = Value::Object((*tool.described.input_schema).clone());
            for (name, property) in schema["properties"].as_object().unwrap() {
                assert!(property["type"].is_string(), "{} {name}: {property}", tool.name());
            }
            let output = tool.described.output_schema.as_deref().map(|output| Value::Object(output.clone()));
            assert!(!format!("{schema}{output:?}").contains("uint"), "{}", tool.name());
        }
    }

    /// Catches a schema with a reference to nowhere, for which clients refuse what the tool answers.
    #[test]
    fn references_of_schemas_lead_somewhere() {
        let tools = tools::of(Profile::WorkspaceFull);
        let schemas = tools
            .iter()
            .map(Tool::described)
            .flat_map(|tool| [Some(&tool.input_schema), tool.output_schema.as_ref()].into_iter().flatten());
        let schemas = schemas.map(|schema| Value::Object((**schema).clone()));
        let references: usize = schemas.map(|schema| follow(&schema, &schema)).sum();
        assert!(references > 0, "no schema has one any more");
    }
}
