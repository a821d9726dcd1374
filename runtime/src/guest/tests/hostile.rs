//! Bytes that are no frames, in every place where a frame of the guest is due and in every way in which they may arrive.

use std::time::Duration;

use pyro_protocol::{Frame as _, GuestFrame};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::{Agent, command, exited, guest, output};
use crate::guest::{Guest, GuestError, Observation};

/// Longest time that anything may take which an agent draws out, whatever the command's own time.
const DRAWN_OUT_MAX: Duration = Duration::from_secs(60);

/// What is wrong, and the bytes.
const MALFORMED: &[(&str, &[u8])] = &[
    ("no length", b"\0\0\0\0\x89"),
    ("one byte beyond the longest", b"\x01\0\x10\0\x85"),
    ("the largest length", b"\xff\xff\xff\xff\x85"),
    ("a negative length", b"\0\0\0\x80\x85"),
    ("an unknown kind", b"\x01\0\0\0\xff"),
    ("a kind of the host", b"\x01\0\0\0\x06"),
    ("a stream 0", b"\x0b\0\0\0\x85\0\0\0\0\0\0\0\0\0x"),
    ("a stream 3", b"\x0b\0\0\0\x85\x03\0\0\0\0\0\0\0\0x"),
    ("output without bytes", b"\x0a\0\0\0\x85\x01\0\0\0\0\0\0\0\0"),
    ("an offset cut short", b"\x04\0\0\0\x85\x01\0\0"),
    ("a welcome with bad UTF-8", b"\x14\0\0\0\x81\x01\x01\xff0123456789abcdef"),
    ("a failure with a lone surrogate", b"\x07\0\0\0\x87\0\x02\x03\xed\xa0\x80"),
    ("a text longer than its frame", b"\x06\0\0\0\x87\0\x02\xfb\xff\xff"),
    ("a list longer than memory", b"\x0a\0\0\0\x8a\xfd\xff\xff\xff\xff\xff\xff\xff\xff"),
    ("an unknown way to end", b"\x06\0\0\0\x86\x09\0\0\0\0"),
    ("an end cut short", b"\x03\0\0\0\x86\0\0"),
    ("bytes behind a body", b"\x02\0\0\0\x89\0"),
    ("a number too large for its field", b"\x0a\0\0\0\x84\xfd\0\0\0\0\x01\0\0\0"),
];

/// Where an agent stops being one of ours.
#[derive(Clone, Copy, Debug)]
enum Place {
    Welcome,
    Pong,
    Operations,
    Start,
    Running,
    Forgotten,
}

impl Place {
    const ALL: [Self; 6] =
        [Self::Welcome, Self::Pong, Self::Operations, Self::Start, Self::Running, Self::Forgotten];

    /// Plays the agent of ours up to the place.
    async fn reach(self, agent: &mut Agent) {
        match self {
            Self::Welcome => drop(agent.receive().await),
            Self::Pong | Self::Operations | Self::Start => {
                agent.welcome().await;
                agent.receive().await;
            }
            Self::Running => agent.start().await,
            Self::Forgotten => {
                agent.start().await;
                agent.send(exited(0)).await;
                agent.receive().await;
            }
        }
    }

    /// Asks for what leads to the place, and returns what becomes of it there.
    async fn ask(self, guest: &Guest) -> Result<(), GuestError> {
        match self {
            Self::Welcome | Self::Pong => guest.ping().await.map(drop),
            Self::Operations => guest.operations().await.map(drop),
            Self::Start => guest.exec(command()).await?.next().await.map(drop),
            Self::Running => {
                let mut operation = guest.exec(command()).await?;
                assert_eq!(operation.next().await?, Observation::Started { pid: 42 });
                operation.next().await.map(drop)
            }
            Self::Forgotten => {
                let mut operation = guest.exec(command()).await?;
                operation.next().await?;
                assert!(matches!(operation.next().await?, Observation::Exited { .. }));
                operation.forget().await
            }
        }
    }
}

