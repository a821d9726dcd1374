//! Files: what is asked, what comes back, and agents that answer something else.

use std::time::Duration;

use bytes::Bytes;
use pyro_protocol::{
    Existing, FileAnswer, FileCall, FileData, FileKind, FileReply, FileRequest, FileStat, FileTarget,
    FileWrite, Generation, GuestFrame, HostFrame, LISTED_MAX, Listed, ModifiedAt,
};
use tempfile::TempDir;

use super::{Agent, BOOT_ID, guest, welcome};
use crate::guest::{FilesError, GuestError, GuestFiles};

const ALLOWANCE: Duration = Duration::from_secs(5);

const STAT: FileStat = FileStat {
    device: 1,
    inode: 2,
    kind: FileKind::Regular,
    mode: 0o644,
    links: 1,
    uid: 0,
    gid: 0,
    size: 3,
    blocks: 8,
    accessed: ModifiedAt { seconds: 0, nanoseconds: 0 },
    modified: ModifiedAt { seconds: 0, nanoseconds: 0 },
    changed: ModifiedAt { seconds: 0, nanoseconds: 0 },
};

fn stat() -> FileCall {
    FileCall::Stat(FileTarget::Path(Vec::new()))
}

fn reply(tag: u64, answer: FileAnswer) -> GuestFrame {
    GuestFrame::FileReply(FileReply { tag, result: Ok(answer) })
}

impl Agent {
    /// Takes a connection up to the point where files are served.
    async fn serve_files(&mut self) {
        assert!(matches!(self.receive().await, HostFrame::Hello(_)));
        self.send(welcome(Generation::THIRD, BOOT_ID)).await;
        assert!(matches!(self.receive().await, HostFrame::Files(_)));
        self.send(GuestFrame::Done).await;
    }

    async fn request(&mut self) -> (u64, FileCall) {
        match self.receive().await {
            HostFrame::FileRequest(FileRequest { tag, call }) => (tag, call),
            other => panic!("{other:?} is no request"),
        }
    }
}

/// Returns files whose agent treats the connection as the script says, once it serves them.
async fn files<F>(script: impl Fn(Agent) -> F + Clone + Send + 'static) -> (TempDir, GuestFiles)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (dir, guest) = guest(move |mut agent| {
        let script = script.clone();
        async move {
            agent.serve_files().await;
            script(agent).await;
        }
    });
    let files = guest.files("/workspace", ALLOWANCE).await.unwrap();
    (dir, files)
}

#[tokio::test]
async fn answers_find_their_questions_in_any_order() {
    let (_dir, files) = files(|mut agent| async move {
        let (first, _) = agent.request().await;
        let (second, _) = agent.request().await;
        agent.send(reply(second, FileAnswer::Link(b"x".to_vec()))).await;
        agent.send(reply(first, FileAnswer::Stat(STAT))).await;
        let HostFrame::FileWrite(FileWrite { tag, handle: 7, offset: 5, data }) = agent.receive().await
        else {
            panic!("no write");
        };
        agent.send(reply(tag, FileAnswer::Written { len: u32::try_from(data.len()).unwrap() })).await;
        let (tag, call) = agent.request().await;
        assert_eq!(call, FileCall::Read { handle: 7, offset: 5, len: 10 });
        agent.send(GuestFrame::FileData(FileData { tag, data: Bytes::from_static(b"abc") })).await;
        let (tag, _) = agent.request().await;
        agent.send(GuestFrame::FileReply(FileReply { tag, result: Err(39) })).await;
    })
    .await;
    let link = files.call(FileCall::ReadLink { path: b"l".to_vec() });
    let (stat, link) = tokio::join!(files.stat(stat()), link);
    assert_eq!((stat.unwrap(), link.unwrap()), (STAT, FileAnswer::Link(b"x".to_vec())));
    assert_eq!(files.write(7, 5, Bytes::from_static(b"abc")).await.unwrap(), 3);
    assert_eq!(files.read(7, 5, 10).await.unwrap(), "abc");
    let refused = files.call(FileCall::RemoveDir { path: b"d".to_vec() }).await;
    assert!(matches!(refused, Err(FilesError::Refused { errno: 39 })), "{refused:?}");
}

