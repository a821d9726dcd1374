//! What a model reads of an answer.

use pyro_api::ApiError;
use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Value, json};

/// Returns the result of a call: the answer as it is, and a text that says the same as short as it can be said.
pub(crate) fn result(tool: &str, answer: Value) -> CallToolResult {
    let (texts, answer) = match tool {
        "vm_run" | "vm_exec" | "workspace_exec" => (vec![command(&answer)], answer),
        "shell_read" => (vec![screen(&answer)], answer),
        "vm_list_environments" => {
            let environments = answer["environments"].as_array().cloned().unwrap_or_default();
            // The contract: a block for each of them.
            (environments.iter().map(pretty).collect(), json!({"result": environments}))
        }
        _ => (vec![pretty(&answer)], answer),
    };
    let mut result = CallToolResult::success(texts.into_iter().map(ContentBlock::text).collect());
    result.structured_content = Some(answer);
    result
}

/// Returns what a client is told of a call that failed.
pub(crate) fn failure(tool: &str, error: &ApiError) -> CallToolResult {
    let hint = error.hint.as_ref().map_or_else(String::new, |hint| format!("\n{hint}"));
    refusal(tool, &format!("{}{hint}", error.message))
}

/// Returns what a client is told of a call that could not be understood.
pub(crate) fn refusal(tool: &str, what: &str) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(format!("Error executing tool {tool}: {what}"))])
}

/// Returns what a client is told of a tool that is not there.
pub(crate) fn unknown(tool: &str) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(format!("Unknown tool: {tool}"))])
}

fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

/// Returns the output of a command and how it ended.
fn command(answer: &Value) -> String {
    let mut text = String::new();
    for stream in ["stdout", "stderr"] {
        let Some(output) = answer[stream].as_str().filter(|output| !output.is_empty()) else { continue };
        if stream == "stderr" {
            text.push_str("[stderr]\n");
        }
        text.push_str(output);
        if !output.ends_with('\n') {
            text.push('\n');
        }
        if answer[format!("{stream}_truncated")] == true {
            text.push_str(&left_out(answer, stream));
        }
    }
    text.push_str(&format!("[exit code {}, {} ms", answer["exit_code"], answer["duration_ms"]));
    if answer["timed_out"] == true {
        text.push_str(", timed out");
    }
    text.push(']');
    text
}

/// Says how much of a stream is missing in the middle, and how to get at it.
fn left_out(answer: &Value, stream: &str) -> String {
    let kept = answer[stream].as_str().map_or(0, str::len);
    let len = answer[format!("{stream}_bytes")].as_u64().unwrap_or_default();
    let missing = len.saturating_sub(u64::try_from(kept).unwrap_or_default());
    format!(
        "[{missing} bytes of {stream} are left out in the middle; a command that writes to a file in a workspace can be looked at in parts]\n"
    )
}

/// Returns what a shell printed and where to read on.
fn screen(answer: &Value) -> String {
    let output = answer["output"].as_str().unwrap_or_default();
    let gap = if output.is_empty() || output.ends_with('\n') { "" } else { "\n" };
    format!(
        "{output}{gap}[state {}, next_cursor {}]",
        answer["state"].as_str().unwrap_or_default(),
        answer["next_cursor"]
    )
}
