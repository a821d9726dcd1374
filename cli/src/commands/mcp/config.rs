//! `pyro mcp config`

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use pyro_api::{ApiError, ErrorCode, json};
use serde::Serialize;
use serde_json::{Value, json};

use super::real;
use crate::arguments::{McpClient, McpConfigArgs, Offer, ProfileName};
use crate::commands;
use crate::exit::{Failure, Format};
use crate::quoting;
use crate::sanitize;
use crate::session::Session;
use crate::sink::Sink;

/// What a server is called in the configuration of a client.
const NAME: &str = "pyro";

/// The variable that names the home.
const HOME_VARIABLE: &str = "PYRO_HOME";

/// The variable that names the directory of the environments.
const ENVIRONMENTS_VARIABLE: &str = "PYRO_ENVIRONMENT_CACHE_DIR";

/// Longest time that a client shall wait for one call, in seconds: a guest may have to boot without KVM first, and
/// commands take their time.
const CALL_SECONDS_MAX: u64 = 600;

/// How a client starts the server.
#[derive(Clone, Debug, Serialize)]
struct Server {
    command: String,
    args: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<&'static str, String>,
}

impl Server {
    fn words(&self) -> Vec<&str> {
        [&self.command].into_iter().chain(&self.args).map(String::as_str).collect()
    }
}

/// What to paste, and where.
#[derive(Debug, Serialize)]
struct Pasted<'a> {
    client: &'static str,
    /// Files of which any can take it.
    files: &'static [&'static str],
    /// What goes there.
    text: String,
    /// What does the same as pasting.
    #[serde(skip_serializing_if = "Option::is_none")]
    shell_command: Option<String>,
    server: &'a Server,
}

pub(super) fn execute(args: McpConfigArgs) -> Result<ExitCode, Failure> {
    let format = Format::from_flag(args.format.json);
    let server = server(&args.offer)?;
    let pasted = pasted(args.client, &server);
    if format == Format::Text {
        Sink::stderr()?.own(&advice(&pasted))?;
    }
    commands::print(&pasted, format, |pasted| pasted.text.clone())
}

/// Returns the server that this program is.
fn server(offer: &Offer) -> Result<Server, Failure> {
    let (home, program) = Session::starting()?.into_server()?;
    let mut args = vec!["mcp".to_owned(), "serve".to_owned()];
    if !matches!(offer.profile, ProfileName::WorkspaceFull) {
        args.extend(["--profile".to_owned(), offer.profile.as_str().to_owned()]);
    }
    for path in &offer.allow_path {
        args.extend(["--allow-path".to_owned(), text_of(&real(path)?)?]);
    }
    // Clients hand on little of their own environment.
    let mut env = BTreeMap::new();
    for (name, path) in
        [(HOME_VARIABLE, home.root().to_owned()), (ENVIRONMENTS_VARIABLE, home.environments())]
    {
        if std::env::var_os(name).is_some_and(|value| !value.is_empty()) {
            env.insert(name, text_of(&path)?);
        }
    }
    Ok(Server { command: text_of(&program)?, args, env })
}

fn text_of(path: &Path) -> Result<String, ApiError> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        let error = format_args!("{} is not UTF-8, so no configuration can name it", path.display());
        ApiError::new(ErrorCode::InvalidArgument, error)
    })
}

fn pasted(client: McpClient, server: &Server) -> Pasted<'_> {
    let started = server.words();
    let env = server.env.iter().flat_map(|(name, value)| ["--env".to_owned(), format!("{name}={value}")]);
    let env = env.collect::<Vec<_>>();
    let added = |words: &[&str], more: &[&str]| {
        let env = env.iter().map(String::as_str);
        Some(quoting::join(
            words.iter().copied().chain(env).chain(more.iter().copied()).chain(started.clone()),
        ))
    };
    let named = |server: Value| json!({ NAME: server });
    let (client, files, text, shell_command): (_, &[_], _, _) = match client {
        McpClient::ClaudeCode => (
            "claude-code",
            &[".mcp.json", "~/.claude.json"],
            json::document(&json!({"mcpServers": named(with_type("stdio", server))})),
            // All options stand before the name, and the one that takes many words not as the last of them.
            added(&["claude", "mcp", "add"], &["--transport", "stdio", NAME, "--"]),
        ),
        McpClient::Codex => (
            "codex",
            &["~/.codex/config.toml", ".codex/config.toml"],
            codex(server),
            added(&["codex", "mcp", "add", NAME], &["--"]),
        ),
        McpClient::Opencode => (
            "opencode",
            &["opencode.json", "~/.config/opencode/opencode.json"],
            json::document(
                &json!({"$schema": "https://opencode.ai/config.json", "mcp": named(opencode(server))}),
            ),
            None,
        ),
        McpClient::VsCode => {
            let mut entry = with_type("stdio", server);
            entry["name"] = NAME.into();
            let shell_command = quoting::join(["code", "--add-mcp", json::line(&entry).trim_end()]);
            (
                "vscode",
                &[".vscode/mcp.json"],
                json::document(&json!({"servers": named(with_type("stdio", server))})),
                Some(shell_command),
            )
        }
        McpClient::Generic => {
            ("generic", &[], json::document(&json!({"mcpServers": named(json!(server))})), None)
        }
    };
    Pasted { client, files, text, shell_command, server }
}

