//! One client of the daemon: its frames in, ours out.

use std::io;
use std::ops::Range;
use std::time::Duration;

use pyro_api::{
    ClientMessage, Decoder, FrameError, FrameKind, GapCause, OUTPUT_LEN_MAX, Progress, ServerMessage, Stream,
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
    /// The client does not read.
    #[error("the client has taken nothing for {} s", patience.as_secs())]
    Stuck {
        /// How long.
        patience: Duration,
    },
    /// Something does not fit into a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// How often the sending half looks whether the client is still there while there is nothing to send.
const GONE_CHECK: Duration = Duration::from_secs(1);

/// How long a follower of the log may take nothing of what waits for it. Then it is dropped, for nobody else would end
/// its session; it can resume where it stands.
const PATIENCE: Duration = Duration::from_secs(60);

/// The two halves of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    inbox: Inbox,
    outbox: Outbox,
    /// How long a follower may take nothing of what waits for it.
    patience: Duration,
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
        Self::with_patience(stream, PATIENCE)
    }

    fn with_patience(stream: UnixStream, patience: Duration) -> Self {
        let (reader, writer) = stream.into_split();
        let (sender, messages) = mpsc::channel(INBOX_LEN);
        tokio::spawn(receive(reader, sender));
        Self { inbox: Inbox { messages }, outbox: Outbox { writer, frame: Vec::new() }, patience }
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

    /// Sends something to a client that may stop reading for ever: one that takes nothing of it for long is given up.
    pub(crate) async fn send_to_follower(&mut self, message: &ServerMessage) -> Result<(), PeerError> {
        self.outbox.send_within(message, self.patience).await
    }

    /// Sends what comes next in a stream.
    pub(crate) async fn piece(&mut self, stream: Stream, piece: Piece<'_>) -> Result<(), PeerError> {
        self.outbox.piece(stream, piece).await
    }

    pub(crate) async fn gap(
        &mut self,
        stream: Stream,
        gap: Range<u64>,
        cause: GapCause,
    ) -> Result<(), PeerError> {
        self.outbox.gap(stream, gap, cause).await
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
            Piece::Gap(gap) => self.gap(stream, gap, GapCause::Retention).await,
        }
    }

    /// Sends that a part of a stream is not there.
    pub(crate) async fn gap(
        &mut self,
        stream: Stream,
        gap: Range<u64>,
        cause: GapCause,
    ) -> Result<(), PeerError> {
        self.progress(Progress::Gap { stream, from: gap.start, to: gap.end, cause }).await
    }

    async fn send(&mut self, message: &ServerMessage) -> Result<(), PeerError> {
        self.frame.clear();
        encode_message(message, &mut self.frame)?;
        Ok(self.writer.write_all(&self.frame).await?)
    }

    /// Sends a message as long as the client takes some of it within each span of `patience`. After an error the
    /// connection is of no more use: the message may have been sent in part.
    async fn send_within(&mut self, message: &ServerMessage, patience: Duration) -> Result<(), PeerError> {
        self.frame.clear();
        encode_message(message, &mut self.frame)?;
        let mut rest = self.frame.as_slice();
        while !rest.is_empty() {
            let taken = tokio::time::timeout(patience, self.writer.write(rest)).await;
            let taken = taken.map_err(|_| PeerError::Stuck { patience })??;
            if taken == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            rest = &rest[taken..];
        }
        Ok(())
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
                    FrameKind::Input => frame.input().map(ClientMessage::Input),
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn message(seq: u64) -> ServerMessage {
        ServerMessage::Progress(Progress::CaughtUp { seq })
    }

    /// Catches a session that stays for ever with a client which does not read, and memory that grows meanwhile.
    #[tokio::test]
    async fn follower_that_takes_nothing_is_given_up() {
        let (daemon, client) = UnixStream::pair().unwrap();
        let mut peer = Peer::with_patience(daemon, Duration::from_millis(1));
        let mut sent = 0;
        let error = loop {
            match peer.send_to_follower(&message(sent)).await {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, PeerError::Stuck { .. }), "{error}");
        // What it had taken before is whole, up to the message that was cut.
        drop(peer);
        let mut client = client;
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).await.unwrap();
        let mut decoder = Decoder::new();
        decoder.push(&bytes);
        for seq in 0..sent {
            let frame = decoder.next_frame().unwrap().unwrap();
            assert_eq!(frame.message::<ServerMessage>().unwrap(), message(seq));
        }
        assert_eq!(decoder.next_frame().unwrap(), None);
    }

    /// Catches a client that is dropped although it reads, and one that is slow and misses something.
    #[tokio::test]
    async fn follower_that_reads_slowly_gets_everything() {
        const COUNT: u64 = 50_000;
        let (daemon, mut client) = UnixStream::pair().unwrap();
        let mut peer = Peer::with_patience(daemon, Duration::from_secs(3600));
        let sending = tokio::spawn(async move {
            for seq in 0..COUNT {
                peer.send_to_follower(&message(seq)).await.unwrap();
            }
        });
        let (mut decoder, mut bytes, mut next) = (Decoder::new(), [0; 100], 0);
        while next < COUNT {
            let len = client.read(&mut bytes).await.unwrap();
            assert!(len > 0, "it ended at {next}");
            decoder.push(&bytes[..len]);
            while let Some(frame) = decoder.next_frame().unwrap() {
                assert_eq!(frame.message::<ServerMessage>().unwrap(), message(next));
                next += 1;
            }
        }
        sending.await.unwrap();
    }
}
