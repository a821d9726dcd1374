//! Files from the host: staged in private, then moved in, all or nothing.
//!
//! ```text
//! Import -> Running -> Imported
//!              |  \--> Failed
//!              \-----> forgotten, when the connection ends before `Commit`
//! ```
//!
//! Files are written by a thread of each import, which has the connection meanwhile: the runtime, which serves all
//! others, does not wait for a disk.

mod commit;
mod failure;
mod intake;
mod marker;
mod plan;
mod recovery;
mod removal;
mod stage;

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyro_protocol::{
    Decoder, GuestFrame, HostFrame, IMPORTS_REMEMBERED, Import, ImportFailed, ImportState, Imported,
};
use rustix::io::Errno;
use tokio::sync::oneshot;

use crate::connection::{Connection, ConnectionError};
use crate::files::path::EntryPath;
use intake::{Intake, IntakeError};

/// Most imports at a time. Each has a thread and up to sixty descriptors; the host pushes one at a time into a
/// workspace.
const RUNNING_MAX: usize = 8;

/// Time without a byte after which a host that has its answer is given up.
const SILENCE: Duration = Duration::from_secs(60);

/// The imports that the agent knows.
#[derive(Debug)]
pub(crate) struct Imports {
    /// The directory of the stages.
    place: EntryPath,
    running: RefCell<BTreeSet<u64>>,
    /// What became of the last ones, the oldest first.
    ended: RefCell<VecDeque<(u64, Result<Imported, ImportFailed>)>>,
    /// Held by the one that is moved in.
    turn: Arc<Mutex<()>>,
}

/// An end of the thread of an import.
type End = (Intake, Result<Imported, IntakeError>);

impl Imports {
    /// Finishes what an agent before this one left in the directory `place`, and uses it from now on.
    ///
    /// # Errors
    ///
    /// When `place` is no absolute path.
    pub(crate) fn recover(place: &Path) -> io::Result<Self> {
        let place = EntryPath::parse_absolute(place.as_os_str().as_bytes()).map_err(io::Error::other)?;
        recovery::recover(&place);
        Ok(Self { place, running: RefCell::default(), ended: RefCell::default(), turn: Arc::default() })
    }

    /// Returns what became of the import `op`.
    pub(crate) fn state(&self, op: u64) -> ImportState {
        if self.running.borrow().contains(&op) {
            return ImportState::Running;
        }
        match self.ended(op) {
            Some(Ok(imported)) => ImportState::Imported(imported),
            Some(Err(failed)) => ImportState::Failed(failed),
            None => ImportState::Unknown,
        }
    }

    fn ended(&self, op: u64) -> Option<Result<Imported, ImportFailed>> {
        self.ended.borrow().iter().find(|(ended, _)| *ended == op).map(|(_, result)| result.clone())
    }

    /// Takes note of a new import.
    ///
    /// # Errors
    ///
    /// The answer to an import that is not to be carried out: it was already, it is under way, or there are too many.
    fn admit(&self, op: u64) -> Result<(), Result<Imported, ImportFailed>> {
        if let Some(ended) = self.ended(op) {
            return Err(ended);
        }
        let mut running = self.running.borrow_mut();
        if running.contains(&op) {
            return Err(Err(refusal(Errno::ALREADY, "carry the import out: it is under way")));
        }
        if running.len() >= RUNNING_MAX {
            let message = format!("carry the import out: {RUNNING_MAX} are under way");
            return Err(Err(refusal(Errno::AGAIN, &message)));
        }
        running.insert(op);
        Ok(())
    }

    fn remember(&self, op: u64, result: Result<Imported, ImportFailed>) {
        let mut ended = self.ended.borrow_mut();
        if ended.len() >= IMPORTS_REMEMBERED {
            ended.pop_front();
        }
        ended.push_back((op, result));
    }

    /// Starts the thread of an import; returns what gives its end.
    fn start(
        &self,
        connection: Connection,
        decoder: Decoder<HostFrame>,
        import: Import,
    ) -> io::Result<oneshot::Receiver<End>> {
        let mut intake = Intake::new(connection.into_blocking()?, decoder)?;
        let (place, turn) = (self.place.clone(), Arc::clone(&self.turn));
        let (sender, receiver) = oneshot::channel();
        std::thread::Builder::new().name("import".to_owned()).spawn(move || {
            let result = intake.carry_out(&place, &import, &turn);
            // The agent is about to end when nobody waits.
            let _unheard = sender.send((intake, result));
        })?;
        Ok(receiver)
    }
}

/// Serves a connection that began an import.
pub(crate) async fn serve(
    connection: Connection,
    decoder: Decoder<HostFrame>,
    imports: &Imports,
    import: Import,
) -> Result<(), ConnectionError> {
    let op = import.op;
    if let Err(answer) = imports.admit(op) {
        return finish(connection, decoder, answer).await;
    }
    let end = match imports.start(connection, decoder, import) {
        Ok(end) => end.await.map_err(|_lost| io::Error::other("the thread of an import ended early")),
        Err(error) => Err(error),
    };
    imports.running.borrow_mut().remove(&op);
    let (intake, result) = end?;
    let answer = match result {
        Ok(imported) => Ok(imported),
        Err(IntakeError::Failed(failure)) => Err(failure.into()),
        Err(IntakeError::Connection(error)) => return Err(error),
    };
    imports.remember(op, answer.clone());
    let (socket, decoder) = intake.into_parts();
    finish(Connection::new(socket)?, decoder, answer).await
}

/// Answers, and drops what the host had sent before it could know. Closing with unread bytes would cost it the answer.
async fn finish(
    connection: Connection,
    mut decoder: Decoder<HostFrame>,
    answer: Result<Imported, ImportFailed>,
) -> Result<(), ConnectionError> {
    connection.send(&answer.map_or_else(GuestFrame::ImportFailed, GuestFrame::Imported)).await?;
    loop {
        let frame = tokio::time::timeout(SILENCE, connection.receive(&mut decoder));
        match frame.await {
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None)) | Err(_) => return Ok(()),
            Ok(Err(error)) => return Err(error),
        }
    }
}

fn refusal(errno: Errno, message: &str) -> ImportFailed {
    ImportFailed { path: None, errno: errno.raw_os_error(), message: message.to_owned() }
}
