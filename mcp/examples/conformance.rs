//! A server with what the conformance suite of the protocol wants to find, behind the HTTP layer of this crate.
//!
//! `conformance PORT TOKEN_FILE` serves on 127.0.0.1 until a signal ends it, and prints its address first.

#![expect(deprecated, reason = "the suite is about protocols with logging as well")]

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use pyro_mcp::{HTTP_PATH, HttpSettings};
use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientResult, CompleteRequestParams,
    CompleteResult, ErrorData, GetPromptRequestParams, GetPromptResponse, GetPromptResult, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, LoggingLevel,
    LoggingMessageNotificationParam, PaginatedRequestParams, ProgressNotificationParam,
    ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, ServerConfig, ServerRequest,
    SetLevelRequestParams, SubscribeRequestParams, UnsubscribeRequestParams,
};
use rmcp::service::{RequestContext, RoleServer};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A picture of one red point.
const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";

/// A sound without samples.
const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=";

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().context("no port")?.parse().context("no port")?;
    let token_file = PathBuf::from(arguments.next().context("no token file")?);
    // The suite asks as a page of the server itself would.
    let allowed_origins = ["localhost", "127.0.0.1"].map(|host| format!("http://{host}:{port}")).to_vec();
    let host = "127.0.0.1".to_owned();
    let http = HttpSettings { host, port, token_file, allowed_hosts: Vec::new(), allowed_origins };
    let listening = |address| {
        // Nobody waits for it when it cannot be printed.
        let _printed = writeln!(io::stdout(), "http://{address}{HTTP_PATH}");
    };
    Ok(pyro_mcp::serve_handlers_http(http, listening, || Fixture)?)
}

/// Everything of it is in the descriptions of the suite.
#[derive(Clone, Copy, Debug)]
struct Fixture;

type Context = RequestContext<RoleServer>;

/// Makes a type of the protocol of what stands on the wire.
fn read<Type: DeserializeOwned>(value: Value) -> Result<Type, ErrorData> {
    serde_json::from_value(value).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn image() -> Value {
    json!({"type": "image", "data": PNG, "mimeType": "image/png"})
}

fn resource(uri: &str, mime_type: &str, text: &str) -> Value {
    json!({"type": "resource", "resource": {"uri": uri, "mimeType": mime_type, "text": text}})
}

fn tools() -> Value {
    let tool = |name: &str, argument: Option<&str>| {
        let mut properties = json!({});
        if let Some(argument) = argument {
            properties[argument] = json!({"type": "string"});
        }
        let required: Vec<_> = argument.into_iter().collect();
        let schema = json!({"type": "object", "properties": properties, "required": required});
        json!({"name": name, "description": "A tool of the suite.", "inputSchema": schema})
    };
    let mut tools = [
        "test_simple_text",
        "test_image_content",
        "test_audio_content",
        "test_embedded_resource",
        "test_multiple_content_types",
        "test_tool_with_logging",
        "test_error_handling",
        "test_tool_with_progress",
        "test_elicitation_sep1034_defaults",
        "test_elicitation_sep1330_enums",
    ]
    .map(|name| tool(name, None))
    .to_vec();
    tools.extend([tool("test_sampling", Some("prompt")), tool("test_elicitation", Some("message"))]);
    tools.push(json!({
        "name": "json_schema_2020_12_tool", "description": "A tool of the suite.", "inputSchema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
            "$defs": {"address": {"type": "object", "properties": {
                "street": {"type": "string"}, "city": {"type": "string"},
            }}},
            "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}},
            "additionalProperties": false,
        },
    }));
    json!({ "tools": tools })
}

