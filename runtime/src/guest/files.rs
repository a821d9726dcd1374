//! The files of a guest, read and changed from the host.
//!
//! ```text
//! callers --calls (bounded)--> one task with the connection <--frames--> agent
//!    ^---- answers, each checked against its call ----'
//! ```
//!
//! What comes back is the guest's word: kinds, names, lengths and numbers are checked here, and what does not belong to the
//! call ends the connection. Every call has a deadline, so a guest that hangs holds nobody.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use pyro_protocol::{
    FILE_DATA_MAX, FileAnswer, FileCall, FileData, FileReply, FileRequest, FileStat, FileWrite, Generation,
    GuestFrame, HostFrame, LISTED_MAX, Listed, PATH_LEN_MAX,
};
use rustix::fs::FileType;
use tokio::sync::{mpsc, oneshot};

use super::connection::Connection;
use super::error::GuestError;
use super::passing::Descriptors;

/// The generation since which agents serve files.
pub(super) const SINCE: Generation = Generation::THIRD;

/// Most calls under way at a time. With their data they bound what a guest that does not read costs the host.
const CALLS_MAX: usize = 64;

/// Longest name in a directory, in bytes.
const NAME_LEN_MAX: usize = 255;

/// Largest error number of Linux.
const ERRNO_MAX: i32 = 4095;

/// Nanoseconds of a second.
const SECOND_NS: u32 = 1_000_000_000;

/// The files below one directory of a guest. Clones use the same connection, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct GuestFiles {
    calls: mpsc::Sender<Call>,
    allowance: Duration,
    end: Arc<OnceLock<GuestError>>,
}

/// A file that is open in the guest.
#[derive(Clone, Debug)]
pub struct OpenFile {
    /// Names it in further calls.
    pub handle: u64,
    /// What it was when it was opened.
    pub stat: FileStat,
    /// The file itself, where the guest could hand it over: reading and writing it needs no call.
    pub local: Option<Arc<File>>,
}

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The guest refused it.
    #[error("the guest refused: {}", std::io::Error::from_raw_os_error(*errno))]
    Refused {
        /// Linux error number, 1 to 4095.
        errno: i32,
    },
    /// The guest did not answer in time. Whether it carried the call out is not known.
    #[error("the guest did not answer within {} ms", waited.as_millis())]
    Silent {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The connection is gone, and all handles with it.
    #[error("the connection to the guest's files is gone")]
    Gone,
}

/// What a call gives.
#[derive(Debug)]
enum Given {
    Answer(FileAnswer, Option<OwnedFd>),
    Data(Bytes),
}

/// A call on its way.
#[derive(Debug)]
struct Call {
    what: What,
    reply: oneshot::Sender<Result<Given, FilesError>>,
}

#[derive(Debug)]
enum What {
    Call(FileCall),
    Write { handle: u64, offset: u64, data: Bytes },
}

/// What an answer must be like.
#[derive(Debug)]
enum Expected {
    Done,
    Stat,
    Opened,
    Link,
    Entries,
    Written { max: usize },
    Position,
    Space,
    Data { max: usize },
}

impl GuestFiles {
    /// Starts the task that has the connection, on which the guest has said that it serves.
    pub(super) fn start(connection: Connection, descriptors: Descriptors, allowance: Duration) -> Self {
        let (calls, queue) = mpsc::channel(CALLS_MAX);
        let conversation = Conversation { connection, descriptors, under_way: HashMap::new(), last_tag: 0 };
        let end = Arc::new(OnceLock::new());
        let told = Arc::clone(&end);
        tokio::spawn(async move {
            if let Err(error) = conversation.run(queue).await {
                // Nobody else sets it.
                let _first = told.set(error);
            }
        });
        Self { calls, allowance, end }
    }

    /// Returns why the connection ended; `None` while it serves.
    #[must_use]
    pub fn end(&self) -> Option<&GuestError> {
        self.end.get()
    }

    /// Carries a call out that neither reads, writes nor opens.
    ///
    /// # Errors
    ///
    /// See [`FilesError`].
    pub async fn call(&self, call: FileCall) -> Result<FileAnswer, FilesError> {
        match self.send(What::Call(call)).await? {
            Given::Answer(answer, _) => Ok(answer),
            Given::Data(_) => Err(FilesError::Gone),
        }
    }

