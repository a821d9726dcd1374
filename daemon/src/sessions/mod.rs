//! Sessions: one task per connection of a client.

mod access;
mod attach;
mod compact;
mod daemon;
mod doctor;
mod environments;
mod excerpt;
mod history;
mod life;
mod log;
mod mirror;
mod mount;
mod mount_host;
mod repeat;
mod run;
mod shell;
mod spec;
mod sync;
mod trace;
mod tree;
mod typist;
mod vm;
mod watch;
mod workspace;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pyro_api::{
    API_VERSION, ApiError, ClientMessage, ErrorCode, Hello, Request, Response, ServerMessage, Welcome,
};
use pyro_core::{Actor, Cause, RequestId};
use pyro_store::AppendError;
use tokio::net::UnixStream;

use crate::context::Context;
use crate::engine::{Origin, Refusal};
use crate::peer::{Peer, PeerError};

pub(crate) use environments::chain;
pub(crate) use mount_host::MountHost;

/// How long a new connection may take to say who it is.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);

/// One connection, with what is known of its client.
pub(crate) struct Session {
    context: Arc<Context>,
    peer: Peer,
    actor: Actor,
}

/// What a request comes to: a response, an error that the client is told, or a client that is gone.
enum Failure {
    Told(ApiError),
    Gone(PeerError),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Told(error)
    }
}

impl From<PeerError> for Failure {
    fn from(error: PeerError) -> Self {
        Self::Gone(error)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Told(error_of(refusal))
    }
}

/// Serves a connection until its client goes. `uid` and `pid` are what the kernel says of the client.
pub(crate) async fn serve(context: Arc<Context>, stream: UnixStream, uid: u32, pid: u32) {
    context.clients.fetch_add(1, Ordering::Relaxed);
    let mut peer = Peer::new(stream);
    match greet(&mut peer).await {
        Ok(hello) => {
            let actor = Actor { face: hello.face, uid, pid, client: hello.client };
            let mut session = Session { context: Arc::clone(&context), peer, actor };
            if let Err(error) = session.run().await {
                tracing::debug!(%error, pid, "session ended");
            }
        }
        Err(error) => {
            tracing::info!(%error, pid, "connection refused");
            let _client_gone = peer.send(&ServerMessage::Refused(error)).await;
        }
    }
    context.clients.fetch_sub(1, Ordering::Relaxed);
}

async fn greet(peer: &mut Peer) -> Result<Hello, ApiError> {
    let violation = |message: &str| ApiError::new(ErrorCode::ProtocolViolation, message);
    let first = tokio::time::timeout(HELLO_DEADLINE, peer.next())
        .await
        .map_err(|_| violation("the client did not say who it is"))?;
    let hello = match first {
        Some(Ok(ClientMessage::Hello(hello))) => hello,
        Some(Ok(_)) | None => return Err(violation("the first message must be a greeting")),
        Some(Err(error)) => return Err(ApiError::new(ErrorCode::ProtocolViolation, error)),
    };
    let version = env!("CARGO_PKG_VERSION");
    if hello.api != API_VERSION {
        let message = format!(
            "the daemon is version {version} and speaks api {API_VERSION}, the client is version {} and speaks api {}",
            hello.version, hello.api
        );
        return Err(ApiError::new(ErrorCode::VersionMismatch, message)
            .with_hint("`pyro daemon stop` ends the daemon; running guests go on, and the next command starts its own daemon"));
    }
    let welcome = Welcome { api: API_VERSION, version: version.to_owned(), pid: std::process::id() };
    peer.send(&ServerMessage::Welcome(welcome))
        .await
        .map_err(|error| ApiError::new(ErrorCode::ProtocolViolation, error))?;
    Ok(hello)
}

impl Session {
    async fn run(&mut self) -> Result<(), PeerError> {
        while let Some(message) = self.peer.next().await {
            let request = match message {
                Ok(ClientMessage::Request(request)) => request,
                // There is nothing under way that they could mean.
                Ok(ClientMessage::Cancel | ClientMessage::Input(_) | ClientMessage::Resize(_)) => continue,
                Ok(ClientMessage::Hello(_)) => {
                    let error = ApiError::new(ErrorCode::ProtocolViolation, "a client greets once");
                    return self.peer.send(&ServerMessage::Refused(error)).await;
                }
                Err(error) => {
                    let error = ApiError::new(ErrorCode::ProtocolViolation, error);
                    return self.peer.send(&ServerMessage::Refused(error)).await;
                }
            };
            let reply = match Box::pin(self.answer(request)).await {
                Ok(response) => Ok(response),
                Err(Failure::Told(error)) => Err(error),
                Err(Failure::Gone(error)) => return Err(error),
            };
            let stopping = self.context.stop_requested.load(Ordering::Relaxed);
            let sent = self.peer.send(&ServerMessage::Reply(Box::new(reply))).await;
            // It is on record, so it comes to pass, whoever knows of it.
            if stopping {
                self.context.stopping.cancel();
            }
            sent?;
        }
        Ok(())
    }

