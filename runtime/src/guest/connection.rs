//! One connection to an agent: frames out, frames in, and deadlines on both.

use std::io;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use pyro_protocol::{
    Ack, Decoder, Frame as _, Generation, GenerationRange, GuestFrame, Hello, HostFrame, Refusal, Stream,
    Welcome,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::{Instant, timeout_at};

use super::error::GuestError;
use super::passing::Descriptors;
use super::transport::{Duplex, Transport};

/// Time in which a frame that has begun must be complete, and in which the guest must take some of what is sent to
/// it. A busy guest under TCG on a loaded host has been seen to need seconds.
const PROGRESS_ALLOWANCE: Duration = Duration::from_secs(30);

/// Room made in the buffer before a read: one output frame of the agent, so that it arrives without a second copy.
const READ_BYTES: usize = pyro_protocol::OUTPUT_DATA_MAX + pyro_protocol::OUTPUT_HEAD_BYTES;

/// The end of a wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    by: Instant,
    allowance: Duration,
}

impl Deadline {
    /// Returns the deadline of a wait that begins now.
    pub(super) fn within(allowance: Duration) -> Self {
        Self::since(Instant::now(), allowance)
    }

    /// Returns the deadline of a wait that began earlier.
    pub(super) fn since(begun: Instant, allowance: Duration) -> Self {
        // Further than a century is the same as never; sums with it must not overflow.
        const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        let allowance = allowance.min(NEVER);
        Self { by: begun + allowance, allowance }
    }

    /// Tells whether as much time again has passed since the deadline: a guest that always has one more frame ready
    /// never lets a wait run out.
    pub(super) fn is_long_past(self) -> bool {
        Instant::now() > self.by + self.allowance
    }

    /// Returns the error of a deadline that has passed.
    pub(super) const fn missed(self, what: &'static str) -> GuestError {
        GuestError::Silent { what, waited: self.allowance }
    }

    /// Returns what the future gives, or that the guest stayed silent about `what`.
    async fn wait<T>(self, what: &'static str, future: impl Future<Output = T>) -> Result<T, GuestError> {
        timeout_at(self.by, future).await.map_err(|_elapsed| self.missed(what))
    }
}

/// A connection. All of its methods can be cancelled and called again without losing a byte.
pub(super) struct Connection {
    reader: ReadHalf<Box<dyn Duplex>>,
    writer: WriteHalf<Box<dyn Duplex>>,
    decoder: Decoder<GuestFrame>,
    outgoing: BytesMut,
    /// What both sides speak; the first one before the agent has answered.
    generation: Generation,
    /// The newest acknowledgement of each stream that has not been queued: however slowly a guest reads, they do not
    /// pile up.
    acknowledged: [Option<u64>; Stream::ALL.len()],
    /// Since when there are bytes of a frame that is not complete.
    incoming_since: Option<Instant>,
    /// Since when the guest has not taken all that is to be sent.
    outgoing_since: Option<Instant>,
}

impl Connection {
    /// Connects and says hello; [`welcome`](Self::welcome) takes the answer.
    pub(super) async fn open(transport: &Transport, deadline: Deadline) -> Result<Self, GuestError> {
        Self::greet(deadline.wait("a connection", transport.connect()).await?)
    }

    /// Does as [`open`](Self::open) on a connection that open files can come along on.
    pub(super) async fn open_passing(
        transport: &Transport,
        descriptors: &Descriptors,
        deadline: Deadline,
    ) -> Result<Self, GuestError> {
        Self::greet(deadline.wait("a connection", transport.connect_passing(descriptors)).await?)
    }

    fn greet(connected: io::Result<Box<dyn Duplex>>) -> Result<Self, GuestError> {
        let mut connection = Self::over(connected.map_err(GuestError::Unreachable)?);
        connection.queue(&HostFrame::Hello(Hello { generations: GenerationRange::SUPPORTED }))?;
        Ok(connection)
    }

