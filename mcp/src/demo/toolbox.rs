//! The tools of the server, as a client in the same process uses them for a model that is not always right.

use std::sync::Arc;

use rmcp::model::{CallToolRequestParams, ClientConfig, Implementation, JsonObject, Tool as Described};
use rmcp::service::{RoleClient, RunningService};
use rmcp::{ClientHandler, ServiceExt as _};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::model::Asked;
use super::{DemoError, failure};
use crate::server::{Server, Shared};
use crate::settings::Settings;

/// What the model is offered.
const OFFERED: [&str; 6] =
    ["vm_run", "vm_list_environments", "vm_create", "vm_start", "vm_exec", "vm_status"];

/// Longest time that a command may take, in seconds, whatever the model says.
const COMMAND_SECONDS_MAX: u64 = 120;

/// Bytes on their way between the client and the server.
const PIPE_BYTES: usize = 64 * 1024;

/// A call that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) arguments: JsonObject,
}

/// Why a call was not made, or failed.
#[derive(Debug)]
pub(super) struct Failure {
    kind: &'static str,
    error: String,
    hint: Option<String>,
}

impl Failure {
    fn new(kind: &'static str, error: impl ToString) -> Self {
        Self { kind, error: error.to_string(), hint: None }
    }

    fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Returns what the model is told of it.
    pub(super) fn told(&self, asked: &Asked) -> Value {
        failure(asked, self.kind, &self.error, self.hint.as_deref())
    }
}

/// Who the server thinks it serves.
#[derive(Clone, Debug)]
struct Demonstrator;

impl ClientHandler for Demonstrator {
    fn get_info(&self) -> ClientConfig {
        let mut info = ClientConfig::default();
        info.client_info = Implementation::new("pyro-demo-ollama", env!("CARGO_PKG_VERSION"));
        info
    }
}

/// A client with its server.
#[derive(Debug)]
pub(super) struct Toolbox {
    client: RunningService<RoleClient, Demonstrator>,
    tools: Vec<Described>,
    /// Machines that the model created and has not used up. It reaches no others.
    created: Vec<String>,
    runtime: Runtime,
}

impl Toolbox {
    pub(super) fn open(settings: Settings) -> Result<Self, DemoError> {
        let runtime = crate::runtime().map_err(|error| DemoError::Tools(error.to_string()))?;
        let opened = runtime.block_on(async {
            let (near, far) = tokio::io::duplex(PIPE_BYTES);
            let server = tokio::spawn(async move {
                let shared = Arc::new(Shared::new(settings));
                if let Ok(running) = Server::new(&shared).serve(far).await {
                    // It ends with its client.
                    let _reason = running.waiting().await;
                }
            });
            let client =
                Demonstrator.serve(near).await.map_err(|error| DemoError::Tools(error.to_string()))?;
            drop(server);
            let tools = client.list_all_tools().await;
            let tools = tools.map_err(|error| DemoError::Tools(error.to_string()))?;
            Ok::<_, DemoError>((client, tools))
        });
        let (client, mut tools) = opened?;
        tools.retain(|tool| OFFERED.contains(&&*tool.name));
        Ok(Self { client, tools, created: Vec::new(), runtime })
    }

    /// Returns the tools as models are told of them.
    pub(super) fn described(&self) -> Value {
        let described = |tool: &Described| {
            let mut parameters = (*tool.input_schema).clone();
            if let Some(properties) = parameters.get_mut("properties").and_then(Value::as_object_mut) {
                // Models that see it invent one.
                properties.remove("request_id");
            }
            let function =
                json!({"name": tool.name, "description": tool.description, "parameters": parameters});
            json!({"type": "function", "function": function})
        };
        self.tools.iter().map(described).collect()
    }

    /// Returns the calls that do what the model asks for.
    pub(super) fn plan(&mut self, asked: &Asked) -> Result<Vec<Step>, Failure> {
        if !OFFERED.contains(&asked.name.as_str()) {
            let error = format!("there is no tool {:?}", asked.name);
            return Err(
                Failure::new("unknown_tool", error).with_hint(format!("tools: {}", OFFERED.join(", ")))
            );
        }
        let mut arguments = arguments_of(asked)?;
        if let Some(environment) = arguments.remove("profile") {
            arguments.entry("environment").or_insert(environment);
        }
        if asked.name == "vm_exec" || asked.name == "vm_run" {
            limit_time(&mut arguments);
        }
        let mut steps = Vec::new();
        if matches!(asked.name.as_str(), "vm_start" | "vm_exec" | "vm_status") {
            let id = self.meant(&arguments)?;
            arguments.insert("vm_id".to_owned(), id.as_str().into());
            if asked.name == "vm_exec" && self.state(&id).as_deref() == Some("created") {
                steps.push(Step { name: "vm_start".to_owned(), arguments: with_id(&id) });
            }
        }
        steps.push(Step { name: asked.name.clone(), arguments });
        Ok(steps)
    }

