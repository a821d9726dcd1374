//! What an open file holds.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyro_core::{Seq, WorkspaceId};
use pyro_store::outputs::{OutputError, OutputReader, Outputs, StreamId};
use pyro_store::{ReadError, Reader};

use crate::cast::Cast;
use crate::history::Ended;
use crate::host::Host;
use crate::ledger::Ledger;

/// What an open file holds. It stays readable when what it belongs to is gone.
#[derive(Clone, Debug)]
pub struct Content(pub(crate) Held);

#[derive(Clone, Debug)]
pub(crate) enum Held {
    /// What was so when it was opened.
    Fixed(Arc<[u8]>),
    /// The bytes of a stream.
    Stream(Arc<StreamFile>),
    /// Lines of events.
    Events(Arc<EventLines>),
    /// Lines of commands that have ended.
    Logs(Arc<LogLines>),
    /// The recording of a shell.
    Cast(Arc<Cast>),
}

/// The output file of a stream.
#[derive(Debug)]
pub(crate) struct StreamFile {
    outputs: Outputs,
    pub(crate) workspace: WorkspaceId,
    pub(crate) stream: StreamId,
    /// How long the stream was at its end, in bytes, by what the log says; 0 as long as it may grow.
    told: u64,
    /// The file, as soon as there are bytes in it.
    file: Mutex<Option<Arc<OutputReader>>>,
}

impl StreamFile {
    pub(crate) fn open(
        outputs: &Outputs,
        workspace: WorkspaceId,
        stream: StreamId,
        told: u64,
    ) -> Result<Self, OutputError> {
        let opened = Self { outputs: outputs.clone(), workspace, stream, told, file: Mutex::default() };
        opened.file()?;
        Ok(opened)
    }

    /// Returns the file; `None` when nothing was printed yet.
    fn file(&self) -> Result<Option<Arc<OutputReader>>, OutputError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.is_none() {
            let opened = self.outputs.read(self.workspace, self.stream)?;
            if opened.len_bytes()? > 0 {
                *file = Some(Arc::new(opened));
            }
        }
        Ok(file.clone())
    }

    pub(crate) fn len_bytes(&self) -> Result<u64, OutputError> {
        let len = self.file()?.map_or(Ok(0), |file| file.len_bytes())?;
        Ok(len.max(self.told))
    }

    /// Returns at most `size` bytes from an offset on; none at the present end. A part that the log tells of and the file does
    /// not have is an error: the kernel takes less than what it has asked for as the end.
    pub(crate) fn read(&self, offset: u64, size: usize) -> Result<Vec<u8>, OutputError> {
        let bytes = self.stored(offset, size)?;
        let len = bytes.len() as u64;
        if bytes.len() < size && offset + len < self.told {
            let path = self.outputs.path(self.workspace, self.stream);
            let source = io::Error::new(io::ErrorKind::UnexpectedEof, "it was shortened or deleted");
            return Err(OutputError::Io { path, source });
        }
        Ok(bytes)
    }

    fn stored(&self, offset: u64, size: usize) -> Result<Vec<u8>, OutputError> {
        let Some(file) = self.file()? else { return Ok(Vec::new()) };
        let mut bytes = vec![0; size];
        let mut len = 0;
        while len < size {
            match file.read_at(&mut bytes[len..], offset + len as u64)? {
                0 => break,
                read => len += read,
            }
        }
        bytes.truncate(len);
        Ok(bytes)
    }
}

/// The lines of all events, or of those of one workspace.
#[derive(Debug)]
pub(crate) struct EventLines {
    reader: Reader,
    host: Arc<dyn Host>,
    workspace: Option<WorkspaceId>,
    ledger: Mutex<Ledger>,
}

impl EventLines {
    pub(crate) fn new(reader: Reader, host: Arc<dyn Host>, workspace: Option<WorkspaceId>) -> Self {
        Self { reader, host, workspace, ledger: Mutex::new(Ledger::from(Seq::ZERO.next().0)) }
    }

    pub(crate) fn len_bytes(&self) -> Result<u64, ReadError> {
        Ok(self.caught_up()?.len_bytes())
    }

    pub(crate) fn read(&self, offset: u64, size: usize) -> Result<Vec<u8>, ReadError> {
        let ledger = self.caught_up()?;
        ledger.read(offset, size, |first| self.lines(first).map(|line| line.map(|(_, line)| line)))
    }

    fn caught_up(&self) -> Result<MutexGuard<'_, Ledger>, ReadError> {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if self.reader.head().seq.0 >= ledger.next() {
            for line in self.lines(ledger.next()) {
                let (number, line) = line?;
                ledger.push(number, &line);
            }
        }
        Ok(ledger)
    }

    fn lines(&self, first: u64) -> impl Iterator<Item = Result<(u64, String), ReadError>> + '_ {
        let (all, own) = match self.workspace {
            None => (Some(self.reader.read(Seq(first))), None),
            Some(workspace) => (None, Some(self.reader.read_workspace(workspace, Seq(first)))),
        };
        let envelopes = all.into_iter().flatten().chain(own.into_iter().flatten());
        envelopes.map(|envelope| envelope.map(|envelope| (envelope.seq.0, self.host.event(&envelope))))
    }
}

/// The lines of the commands of a workspace that have ended.
#[derive(Debug)]
pub(crate) struct LogLines {
    host: Arc<dyn Host>,
    workspace: WorkspaceId,
    ended: Arc<Ended>,
    ledger: Mutex<Ledger>,
}

impl LogLines {
    pub(crate) fn new(host: Arc<dyn Host>, workspace: WorkspaceId, ended: Arc<Ended>) -> Self {
        Self { host, workspace, ended, ledger: Mutex::new(Ledger::from(0)) }
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.caught_up().len_bytes()
    }

    pub(crate) fn read(&self, offset: u64, size: usize) -> Vec<u8> {
        let ledger = self.caught_up();
        let read = ledger.read(offset, size, |first| {
            (first..ledger.next())
                .map_while(|number| self.line(number))
                .map(Ok::<_, std::convert::Infallible>)
        });
        match read {
            Ok(bytes) => bytes,
            Err(never) => match never {},
        }
    }

    fn caught_up(&self) -> MutexGuard<'_, Ledger> {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(line) = self.line(ledger.next()) {
            let number = ledger.next();
            ledger.push(number, &line);
        }
        ledger
    }

    fn line(&self, number: u64) -> Option<String> {
        let record = self.ended.records().get(usize::try_from(number).ok()?).cloned()?;
        Some(self.host.exec(self.workspace, &record))
    }
}