    /// Returns a connection over a stream on which nothing has been said.
    pub(super) fn over(stream: Box<dyn Duplex>) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            reader,
            writer,
            decoder: Decoder::new(),
            outgoing: BytesMut::new(),
            generation: Generation::FIRST,
            acknowledged: [None; Stream::ALL.len()],
            incoming_since: None,
            outgoing_since: None,
        }
    }

    /// Takes the agent's answer to the hello.
    pub(super) async fn welcome(&mut self, deadline: Deadline) -> Result<Welcome, GuestError> {
        match self.receive_by(deadline, "a welcome").await? {
            GuestFrame::Welcome(welcome) => {
                let spoken = GenerationRange::SUPPORTED;
                if welcome.generation < spoken.min || welcome.generation > spoken.max {
                    return Err(GuestError::Protocol("it chose a generation that was not offered"));
                }
                self.generation = welcome.generation;
                Ok(welcome)
            }
            GuestFrame::Refused(Refusal::Generation { supported }) => {
                Err(GuestError::Incompatible { agent: supported })
            }
            _ => Err(GuestError::Protocol("its first frame is no welcome")),
        }
    }

    /// Returns what both sides speak.
    pub(super) const fn generation(&self) -> Generation {
        self.generation
    }

    /// Takes a frame to be sent while the connection waits for the guest.
    pub(super) fn queue(&mut self, frame: &HostFrame) -> Result<(), GuestError> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes)?;
        self.outgoing.extend_from_slice(&bytes);
        self.outgoing_since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Takes an acknowledgement to be sent while the connection waits for the guest.
    pub(super) fn acknowledge(&mut self, ack: Ack) {
        self.acknowledged[index(ack.stream)] = Some(ack.offset);
    }

    /// Sends a frame and waits until the transport has it.
    pub(super) async fn send_by(&mut self, frame: &HostFrame, deadline: Deadline) -> Result<(), GuestError> {
        self.queue(frame)?;
        while self.outgoing.has_remaining() {
            deadline
                .wait("a sign that it reads", self.writer.write_buf(&mut self.outgoing))
                .await?
                .map_err(GuestError::Broken)?;
        }
        self.outgoing_since = None;
        Ok(())
    }

    /// Sends frames that are encoded already, of which the guest must take some in each `allowance`. Returns early with
    /// a frame of the guest; `None` when the transport has all of them.
    pub(super) async fn send_listening(
        &mut self,
        mut frames: &[u8],
        allowance: Duration,
    ) -> Result<Option<GuestFrame>, GuestError> {
        debug_assert!(self.outgoing.is_empty(), "what was queued before goes first");
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            if frames.is_empty() {
                return Ok(None);
            }
            let buffer = self.decoder.buffer();
            buffer.reserve(READ_BYTES / 4);
            let moved = async {
                tokio::select! {
                    biased;
                    read = self.reader.read_buf(buffer) => match read {
                        Ok(0) => Err(GuestError::Closed),
                        Ok(_) => Ok(()),
                        Err(error) => Err(GuestError::Broken(error)),
                    },
                    written = self.writer.write_buf(&mut frames) => {
                        written.map(drop).map_err(GuestError::Broken)
                    }
                }
            };
            Deadline::within(allowance).wait("a sign that it reads", moved).await??;
        }
    }

    /// Returns the next frame, which is due.
    pub(super) async fn receive_by(
        &mut self,
        deadline: Deadline,
        what: &'static str,
    ) -> Result<GuestFrame, GuestError> {
        deadline.wait(what, self.receive()).await?
    }

    /// Returns the next frame, however long the guest takes to begin one.
    pub(super) async fn receive(&mut self) -> Result<GuestFrame, GuestError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                self.incoming_since = None;
                return Ok(frame);
            }
            if self.decoder.is_mid_frame() {
                self.incoming_since.get_or_insert_with(Instant::now);
            }
            self.queue_acknowledgements()?;
            match self.progress_due() {
                Some((deadline, what)) => deadline.wait(what, self.move_bytes()).await??,
                None => self.move_bytes().await?,
            }
        }
    }

    /// Queues acknowledgements once all that was queued before has been taken.
    fn queue_acknowledgements(&mut self) -> Result<(), GuestError> {
        if self.outgoing.has_remaining() {
            return Ok(());
        }
        for stream in Stream::ALL {
            if let Some(offset) = self.acknowledged[index(stream)].take() {
                self.queue(&HostFrame::Ack(Ack { stream, offset }))?;
            }
        }
        Ok(())
    }

    /// Returns until when and of what there must be progress; `None` when nothing is half done.
    fn progress_due(&self) -> Option<(Deadline, &'static str)> {
        let due = |since: Option<Instant>, what| {
            since.map(|since| (Deadline::since(since, PROGRESS_ALLOWANCE), what))
        };
        due(self.incoming_since, "the rest of a frame")
            .into_iter()
            .chain(due(self.outgoing_since, "a sign that it reads"))
            .min_by_key(|(deadline, _)| deadline.by)
    }

    /// Writes what waits to be written or reads what has come, whichever is possible first.
    async fn move_bytes(&mut self) -> Result<(), GuestError> {
        let buffer = self.decoder.buffer();
        if buffer.capacity() - buffer.len() < READ_BYTES / 4 {
            buffer.reserve(READ_BYTES);
        }
        tokio::select! {
            biased;
            written = self.writer.write_buf(&mut self.outgoing), if self.outgoing.has_remaining() => {
                // A guest that is gone may have left frames to read: the read tells the end.
                if written.is_err() {
                    self.outgoing.clear();
                }
                self.outgoing_since = (!self.outgoing.is_empty()).then(Instant::now);
                Ok(())
            }
            read = self.reader.read_buf(buffer) => match read {
                Ok(0) => Err(GuestError::Closed),
                Ok(_) => Ok(()),
                Err(error) => Err(GuestError::Broken(error)),
            },
        }
    }
}

impl core::fmt::Debug for Connection {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// Returns the place of a stream in an array of both.
pub(super) const fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}
