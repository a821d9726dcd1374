//! A model behind an HTTP server with the chat completions of `OpenAI`.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;

/// Time for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

/// Size of the largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// Longest part of an answer that an error quotes, in characters.
const QUOTED_CHARS_MAX: usize = 200;

/// Longest result of a tool that a model is told, in characters.
const RESULT_CHARS_MAX: usize = 16 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The address is none that can be asked.
    #[error("--base-url must begin with http:// and name a server, such as http://localhost:11434/v1: {0}")]
    Address(String),
    /// Nobody is there.
    #[error(
        "nothing answers at {url}: {error}; `ollama serve` starts Ollama, `ollama pull {model}` loads the model"
    )]
    Unreachable {
        /// What was asked.
        url: String,
        /// The model that was wanted.
        model: String,
        /// What the system says.
        error: String,
    },
    /// The server knows no such model or path.
    #[error("{url} knows no model {model}: {said}; `ollama pull {model}` loads it")]
    Unknown {
        /// What was asked.
        url: String,
        /// The model that was wanted.
        model: String,
        /// What the server says.
        said: String,
    },
    /// The server refused or failed.
    #[error("{url} answered with status {status}: {said}")]
    Status {
        /// What was asked.
        url: String,
        /// Status of HTTP.
        status: u16,
        /// What the server says.
        said: String,
    },
    /// The answer did not come, or not whole.
    #[error("no answer of {url}: {error}")]
    Lost {
        /// What was asked.
        url: String,
        /// What went wrong.
        error: String,
    },
    /// The answer is not one of a model.
    #[error("{url} answered something else than a chat completion: {said}")]
    Strange {
        /// What was asked.
        url: String,
        /// The beginning of the answer.
        said: String,
    },
}

/// A tool that the model wants to be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) id: String,
    pub(super) name: String,
    /// As the model wrote them.
    pub(super) arguments: Value,
}

/// What the model said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) calls: Vec<Asked>,
}

/// A part of a conversation.
#[derive(Clone, Debug)]
pub(super) struct Message(Value);

impl Message {
    pub(super) fn system(text: &str) -> Self {
        Self(json!({"role": "system", "content": text}))
    }

    pub(super) fn user(text: &str) -> Self {
        Self(json!({"role": "user", "content": text}))
    }

    pub(super) fn assistant(answer: &Answer) -> Self {
        let mut message = json!({"role": "assistant", "content": answer.text});
        if !answer.calls.is_empty() {
            let call = |asked: &Asked| {
                // Servers want the arguments as a text that holds JSON.
                let arguments = match &asked.arguments {
                    Value::String(text) => text.clone(),
                    arguments => arguments.to_string(),
                };
                let function = json!({"name": asked.name, "arguments": arguments});
                json!({"id": asked.id, "type": "function", "function": function})
            };
            message["tool_calls"] = answer.calls.iter().map(call).collect();
        }
        Self(message)
    }

    pub(super) fn tool(asked: &Asked, outcome: &Value) -> Self {
        let content = cut(&outcome.to_string(), RESULT_CHARS_MAX);
        Self(json!({"role": "tool", "tool_call_id": asked.id, "name": asked.name, "content": content}))
    }
}

/// The way to a model.
#[derive(Debug)]
pub(super) struct Model {
    agent: Agent,
    url: String,
    name: String,
}