/// Catches words of a guest that are believed: names that lead elsewhere, more bytes than asked for, answers to another
/// question or to none, numbers that are no errors.
#[tokio::test]
async fn an_answer_that_cannot_be_ends_the_connection() {
    let entry = |name: &[u8]| vec![Listed { name: name.to_vec(), stat: STAT }];
    let list = || FileCall::ReadDir { handle: 1 };
    let read = || FileCall::Read { handle: 1, offset: 0, len: 2 };
    let link = || FileCall::ReadLink { path: b"l".to_vec() };
    let rename = || FileCall::Rename { from: b"a".to_vec(), to: b"b".to_vec(), existing: Existing::Replace };
    let open = || FileCall::OpenDir { path: Vec::new() };
    let late = ModifiedAt { seconds: 0, nanoseconds: 1_000_000_000 };
    let table: Vec<(FileCall, Result<FileAnswer, i32>)> = vec![
        (list(), Ok(FileAnswer::Entries(entry(b"..")))),
        (list(), Ok(FileAnswer::Entries(entry(b".")))),
        (list(), Ok(FileAnswer::Entries(entry(b"")))),
        (list(), Ok(FileAnswer::Entries(entry(b"a/b")))),
        (list(), Ok(FileAnswer::Entries(entry(b"a\0")))),
        (list(), Ok(FileAnswer::Entries(entry(&[b'a'; 256])))),
        (list(), Ok(FileAnswer::Entries(vec![entry(b"a").remove(0); LISTED_MAX + 1]))),
        (list(), Ok(FileAnswer::Stat(STAT))),
        (link(), Ok(FileAnswer::Link(Vec::new()))),
        (link(), Ok(FileAnswer::Link(b"a\0".to_vec()))),
        (link(), Ok(FileAnswer::Link(vec![b'a'; 5000]))),
        (read(), Ok(FileAnswer::Done)),
        (rename(), Ok(FileAnswer::Space(space()))),
        (stat(), Ok(FileAnswer::Stat(FileStat { mode: 0o10_000, ..STAT }))),
        (stat(), Ok(FileAnswer::Stat(FileStat { modified: late, ..STAT }))),
        (stat(), Err(0)),
        (stat(), Err(-2)),
        (stat(), Err(4096)),
        (open(), Ok(FileAnswer::Opened { handle: 1, stat: STAT, passed: true })),
    ];
    for (call, result) in table {
        let answered = result.clone();
        let (_dir, files) = files(move |mut agent| {
            let result = answered.clone();
            async move {
                let (tag, _) = agent.request().await;
                agent.send(GuestFrame::FileReply(FileReply { tag, result })).await;
                agent.stay_silent().await;
            }
        })
        .await;
        let given = files.call(call.clone()).await;
        assert!(matches!(given, Err(FilesError::Gone)), "{call:?} {result:?}: {given:?}");
        assert!(matches!(files.end(), Some(GuestError::Protocol(_))), "{:?}", files.end());
    }
}

fn space() -> pyro_protocol::Space {
    pyro_protocol::Space { block_len: 1, blocks: 1, free: 1, available: 1, files: 1, files_free: 1 }
}

#[tokio::test]
async fn more_bytes_than_asked_for_and_answers_to_nobody_end_it_too() {
    let (_dir, long) = files(|mut agent| async move {
        let (tag, _) = agent.request().await;
        agent.send(GuestFrame::FileData(FileData { tag, data: Bytes::from_static(b"abc") })).await;
        agent.stay_silent().await;
    })
    .await;
    assert!(matches!(long.read(1, 0, 2).await, Err(FilesError::Gone)));
    let (_dir, nobody) = files(|mut agent| async move {
        let (tag, _) = agent.request().await;
        agent.send(reply(tag + 1, FileAnswer::Done)).await;
        agent.stay_silent().await;
    })
    .await;
    assert!(matches!(nobody.stat(stat()).await, Err(FilesError::Gone)));
}

/// Catches a caller that a hung guest holds, and a file that stays open because its opener was told no in the meantime.
#[tokio::test(start_paused = true)]
async fn a_guest_that_is_late_holds_nobody() {
    let (told, mut closed) = tokio::sync::mpsc::channel(1);
    let (_dir, files) = files(move |mut agent| {
        let told = told.clone();
        async move {
            let (late, _) = agent.request().await;
            let (tag, _) = agent.request().await;
            agent.send(reply(tag, FileAnswer::Stat(STAT))).await;
            agent.send(reply(late, FileAnswer::Opened { handle: 9, stat: STAT, passed: false })).await;
            let (_, call) = agent.request().await;
            told.send(call).await.unwrap();
            agent.stay_silent().await;
        }
    })
    .await;
    let opened = files.open(FileCall::OpenDir { path: Vec::new() }).await;
    assert!(matches!(opened, Err(FilesError::Silent { waited: ALLOWANCE })), "{opened:?}");
    assert_eq!(files.stat(stat()).await.unwrap(), STAT);
    assert_eq!(closed.recv().await, Some(FileCall::Close { handle: 9 }));
}

#[tokio::test]
async fn an_agent_that_knows_no_files_is_named() {
    let (_dir, guest) = guest(|mut agent| async move {
        agent.welcome_second().await;
        agent.stay_silent().await;
    });
    let files = guest.files("/workspace", ALLOWANCE).await;
    assert!(matches!(files, Err(GuestError::TooOld { what: "files" })), "{files:?}");
}