    /// Carries a call out that tells what a file is.
    ///
    /// # Errors
    ///
    /// See [`FilesError`].
    pub async fn stat(&self, call: FileCall) -> Result<FileStat, FilesError> {
        match self.call(call).await? {
            FileAnswer::Stat(stat) => Ok(stat),
            _ => Err(FilesError::Gone),
        }
    }

    /// Opens a file or directory, by a call that does so.
    ///
    /// # Errors
    ///
    /// See [`FilesError`].
    pub async fn open(&self, call: FileCall) -> Result<OpenFile, FilesError> {
        match self.send(What::Call(call)).await? {
            Given::Answer(FileAnswer::Opened { handle, stat, .. }, file) => {
                Ok(OpenFile { handle, stat, local: file.map(|file| Arc::new(File::from(file))) })
            }
            Given::Answer(..) | Given::Data(_) => Err(FilesError::Gone),
        }
    }

    /// Reads from an open file; at most [`FILE_DATA_MAX`] bytes, and fewer than asked for only at its end.
    ///
    /// # Errors
    ///
    /// See [`FilesError`].
    pub async fn read(&self, handle: u64, offset: u64, len: u32) -> Result<Bytes, FilesError> {
        match self.send(What::Call(FileCall::Read { handle, offset, len })).await? {
            Given::Data(data) => Ok(data),
            Given::Answer(..) => Err(FilesError::Gone),
        }
    }

    /// Writes into an open file, 1 to [`FILE_DATA_MAX`] bytes, and returns how many were written.
    ///
    /// # Errors
    ///
    /// See [`FilesError`].
    pub async fn write(&self, handle: u64, offset: u64, data: Bytes) -> Result<u32, FilesError> {
        match self.send(What::Write { handle, offset, data }).await? {
            Given::Answer(FileAnswer::Written { len }, _) => Ok(len),
            Given::Answer(..) | Given::Data(_) => Err(FilesError::Gone),
        }
    }

    async fn send(&self, what: What) -> Result<Given, FilesError> {
        let (reply, answer) = oneshot::channel();
        let answered = async {
            self.calls.send(Call { what, reply }).await.map_err(|_ended| FilesError::Gone)?;
            answer.await.map_err(|_ended| FilesError::Gone)?
        };
        let waited = self.allowance;
        tokio::time::timeout(waited, answered).await.map_err(|_elapsed| FilesError::Silent { waited })?
    }
}

/// The task that has the connection.
struct Conversation {
    connection: Connection,
    descriptors: Descriptors,
    under_way: HashMap<u64, (Expected, oneshot::Sender<Result<Given, FilesError>>)>,
    last_tag: u64,
}

impl Conversation {
    /// Ends with the connection, or when nobody has a call any more; calls that are under way then find out.
    async fn run(mut self, mut calls: mpsc::Receiver<Call>) -> Result<(), GuestError> {
        loop {
            tokio::select! {
                call = calls.recv(), if self.under_way.len() < CALLS_MAX => match call {
                    Some(call) => self.ask(call)?,
                    None => return Ok(()),
                },
                frame = self.connection.receive() => self.answered(frame?)?,
            }
        }
    }

    fn ask(&mut self, call: Call) -> Result<(), GuestError> {
        let Call { what, reply } = call;
        self.last_tag += 1;
        let tag = self.last_tag;
        let (expected, frame) = match what {
            What::Call(call) => (expected(&call), HostFrame::FileRequest(FileRequest { tag, call })),
            What::Write { handle, offset, data } => {
                let expected = Expected::Written { max: data.len() };
                (expected, HostFrame::FileWrite(FileWrite { tag, handle, offset, data }))
            }
        };
        self.connection.queue(&frame)?;
        self.under_way.insert(tag, (expected, reply));
        Ok(())
    }

