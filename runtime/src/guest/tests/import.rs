//! Imports into agents that are scripted, most of them hostile.

use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use pyro_protocol::{
    CONTENT_MAX, Entry, EntryKind, Frame as _, Generation, GuestFrame, HostFrame, Import, ImportFailed,
    Imported, ModifiedAt,
};
use tempfile::TempDir;

use super::{Agent, BOOT_ID, guest, welcome};
use crate::guest::{Guest, GuestError, ImportError, ImportSession, ImportState, Outlet, OutletClosed, Sent};
use crate::import::{ReadError, Sink as _, SourceError, Totals};

impl Agent {
    async fn welcome_import(&mut self) {
        assert!(matches!(self.receive().await, HostFrame::Hello(_)));
        self.send(welcome(Generation::SECOND, BOOT_ID)).await;
        let import = Import { op: 5, destination: "/workspace".to_owned() };
        assert_eq!(self.receive().await, HostFrame::Import(import));
    }

    /// Reads up to the commit and returns all before it.
    async fn receive_import(&mut self) -> Vec<HostFrame> {
        let mut frames = Vec::new();
        loop {
            match self.receive().await {
                HostFrame::Commit => return frames,
                frame => frames.push(frame),
            }
        }
    }

    /// Reads until the host hangs up; returns whether a commit was in it.
    async fn was_committed(mut self) -> bool {
        use tokio::io::AsyncReadExt as _;
        let mut committed = false;
        loop {
            while let Some(frame) = self.decoder.next_frame().unwrap() {
                committed |= frame == HostFrame::Commit;
            }
            if self.stream.read_buf(self.decoder.buffer()).await.unwrap() == 0 {
                return committed;
            }
        }
    }
}

fn file(path: &str, len: u64) -> Entry {
    let modified = ModifiedAt { seconds: 7, nanoseconds: 1 };
    Entry { path: path.into(), kind: EntryKind::File { len }, mode: 0o755, modified }
}

fn failed(message: &str) -> ImportFailed {
    ImportFailed { path: Some(b"a\nb".to_vec()), errno: 28, message: message.to_owned() }
}

/// Reads a source of one small file.
fn small(outlet: &mut Outlet) -> Result<Totals, ReadError<OutletClosed>> {
    outlet.entry(&file("a", 2)).map_err(ReadError::Sink)?;
    outlet.content(b"hi").map_err(ReadError::Sink)?;
    Ok(Totals { entries: 1, bytes: 2 })
}

/// Reads a source that does not end before nobody wants more of it; tells then.
fn endless(outlet: &mut Outlet, ended: &mpsc::Sender<()>) -> Result<Totals, ReadError<OutletClosed>> {
    let content = vec![7; CONTENT_MAX];
    let mut error = outlet.entry(&file("a", u64::MAX)).err();
    while error.is_none() {
        error = outlet.content(&content).err();
    }
    ended.send(()).unwrap();
    Err(ReadError::Sink(error.unwrap()))
}

/// Returns a session with an agent that treats the import as the script says.
async fn session<F>(script: impl Fn(Agent) -> F + Clone + Send + 'static) -> (TempDir, Guest, ImportSession)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (dir, guest) = guest(move |mut agent| {
        let script = script.clone();
        async move {
            agent.welcome_import().await;
            script(agent).await;
        }
    });
    let session = guest.import(5, "/workspace").await.unwrap();
    (dir, guest, session)
}

async fn send_small(session: &mut ImportSession) -> Sent {
    session.send(|outlet, _| small(outlet), |_| ()).await.unwrap()
}

