//! Serving the host, from the first connection to the order to end.

use std::cell::Cell;
use std::io::{self, Write as _};
use std::os::fd::RawFd;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use pyro_protocol::{AGENT_PORT, BootId};
use rustix::process::{DumpableBehavior, Pid};
use rustix::rand::GetRandomFlags;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};

use crate::announce;
use crate::arguments::STAGES;
use crate::children::{self, Children};
use crate::connection::{Connection, ConnectionError};
use crate::ending::Ending;
use crate::files::FileConnections;
use crate::import::Imports;
use crate::inherited;
use crate::journal::Journal;
use crate::launch;
use crate::listener::Listener;
use crate::session::{self, Shared};
use crate::tree::{Trees, Wardens};

/// Most connections that are served at once: one for each operation, and as many for short questions.
const CONNECTIONS_MAX: usize = 2 * pyro_protocol::OPERATIONS_MAX;

/// Pause after a failed accept, so that a lack of descriptors does not make the agent spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the agent runs.
#[derive(Debug)]
enum Place {
    VirtualMachine,
    Sandbox { socket: std::os::fd::OwnedFd },
}

/// Serves as the agent of a host sandbox, on the listening socket that was inherited as `fd`. Imports are staged in
/// the directory `stages`.
pub(crate) fn run_on_inherited(fd: RawFd, stages: &Path) -> ExitCode {
    let served = inherited::take(fd).and_then(|socket| {
        inherited::reset_signals();
        let own = rustix::process::getpid();
        if own == Pid::INIT {
            // The host's side of a connection makes both ends, so they belong to the host's network and could be asked
            // about it. Without this, the sandbox's root could take them out of this process.
            rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        }
        // The working directory that the host left may be one that commands want to remove.
        std::env::set_current_dir("/")?;
        // PID 1 gets the orphans anyhow; elsewhere they would escape from below the agent.
        rustix::process::set_child_subreaper(Some(own))?;
        serve(Place::Sandbox { socket }, Trees::Wardens(Rc::new(Wardens::default())), stages)
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Serves as PID 1 of a virtual machine until the host wants it to end.
pub(crate) fn run_on_vsock(trees: Trees) -> io::Result<()> {
    serve(Place::VirtualMachine, trees, Path::new(STAGES))
}

/// Writes to stderr, which is the console of a virtual machine and a log of a sandbox.
pub(crate) fn complain(what: &dyn std::error::Error) {
    let mut line = format!("pyro-agent: {what}");
    let mut source = what.source();
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    // Nobody is left to tell when stderr is gone.
    let _unwritable = writeln!(io::stderr(), "{line}");
}

fn serve(place: Place, trees: Trees, stages: &Path) -> io::Result<()> {
    launch::raise_descriptors();
    let imports = Imports::recover(stages)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve_until_shutdown(place, trees, imports))
}

async fn serve_until_shutdown(place: Place, trees: Trees, imports: Imports) -> io::Result<()> {
    let children = Rc::new(Children::default());
    let ended = children::ended()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let trees = Rc::new(trees);
    let shared = Rc::new(Shared {
        journal: Journal::new(Rc::clone(&trees), Rc::clone(&children)),
        imports,
        files: FileConnections::default(),
        boot_id: boot_id()?,
        ending: Ending::default(),
    });
    let reaped = Rc::clone(&children);
    spawn_local(async move { reaped.reap(ended).await });
    let listener = match place {
        Place::Sandbox { socket } => Listener::new(socket)?,
        Place::VirtualMachine => {
            let listener = Listener::vsock(AGENT_PORT)?;
            spawn_local(announce::announce(shared.announcement()));
            listener
        }
    };
    let prepared = Rc::clone(&trees);
    spawn_local(async move { prepared.prepare() });
    tokio::select! {
        () = accept_all(&listener, &shared) => {}
        () = until_the_end(&shared, &trees, &children) => {}
        _ = terminate.recv() => {}
    }
    trees.end_all().await;
    Ok(())
}

/// Waits for the order to end; then has all processes end by themselves, as long as the order gives them. The host is
/// served meanwhile, and is told how they ended.
async fn until_the_end(shared: &Shared, trees: &Trees, children: &Children) {
    shared.ending.ordered().await;
    shared.journal.close();
    let farewell = async {
        shared.journal.hang_up();
        trees.terminate_all(children).await;
        shared.journal.all_told().await;
    };
    tokio::select! {
        biased;
        () = shared.ending.over() => {}
        () = farewell => {}
    }
}

async fn accept_all(listener: &Listener, shared: &Rc<Shared>) {
    let open = Rc::new(Cell::new(0_usize));
    let closed = Rc::new(Notify::new());
    loop {
        while open.get() >= CONNECTIONS_MAX {
            closed.notified().await;
        }
        match listener.accept().await {
            Ok(connection) => {
                open.set(open.get() + 1);
                let (shared, open, closed) = (Rc::clone(shared), Rc::clone(&open), Rc::clone(&closed));
                spawn_local(async move {
                    serve_connection(connection, shared).await;
                    open.set(open.get() - 1);
                    closed.notify_one();
                });
            }
            Err(error) => {
                complain(&error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(connection: Connection, shared: Rc<Shared>) {
    match session::serve(connection, shared).await {
        // A host that goes away or comes back is no news.
        Ok(()) | Err(ConnectionError::Io(_) | ConnectionError::Cut | ConnectionError::Superseded) => {}
        Err(
            error @ (ConnectionError::Decode(_)
            | ConnectionError::Encode(_)
            | ConnectionError::Unexpected(_)
            | ConnectionError::Input(_)
            | ConnectionError::Silent),
        ) => complain(&error),
    }
}

/// Draws the identity of this run. It tells runs apart and is no secret: early in a boot, waiting for entropy would
/// take a second.
fn boot_id() -> io::Result<BootId> {
    let mut id = [0; 16];
    rustix::rand::getrandom(&mut id, GetRandomFlags::INSECURE)?;
    Ok(BootId(id))
}
