//! What the program does for agents, with the one crate that the rest of the command line does not know.

use pyro_cli::{McpHttp, McpServe, OllamaDemo, Tell};
use pyro_mcp::{DemoError, DemoOptions, HTTP_PATH, HttpSettings, Profile, ServeError, Settings};

/// Serves agents over MCP, as the command line says.
pub(crate) fn serve(serve: McpServe) -> Result<(), ServeError> {
    let McpServe { home, program, profile, allowed_paths, http } = serve;
    let profile = profile.parse().unwrap_or_default();
    let settings = Settings { home, program, profile, allowed_paths };
    let Some(http) = http else { return pyro_mcp::serve_stdio(settings) };
    let McpHttp { host, port, token_file, allowed_hosts, allowed_origins } = http.clone();
    let listening = HttpSettings { host, port, token_file, allowed_hosts, allowed_origins };
    pyro_mcp::serve_http(settings, listening, |address| {
        let url = format!("http://{address}{HTTP_PATH}");
        http.announce(&url, address.ip().is_loopback());
    })
}

/// Lets a model use the tools.
pub(crate) fn demonstrate(demo: OllamaDemo, tell: Tell<'_>) -> Result<(), DemoError> {
    let OllamaDemo { home, program, base_url, model, verbose } = demo;
    let settings = Settings { home, program, profile: Profile::WorkspaceFull, allowed_paths: Vec::new() };
    pyro_mcp::demonstrate(settings, &DemoOptions { base_url, model, verbose }, tell)
}