    /// Calls a tool and returns its answer.
    pub(super) fn call(&mut self, step: &Step) -> Result<Value, Failure> {
        let params = CallToolRequestParams::new(step.name.clone()).with_arguments(step.arguments.clone());
        let result = self.runtime.block_on(self.client.call_tool(params));
        let result = result.map_err(|error| Failure::new("server_error", error))?;
        if result.is_error == Some(true) {
            let texts = result.content.iter().filter_map(|block| block.as_text());
            let text = texts.map(|text| text.text.as_str()).collect::<Vec<_>>().join("\n");
            let (error, hint) = text.split_once('\n').unwrap_or((&text, ""));
            let failure = Failure::new("tool_error", error);
            return Err(if hint.is_empty() { failure } else { failure.with_hint(hint) });
        }
        let answer = result.structured_content.unwrap_or_default();
        let id = answer["vm_id"].as_str().unwrap_or_default();
        match step.name.as_str() {
            "vm_create" => self.created.push(id.to_owned()),
            "vm_exec" => self.created.retain(|created| created != id),
            _ => {}
        }
        Ok(answer)
    }

    /// Deletes the machines that are left.
    pub(super) fn clear(&mut self) {
        for id in std::mem::take(&mut self.created) {
            // One that is gone already is what is wanted; another one ends with its time to live.
            let _gone = self.call(&Step { name: "vm_delete".to_owned(), arguments: with_id(&id) });
        }
    }

    /// Returns the machine that is meant: models write placeholders where an id belongs.
    fn meant(&self, arguments: &JsonObject) -> Result<String, Failure> {
        let passed = arguments.get("vm_id").and_then(Value::as_str);
        let known = passed.and_then(|id| self.created.iter().find(|created| *created == id));
        known.or(self.created.last()).cloned().ok_or_else(|| {
            Failure::new("unknown_vm", "there is no VM yet")
                .with_hint("vm_create makes one; vm_run needs none")
        })
    }

    fn state(&mut self, id: &str) -> Option<String> {
        let status = self.call(&Step { name: "vm_status".to_owned(), arguments: with_id(id) }).ok()?;
        status["state"].as_str().map(str::to_owned)
    }
}

fn with_id(id: &str) -> JsonObject {
    JsonObject::from_iter([("vm_id".to_owned(), Value::from(id))])
}

/// Returns the arguments, which come as an object or as a text that holds one.
fn arguments_of(asked: &Asked) -> Result<JsonObject, Failure> {
    let parsed = match &asked.arguments {
        Value::Null => Ok(Value::Object(JsonObject::new())),
        Value::String(text) if text.trim().is_empty() => Ok(Value::Object(JsonObject::new())),
        Value::String(text) => serde_json::from_str(text).map_err(|error| error.to_string()),
        arguments => Ok(arguments.clone()),
    };
    match parsed {
        Ok(Value::Object(arguments)) => Ok(arguments),
        Ok(_) => Err("they are no object".to_owned()),
        Err(error) => Err(error),
    }
    .map_err(|error| {
        Failure::new("invalid_arguments", format!("cannot read the arguments: {error}"))
            .with_hint("arguments are a JSON object that fits the schema of the tool")
    })
}

fn limit_time(arguments: &mut JsonObject) {
    let Some(seconds) = arguments.get_mut("timeout_seconds") else { return };
    let asked = seconds.as_u64().or_else(|| seconds.as_str().and_then(|text| text.trim().parse().ok()));
    if asked.is_some_and(|asked| asked > COMMAND_SECONDS_MAX) {
        *seconds = COMMAND_SECONDS_MAX.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(arguments: Value) -> Asked {
        Asked { id: "1".to_owned(), name: "vm_run".to_owned(), arguments }
    }

    /// Catches arguments of some model that are not understood, and rubbish that is taken for none.
    #[test]
    fn arguments_come_as_objects_and_as_texts() {
        for (arguments, expected) in [
            (json!({"a": 1}), Some(json!({"a": 1}))),
            (json!("{\"a\": 1}"), Some(json!({"a": 1}))),
            (json!(" "), Some(json!({}))),
            (Value::Null, Some(json!({}))),
            (json!("{\"a\": "), None),
            (json!("[1]"), None),
            (json!(7), None),
        ] {
            let taken = arguments_of(&asked(arguments.clone())).ok().map(Value::Object);
            assert_eq!(taken, expected, "{arguments}");
        }
    }

    #[test]
    fn no_command_takes_longer_than_it_may() {
        for (passed, expected) in
            [(json!(5), json!(5)), (json!(1_000_000), json!(120)), (json!("999"), json!(120))]
        {
            let mut arguments = JsonObject::from_iter([("timeout_seconds".to_owned(), passed)]);
            limit_time(&mut arguments);
            assert_eq!(arguments["timeout_seconds"], expected);
        }
    }
}
