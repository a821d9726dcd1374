//! The threads of a connection: one takes requests, some carry them out.

use std::io::{self, IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use pyro_protocol::{
    Decoder, FileAnswer, FileData, FileReply, FileRequest, FileWrite, Frame as _, GuestFrame, HostFrame,
};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::call::{Given, Tree};
use super::handles::Handles;
use super::mask;
use super::root::Root;
use crate::connection::ConnectionError;

/// Threads that carry requests out: enough to keep a disk busy, few enough for a small guest.
const WORKERS: usize = 4;

/// Requests that wait for a worker. Further ones wait in the socket.
const WAITING_MAX: usize = 64;

/// Bytes that are read at once: a whole frame of content.
const READ_BYTES: usize = 256 * 1024;

/// A connection on which files are asked for.
#[derive(Debug)]
pub(super) struct Service {
    socket: std::fs::File,
    decoder: Decoder<HostFrame>,
    tree: Tree,
}

/// Something to do.
#[derive(Debug)]
enum Job {
    Request(FileRequest),
    Write(FileWrite),
}

/// The way back to the host.
#[derive(Debug)]
struct Replies<'a> {
    socket: BorrowedFd<'a>,
    /// Descriptors can be sent.
    is_local: bool,
    turn: Mutex<()>,
}

impl Service {
    /// Takes over a blocking socket, and what was read of it already.
    pub(super) fn new(socket: OwnedFd, decoder: Decoder<HostFrame>, root: Root) -> Self {
        let tree = Tree { root, handles: Handles::default() };
        Self { socket: socket.into(), decoder, tree }
    }

    /// Serves until the host hangs up.
    pub(super) fn run(self) -> Result<(), ConnectionError> {
        let Self { socket, decoder, tree } = self;
        let local = rustix::net::sockopt::socket_domain(&socket).map_err(io::Error::from)?;
        let is_local = local == AddressFamily::UNIX;
        let replies = Replies { socket: socket.as_fd(), is_local, turn: Mutex::default() };
        let (sender, receiver) = mpsc::sync_channel(WAITING_MAX);
        let receiver = Mutex::new(receiver);
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                let worker = std::thread::Builder::new().name("files-worker".to_owned());
                worker.spawn_scoped(scope, || work(&receiver, &tree, &replies))?;
            }
            take_requests(&socket, decoder, sender)
        })
    }
}

/// Hands requests to the workers; they end when it returns.
fn take_requests(
    mut socket: &std::fs::File,
    mut decoder: Decoder<HostFrame>,
    jobs: SyncSender<Job>,
) -> Result<(), ConnectionError> {
    let mut bytes = vec![0; READ_BYTES];
    loop {
        while let Some(frame) = decoder.next_frame()? {
            let job = match frame {
                HostFrame::FileRequest(request) => Job::Request(request),
                HostFrame::FileWrite(write) => Job::Write(write),
                other => return Err(ConnectionError::Unexpected(other)),
            };
            if jobs.send(job).is_err() {
                return Ok(());
            }
        }
        match socket.read(&mut bytes) {
            Ok(0) if decoder.is_mid_frame() => return Err(ConnectionError::Cut),
            Ok(0) => return Ok(()),
            Ok(count) => decoder.push(&bytes[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn work(jobs: &Mutex<Receiver<Job>>, tree: &Tree, replies: &Replies<'_>) {
    let prepared = mask::clear_for_this_thread();
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        let (tag, given) = match job {
            Job::Request(FileRequest { tag, call }) => (tag, prepared.and_then(|()| tree.perform(call))),
            Job::Write(FileWrite { tag, handle, offset, data }) => (tag, tree.write(handle, offset, &data)),
        };
        if replies.send(tag, given).is_err() {
            replies.hang_up();
        }
    }
}

impl Replies<'_> {
    fn send(&self, tag: u64, given: Result<Given, Errno>) -> Result<(), ConnectionError> {
        let mut bytes = Vec::new();
        let mut passed = None;
        let reply = |result| GuestFrame::FileReply(FileReply { tag, result });
        let frame = match given {
            Ok(Given::Data(data)) => GuestFrame::FileData(FileData { tag, data: Bytes::from(data) }),
            Ok(Given::Answer(answer)) => reply(Ok(answer)),
            Ok(Given::Opened { handle, stat, file }) => {
                if self.is_local {
                    passed = Some(file);
                }
                reply(Ok(FileAnswer::Opened { handle, stat, passed: passed.is_some() }))
            }
            Err(error) => reply(Err(error.raw_os_error())),
        };
        frame.encode(&mut bytes)?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let fd = passed.as_ref().map(|file| file.fd());
        let mut sent = self.send_some(&bytes, fd.as_slice())?;
        while sent < bytes.len() {
            sent += self.send_some(&bytes[sent..], &[])?;
        }
        Ok(())
    }

    fn send_some(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<usize, ConnectionError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        loop {
            let parts = [IoSlice::new(bytes)];
            match rustix::net::sendmsg(self.socket, &parts, &mut ancillary, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                sent => return Ok(sent.map_err(io::Error::from)?),
            }
        }
    }

    /// Ends the connection: the thread that takes requests sees it.
    fn hang_up(&self) {
        // It has ended already when this fails.
        let _ended = rustix::net::shutdown(self.socket, rustix::net::Shutdown::Both);
    }
}
