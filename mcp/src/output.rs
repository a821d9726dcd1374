//! What a model reads of an answer.

use pyro_api::ApiError;
use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Value, json};

use crate::call::KEPT_BYTES;

/// Returns the result of a call: the answer as it is, and a text that says the same as short as it can be said.
pub(crate) fn result(tool: &str, answer: Value) -> CallToolResult {
    let (texts, answer) = match tool {
        "vm_run" | "vm_exec" | "workspace_exec" => (vec![command(&answer)], answer),
        "shell_read" => (vec![screen(&answer)], answer),
        "workspace_logs" => (vec![history(&answer)], answer),
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
            text.push_str(&left_out(answer, &answer["workspace_id"], stream));
        }
    }
    text.push_str(&format!("[exit code {}, {} ms", answer["exit_code"], answer["duration_ms"]));
    if answer["timed_out"] == true {
        text.push_str(", timed out");
    }
    text.push(']');
    text
}

/// Returns the commands of a workspace, and what of their output is missing.
fn history(answer: &Value) -> String {
    let mut text = pretty(answer);
    for entry in answer["entries"].as_array().into_iter().flatten() {
        for stream in
            ["stdout", "stderr"].into_iter().filter(|stream| entry[format!("{stream}_truncated")] == true)
        {
            text.push_str(&format!(
                "\ncommand {}: {}",
                entry["sequence"],
                left_out(entry, &answer["workspace_id"], stream)
            ));
        }
    }
    text
}

/// Says how much of a stream of a command is missing in the middle, and where all of it is.
fn left_out(command: &Value, workspace: &Value, stream: &str) -> String {
    let kept = command[stream].as_str().map_or(0, str::len);
    let len = command[format!("{stream}_bytes")].as_u64().unwrap_or_default();
    let missing = len.saturating_sub(u64::try_from(kept).unwrap_or_default());
    let rest = match (workspace.as_str(), command["sequence"].as_u64()) {
        (Some(workspace), Some(number)) => format!(
            "the resource pyro://workspaces/{workspace}/logs/{number}/{stream}?offset={KEPT_BYTES} goes on there; a command whose \
             output goes to a file in /workspace can be looked at in parts as well"
        ),
        // The machine is gone with all that it had.
        _ => "a command in a workspace whose output goes to a file can be looked at in parts".to_owned(),
    };
    format!("[{missing} bytes of {stream} are left out in the middle; {rest}]\n")
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
