//! The server over streamable HTTP, for several clients at once.
//!
//! ```text
//! connection -> head -> gate (host, origin, token) -> path -> body, bounded -> session -> call
//!                         \-> refused, told to the daemon
//! ```

mod gate;
mod refusals;
mod token;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pyro_api::{AccessFault, AccessRefusedRequest, CancelToken};
use rmcp::ServerHandler;
use rmcp::transport::streamable_http_server::session::local::{LocalSessionManager, SessionConfig};
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::call::Way;
use crate::server::{Server, Shared};
use crate::settings::Settings;

use gate::{Fault, Gate};
pub(crate) use refusals::Refusals;
use token::Token;

pub use token::TokenError;

/// Where the server is; everything else is not found.
pub const PATH: &str = "/mcp";

/// Most connections at once; those that come besides are closed. A client has one or two.
const CONNECTIONS_MAX: usize = 256;

/// Most sessions at once.
const SESSIONS_MAX: usize = 64;

/// Time for the head of a request, also of the next one on a connection.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// Time for the body of a request.
const BODY_TIME: Duration = Duration::from_secs(60);

/// Longest head of a request, in bytes.
const HEAD_MAX: usize = 64 * 1024;

/// Longest body of a request, in bytes, as on standard input.
const BODY_MAX: usize = 16 * 1024 * 1024;

/// A session of which nothing is heard for that long is ended.
const SESSION_IDLE: Duration = Duration::from_secs(3600);

/// How long an answer is kept for a client whose connection broke before it had it.
const ANSWER_KEPT: Duration = Duration::from_secs(10);

/// When a client may try again that found no room, in seconds.
const RETRY_SECONDS: u32 = 30;

/// Pause after a failed accept, so that a lack of descriptors does not make the server spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the server listens, and who is let in.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Name or address of an interface.
    pub host: String,
    /// The port; 0 for any.
    pub port: u16,
    /// The file with the token, which is made when it is missing.
    pub token_file: PathBuf,
    /// Further names under which the server is asked.
    pub allowed_hosts: Vec<String>,
    /// Sites whose pages may ask, such as `https://app.example`.
    pub allowed_origins: Vec<String>,
}

/// Why the server could not begin.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// There is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// It cannot listen there.
    #[error("failed to listen on {host} port {port}: {source}; `--port 0` takes a free one")]
    Listen {
        /// Where.
        host: String,
        /// Which port.
        port: u16,
        /// What the system says.
        source: io::Error,
    },
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// What all connections share.
struct Front<Handler: ServerHandler> {
    gate: Gate,
    address: SocketAddr,
    refusals: Refusals,
    sessions: Arc<LocalSessionManager>,
    service: StreamableHttpService<Handler, LocalSessionManager>,
}

/// Serves until `stop`. `listening` is called with the address as soon as there is one.
pub(crate) async fn serve(
    settings: Settings,
    http: HttpSettings,
    stop: CancellationToken,
    listening: impl FnOnce(SocketAddr),
) -> Result<(), HttpError> {
    let shared = Arc::new(Shared::new(settings));
    let (refusals, told) = Refusals::new();
    tokio::spawn(record(shared.way_of_its_own(), told));
    let served = Arc::clone(&shared);
    serve_handlers(http, refusals, stop, listening, move || Server::new(&served)).await?;
    shared.settle().await;
    Ok(())
}