/// How bytes arrive.
#[derive(Clone, Copy, Debug)]
enum Pace {
    AtOnce,
    /// One by one, so that most reads end within a field.
    ByByte,
    /// One in each second.
    BySecond,
}

impl Agent {
    async fn send_at(&mut self, bytes: &[u8], pace: Pace) {
        match pace {
            Pace::AtOnce => self.send_bytes(bytes).await,
            Pace::ByByte | Pace::BySecond => {
                for byte in bytes {
                    self.send_bytes(&[*byte]).await;
                    match pace {
                        Pace::BySecond => sleep(Duration::from_secs(1)).await,
                        Pace::AtOnce | Pace::ByByte => tokio::task::yield_now().await,
                    }
                }
            }
        }
    }
}

/// Returns a guest whose agent sends these bytes at a place, and then nothing more.
fn hostile(place: Place, bytes: &'static [u8], pace: Pace) -> (TempDir, Guest) {
    guest(move |mut agent| async move {
        place.reach(&mut agent).await;
        agent.send_at(bytes, pace).await;
        agent.stay_silent().await;
    })
}

/// Catches bytes that are taken for a frame, waited for, or not held against the guest, in any place.
#[tokio::test]
async fn malformed_frames_are_breaches_everywhere() {
    for place in Place::ALL {
        for (what, bytes) in MALFORMED {
            for pace in [Pace::AtOnce, Pace::ByByte] {
                let (_dir, guest) = hostile(place, bytes, pace);
                let error = place.ask(&guest).await.expect_err(what);
                assert!(matches!(error, GuestError::Malformed(_)), "{what} as {place:?}, {pace:?}: {error}");
                assert!(error.is_breach());
            }
        }
    }
}

/// Catches a deadline that begins anew with every byte: an agent that sends one a second holds a call for ever.
#[tokio::test(start_paused = true)]
async fn a_frame_that_trickles_in_is_given_up() {
    const TRICKLE: &[u8] = &{
        let mut frame = [b'x'; 400];
        [frame[0], frame[1], frame[2], frame[3], frame[4], frame[5]] = [0x8c, 0x01, 0, 0, 0x85, 1];
        frame
    };
    for place in Place::ALL {
        let (_dir, guest) = hostile(place, TRICKLE, Pace::BySecond);
        let begun = Instant::now();
        let error = place.ask(&guest).await.expect_err("no frame is complete");
        assert!(matches!(error, GuestError::Silent { .. }), "{place:?}: {error}");
        assert!(begun.elapsed() <= DRAWN_OUT_MAX, "{place:?} took {:?}", begun.elapsed());
    }
}

/// Catches an end within a frame that is taken for the end of the stream, or for a breach: guests die like this.
#[tokio::test]
async fn an_end_within_a_frame_is_the_end_of_the_guest() {
    let mut whole = Vec::new();
    output(0, b"some output").encode(&mut whole).unwrap();
    for place in Place::ALL {
        for len in 1..whole.len() {
            let cut = whole[..len].to_vec();
            let (_dir, guest) = guest(move |mut agent| {
                let cut = cut.clone();
                async move {
                    place.reach(&mut agent).await;
                    agent.send_bytes(&cut).await;
                }
            });
            let error = place.ask(&guest).await.expect_err("the frame is not complete");
            assert!(
                matches!(error, GuestError::Closed | GuestError::Broken(_)),
                "{len} bytes as {place:?}: {error}"
            );
        }
    }
}

/// Catches an answer of before that is taken for the one that is due.
#[tokio::test]
async fn what_was_said_before_is_no_answer() {
    for replayed in [exited(0), output(0, b"again"), GuestFrame::Pong, GuestFrame::UnknownOperation] {
        let replay = replayed.clone();
        let (_dir, guest) = guest(move |mut agent| {
            let replay = replay.clone();
            async move {
                Place::Forgotten.reach(&mut agent).await;
                agent.send(replay).await;
                agent.stay_silent().await;
            }
        });
        let error = Place::Forgotten.ask(&guest).await.unwrap_err();
        assert!(matches!(error, GuestError::Protocol(_)), "{replayed:?}: {error}");
    }
}