/// Catches content that is lost, doubled or reordered between the thread and the socket, and a digest of something
/// else than what was sent.
#[tokio::test]
async fn what_the_thread_reads_is_what_the_guest_gets() {
    const PIECES: u64 = 40;
    let (sender, received) = mpsc::channel();
    let (_dir, _guest, mut session) = session(move |mut agent| {
        let sender = sender.clone();
        async move {
            sender.send(agent.receive_import().await).unwrap();
            let (entries, bytes) = (2, PIECES * CONTENT_MAX as u64 + 2);
            agent.send(GuestFrame::Imported(Imported { entries, bytes })).await;
            agent.stay_silent().await;
        }
    })
    .await;
    let piece = |number: u64| vec![u8::try_from(number).unwrap(); CONTENT_MAX];
    let progress = std::sync::Mutex::new(Vec::new());
    let read = move |outlet: &mut Outlet, _: &std::sync::atomic::AtomicBool| {
        let totals = small(outlet)?;
        let len = PIECES * CONTENT_MAX as u64;
        outlet.entry(&file("b", len)).map_err(ReadError::Sink)?;
        for number in 0..PIECES {
            outlet.content(&piece(number)).map_err(ReadError::Sink)?;
        }
        Ok(Totals { entries: 2, bytes: totals.bytes + len })
    };
    let sent = session.send(read, |totals| progress.lock().unwrap().push(totals)).await.unwrap();
    session.commit(sent).await.unwrap();

    let mut expected = vec![HostFrame::Entry(file("a", 2)), HostFrame::Content(Bytes::from_static(b"hi"))];
    expected.push(HostFrame::Entry(file("b", PIECES * CONTENT_MAX as u64)));
    expected.extend((0..PIECES).map(|number| HostFrame::Content(piece(number).into())));
    let received = received.recv().unwrap();
    assert!(received == expected, "{} frames", received.len());
    let mut bytes = Vec::new();
    expected.iter().for_each(|frame| frame.encode(&mut bytes).unwrap());
    assert_eq!(sent.digest, *blake3::hash(&bytes).as_bytes());
    let progress = progress.into_inner().unwrap();
    assert!(progress.len() > 10 && progress.is_sorted_by_key(|totals| totals.bytes), "{progress:?}");
    assert_eq!(progress.last(), Some(&sent.totals));
}

/// Catches a sender that waits for a full socket while the guest has long said why it takes no more, and a thread that
/// reads on.
#[tokio::test]
async fn a_failure_in_mid_stream_ends_the_reading() {
    let (_dir, _guest, mut session) = session(|mut agent| async move {
        agent.receive().await;
        agent.send(GuestFrame::ImportFailed(failed("write a file"))).await;
        agent.stay_silent().await;
    })
    .await;
    let (ended, reader) = mpsc::channel();
    let error = session.send(move |outlet, _| endless(outlet, &ended), |_| ()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"entry "a\nb": the guest failed to write a file: No space left on device (os error 28)"#
    );
    reader.recv_timeout(Duration::from_secs(60)).expect("the thread reads on");
}

/// Catches a broken pipe that hides the reason, which the guest sent before it hung up.
#[tokio::test]
async fn the_last_word_of_a_guest_that_hangs_up_is_heard() {
    let (_dir, _guest, mut session) = session(|mut agent| async move {
        agent.receive().await;
        agent.send(GuestFrame::ImportFailed(failed("write a file"))).await;
    })
    .await;
    let (ended, _reader) = mpsc::channel();
    let error = session.send(move |outlet, _| endless(outlet, &ended), |_| ()).await.unwrap_err();
    assert!(matches!(error, ImportError::Failed(_)), "{error:?}");
}

#[tokio::test]
async fn an_answer_before_the_commit_is_a_breach() {
    for frame in [GuestFrame::Imported(Imported { entries: 1, bytes: 2 }), GuestFrame::Done, GuestFrame::Pong]
    {
        let (_dir, _guest, mut session) = session(move |mut agent| {
            let frame = frame.clone();
            async move {
                agent.send(frame).await;
                agent.stay_silent().await;
            }
        })
        .await;
        let (ended, _reader) = mpsc::channel();
        let error = session.send(move |outlet, _| endless(outlet, &ended), |_| ()).await.unwrap_err();
        assert!(matches!(&error, ImportError::Guest(error) if error.is_breach()), "{error:?}");
    }
}

#[tokio::test]
async fn a_commit_is_answered_by_what_was_sent_or_by_a_failure() {
    for (frame, breach) in [
        (GuestFrame::ImportFailed(failed("open the destination")), false),
        (GuestFrame::Imported(Imported { entries: 1, bytes: 3 }), true),
        (GuestFrame::Imported(Imported { entries: 2, bytes: 2 }), true),
        (GuestFrame::Done, true),
    ] {
        let (_dir, _guest, mut session) = session(move |mut agent| {
            let frame = frame.clone();
            async move {
                agent.receive_import().await;
                agent.send(frame).await;
                agent.stay_silent().await;
            }
        })
        .await;
        let sent = send_small(&mut session).await;
        match session.commit(sent).await.unwrap_err() {
            ImportError::Failed(failure) => assert!(!breach, "{failure}"),
            ImportError::Guest(error) => assert!(breach && error.is_breach(), "{error}"),
            error @ (ImportError::Source(_) | ImportError::Thread(_)) => panic!("{error}"),
        }
    }
}