/// Serves sessions, each with a handler of its own, until `stop`. `listening` is called as in [`serve`].
pub(crate) async fn serve_handlers<Handler: ServerHandler>(
    http: HttpSettings,
    refusals: Refusals,
    stop: CancellationToken,
    listening: impl FnOnce(SocketAddr),
    make: impl Fn() -> Handler + Send + Sync + 'static,
) -> Result<(), HttpError> {
    let token = Token::of_file(&http.token_file)?;
    let failed = |source| HttpError::Listen { host: http.host.clone(), port: http.port, source };
    let listener = TcpListener::bind((http.host.as_str(), http.port)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let sessions = Arc::new(sessions());
    let front = Front {
        gate: Gate::new(token, hosts(&http, address), address.port(), http.allowed_origins),
        address,
        refusals,
        sessions: Arc::clone(&sessions),
        service: service(make, sessions, stop.clone()),
    };
    listening(address);
    accept(&listener, &Arc::new(front), &stop).await;
    Ok(())
}

fn sessions() -> LocalSessionManager {
    let mut sessions = LocalSessionManager::default();
    let mut config = SessionConfig::default();
    config.keep_alive = Some(SESSION_IDLE);
    config.completed_cache_ttl = ANSWER_KEPT;
    sessions.session_config = config;
    sessions
}

fn service<Handler: ServerHandler>(
    make: impl Fn() -> Handler + Send + Sync + 'static,
    sessions: Arc<LocalSessionManager>,
    stop: CancellationToken,
) -> StreamableHttpService<Handler, LocalSessionManager> {
    // The gate has judged host and origin.
    let config = StreamableHttpServerConfig::default()
        .disable_allowed_hosts()
        .with_cancellation_token(stop)
        .with_max_request_body_bytes(BODY_MAX);
    StreamableHttpService::new(move || Ok(make()), sessions, config)
}

/// Returns the names under which the server is asked.
fn hosts(http: &HttpSettings, address: SocketAddr) -> Vec<String> {
    let ip = address.ip();
    let written = |ip: IpAddr| if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
    let mut hosts = http.allowed_hosts.clone();
    hosts.extend([http.host.clone(), written(ip)]);
    if ip.is_loopback() || ip.is_unspecified() {
        hosts.push("localhost".to_owned());
        hosts.extend([IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].map(written));
    }
    hosts
}

/// Tells the daemon what was refused.
async fn record(way: Way, mut told: mpsc::Receiver<AccessRefusedRequest>) {
    while let Some(refused) = told.recv().await {
        let way = way.clone();
        let recorded =
            tokio::task::spawn_blocking(move || way.ask(&refused.into(), &CancelToken::new())).await;
        // Without a daemon there is no record; who is refused is refused all the same.
        let _unrecorded = recorded;
    }
}

async fn accept<Handler: ServerHandler>(
    listener: &TcpListener,
    front: &Arc<Front<Handler>>,
    stop: &CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (front, stop) = (Arc::clone(front), stop.clone());
        tokio::spawn(async move {
            attend(stream, peer, front, stop).await;
            drop(place);
        });
    }
}

async fn attend<Handler: ServerHandler>(
    stream: TcpStream,
    peer: SocketAddr,
    front: Arc<Front<Handler>>,
    stop: CancellationToken,
) {
    let service = service_fn(move |request| {
        let front = Arc::clone(&front);
        async move { Ok::<_, Infallible>(answer(&front, request, peer).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_MAX);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    // Whatever ended the connection, there is nobody left to tell.
    tokio::select! {
        _ended = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ended = connection.await;
        }
    }
}

async fn answer<Handler: ServerHandler>(
    front: &Front<Handler>,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Answer {
    if let Err(fault) = front.gate.judge(request.uri(), request.headers()) {
        let answer = refusal(&fault);
        front.refusals.note(fault, peer, front.address);
        return answer;
    }
    if request.uri().path() != PATH {
        return plain(StatusCode::NOT_FOUND, &format!("there is {PATH} only\n"));
    }
    if ![Method::GET, Method::POST, Method::DELETE].contains(request.method()) {
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "");
        answer.headers_mut().insert(ALLOW, http::HeaderValue::from_static("GET, POST, DELETE"));
        return answer;
    }
    let (parts, body) = request.into_parts();
    let body = match tokio::time::timeout(BODY_TIME, Limited::new(body, BODY_MAX).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return plain(
                StatusCode::PAYLOAD_TOO_LARGE,
                &format!("a request has at most {BODY_MAX} bytes\n"),
            );
        }
        Ok(Err(error)) => return plain(StatusCode::BAD_REQUEST, &format!("the request is cut: {error}\n")),
        Err(_elapsed) => return plain(StatusCode::REQUEST_TIMEOUT, "the request did not come whole\n"),
    };
    if begins_session(&parts, &body) && front.sessions.sessions.read().await.len() >= SESSIONS_MAX {
        let mut answer = plain(StatusCode::SERVICE_UNAVAILABLE, "there is no room for another session\n");
        answer.headers_mut().insert(RETRY_AFTER, RETRY_SECONDS.into());
        return answer;
    }
    let is_end = parts.method == Method::DELETE;
    let answer = front.service.handle(Request::from_parts(parts, Full::new(body))).await;
    if is_end && answer.status() == StatusCode::ACCEPTED {
        // The session has ended already, and the official clients take 202 for a failure.
        return plain(StatusCode::NO_CONTENT, "");
    }
    answer
}

fn begins_session(parts: &Parts, body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        method: Option<&'a str>,
    }
    parts.method == Method::POST
        && serde_json::from_slice::<Message<'_>>(body)
            .is_ok_and(|message| message.method == Some("initialize"))
}

fn refusal(fault: &Fault) -> Answer {
    let (status, text) = match fault.reason {
        AccessFault::Host => {
            (StatusCode::FORBIDDEN, "this server has another name; `--allow-host` adds one\n")
        }
        AccessFault::Origin => {
            (StatusCode::FORBIDDEN, "pages of this site may not ask; `--allow-origin` adds one\n")
        }
        AccessFault::Token => (StatusCode::UNAUTHORIZED, "send the header `Authorization: Bearer TOKEN`\n"),
    };
    let mut answer = plain(status, text);
    if status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer"));
    }
    answer
}

fn plain(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text.to_owned())).boxed());
    *answer.status_mut() = status;
    answer
}