    fn answered(&mut self, frame: GuestFrame) -> Result<(), GuestError> {
        let (tag, given) = match frame {
            GuestFrame::FileReply(FileReply { tag, result: Ok(answer) }) => {
                (tag, Ok(self.with_descriptor(answer)?))
            }
            GuestFrame::FileReply(FileReply { tag, result: Err(errno) }) => {
                let errno = if (1..=ERRNO_MAX).contains(&errno) {
                    errno
                } else {
                    return Err(GuestError::Protocol("its error number is none"));
                };
                (tag, Err(FilesError::Refused { errno }))
            }
            GuestFrame::FileData(FileData { tag, data }) => (tag, Ok(Given::Data(data))),
            _ => return Err(GuestError::Protocol("it answers a question about files with something else")),
        };
        let Some((expected, reply)) = self.under_way.remove(&tag) else {
            return Err(GuestError::Protocol("it answers a question that nobody asked"));
        };
        if let Ok(given) = &given
            && !expected.is_met_by(given)
        {
            return Err(GuestError::Protocol("its answer does not belong to the question"));
        }
        if let Err(Ok(Given::Answer(FileAnswer::Opened { handle, .. }, _))) = reply.send(given) {
            // Nobody waits any more, and nobody else would close it.
            let (reply, _nobody) = oneshot::channel();
            return self.ask(Call { what: What::Call(FileCall::Close { handle }), reply });
        }
        Ok(())
    }

    fn with_descriptor(&self, answer: FileAnswer) -> Result<Given, GuestError> {
        let FileAnswer::Opened { passed: true, .. } = answer else { return Ok(Given::Answer(answer, None)) };
        let descriptor = self.descriptors.take();
        let descriptor =
            descriptor.ok_or(GuestError::Protocol("the open file that it names did not come"))?;
        let kind = rustix::fs::fstat(&descriptor).map(|stat| FileType::from_raw_mode(stat.st_mode));
        if kind != Ok(FileType::RegularFile) {
            return Err(GuestError::Protocol("the open file that came is no regular file"));
        }
        Ok(Given::Answer(answer, Some(descriptor)))
    }
}

const fn expected(call: &FileCall) -> Expected {
    match call {
        FileCall::Stat(_)
        | FileCall::SetStat { .. }
        | FileCall::MakeDir { .. }
        | FileCall::MakeNode { .. }
        | FileCall::Symlink { .. }
        | FileCall::Link { .. } => Expected::Stat,
        FileCall::ReadLink { .. } => Expected::Link,
        FileCall::Open { .. } | FileCall::Create { .. } | FileCall::OpenDir { .. } => Expected::Opened,
        FileCall::ReadDir { .. } => Expected::Entries,
        FileCall::Read { len, .. } => {
            let len = *len as usize;
            Expected::Data { max: if len < FILE_DATA_MAX { len } else { FILE_DATA_MAX } }
        }
        FileCall::Sync { .. }
        | FileCall::Allocate { .. }
        | FileCall::Close { .. }
        | FileCall::Unlink { .. }
        | FileCall::RemoveDir { .. }
        | FileCall::Rename { .. } => Expected::Done,
        FileCall::Seek { .. } => Expected::Position,
        FileCall::Space => Expected::Space,
    }
}

impl Expected {
    fn is_met_by(&self, given: &Given) -> bool {
        match (self, given) {
            (Self::Done, Given::Answer(FileAnswer::Done, _))
            | (Self::Position, Given::Answer(FileAnswer::Position(_), _))
            | (Self::Space, Given::Answer(FileAnswer::Space(_), _)) => true,
            (Self::Stat, Given::Answer(FileAnswer::Stat(stat), _))
            | (Self::Opened, Given::Answer(FileAnswer::Opened { stat, .. }, _)) => is_possible(stat),
            (Self::Link, Given::Answer(FileAnswer::Link(target), _)) => {
                !target.is_empty() && target.len() < PATH_LEN_MAX && !target.contains(&0)
            }
            (Self::Entries, Given::Answer(FileAnswer::Entries(entries), _)) => {
                entries.len() <= LISTED_MAX && entries.iter().all(is_entry)
            }
            (Self::Written { max }, Given::Answer(FileAnswer::Written { len }, _)) => {
                usize::try_from(*len).is_ok_and(|len| len <= *max)
            }
            (Self::Data { max }, Given::Data(data)) => data.len() <= *max,
            _ => false,
        }
    }
}

fn is_entry(entry: &Listed) -> bool {
    let Listed { name, stat } = entry;
    let is_name = !name.is_empty()
        && name.len() <= NAME_LEN_MAX
        && !matches!(name.as_slice(), b"." | b"..")
        && !name.iter().any(|byte| matches!(byte, b'/' | 0));
    is_name && is_possible(stat)
}

fn is_possible(stat: &FileStat) -> bool {
    let times = [stat.accessed, stat.modified, stat.changed];
    stat.mode <= 0o7777 && times.iter().all(|time| time.nanoseconds < SECOND_NS)
}