fn with_type(transport: &str, server: &Server) -> Value {
    let mut entry = json!(server);
    entry["type"] = transport.into();
    entry
}

/// Returns the entry of a client that wants the program and its arguments in one list.
fn opencode(server: &Server) -> Value {
    let mut entry = json!({"type": "local", "command": server.words(), "enabled": true});
    if !server.env.is_empty() {
        entry["environment"] = json!(server.env);
    }
    entry
}

/// Returns a table of TOML.
fn codex(server: &Server) -> String {
    let text = |text: &str| toml::Value::from(text).to_string();
    let args = server.args.iter().map(|arg| text(arg)).collect::<Vec<_>>().join(", ");
    let mut table = format!("[mcp_servers.{NAME}]\ncommand = {}\nargs = [{args}]\n", text(&server.command));
    table.push_str(&format!("tool_timeout_sec = {CALL_SECONDS_MAX}\n"));
    if !server.env.is_empty() {
        let env = server.env.iter().map(|(name, value)| format!("{name} = {}", text(value)));
        table.push_str(&format!("env = {{ {} }}\n", env.collect::<Vec<_>>().join(", ")));
    }
    table
}

/// Says where it belongs.
fn advice(pasted: &Pasted<'_>) -> String {
    let mut advice = match pasted.files {
        [] => "[mcp-config] add this to the configuration of the client".to_owned(),
        files => format!("[mcp-config] add this to {}", files.join(" or ")),
    };
    if let Some(command) = &pasted.shell_command {
        advice.push_str(&format!(", or run: {}", sanitize::line(command)));
    }
    advice.push('\n');
    advice
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    fn servers() -> [Server; 2] {
        let args =
            |more: &[&str]| [&["mcp", "serve"], more].concat().into_iter().map(str::to_owned).collect();
        let program = "/opt/pyro/bin/pyro".to_owned();
        let odd = "/home/zo\u{eb} \"x\"/\u{1f525}'s".to_owned();
        let options = ["--profile", "workspace-core", "--allow-path", odd.as_str()];
        let env =
            [(HOME_VARIABLE, odd.clone()), (ENVIRONMENTS_VARIABLE, "/srv/environments".to_owned())].into();
        [
            Server { command: program.clone(), args: args(&[]), env: BTreeMap::new() },
            Server { command: program, args: args(&options), env },
        ]
    }

    /// Catches a change of what users paste, and characters that leave their quotes.
    #[test]
    fn what_is_pasted() {
        let mut all = String::new();
        for client in McpClient::value_variants() {
            for server in servers() {
                let pasted = pasted(*client, &server);
                all.push_str(&format!("{}{}\n", advice(&pasted), pasted.text));
            }
        }
        insta::assert_snapshot!(all);
    }

    /// Catches a document that its client cannot read, or that names another program than was meant.
    #[test]
    fn what_is_pasted_can_be_read() {
        for server in servers() {
            let of = |client| pasted(client, &server).text;
            let read = |client| serde_json::from_str::<Value>(&of(client)).unwrap();
            let expected = json!(server);
            for (client, place) in [
                (McpClient::ClaudeCode, "mcpServers"),
                (McpClient::VsCode, "servers"),
                (McpClient::Generic, "mcpServers"),
            ] {
                let entry = &read(client)[place][NAME];
                for (name, value) in expected.as_object().unwrap() {
                    assert_eq!(&entry[name], value, "{client:?}");
                }
            }
            let entry = toml::from_str::<Value>(&of(McpClient::Codex)).unwrap()["mcp_servers"][NAME].clone();
            for (name, value) in expected.as_object().unwrap() {
                assert_eq!(&entry[name], value);
            }
            let entry = read(McpClient::Opencode)["mcp"][NAME].clone();
            assert_eq!(entry["command"][0], server.command);
            assert_eq!(
                entry["command"].as_array().map(|words| words[1..].to_vec()),
                expected["args"].as_array().cloned()
            );
            assert_eq!(entry["environment"], expected.get("env").cloned().unwrap_or_default());
        }
    }
}