/// Returns the answer of a tool that needs nobody else.
fn answer(tool: &str) -> Option<Value> {
    Some(match tool {
        "test_simple_text" => json!([text("This is a simple text response for testing.")]),
        "test_image_content" => json!([image()]),
        "test_audio_content" => json!([{"type": "audio", "data": WAV, "mimeType": "audio/wav"}]),
        "test_embedded_resource" => json!([resource(
            "test://embedded-resource",
            "text/plain",
            "This is an embedded resource content."
        )]),
        "test_multiple_content_types" => json!([
            text("Multiple content types test:"),
            image(),
            resource("test://mixed-content-resource", "application/json", r#"{"test":"data","value":123}"#),
        ]),
        _ => return None,
    })
}

/// Returns what the client is asked for a tool, and what the answer is called.
fn question(tool: &str, arguments: &Value) -> Option<(Value, &'static str)> {
    let elicit = |message: &Value, properties: Value, required: &[&str]| {
        let schema = json!({"type": "object", "properties": properties, "required": required});
        let params = json!({"mode": "form", "message": message, "requestedSchema": schema});
        json!({"method": "elicitation/create", "params": params})
    };
    let titled =
        |options: [(&str, &str); 3]| options.map(|(value, title)| json!({"const": value, "title": title}));
    let plain = ["option1", "option2", "option3"];
    let titles = [("value1", "First Option"), ("value2", "Second Option"), ("value3", "Third Option")];
    Some(match tool {
        "test_sampling" => {
            let message = json!({"role": "user", "content": {"type": "text", "text": arguments["prompt"]}});
            let params = json!({"messages": [message], "maxTokens": 100});
            (json!({"method": "sampling/createMessage", "params": params}), "LLM response")
        }
        "test_elicitation" => {
            let properties = json!({
                "username": {"type": "string", "description": "User's response"},
                "email": {"type": "string", "description": "User's email address"},
            });
            (elicit(&arguments["message"], properties, &["username", "email"]), "User response")
        }
        "test_elicitation_sep1034_defaults" => {
            let properties = json!({
                "name": {"type": "string", "default": "John Doe"},
                "age": {"type": "integer", "default": 30},
                "score": {"type": "number", "default": 95.5},
                "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
                "verified": {"type": "boolean", "default": true},
            });
            (elicit(&"Who are you?".into(), properties, &[]), "Elicitation completed")
        }
        "test_elicitation_sep1330_enums" => {
            let properties = json!({
                "untitledSingle": {"type": "string", "enum": plain},
                "titledSingle": {"type": "string", "oneOf": titled(titles)},
                "legacyEnum": {"type": "string", "enum": ["opt1", "opt2", "opt3"],
                    "enumNames": ["Option One", "Option Two", "Option Three"]},
                "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}},
                "titledMulti": {"type": "array", "items": {"anyOf": titled(titles)}},
            });
            (elicit(&"Which?".into(), properties, &[]), "Elicitation completed")
        }
        _ => return None,
    })
}

async fn ask(question: Value, context: &Context) -> Result<Value, ErrorData> {
    let request: ServerRequest = read(question)?;
    let answered = context.peer.send_request(request).await;
    let answered: ClientResult =
        answered.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    serde_json::to_value(answered).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

async fn log(context: &Context) {
    for what in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
        let said = LoggingMessageNotificationParam::new(LoggingLevel::Info, json!(what));
        // A client that is gone is noticed when the answer is sent; so it is below.
        let _gone = context.peer.notify_logging_message(said).await;
    }
}

async fn progress(context: &Context) {
    let Some(token) = context.meta.get_progress_token() else { return };
    for done in [0.0, 50.0, 100.0] {
        let told = ProgressNotificationParam::new(token.clone(), done).with_total(100.0);
        let _gone = context.peer.notify_progress(told).await;
    }
}

fn prompt(name: &str, arguments: &Value) -> Option<Value> {
    let user = |content: Value| json!({"role": "user", "content": content});
    let argument = |name: &str| arguments[name].as_str().unwrap_or_default();
    let messages = match name {
        "test_simple_prompt" => json!([user(text("This is a simple prompt for testing."))]),
        "test_prompt_with_arguments" => json!([user(text(&format!(
            "Prompt with arguments: arg1='{}', arg2='{}'",
            argument("arg1"),
            argument("arg2")
        )))]),
        "test_prompt_with_embedded_resource" => json!([
            user(resource(argument("resourceUri"), "text/plain", "Embedded resource content for testing.")),
            user(text("Please process the embedded resource above.")),
        ]),
        "test_prompt_with_image" => json!([user(image()), user(text("Please analyze the image above."))]),
        _ => return None,
    };
    Some(json!({ "messages": messages }))
}

fn contents(uri: &str) -> Option<Value> {
    let text = |mime_type: &str, text: String| json!({"uri": uri, "mimeType": mime_type, "text": text});
    let id = uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data"));
    Some(match (uri, id) {
        ("test://static-text", _) => {
            text("text/plain", "This is the content of the static text resource.".to_owned())
        }
        ("test://static-binary", _) => json!({"uri": uri, "mimeType": "image/png", "blob": PNG}),
        ("test://watched-resource", _) => text("text/plain", "Watched resource content".to_owned()),
        (_, Some(id)) => {
            let data = json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")});
            text("application/json", data.to_string())
        }
        _ => return None,
    })
}

impl ServerHandler for Fixture {
    fn get_info(&self) -> ServerConfig {
        let capabilities = json!({
            "completions": {}, "logging": {}, "prompts": {}, "resources": {"subscribe": true}, "tools": {},
        });
        let mut info = ServerConfig::new(serde_json::from_value(capabilities).unwrap_or_default());
        info.server_info.name = "pyro-conformance".to_owned();
        info
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Context,
    ) -> Result<ListToolsResult, ErrorData> {
        read(tools())
    }

    async fn call_tool(
        &self,
        asked: CallToolRequestParams,
        context: Context,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = Value::Object(asked.arguments.unwrap_or_default());
        let content = match &*asked.name {
            "test_tool_with_logging" => {
                log(&context).await;
                json!([text("Logged.")])
            }
            "test_tool_with_progress" => {
                progress(&context).await;
                json!([text("Progressed.")])
            }
            "test_error_handling" => {
                let content = [text("This tool intentionally returns an error for testing")];
                return read::<CallToolResult>(json!({"isError": true, "content": content})).map(Into::into);
            }
            tool => match question(tool, &arguments) {
                Some((question, called)) => {
                    json!([text(&format!("{called}: {}", ask(question, &context).await?))])
                }
                None => answer(tool).ok_or_else(|| ErrorData::invalid_params("unknown tool", None))?,
            },
        };
        read::<CallToolResult>(json!({ "content": content })).map(Into::into)
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Context,
    ) -> Result<ListResourcesResult, ErrorData> {
        let described = |uri: &str, mime_type: &str| json!({"uri": uri, "name": uri, "description": "A resource of the suite.", "mimeType": mime_type});
        read(json!({"resources": [
            described("test://static-text", "text/plain"),
            described("test://static-binary", "image/png"),
            described("test://watched-resource", "text/plain"),
        ]}))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Context,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let template = json!({"uriTemplate": "test://template/{id}/data", "name": "template"});
        read(json!({"resourceTemplates": [template]}))
    }

    async fn read_resource(
        &self,
        asked: ReadResourceRequestParams,
        _: Context,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let contents =
            contents(&asked.uri).ok_or_else(|| ErrorData::resource_not_found("unknown resource", None))?;
        read::<ReadResourceResult>(json!({"contents": [contents]})).map(Into::into)
    }

    async fn subscribe(&self, _: SubscribeRequestParams, _: Context) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn unsubscribe(&self, _: UnsubscribeRequestParams, _: Context) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Context,
    ) -> Result<ListPromptsResult, ErrorData> {
        let argument = |name: &&str| json!({"name": name, "description": "An argument.", "required": true});
        let described = |name: &str, arguments: &[&str]| {
            let arguments: Vec<_> = arguments.iter().map(argument).collect();
            json!({"name": name, "description": "A prompt of the suite.", "arguments": arguments})
        };
        read(json!({"prompts": [
            described("test_simple_prompt", &[]),
            described("test_prompt_with_arguments", &["arg1", "arg2"]),
            described("test_prompt_with_embedded_resource", &["resourceUri"]),
            described("test_prompt_with_image", &[]),
        ]}))
    }

    async fn get_prompt(
        &self,
        asked: GetPromptRequestParams,
        _: Context,
    ) -> Result<GetPromptResponse, ErrorData> {
        let arguments = json!(asked.arguments);
        let prompt = prompt(&asked.name, &arguments);
        let prompt = prompt.ok_or_else(|| ErrorData::invalid_params("unknown prompt", None))?;
        read::<GetPromptResult>(prompt).map(Into::into)
    }

    async fn complete(&self, _: CompleteRequestParams, _: Context) -> Result<CompleteResult, ErrorData> {
        read(json!({"completion": {"values": [], "total": 0, "hasMore": false}}))
    }

    async fn set_level(&self, _: SetLevelRequestParams, _: Context) -> Result<(), ErrorData> {
        Ok(())
    }
}
