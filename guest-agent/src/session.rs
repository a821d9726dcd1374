//! A connection of the host, from its greeting to its end.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use pyro_protocol::{
    Announce, Attach, BootId, Decoder, GenerationRange, GuestFrame, HostFrame, Refusal, Stage, Stream,
    Welcome,
};
use rustix::time::{ClockId, Timespec};

use crate::connection::{Connection, ConnectionError};
use crate::ending::Ending;
use crate::files::{self, FileConnections};
use crate::follow::{self, Followed};
use crate::import::{self, Imports};
use crate::journal::Journal;
use crate::launch::{self, Request};
use crate::operation::Operation;

/// Time for the greeting. The host sends it as soon as it is connected, also when it emulates the guest slowly.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) journal: Journal,
    pub(crate) imports: Imports,
    pub(crate) files: FileConnections,
    pub(crate) boot_id: BootId,
    pub(crate) ending: Ending,
}

impl Shared {
    /// Returns what the agent says of itself after the boot.
    pub(crate) fn announcement(&self) -> Announce {
        Announce {
            generations: GenerationRange::SUPPORTED,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: self.boot_id,
        }
    }
}

/// Serves a connection.
pub(crate) async fn serve(connection: Connection, shared: Rc<Shared>) -> Result<(), ConnectionError> {
    let mut decoder = Decoder::new();
    if !greet(&connection, &mut decoder, &shared).await? {
        return Ok(());
    }
    while let Some(frame) = connection.receive(&mut decoder).await? {
        match frame {
            HostFrame::Ping => connection.send(&GuestFrame::Pong).await?,
            HostFrame::Operations => {
                connection.send(&GuestFrame::Operations(shared.journal.summary())).await?;
            }
            HostFrame::SetClock { unix_micros } => connection.send(&set_clock(unix_micros)).await?,
            HostFrame::Shutdown => return end(&connection, &shared, Duration::ZERO).await,
            HostFrame::Terminate { grace_ms } => {
                return end(&connection, &shared, Duration::from_millis(grace_ms)).await;
            }
            HostFrame::Exec(exec) => {
                return run(&connection, &mut decoder, &shared, Request::Exec(exec)).await;
            }
            HostFrame::Shell(shell) => {
                return run(&connection, &mut decoder, &shared, Request::Shell(shell)).await;
            }
            HostFrame::Attach(attach) => return resume(&connection, &mut decoder, &shared, attach).await,
            HostFrame::AskImport { op } => {
                connection.send(&GuestFrame::ImportState(shared.imports.state(op))).await?;
            }
            HostFrame::Import(request) => {
                return import::serve(connection, decoder, &shared.imports, request).await;
            }
            HostFrame::Files(request) => {
                return files::serve(connection, decoder, &shared.files, request).await;
            }
            HostFrame::Hello(_)
            | HostFrame::Ack(_)
            | HostFrame::Kill
            | HostFrame::Forget
            | HostFrame::Input(_)
            | HostFrame::Resize(_)
            | HostFrame::Signal { .. }
            | HostFrame::HangUp { .. }
            | HostFrame::Entry(_)
            | HostFrame::Content(_)
            | HostFrame::Commit
            | HostFrame::FileRequest(_)
            | HostFrame::FileWrite(_) => return Err(ConnectionError::Unexpected(frame)),
        }
    }
    Ok(())
}

/// Agrees on a generation; returns whether there is one.
async fn greet(
    connection: &Connection,
    decoder: &mut Decoder<HostFrame>,
    shared: &Shared,
) -> Result<bool, ConnectionError> {
    let first = tokio::time::timeout(HELLO_WITHIN, connection.receive(decoder));
    let hello = match first.await.map_err(|_elapsed| ConnectionError::Silent)?? {
        Some(HostFrame::Hello(hello)) => hello,
        Some(other) => return Err(ConnectionError::Unexpected(other)),
        None => return Ok(false),
    };
    let supported = GenerationRange::SUPPORTED;
    let Some(generation) = supported.newest_common(hello.generations) else {
        connection.send(&GuestFrame::Refused(Refusal::Generation { supported })).await?;
        return Ok(false);
    };
    let Announce { agent_version, boot_id, .. } = shared.announcement();
    connection.send(&GuestFrame::Welcome(Welcome { generation, agent_version, boot_id })).await?;
    Ok(true)
}

/// Answers before the end is ordered: afterwards nobody may be left to do it.
async fn end(connection: &Connection, shared: &Shared, grace: Duration) -> Result<(), ConnectionError> {
    connection.send(&GuestFrame::Done).await?;
    shared.ending.order(grace);
    Ok(())
}

async fn run(
    connection: &Connection,
    decoder: &mut Decoder<HostFrame>,
    shared: &Shared,
    request: Request,
) -> Result<(), ConnectionError> {
    match shared.journal.start(request) {
        Ok(operation) => {
            let from = Stream::ALL.map(|stream| operation.kept(stream).0);
            follow(connection, decoder, shared, &operation, from).await
        }
        Err(failed) => connection.send(&GuestFrame::Failed(failed)).await,
    }
}

async fn resume(
    connection: &Connection,
    decoder: &mut Decoder<HostFrame>,
    shared: &Shared,
    attach: Attach,
) -> Result<(), ConnectionError> {
    let Some(operation) = shared.journal.get(attach.op) else {
        return connection.send(&GuestFrame::UnknownOperation).await;
    };
    let mut from = [attach.stdout_offset, attach.stderr_offset];
    for (stream, offset) in Stream::ALL.into_iter().zip(&mut from) {
        let (start, end) = operation.kept(stream);
        if *offset > end {
            return connection.send(&GuestFrame::Refused(Refusal::OffsetBeyondEnd)).await;
        }
        *offset = start.max(*offset);
    }
    follow(connection, decoder, shared, &operation, from).await
}

async fn follow(
    connection: &Connection,
    decoder: &mut Decoder<HostFrame>,
    shared: &Shared,
    operation: &Operation,
    from: [u64; 2],
) -> Result<(), ConnectionError> {
    match follow::follow(operation, connection, decoder, from).await? {
        Followed::ToHangUp => Ok(()),
        Followed::ToForget => {
            shared.journal.forget(operation.number());
            connection.send(&GuestFrame::Done).await
        }
    }
}

fn set_clock(unix_micros: u64) -> GuestFrame {
    let seconds = (unix_micros / 1_000_000).cast_signed();
    let nanoseconds = (unix_micros % 1_000_000).cast_signed() * 1000;
    match rustix::time::clock_settime(ClockId::Realtime, Timespec { tv_sec: seconds, tv_nsec: nanoseconds }) {
        Ok(()) => GuestFrame::Done,
        Err(error) => {
            let error = io::Error::from(error);
            GuestFrame::Failed(launch::failed(Stage::Clock, &error, "set the clock".to_owned()))
        }
    }
}
