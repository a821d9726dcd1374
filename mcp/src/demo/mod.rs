//! A demonstration: a model that somebody serves uses the tools of this server until it has run a command.

mod model;
mod toolbox;

use std::io;

use serde_json::{Value, json};

use crate::settings::Settings;
use model::{Asked, Message, Model};
use toolbox::Toolbox;

pub use model::ModelError;

/// Answers that are asked of the model.
const ROUNDS_MAX: usize = 12;

/// Tools that are called for one answer; what is asked for besides is ignored.
const CALLS_MAX: usize = 8;

/// Longest text in a line, in characters, unless everything is to be told.
const TOLD_CHARS_MAX: usize = 300;

const SYSTEM: &str = "You operate disposable Linux virtual machines with tools. Call tools to do what is asked, \
with arguments that fit their schemas, and do not invent results.";

const TASK: &str = "Find out which version of git the environment debian:12 has. Use the tool vm_run with the \
environment debian:12 and the command `git --version`, and say in one sentence what it printed.";

const REMINDER: &str = "No command has run yet. Call the tool vm_run now.";

/// What a demonstration needs to know besides the settings of its server.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Where the model is served, up to and with the version: `http://localhost:11434/v1`.
    pub base_url: String,
    /// Name of the model.
    pub model: String,
    /// Whether everything that was said is told, not only its beginning.
    pub verbose: bool,
}

/// Why no command was run.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The server of the tools did not start.
    #[error("failed to start the tools: {0}")]
    Tools(String),
    /// The model, or the way to it.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model had its turns.
    #[error(
        "the model ran no command that succeeded in {ROUNDS_MAX} rounds; a larger one may do better (--model)"
    )]
    Rounds,
    /// The model only talked.
    #[error("the model called no tool, but said: {0}; a model for tools may do better (--model)")]
    Talked(String),
    /// What is told cannot be told.
    #[error("failed to write the output: {0}")]
    Output(#[from] io::Error),
}

/// Takes a line of what is told.
pub type Tell<'a> = &'a mut dyn FnMut(&str) -> io::Result<()>;

/// Lets a model use the tools until it has run a command with exit code 0 and has said so, and tells of each step.
///
/// # Errors
///
/// When the model cannot be reached, or does not do it.
pub fn demonstrate(settings: Settings, options: &DemoOptions, tell: Tell<'_>) -> Result<(), DemoError> {
    let model = Model::new(&options.base_url, &options.model)?;
    let mut toolbox = Toolbox::open(settings)?;
    let mut demo = Demo { tell, verbose: options.verbose, ran: None };
    demo.line("ollama", &format!("asking {} at {}", options.model, options.base_url))?;
    let result = demo.converse(&model, &mut toolbox);
    // Whatever happened: machines that were created and not used up go.
    toolbox.clear();
    result?;
    demo.summarize()
}

/// A demonstration that runs.
struct Demo<'a> {
    tell: Tell<'a>,
    verbose: bool,
    /// What the last command that succeeded left.
    ran: Option<Value>,
}

impl Demo<'_> {
    fn line(&mut self, tag: &str, text: &str) -> io::Result<()> {
        let line = format!("[{tag}] {text}");
        if self.verbose || line.chars().count() <= TOLD_CHARS_MAX {
            return (self.tell)(&line);
        }
        (self.tell)(&format!("{}...", line.chars().take(TOLD_CHARS_MAX).collect::<String>()))
    }

    fn converse(&mut self, model: &Model, toolbox: &mut Toolbox) -> Result<(), DemoError> {
        let tools = toolbox.described();
        let mut messages = vec![Message::system(SYSTEM), Message::user(TASK)];
        self.line("model", &format!("input {TASK}"))?;
        let mut reminded = false;
        for _ in 0..ROUNDS_MAX {
            let mut answer = model.answer(&messages, &tools)?;
            answer.calls.truncate(CALLS_MAX);
            if !answer.text.is_empty() {
                self.line("model", &format!("output {}", answer.text))?;
            }
            messages.push(Message::assistant(&answer));
            if answer.calls.is_empty() {
                if self.ran.is_some() {
                    return Ok(());
                }
                if reminded {
                    return Err(DemoError::Talked(answer.text.chars().take(TOLD_CHARS_MAX).collect()));
                }
                reminded = true;
                self.line("model", &format!("input {REMINDER}"))?;
                messages.push(Message::user(REMINDER));
            }
            for asked in &answer.calls {
                let outcome = self.call(asked, toolbox)?;
                messages.push(Message::tool(asked, &outcome));
            }
        }
        if self.ran.is_some() { Ok(()) } else { Err(DemoError::Rounds) }
    }

    /// Does what the model asks for, and returns what it is told of it.
    fn call(&mut self, asked: &Asked, toolbox: &mut Toolbox) -> io::Result<Value> {
        self.line("model", &format!("tool_call {} {}", asked.name, asked.arguments))?;
        let planned = match toolbox.plan(asked) {
            Ok(planned) => planned,
            Err(failure) => return self.failed(asked, failure.told(asked)),
        };
        let mut last = Value::Null;
        for step in planned {
            self.line("tool", &format!("calling {} {}", step.name, Value::Object(step.arguments.clone())))?;
            match toolbox.call(&step) {
                Ok(answer) => last = answer,
                Err(failure) => return self.failed(asked, failure.told(asked)),
            }
            self.line("tool", &format!("result {} {last}", step.name))?;
        }
        if matches!(asked.name.as_str(), "vm_run" | "vm_exec") && last["exit_code"] == 0 {
            self.ran = Some(last.clone());
        }
        Ok(last)
    }

    fn failed(&mut self, asked: &Asked, told: Value) -> io::Result<Value> {
        self.line("tool", &format!("error {} {}", asked.name, told["error"].as_str().unwrap_or_default()))?;
        Ok(told)
    }

    fn summarize(&mut self) -> Result<(), DemoError> {
        let Some(ran) = self.ran.take() else { return Err(DemoError::Rounds) };
        let text = |name: &str| ran[name].as_str().unwrap_or_default();
        self.line("done", "the model ran a command in a guest")?;
        // Nothing but the model itself ever runs the command.
        let summary = format!(
            "exit_code={} fallback_used=False execution_mode={}",
            ran["exit_code"],
            text("execution_mode")
        );
        self.line("summary", &summary)?;
        if self.verbose {
            self.line("summary", &format!("stdout={}", text("stdout").trim_end()))?;
        }
        Ok(())
    }
}

/// Returns what a model is told of a call that failed.
fn failure(asked: &Asked, error_type: &str, error: &str, hint: Option<&str>) -> Value {
    let mut told = json!({
        "ok": false, "tool_name": asked.name, "arguments": asked.arguments, "error_type": error_type, "error": error,
    });
    if let Some(hint) = hint {
        told["hint"] = hint.into();
    }
    told
}
