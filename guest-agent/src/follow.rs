//! A connection that follows an operation: output and exit go out; acknowledgements, orders and input come in.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use pyro_protocol::{
    Ack, Decoder, GuestFrame, HostFrame, InputProgress, OUTPUT_DATA_MAX, OUTPUT_HEAD_BYTES, Phase, Stream,
    output_head,
};
use rustix::process::Signal;

use crate::connection::{Connection, ConnectionError};
use crate::operation::Operation;
use crate::shell::Shell;

/// Up to what an operation was followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Followed {
    /// The host hung up; the operation goes on.
    ToHangUp,
    /// The host has recorded the end of the operation.
    ToForget,
}

/// What one connection has sent of its operation.
#[derive(Debug)]
struct Follower<'a> {
    operation: &'a Operation,
    connection: &'a Connection,
    number: u64,
    /// Positions of the next bytes to send, of stdout and stderr.
    next: [Cell<u64>; 2],
    /// What the host was last told of the input of a shell.
    progress: Cell<Option<InputProgress>>,
    /// The exit or the failure has been sent.
    ended: Cell<bool>,
}

/// Follows the operation from these positions of stdout and stderr, which lie in what is kept, until the host forgets it
/// or hangs up. An older connection that follows the same operation ends.
pub(crate) async fn follow(
    operation: &Operation,
    connection: &Connection,
    decoder: &mut Decoder<HostFrame>,
    from: [u64; 2],
) -> Result<Followed, ConnectionError> {
    let number = operation.follow();
    let follower = Follower {
        operation,
        connection,
        number,
        next: from.map(Cell::new),
        progress: Cell::default(),
        ended: Cell::default(),
    };
    let mut sending = pin!(follower.send_all());
    let mut receiving = pin!(follower.receive_all(decoder));
    // Both directions at once: an acknowledgement must get in while output waits to get out.
    tokio::select! {
        ending = &mut receiving => return ending,
        sent = &mut sending => sent?,
    }
    tokio::select! {
        ending = receiving => ending,
        () = follower.superseded() => Err(ConnectionError::Superseded),
    }
}

impl Drop for Follower<'_> {
    fn drop(&mut self) {
        self.operation.told(self.number);
    }
}

