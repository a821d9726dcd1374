//! The thread of an import: from its first entry to its end.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyro_protocol::{Decoder, HostFrame, Import, Imported};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::commit;
use super::failure::Failure;
use super::stage::{Stage, StagedFile};
use crate::connection::ConnectionError;
use crate::files::path::EntryPath;

/// Time without a byte after which the host is given up. It has all entries at hand when it begins.
const SILENCE: Duration = Duration::from_secs(60);

/// Most entries of an import. It bounds what the agent has to remember of one; the host's own limit lies below.
const ENTRIES_MAX: u64 = 1 << 20;

/// Bytes that are read at once: a whole frame of content.
const READ_BYTES: usize = 256 * 1024;

/// The host's side of an import.
#[derive(Debug)]
pub(super) struct Intake {
    socket: File,
    decoder: Decoder<HostFrame>,
    bytes: Vec<u8>,
}

/// Why an import ended before it was in place.
#[derive(Debug, thiserror::Error)]
pub(super) enum IntakeError {
    /// The host is gone or broke a rule, and nobody hears an answer.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// It has no effect, and the host is told why.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl Intake {
    /// Takes over a blocking socket, and what was read of it already.
    pub(super) fn new(socket: OwnedFd, decoder: Decoder<HostFrame>) -> io::Result<Self> {
        set_socket_timeout(&socket, Timeout::Recv, Some(SILENCE))?;
        Ok(Self { socket: File::from(socket), decoder, bytes: vec![0; READ_BYTES] })
    }

    /// Gives the socket and what was read of it back.
    pub(super) fn into_parts(self) -> (OwnedFd, Decoder<HostFrame>) {
        (self.socket.into(), self.decoder)
    }

    /// Carries the import out: all of it or nothing. One import at a time is moved in.
    pub(super) fn carry_out(
        &mut self,
        place: &EntryPath,
        import: &Import,
        turn: &Mutex<()>,
    ) -> Result<Imported, IntakeError> {
        let mut stage = Stage::create(place, import.op)?;
        let result = self.fill(&mut stage).and_then(|imported| {
            stage.complete()?;
            // The lock guards no value that a panic could have left half changed.
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            commit::commit(&mut stage, import)?;
            Ok(imported)
        });
        stage.remove();
        result
    }

    fn fill(&mut self, stage: &mut Stage) -> Result<Imported, IntakeError> {
        let mut imported = Imported::default();
        loop {
            match self.receive()? {
                HostFrame::Entry(entry) => {
                    imported.entries += 1;
                    if imported.entries > ENTRIES_MAX {
                        let message = format!("take more than {ENTRIES_MAX} entries");
                        return Err(Failure::at(&entry.path, message, Errno::TOOBIG).into());
                    }
                    if let Some(file) = stage.add(entry)? {
                        imported.bytes = imported.bytes.saturating_add(file.len);
                        self.fill_file(file)?;
                    }
                }
                HostFrame::Commit => return Ok(imported),
                other => return Err(ConnectionError::Unexpected(other).into()),
            }
        }
    }

    fn fill_file(&mut self, mut file: StagedFile) -> Result<(), IntakeError> {
        let mut left = file.len;
        while left > 0 {
            let frame = self.receive()?;
            let HostFrame::Content(content) = &frame else {
                return Err(ConnectionError::Unexpected(frame).into());
            };
            match u64::try_from(content.len()).ok().and_then(|len| left.checked_sub(len)) {
                Some(rest) => left = rest,
                None => return Err(ConnectionError::Unexpected(frame).into()),
            }
            file.write(content)?;
        }
        Ok(file.finish()?)
    }

    fn receive(&mut self) -> Result<HostFrame, ConnectionError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(frame);
            }
            match self.socket.read(&mut self.bytes) {
                // Also between two frames: an import ends with `Commit`.
                Ok(0) => return Err(ConnectionError::Cut),
                Ok(n) => self.decoder.push(&self.bytes[..n]),
                // A signal ends a read that has a time limit, whatever its handler asks for.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
