//! The MCP server of pyro: tools for agents, each of which is one call of the daemon; resources to read and to be told of; and
//! prompts.

mod arguments;
mod call;
mod change;
mod demo;
mod http;
mod notices;
mod outbox;
mod output;
mod prompts;
mod resources;
mod server;
mod settings;
mod subscriptions;
mod tool;
mod tools;
mod uri;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rmcp::service::ServerInitializeError;
use rmcp::{ServerHandler, ServiceExt as _};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub use demo::{DemoError, DemoOptions, ModelError, Tell, demonstrate};
pub use http::{HttpError, HttpSettings, PATH as HTTP_PATH, TokenError};
pub use settings::{Profile, ProfileError, Settings};

use http::Refusals;
use outbox::{Outbox, Standard};
use server::{CALLS_MAX, Server, Shared};

/// Why the server ended before its client did.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The system refused what the server needs.
    #[error("failed to start the server: {0}")]
    Start(#[source] std::io::Error),
    /// It cannot listen.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The client did not begin as the protocol says.
    #[error("the client did not begin a session: {0}")]
    Session(#[source] Box<ServerInitializeError>),
}

/// Serves one client on standard input and output, until it ends its side or a signal asks for the end (INT, TERM). Nothing
/// else may use them meanwhile. Calls that are under way have some seconds to be answered, and are canceled then.
///
/// # Errors
///
/// When the server cannot start, or the client speaks something else.
pub fn serve_stdio(settings: Settings) -> Result<(), ServeError> {
    run(async |stop| {
        let shared = Arc::new(Shared::new(settings));
        let outbox = Outbox::default();
        let server = Server::sending(&shared, outbox.clone());
        match server.serve_with_ct(Standard::new(outbox), stop).await {
            Ok(running) => {
                // Whatever ended the session, there is nobody left to tell.
                let _reason = running.waiting().await;
                shared.settle().await;
                Ok(())
            }
            // It went before it said anything, or the signal came before.
            Err(ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::Cancelled) => Ok(()),
            Err(error) => Err(ServeError::Session(Box::new(error))),
        }
    })
}

/// Serves clients over streamable HTTP, until a signal asks for the end (INT, TERM). `listening` is called with the address as
/// soon as there is one.
///
/// # Errors
///
/// When the server cannot start.
pub fn serve_http(
    settings: Settings,
    http: HttpSettings,
    listening: impl FnOnce(SocketAddr),
) -> Result<(), ServeError> {
    run(async |stop| Ok(http::serve(settings, http, stop, listening).await?))
}

/// Serves what others implement over streamable HTTP in the same way, with the same checks of who asks; who is refused is not
/// recorded. It is there so that suites of others, which want servers of their own making, can judge how this one speaks HTTP.
///
/// # Errors
///
/// When the server cannot start.
pub fn serve_handlers_http<Handler: ServerHandler>(
    http: HttpSettings,
    listening: impl FnOnce(SocketAddr),
    make: impl Fn() -> Handler + Send + Sync + 'static,
) -> Result<(), ServeError> {
    run(async |stop| {
        let (refusals, _untold) = Refusals::new();
        Ok(http::serve_handlers(http, refusals, stop, listening, make).await?)
    })
}

/// Runs a server whose token is cancelled when a signal asks for its end.
fn run(serve: impl AsyncFnOnce(CancellationToken) -> Result<(), ServeError>) -> Result<(), ServeError> {
    let runtime = runtime().map_err(ServeError::Start)?;
    let ended = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Start)?;
        let stop = CancellationToken::new();
        let asked = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _interrupted = tokio::signal::ctrl_c() => {}
            }
            asked.cancel();
        });
        serve(stop).await
    });
    // A read of standard input cannot be taken back, and calls that are under way end with their connection.
    runtime.shutdown_background();
    ended
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(CALLS_MAX + STANDARD_STREAMS)
        .enable_all()
        .build()
}

/// Threads that wait for standard input and output.
const STANDARD_STREAMS: usize = 2;

/// Threads that take and answer requests; those who wait for the daemon have their own.
const WORKERS: usize = 2;