impl Model {
    pub(super) fn new(base_url: &str, name: &str) -> Result<Self, ModelError> {
        if !base_url.starts_with("http://") {
            return Err(ModelError::Address(base_url.to_owned()));
        }
        let config = Agent::config_builder()
            .timeout_global(Some(ANSWER_TIMEOUT))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("pyro/", env!("CARGO_PKG_VERSION")))
            .build();
        let url = format!("{}/chat/completions", base_url.trim_end_matches('/'));
        Ok(Self { agent: config.new_agent(), url, name: name.to_owned() })
    }

    /// Asks what the model says next.
    pub(super) fn answer(&self, messages: &[Message], tools: &Value) -> Result<Answer, ModelError> {
        let messages: Vec<_> = messages.iter().map(|Message(message)| message).collect();
        let body = json!({
            "model": self.name, "messages": messages, "tools": tools, "tool_choice": "auto", "temperature": 0,
            "stream": false,
        });
        let (status, body) = self.post(&body.to_string())?;
        let url = self.url.clone();
        match status {
            200..=299 => parse(&body).ok_or_else(|| ModelError::Strange { url, said: quoted(&body) }),
            404 => Err(ModelError::Unknown { url, model: self.name.clone(), said: complaint(&body) }),
            status => Err(ModelError::Status { url, status, said: complaint(&body) }),
        }
    }

    fn post(&self, body: &str) -> Result<(u16, Vec<u8>), ModelError> {
        let sent = self.agent.post(&self.url).header("content-type", "application/json").send(body);
        let mut response = sent.map_err(|error| self.failed(&error))?;
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        Ok((response.status().as_u16(), body.map_err(|error| self.failed(&error))?))
    }

    fn failed(&self, error: &ureq::Error) -> ModelError {
        let url = self.url.clone();
        match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                ModelError::Address(format!("{} ({error})", self.url))
            }
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => self.unreachable(error),
            ureq::Error::Io(cause) if cause.kind() == io::ErrorKind::ConnectionRefused => {
                self.unreachable(cause)
            }
            ureq::Error::BodyExceedsLimit(_) => {
                ModelError::Lost { url, error: format!("it is larger than {ANSWER_BYTES_MAX} bytes") }
            }
            error => ModelError::Lost { url, error: error.to_string() },
        }
    }

    fn unreachable(&self, error: &impl ToString) -> ModelError {
        ModelError::Unreachable { url: self.url.clone(), model: self.name.clone(), error: error.to_string() }
    }
}

/// Returns what the model said; `None` for a document that is no answer of a model.
fn parse(body: &[u8]) -> Option<Answer> {
    let document: Value = serde_json::from_slice(body).ok()?;
    let message = document.get("choices")?.get(0)?.get("message")?.as_object()?;
    let said = |name: &str| message.get(name).and_then(Value::as_str).unwrap_or_default().trim();
    let text = if said("content").is_empty() { said("refusal") } else { said("content") };
    let calls = message.get("tool_calls").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let call = |(number, call): (usize, &Value)| {
        let function = &call["function"];
        let given = call["id"].as_str().filter(|id| !id.is_empty());
        Asked {
            id: given.map_or_else(|| format!("call_{number}"), str::to_owned),
            name: function["name"].as_str().unwrap_or_default().to_owned(),
            arguments: function["arguments"].clone(),
        }
    };
    Some(Answer { text: text.to_owned(), calls: calls.iter().enumerate().map(call).collect() })
}

/// Returns the message of an error in JSON, or what the body begins with.
fn complaint(body: &[u8]) -> String {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let message = [&document["error"]["message"], &document["error"]].into_iter().find_map(Value::as_str);
    message.map_or_else(|| quoted(body), |message| cut(message, QUOTED_CHARS_MAX))
}

fn quoted(body: &[u8]) -> String {
    cut(&String::from_utf8_lossy(body), QUOTED_CHARS_MAX)
}

/// Returns the beginning of a text, and how much is missing.
fn cut(text: &str, chars_max: usize) -> String {
    let Some((end, _)) = text.char_indices().nth(chars_max) else { return text.to_owned() };
    let mut beginning = text[..end].to_owned();
    let _infallible = write!(beginning, "... ({} more bytes)", text.len() - end);
    beginning
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(message: &Value) -> Option<Answer> {
        parse(json!({"choices": [{"message": message}]}).to_string().as_bytes())
    }

    /// Catches an answer of some server that is not understood, and one that is taken for something else.
    #[test]
    fn answers_of_many_servers_are_understood() {
        let call =
            |id: &str, name: &str, arguments: Value| Asked { id: id.into(), name: name.into(), arguments };
        let said = |text: &str, calls: Vec<Asked>| Some(Answer { text: text.to_owned(), calls });
        for (message, expected) in [
            (json!({"content": " yes \n"}), said("yes", vec![])),
            (json!({"content": null, "refusal": "no"}), said("no", vec![])),
            (
                json!({"tool_calls": [{"id": "7", "function": {"name": "a", "arguments": "{}"}}, {"function": {}}]}),
                said("", vec![call("7", "a", "{}".into()), call("call_1", "", Value::Null)]),
            ),
            (json!({"content": ["parts"], "tool_calls": "none"}), said("", vec![])),
            (json!("text"), None),
        ] {
            assert_eq!(parsed(&message), expected, "{message}");
        }
        assert_eq!(parse(b"{\"choices\": []}"), None);
        assert_eq!(parse(b"<html>"), None);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("\u{e9}\u{e9}", 2), "\u{e9}\u{e9}");
        assert_eq!(cut("\u{e9}\u{e9}\u{e9}", 2), "\u{e9}\u{e9}... (2 more bytes)");
    }
}
