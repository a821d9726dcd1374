//! The MCP server of pyro: tools for agents, each of which is one call of the daemon; resources to read and to be told of; and
//! prompts.

mod arguments;
mod call;
mod change;
mod notices;
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

use std::sync::Arc;

use rmcp::ServiceExt as _;
use rmcp::service::ServerInitializeError;
use tokio::signal::unix::{SignalKind, signal};

pub use settings::{Profile, ProfileError, Settings};

use server::{CALLS_MAX, Server, Shared};

/// Why the server ended before its client did.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The system refused what the server needs.
    #[error("failed to start the server: {0}")]
    Start(#[source] std::io::Error),
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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(CALLS_MAX + STANDARD_STREAMS)
        .enable_all()
        .build();
    let runtime = runtime.map_err(ServeError::Start)?;
    let ended = runtime.block_on(async {
        let shared = Arc::new(Shared::new(settings));
        match Server::new(&shared).serve(rmcp::transport::stdio()).await {
            Ok(running) => {
                let end = running.cancellation_token();
                let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Start)?;
                tokio::spawn(async move {
                    tokio::select! {
                        _ = terminate.recv() => {}
                        _interrupted = tokio::signal::ctrl_c() => {}
                    }
                    end.cancel();
                });
                // Whatever ended the session, there is nobody left to tell.
                let _reason = running.waiting().await;
                shared.settle().await;
                Ok(())
            }
            // It went before it said anything.
            Err(ServerInitializeError::ConnectionClosed(_)) => Ok(()),
            Err(error) => Err(ServeError::Session(Box::new(error))),
        }
    });
    // A read of standard input cannot be taken back, and calls that are under way end with their connection.
    runtime.shutdown_background();
    ended
}

/// Threads that wait for standard input and output.
const STANDARD_STREAMS: usize = 2;

/// Threads that take and answer requests; those who wait for the daemon have their own.
const WORKERS: usize = 2;
