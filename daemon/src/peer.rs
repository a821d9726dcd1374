//! One client of the daemon: its frames in, ours out.

use std::io;
use std::time::Duration;

use pyro_api::{
    ClientMessage, Decoder, FrameError, FrameKind, LogEvent, OUTPUT_LEN_MAX, Progress, ServerMessage, Stream,
    encode_message, encode_output,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use crate::streams::Piece;

/// Messages of a client that wait while one is being worked on. A client has no reason to send more.
const INBOX_LEN: usize = 16;
/// Bytes read at once.
const READ_LEN: usize = 64 * 1024;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// The client is gone.
    #[error("the client is gone: {0}")]
    Gone(#[from] io::Error),
    /// Something does not fit into a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// How often the sending half looks whether the client is still there while there is nothing to send.
const GONE_CHECK: Duration = Duration::from_secs(1);

/// The two halves of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    inbox: Inbox,
    outbox: Outbox,
}

/// The messages that come in.
#[derive(Debug)]
pub(crate) struct Inbox {
    messages: mpsc::Receiver<Result<ClientMessage, FrameError>>,
}

/// The sending half.
#[derive(Debug)]
pub(crate) struct Outbox {
    writer: OwnedWriteHalf,
    frame: Vec<u8>,
}

impl Peer {
    pub(crate) fn new(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        let (sender, messages) = mpsc::channel(INBOX_LEN);
        tokio::spawn(receive(reader, sender));
        Self { inbox: Inbox { messages }, outbox: Outbox { writer, frame: Vec::new() } }
    }

    /// Returns the halves, for those who send and receive at the same time.
    pub(crate) const fn split(&mut self) -> (&mut Outbox, &mut Inbox) {
        (&mut self.outbox, &mut self.inbox)
    }

    /// Returns the next message; `None` when the client is gone. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Result<ClientMessage, FrameError>> {
        self.inbox.next().await
    }

    pub(crate) async fn send(&mut self, message: &ServerMessage) -> Result<(), PeerError> {
        self.outbox.send(message).await
    }

    pub(crate) async fn progress(&mut self, progress: Progress) -> Result<(), PeerError> {
        self.outbox.progress(progress).await
    }

    pub(crate) async fn event(&mut self, event: LogEvent) -> Result<(), PeerError> {
        self.send(&ServerMessage::Event(event)).await
    }

    /// Sends what comes next in a stream.
    pub(crate) async fn piece(&mut self, stream: Stream, piece: Piece<'_>) -> Result<(), PeerError> {
        self.outbox.piece(stream, piece).await
    }
}

impl Inbox {
    /// Returns the next message; `None` when the client is gone. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Result<ClientMessage, FrameError>> {
        self.messages.recv().await
    }
}

impl Outbox {
    pub(crate) async fn progress(&mut self, progress: Progress) -> Result<(), PeerError> {
        self.send(&ServerMessage::Progress(progress)).await
    }

    /// Sends what comes next in a stream.
    pub(crate) async fn piece(&mut self, stream: Stream, piece: Piece<'_>) -> Result<(), PeerError> {
        match piece {
            Piece::Bytes(bytes) => self.output(stream, bytes).await,
            Piece::Gap(gap) => self.progress(Progress::Gap { stream, from: gap.start, to: gap.end }).await,
        }
    }

    async fn send(&mut self, message: &ServerMessage) -> Result<(), PeerError> {
        self.frame.clear();
        encode_message(message, &mut self.frame)?;
        Ok(self.writer.write_all(&self.frame).await?)
    }

    /// Sends output, at most [`OUTPUT_LEN_MAX`] bytes.
    async fn output(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), PeerError> {
        debug_assert!(bytes.len() <= OUTPUT_LEN_MAX, "the caller reads in pieces");
        self.frame.clear();
        encode_output(stream, bytes, &mut self.frame);
        Ok(self.writer.write_all(&self.frame).await?)
    }

    /// Returns when the client is gone, also when nobody takes its messages out of the inbox. Cancel safe.
    pub(crate) async fn gone(&self) -> PeerError {
        loop {
            tokio::time::sleep(GONE_CHECK).await;
            match self.writer.ready(Interest::WRITABLE).await {
                Ok(ready) if ready.is_write_closed() => {
                    return io::Error::from(io::ErrorKind::ConnectionReset).into();
                }
                Ok(_) => {}
                Err(error) => return error.into(),
            }
        }
    }
}

async fn receive(mut reader: OwnedReadHalf, inbox: mpsc::Sender<Result<ClientMessage, FrameError>>) {
    let mut decoder = Decoder::new();
    let mut bytes = vec![0; READ_LEN];
    loop {
        let read = tokio::select! {
            read = reader.read(&mut bytes) => read,
            () = inbox.closed() => return,
        };
        match read {
            Ok(0) | Err(_) => return,
            Ok(len) => decoder.push(&bytes[..len]),
        }
        loop {
            let message = match decoder.next_frame() {
                Ok(None) => break,
                Ok(Some(frame)) => match frame.kind {
                    FrameKind::Input => Ok(ClientMessage::Input(frame.payload)),
                    FrameKind::Json | FrameKind::Output(_) => frame.message(),
                },
                Err(error) => Err(error),
            };
            let broken = message.is_err();
            if inbox.send(message).await.is_err() || broken {
                return;
            }
        }
    }
}
