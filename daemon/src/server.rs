//! The process: opens the log, takes connections, ends in order.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pyro_api::{ApiError, Home, Readiness};
use pyro_core::{Command, DaemonStopped};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use crate::context::Context;
use crate::startup::{self, StartupError};
use crate::{backend, compaction, driver, expiry, mounts, sessions, tethers};

/// Most connections at once; further ones wait in the listener's backlog. A client uses one.
const CONNECTIONS_MAX: usize = 1024;
/// How long the listener rests when the process has no file descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often the daemon looks whether its home is still there.
const HOME_CHECK: Duration = Duration::from_secs(5);
/// How long sessions may take to tell their clients that the daemon ends.
const SESSIONS_END_DEADLINE: Duration = Duration::from_secs(1);

/// How to run the daemon.
#[derive(Debug)]
pub struct DaemonOptions {
    /// What it owns.
    pub home: Home,
    /// Where to report that the socket takes connections; `None` when nobody waits.
    pub ready: Option<OwnedFd>,
}

/// Runs the daemon until it is told to end, by request or by signal.
///
/// # Errors
///
/// When it cannot start: another one owns the home, the log is damaged or the home cannot be used. The same is reported
/// to [`DaemonOptions::ready`].
pub fn run(options: DaemonOptions) -> anyhow::Result<()> {
    startup::init_tracing();
    startup::allow_descriptors();
    let DaemonOptions { home, mut ready } = options;
    let started =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(StartupError::Runtime);
    let result = started.and_then(|runtime| {
        let result = runtime.block_on(serve(home, &mut ready));
        runtime.shutdown_timeout(SESSIONS_END_DEADLINE);
        result
    });
    if let Err(error) = &result {
        tracing::error!(%error, "failed to start");
        report(&mut ready, &Readiness::Failed(ApiError::from(error)));
    }
    Ok(result?)
}

/// Tells whoever started the daemon, once, and closes the pipe.
fn report(ready: &mut Option<OwnedFd>, readiness: &Readiness) {
    let Some(ready) = ready.take() else { return };
    if let Err(error) = readiness.report(File::from(ready)) {
        tracing::info!(%error, "the client that started this daemon is gone");
    }
}

async fn serve(home: Home, ready: &mut Option<OwnedFd>) -> Result<(), StartupError> {
    let startup::Started { context, actions, inherited } = startup::start(home).await?;
    let listener = listen(&context.home)?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(driver::dispatch(Arc::clone(&context), actions, inherited));
    tokio::spawn(expiry::run(Arc::clone(&context)));
    tokio::spawn(mounts::follow(Arc::clone(&context)));
    mounts::restore(&context).await;
    tokio::spawn(compaction::run(Arc::clone(&context)));
    tethers::await_clients(&context, &context.engine.state());
    report(ready, &Readiness::Ready);
    tracing::info!(pid = std::process::id(), home = %context.home.root().display(), "ready");

    let reason = tokio::select! {
        () = accept(&context, &listener) => "the listener ended",
        () = context.stopping.cancelled() => "requested",
        _ = terminate.recv() => "signal TERM",
        _ = interrupt.recv() => "signal INT",
        error = context.engine.broken() => {
            // What is open goes on in the guests, and the next daemon finds out what became of it.
            tracing::error!(error = %sessions::chain(&*error), "the event log takes nothing more until it is opened anew");
            "the event log could not be written"
        }
        () = home_lost(&context.home) => {
            // No other daemon will ever find its guests.
            backend::end_all(&context).await;
            "the home was removed"
        }
    };
    drop(listener);
    context.stopping.cancel();
    tracing::info!(reason, "ending");
    if !context.stop_requested.load(Ordering::Relaxed) {
        let fact = DaemonStopped { reason: reason.to_owned() };
        context.record_quietly(Command::RecordDaemonStopped(fact)).await;
    }
    tokio::task::block_in_place(|| context.mounts.end_all());
    // Only the socket of this daemon is removed: it still holds the lock of the log.
    let _gone_already = std::fs::remove_file(context.home.socket());
    context.engine.close();
    Ok(())
}

fn listen(home: &Home) -> io::Result<UnixListener> {
    let socket = home.socket();
    // The lock of the log says that whoever bound this socket is dead.
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&socket)?;
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn accept(context: &Arc<Context>, listener: &UnixListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let context = Arc::clone(context);
                tokio::spawn(async move {
                    admit(context, stream).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves a client of the same user, or root; nobody else gets an answer.
async fn admit(context: Arc<Context>, stream: UnixStream) {
    let peer = match stream.peer_cred() {
        Ok(peer) => peer,
        Err(error) => return tracing::warn!(%error, "a client without credentials"),
    };
    let owner = rustix::process::geteuid().as_raw();
    if peer.uid() != owner && peer.uid() != 0 {
        return tracing::warn!(uid = peer.uid(), pid = peer.pid(), "refused a client of another user");
    }
    let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
    sessions::serve(context, stream, peer.uid(), pid).await;
}

/// Returns when the home is not the directory any more that it was: nobody can reach this daemon then.
async fn home_lost(home: &Home) {
    let identity = || std::fs::metadata(home.run()).map(|metadata| (metadata.dev(), metadata.ino())).ok();
    let at_start = identity();
    while identity() == at_start {
        tokio::time::sleep(HOME_CHECK).await;
    }
}
