//! Changes below a directory of the host, gathered into bursts.
//!
//! Only that something has changed is taken from the kernel, never what: its events are lost when they come too fast and
//! while a new directory is not watched yet. Whoever waits looks for himself, and looks once more after a while.

use std::path::Path;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// Time without a change after which a burst is over: more than a program leaves between two files that it writes.
const QUIET: Duration = Duration::from_millis(50);

/// Longest burst: what never rests is looked at all the same.
const BURST_MAX: Duration = Duration::from_millis(500);

/// A directory that is watched with all below it.
#[derive(Debug)]
pub(crate) struct Bursts {
    changes: watch::Receiver<()>,
    /// Since when there are changes that [`next`](Self::next) has not told.
    begun: Option<Instant>,
    /// Ends the watching when it is dropped.
    _watcher: RecommendedWatcher,
}

impl Bursts {
    /// Begins to watch. Blocks while it goes through the directory.
    pub(crate) fn of(dir: &Path) -> notify::Result<Self> {
        let (seen, changes) = watch::channel(());
        let tell = move |event: notify::Result<Event>| {
            // An error is a reason to look as well.
            if event.map_or(true, |event| is_change(&event.kind)) {
                seen.send_replace(());
            }
        };
        let mut watcher = RecommendedWatcher::new(tell, Config::default().with_follow_symlinks(false))?;
        watcher.watch(dir, RecursiveMode::Recursive)?;
        Ok(Self { changes, begun: None, _watcher: watcher })
    }

    /// Returns at the end of the next burst. Cancel safe: a burst is told once.
    pub(crate) async fn next(&mut self) {
        if self.begun.is_none() && self.changes.changed().await.is_err() {
            return std::future::pending().await;
        }
        let end = *self.begun.get_or_insert_with(Instant::now) + BURST_MAX;
        loop {
            let quiet = Instant::now() + QUIET;
            match timeout_at(end.min(quiet), self.changes.changed()).await {
                Ok(Ok(())) if Instant::now() < end => {}
                Ok(_) | Err(_) => break,
            }
        }
        self.begun = None;
    }
}

/// Tells whether something may be different now. Reading a file is an event as well, also when it is read to be pushed.
const fn is_change(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use notify::EventKind;
    use notify::event::{AccessKind, AccessMode};
    use tokio::time::timeout;

    use super::{Bursts, is_change};

    const SOON: Duration = Duration::from_secs(30);

    /// Catches a watch that sees only the directory itself, and one that loses what comes between two waits.
    #[tokio::test]
    async fn a_change_at_any_depth_is_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        let mut bursts = Bursts::of(dir.path()).unwrap();
        fs::write(dir.path().join("a/b/c"), "1").unwrap();
        timeout(SOON, bursts.next()).await.expect("a new file");
        fs::remove_dir_all(dir.path().join("a")).unwrap();
        // A wait that is given up takes nothing along.
        let _given_up = timeout(Duration::from_millis(1), bursts.next()).await;
        timeout(SOON, bursts.next()).await.expect("a removal");
    }

    /// Catches a push that causes the next one by reading the files.
    #[test]
    fn reading_is_no_change() {
        for mode in [AccessMode::Any, AccessMode::Read] {
            assert!(!is_change(&EventKind::Access(AccessKind::Open(mode))));
            assert!(!is_change(&EventKind::Access(AccessKind::Close(mode))));
        }
        assert!(!is_change(&EventKind::Access(AccessKind::Read)));
        assert!(is_change(&EventKind::Access(AccessKind::Close(AccessMode::Write))));
        assert!(is_change(&EventKind::Other), "the kernel has lost events");
    }
}
