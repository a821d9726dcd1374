//! What a warden shall start, on its way from the agent: descriptors go over the socket, words through a file in memory,
//! which takes command lines of any length.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Seek as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use rustix::cmsg_space;
use rustix::fs::MemfdFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

use crate::launch::Session;

/// The descriptors of a job: words, working directory, stdin, stdout, stderr.
const DESCRIPTORS: usize = 5;

/// The message that carries the descriptors; its content says nothing.
const MESSAGE: [u8; 1] = [0];

/// A program to start, with all that it is to have.
#[derive(Debug)]
pub(crate) struct Job {
    /// The session that it shall lead.
    pub(crate) session: Session,
    /// Its path and its arguments; never empty.
    pub(crate) words: Vec<OsString>,
    /// Its variables; of two with the same name the later one counts.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Its working directory.
    pub(crate) cwd: OwnedFd,
    /// Its stdin, stdout and stderr.
    pub(crate) stdio: [OwnedFd; 3],
}

impl Job {
    /// Gives the job to the warden at the other end of the socket.
    pub(crate) fn send(&self, socket: impl AsFd) -> io::Result<()> {
        let mut file = File::from(rustix::fs::memfd_create("job", MemfdFlags::CLOEXEC)?);
        file.write_all(&self.encode())?;
        file.rewind()?;
        let [stdin, stdout, stderr] = &self.stdio;
        let descriptors: [BorrowedFd<'_>; DESCRIPTORS] =
            [file.as_fd(), self.cwd.as_fd(), stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(
            ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)),
            "the space is for as many descriptors"
        );
        rustix::net::sendmsg(socket, &[IoSlice::new(&MESSAGE)], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for the job; `None` when there will be none, because the agent has let go of the warden.
    pub(crate) fn receive(socket: &OwnedFd) -> io::Result<Option<Self>> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut message = MESSAGE;
        let received = rustix::io::retry_on_intr(|| {
            let into = &mut [IoSliceMut::new(&mut message)];
            rustix::net::recvmsg(socket, into, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        })?;
        if received.bytes == 0 {
            return Ok(None);
        }
        let descriptors = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptors: Vec<OwnedFd> = descriptors.flatten().collect();
        let [words, cwd, stdin, stdout, stderr] =
            <[OwnedFd; DESCRIPTORS]>::try_from(descriptors).map_err(|_others| malformed())?;
        let mut bytes = Vec::new();
        File::from(words).read_to_end(&mut bytes)?;
        let (session, words, environment) = decode(&bytes).ok_or_else(malformed)?;
        Ok(Some(Self { session, words, environment, cwd, stdio: [stdin, stdout, stderr] }))
    }

    /// Every text ends with a zero byte, which none of them can hold: session, number of words, words, and names and
    /// values of the variables in turn.
    fn encode(&self) -> Vec<u8> {
        let session: &[u8] = match self.session {
            Session::Plain => b"plain",
            Session::OnTerminal => b"terminal",
        };
        let count = self.words.len().to_string();
        let words = self.words.iter().map(|word| word.as_bytes());
        let variables = self.environment.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
        let mut bytes = Vec::new();
        for text in [session, count.as_bytes()].into_iter().chain(words).chain(variables) {
            bytes.extend_from_slice(text);
            bytes.push(0);
        }
        bytes
    }
}

type Texts = (Session, Vec<OsString>, Vec<(OsString, OsString)>);

fn decode(bytes: &[u8]) -> Option<Texts> {
    let mut texts = bytes.strip_suffix(&[0])?.split(|byte| *byte == 0);
    let session = match texts.next()? {
        b"plain" => Session::Plain,
        b"terminal" => Session::OnTerminal,
        _ => return None,
    };
    let count: usize = OsStr::from_bytes(texts.next()?).to_str()?.parse().ok()?;
    let own = |text: &[u8]| OsString::from_vec(text.to_vec());
    let words: Vec<_> = texts.by_ref().take(count).map(own).collect();
    let mut environment = Vec::new();
    while let Some(name) = texts.next() {
        environment.push((own(name), own(texts.next()?)));
    }
    (words.len() == count && count > 0).then_some((session, words, environment))
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the job is malformed")
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn null() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    fn sockets() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn a_job_arrives_as_it_was_whatever_its_length() {
        let (agent, warden) = sockets();
        let text = |text: &str| OsString::from(text);
        let job = Job {
            session: Session::OnTerminal,
            words: vec![text("/bin/sh"), text("-lc"), OsString::from("x".repeat(1 << 20)), text("")],
            environment: vec![(text("A"), text("")), (text("B"), OsString::from_vec(vec![0xff]))],
            cwd: null(),
            stdio: [null(), null(), null()],
        };
        job.send(&agent).unwrap();
        let arrived = Job::receive(&warden).unwrap().unwrap();
        assert_eq!((arrived.session, &arrived.words), (job.session, &job.words));
        assert_eq!(arrived.environment, job.environment);
        drop(agent);
        assert!(Job::receive(&warden).unwrap().is_none());
    }

    #[test]
    fn a_message_without_a_job_is_refused() {
        let (agent, warden) = sockets();
        rustix::net::send(&agent, &MESSAGE, SendFlags::NOSIGNAL).unwrap();
        assert!(Job::receive(&warden).is_err());
    }
}
