//! Getting to an agent: bridges, and announcements.

use std::path::PathBuf;

use pyro_protocol::{
    Announce, Decoder, Frame as _, Generation, GenerationRange, GuestFrame, HostFrame, Started,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::{Agent, BOOT_ID, command, guest};
use crate::guest::{Announcement, Announcements, Guest, GuestError, Observation, Transport};

/// Returns a guest behind a bridge that answers `CONNECT` with these bytes and then stays open or closes.
fn bridged(answer: &'static [u8], closes: Closes) -> (TempDir, Guest) {
    let dir = tempfile::tempdir().unwrap();
    let uds = dir.path().join("v.uds");
    let listener = UnixListener::bind(&uds).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 13];
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(&request, b"CONNECT 5005\n");
        stream.write_all(answer).await.unwrap();
        if closes == Closes::No {
            let mut agent = Agent { stream, decoder: Decoder::new() };
            agent.welcome().await;
            agent.receive().await;
            agent.send(GuestFrame::Pong).await;
        }
    });
    (dir, Guest::new(Transport::VsockBridge { uds }))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Closes {
    Yes,
    No,
}

#[tokio::test]
async fn a_bridge_may_answer_with_any_number() {
    for answer in [b"OK 5005\n".as_slice(), b"OK 4294967295\n"] {
        let (_dir, guest) = bridged(answer, Closes::No);
        guest.ping().await.unwrap();
    }
}

#[tokio::test]
async fn a_bridge_that_does_not_answer_ok_is_no_guest() {
    const ENDLESS: &[u8] = &[b'O'; 4096];
    for answer in [b"".as_slice(), b"OK \n", b"OK x\n", b"NO 1\n", b"OK", ENDLESS] {
        let (_dir, guest) = bridged(answer, Closes::Yes);
        let error = guest.ping().await.unwrap_err();
        assert!(matches!(error, GuestError::Unreachable(_)), "{answer:?}: {error}");
    }
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_no_guest() {
    let guest = Guest::new(Transport::Unix { path: PathBuf::from("/nonexistent/socket") });
    assert!(matches!(guest.ping().await, Err(GuestError::Unreachable(_))));
}

/// Sends frames as a guest that announces itself would, and returns what the host makes of them.
async fn announce(bytes: Vec<u8>) -> Result<Announcement, GuestError> {
    let dir = tempfile::tempdir().unwrap();
    let uds = dir.path().join("v.uds");
    let announcements = Announcements::bind(&uds).unwrap();
    let path = dir.path().join("v.uds_5006");
    let sender = tokio::spawn(async move {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream
    });
    let announced = announcements.next().await;
    drop(sender.await.unwrap());
    drop(announcements);
    assert!(!dir.path().join("v.uds_5006").exists(), "the way to the host stays open");
    announced
}

fn encoded(frame: &GuestFrame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes).unwrap();
    bytes
}

#[tokio::test(start_paused = true)]
async fn only_an_announcement_announces() {
    let announcement = |generations, agent_version: &str| {
        let agent_version = agent_version.to_owned();
        encoded(&GuestFrame::Announce(Announce { generations, agent_version, boot_id: BOOT_ID }))
    };
    let long = announce(announcement(GenerationRange::SUPPORTED, &"9".repeat(1000))).await.unwrap();
    assert_eq!((long.boot_id, long.agent_version.len()), (BOOT_ID, 64));

    let later = GenerationRange { min: Generation(8), max: Generation(9) };
    let error = announce(announcement(later, "9")).await.unwrap_err();
    assert!(matches!(error, GuestError::Incompatible { .. }), "{error}");

    let error = announce(encoded(&GuestFrame::Pong)).await.unwrap_err();
    assert!(error.is_breach(), "{error}");

    let error = announce(vec![9, 0]).await.unwrap_err();
    assert!(matches!(error, GuestError::Silent { .. }), "{error}");
}

/// The first connection is asked a question and then runs a command, all others run a command at once.
#[tokio::test]
async fn a_command_goes_on_the_connection_that_is_ready() {
    let connections = std::sync::Arc::new(std::sync::atomic::AtomicU8::new(0));
    let (_dir, guest) = guest(move |mut agent| {
        let number = connections.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move {
            agent.welcome().await;
            if number == 0 {
                assert_eq!(agent.receive().await, HostFrame::Ping);
                agent.send(GuestFrame::Pong).await;
            }
            assert!(matches!(agent.receive().await, HostFrame::Exec(_)));
            agent.send(GuestFrame::Started(Started { pid: 42 + u32::from(number) })).await;
            agent.stay_silent().await;
        }
    });
    guest.ping().await.unwrap();
    let mut first = guest.exec(command()).await.unwrap();
    assert_eq!(first.next().await.unwrap(), Observation::Started { pid: 42 });
    let mut second = guest.exec(command()).await.unwrap();
    assert!(matches!(second.next().await.unwrap(), Observation::Started { pid: 43.. }));
}