    async fn answer(&mut self, request: Request) -> Result<Response, Failure> {
        match request {
            Request::Run(request) => self.run_command(request).await.map(Response::Run),
            Request::EnvList(_) => self.env_list().await.map(Response::EnvList),
            Request::EnvPull(request) => self.env_pull(request).await.map(Response::EnvPull),
            Request::EnvInspect(request) => self.env_inspect(request).await.map(Response::EnvInspect),
            Request::EnvPrune(request) => self.env_prune(request).await.map(Response::EnvPrune),
            Request::VmCreate(request) => self.vm_create(request).await.map(Response::VmCreate),
            Request::VmStart(request) => self.vm_start(request).await.map(Response::VmStart),
            Request::VmExec(request) => self.vm_exec(request).await.map(Response::VmExec),
            Request::VmStop(request) => self.vm_stop(request).await.map(Response::VmStop),
            Request::VmDelete(request) => self.vm_delete(request).await.map(Response::VmDelete),
            Request::VmStatus(request) => self.vm_status(request).await.map(Response::VmStatus),
            Request::VmNetworkInfo(request) => self.vm_network_info(&request).map(Response::VmNetworkInfo),
            Request::VmReapExpired(request) => {
                self.vm_reap_expired(request).await.map(Response::VmReapExpired)
            }
            Request::WorkspaceCreate(request) => {
                self.workspace_create(request).await.map(Response::WorkspaceCreate)
            }
            Request::WorkspaceList(request) => {
                self.workspace_list(request).await.map(Response::WorkspaceList)
            }
            Request::WorkspaceStatus(request) => {
                self.workspace_status(&request).await.map(Response::WorkspaceStatus)
            }
            Request::WorkspaceExec(request) => {
                self.workspace_exec(request).await.map(Response::WorkspaceExec)
            }
            Request::WorkspaceLogs(request) => {
                self.workspace_logs(request).await.map(Response::WorkspaceLogs)
            }
            Request::WorkspaceStart(request) => {
                self.workspace_start(request).await.map(Response::WorkspaceStart)
            }
            Request::WorkspaceStop(request) => {
                self.workspace_stop(request).await.map(Response::WorkspaceStop)
            }
            Request::WorkspaceDelete(request) => {
                self.workspace_delete(request).await.map(Response::WorkspaceDelete)
            }
            Request::WorkspaceSyncPush(request) => {
                self.workspace_sync_push(request).await.map(Response::WorkspaceSyncPush)
            }
            Request::ShellOpen(request) => self.shell_open(request).await.map(Response::ShellOpen),
            Request::ShellList(request) => self.shell_list(&request).map(Response::ShellList),
            Request::ShellRead(request) => self.shell_read(request).await.map(Response::ShellRead),
            Request::ShellFollow(request) => self.shell_follow(request).await.map(Response::ShellFollow),
            Request::ShellAttach(request) => self.shell_attach(request).await.map(Response::ShellAttach),
            Request::ShellWrite(request) => self.shell_write(request).await.map(Response::ShellWrite),
            Request::ShellSignal(request) => self.shell_signal(request).await.map(Response::ShellSignal),
            Request::ShellResize(request) => self.shell_resize(request).await.map(Response::ShellResize),
            Request::ShellClose(request) => self.shell_close(request).await.map(Response::ShellClose),
            Request::Log(request) => self.log(request).await.map(Response::Log),
            Request::LogShow(request) => self.log_show(request).await.map(Response::LogShow),
            Request::LogHead(request) => self.log_head(request).await.map(Response::LogHead),
            Request::LogCompact(request) => self.log_compact(request).await.map(Response::LogCompact),
            Request::Doctor(request) => self.doctor(request).await.map(Response::Doctor),
            Request::Mount(request) => self.mount(request).await.map(Response::Mount),
            Request::Umount(request) => self.umount(request).await.map(Response::Umount),
            Request::AccessRefused(request) => {
                self.access_refused(request).await.map(Response::AccessRefused)
            }
            Request::TreeRead(request) => self.tree_read(request).await.map(Response::TreeRead),
            Request::DaemonStatus(_) => Ok(Response::DaemonStatus(self.daemon_status())),
            Request::DaemonStop(request) => self.daemon_stop(request).await.map(Response::DaemonStop),
        }
    }

    fn origin(&self, request_id: Option<RequestId>) -> Origin {
        // A request without an id gets one, so that all of its events can be found together.
        let id = request_id.unwrap_or_else(pyro_api::new_request_id);
        Origin { actor: self.actor.clone(), cause: Cause::Request(id) }
    }
}

/// Returns what to tell the client of a refused submission.
fn error_of(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Rejected(rejection) => ApiError::from(rejection),
        Refusal::Append(error) => {
            let code = match *error {
                AppendError::StorageFull => ErrorCode::StorageFull,
                AppendError::Io { .. } | AppendError::Poisoned { .. } => ErrorCode::LogPoisoned,
                AppendError::TooLong | AppendError::UnknownEvent => ErrorCode::Internal,
            };
            let told = ApiError::new(code, chain(&*error));
            match code {
                ErrorCode::StorageFull => told.with_hint("free some space in PYRO_HOME and try again"),
                ErrorCode::LogPoisoned => told.with_hint("the daemon ends, guests go on; the next command starts another one, which takes over when the disk can be written"),
                _ => told,
            }
        }
        Refusal::Read(error) => ApiError::new(ErrorCode::LogCorrupt, error),
        Refusal::Stopping => {
            ApiError::new(ErrorCode::DaemonStopping, "the daemon is about to end; try again")
        }
    }
}