impl Follower<'_> {
    async fn receive_all(&self, decoder: &mut Decoder<HostFrame>) -> Result<Followed, ConnectionError> {
        while let Some(frame) = self.connection.receive(decoder).await? {
            match &frame {
                HostFrame::Ack(Ack { stream, offset }) if *offset <= self.next(*stream).get() => {
                    self.operation.release(*stream, *offset);
                }
                HostFrame::Kill => self.operation.kill(),
                HostFrame::Forget if self.ended.get() => return Ok(Followed::ToForget),
                HostFrame::Input(input) => {
                    self.shell(&frame)?.take(input)?;
                    self.operation.advanced();
                }
                HostFrame::Resize(size) => self.begun_shell(&frame).await?.resize(*size),
                HostFrame::Signal { signal } => {
                    let signal = Signal::from_named_raw((*signal).into())
                        .ok_or_else(|| ConnectionError::Unexpected(frame.clone()))?;
                    self.begun_shell(&frame).await?.signal(signal);
                }
                HostFrame::HangUp { grace_ms } => {
                    self.begun_shell(&frame).await?.hang_up();
                    self.operation.kill_after(Duration::from_millis(*grace_ms));
                }
                HostFrame::Hello(_)
                | HostFrame::Exec(_)
                | HostFrame::Attach(_)
                | HostFrame::Shutdown
                | HostFrame::SetClock { .. }
                | HostFrame::Ping
                | HostFrame::Operations
                | HostFrame::Ack(_)
                | HostFrame::Forget
                | HostFrame::Terminate { .. }
                | HostFrame::Shell(_)
                | HostFrame::Import(_)
                | HostFrame::Entry(_)
                | HostFrame::Content(_)
                | HostFrame::Commit
                | HostFrame::AskImport { .. }
                | HostFrame::Files(_)
                | HostFrame::FileRequest(_)
                | HostFrame::FileWrite(_) => return Err(ConnectionError::Unexpected(frame)),
            }
        }
        Ok(Followed::ToHangUp)
    }

    /// Returns the shell that the frame is for.
    fn shell(&self, frame: &HostFrame) -> Result<&Rc<Shell>, ConnectionError> {
        self.operation.shell().ok_or_else(|| ConnectionError::Unexpected(frame.clone()))
    }

    /// Returns the shell that the frame is for, as soon as it runs. An order must not get lost because it came early.
    async fn begun_shell(&self, frame: &HostFrame) -> Result<&Rc<Shell>, ConnectionError> {
        let shell = self.shell(frame)?;
        self.operation.settled().await;
        Ok(shell)
    }

    async fn send_all(&self) -> Result<(), ConnectionError> {
        let mut started = false;
        loop {
            let changed = self.operation.changed().notified();
            if !self.operation.is_followed_by(self.number) {
                return Err(ConnectionError::Superseded);
            }
            let phase = self.operation.phase();
            match &phase {
                Phase::Starting => {}
                Phase::Running(command) if !started => {
                    started = true;
                    self.connection.send(&GuestFrame::Started(*command)).await?;
                }
                Phase::Failed(failed) => {
                    return self.send_end(&GuestFrame::Failed(failed.clone())).await;
                }
                Phase::Running(_) | Phase::Exited(_) => {}
            }
            // One frame of each in turn, so that none holds up another.
            let mut idle = !(started && self.send_progress().await?);
            for stream in Stream::ALL {
                idle &= !self.send_output(stream).await?;
            }
            if !idle {
                continue;
            }
            if let Phase::Exited(exited) = phase {
                return self.send_end(&GuestFrame::Exited(exited)).await;
            }
            changed.await;
        }
    }

    /// Sends how the operation ended.
    async fn send_end(&self, end: &GuestFrame) -> Result<(), ConnectionError> {
        self.ended.set(true);
        self.connection.send(end).await?;
        self.operation.told(self.number);
        Ok(())
    }

    /// Sends how far the input of a shell has come; returns whether that was news.
    async fn send_progress(&self) -> Result<bool, ConnectionError> {
        let progress = self.operation.shell().map(|shell| shell.progress());
        let Some(news) = progress.filter(|progress| self.progress.get() != Some(*progress)) else {
            return Ok(false);
        };
        self.progress.set(Some(news));
        self.connection.send(&GuestFrame::InputProgress(news)).await?;
        Ok(true)
    }

    /// Sends the next output of a stream; returns whether there was any.
    async fn send_output(&self, stream: Stream) -> Result<bool, ConnectionError> {
        let offset = self.next(stream).get();
        let pieces = self.operation.output(stream).slices(offset, OUTPUT_DATA_MAX).map(<[u8]>::len);
        let len = pieces[0] + pieces[1];
        if len == 0 {
            return Ok(false);
        }
        let head = output_head(stream, offset, len);
        let mut sent = 0;
        while sent < OUTPUT_HEAD_BYTES + len {
            sent += self
                .connection
                .write(|write| self.write_rest(stream, &head, offset, len, sent, write))
                .await?;
        }
        self.next(stream).set(offset + len as u64);
        Ok(true)
    }

    /// Writes a frame from its byte `sent` on, its data straight from what is kept.
    fn write_rest(
        &self,
        stream: Stream,
        head: &[u8],
        offset: u64,
        len: usize,
        sent: usize,
        write: &mut dyn FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        // A newer follower may have released these bytes.
        if !self.operation.is_followed_by(self.number) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let head = &head[sent.min(head.len())..];
        let data_sent = sent.saturating_sub(OUTPUT_HEAD_BYTES);
        let output = self.operation.output(stream);
        let [first, second] = output.slices(offset + data_sent as u64, len - data_sent);
        write(&[IoSlice::new(head), IoSlice::new(first), IoSlice::new(second)])
    }

    async fn superseded(&self) {
        loop {
            let changed = self.operation.changed().notified();
            if !self.operation.is_followed_by(self.number) {
                return;
            }
            changed.await;
        }
    }

    const fn next(&self, stream: Stream) -> &Cell<u64> {
        match stream {
            Stream::Stdout => &self.next[0],
            Stream::Stderr => &self.next[1],
        }
    }
}