/// Catches a thread and a session that a guest holds for ever by not reading.
#[tokio::test(start_paused = true)]
async fn a_guest_that_does_not_read_is_given_up() {
    let (_dir, _guest, mut session) = session(Agent::stay_silent).await;
    let (ended, reader) = mpsc::channel();
    let error = session.send(move |outlet, _| endless(outlet, &ended), |_| ()).await.unwrap_err();
    assert!(matches!(error, ImportError::Guest(GuestError::Silent { .. })), "{error:?}");
    reader.recv_timeout(Duration::from_secs(60)).expect("the thread reads on");
}

#[tokio::test(start_paused = true)]
async fn a_commit_without_an_answer_is_not_waited_for_for_ever() {
    let (_dir, _guest, mut session) = session(|mut agent| async move {
        agent.receive_import().await;
        agent.stay_silent().await;
    })
    .await;
    let sent = send_small(&mut session).await;
    let error = session.commit(sent).await.unwrap_err();
    assert!(matches!(error, ImportError::Guest(GuestError::Silent { .. })), "{error:?}");
}

/// Catches a source that fails half way and is put in place all the same.
#[tokio::test]
async fn a_source_that_fails_is_not_committed() {
    let (sender, committed) = tokio::sync::oneshot::channel();
    let sender = std::sync::Arc::new(std::sync::Mutex::new(Some(sender)));
    let (_dir, _guest, mut session) = session(move |agent| {
        let sender = sender.lock().unwrap().take().unwrap();
        async move { sender.send(agent.was_committed().await).unwrap() }
    })
    .await;
    let read = |outlet: &mut Outlet, _: &std::sync::atomic::AtomicBool| {
        small(outlet)?;
        Err(ReadError::Source(SourceError::Cancelled))
    };
    let error = session.send(read, |_| ()).await.unwrap_err();
    assert!(matches!(error, ImportError::Source(SourceError::Cancelled)), "{error:?}");
    drop(session);
    assert!(!committed.await.unwrap());
}

/// Catches an import that is taken for failed because its connection broke when all was sent.
#[tokio::test]
async fn a_guest_is_asked_for_what_became_of_an_import() {
    let states = [
        pyro_protocol::ImportState::Running,
        pyro_protocol::ImportState::Imported(Imported { entries: 1, bytes: 2 }),
        pyro_protocol::ImportState::Failed(failed("write a file")),
        pyro_protocol::ImportState::Unknown,
    ];
    let answers = std::sync::Arc::new(std::sync::Mutex::new(states.into_iter()));
    let (_dir, guest) = guest(move |mut agent| {
        let answers = std::sync::Arc::clone(&answers);
        async move {
            assert!(matches!(agent.receive().await, HostFrame::Hello(_)));
            agent.send(welcome(Generation::SECOND, BOOT_ID)).await;
            match agent.receive().await {
                HostFrame::Import(_) => drop(agent.receive_import().await),
                HostFrame::AskImport { op: 5 } => {
                    let state = answers.lock().unwrap().next().unwrap();
                    agent.send(GuestFrame::ImportState(state)).await;
                    agent.stay_silent().await;
                }
                frame => panic!("{frame:?}"),
            }
        }
    });
    let mut session = guest.import(5, "/workspace").await.unwrap();
    let sent = send_small(&mut session).await;
    let error = session.commit(sent).await.unwrap_err();
    assert!(matches!(error, ImportError::Guest(GuestError::Closed | GuestError::Broken(_))), "{error:?}");
    assert_eq!(guest.ask_import(5).await.unwrap(), ImportState::Running);
    assert_eq!(guest.ask_import(5).await.unwrap(), ImportState::Imported(sent.totals));
    assert!(
        matches!(guest.ask_import(5).await.unwrap(), ImportState::Failed(failure) if failure.errno == 28)
    );
    assert_eq!(guest.ask_import(5).await.unwrap(), ImportState::Unknown);
}

/// Catches a frame that an old agent would take for a breach.
#[tokio::test]
async fn an_agent_that_is_too_old_is_not_asked() {
    let (_dir, guest) = guest(|mut agent| async move {
        agent.welcome().await;
        assert!(!agent.was_committed().await, "it gets nothing at all");
    });
    for error in [guest.import(5, "/workspace").await.err(), guest.ask_import(5).await.err()] {
        let text = error.expect("generation 1 has no imports").to_string();
        assert!(text.ends_with("its agent is too old for imports; stop and start the workspace"), "{text}");
    }
}
