//! Notices that are due: each at once, and the same one not again for a while, however often its cause repeats.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Shortest time between two of the same notice: a command that prints a lot must not flood its client.
const EVERY: Duration = Duration::from_millis(100);

/// Something that a client is told of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Notice {
    /// Workspaces have come or gone.
    List,
    /// The resource of this name has changed.
    Updated(String),
}

/// The notices of one client.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    known: BTreeMap<Notice, Known>,
}

#[derive(Debug)]
struct Known {
    /// From when on it may be given.
    from: Instant,
    pending: bool,
}

impl Notices {
    /// Takes note of a cause.
    pub(crate) fn cause(&mut self, notice: Notice, now: Instant) {
        self.known.entry(notice).or_insert(Known { from: now, pending: false }).pending = true;
    }

    /// Returns when the next one is due; `None` when there is none.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.known.values().filter(|known| known.pending).map(|known| known.from).min()
    }

    /// Takes those that are due.
    pub(crate) fn take(&mut self, now: Instant) -> Vec<Notice> {
        // One that was not caused again in its time is forgotten, so that no more are kept than are wanted.
        self.known.retain(|_, known| known.pending || known.from > now);
        let due = self.known.iter_mut().filter(|(_, known)| known.pending && known.from <= now);
        due.map(|(notice, known)| {
            *known = Known { from: now + EVERY, pending: false };
            notice.clone()
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn updated(name: &str) -> Notice {
        Notice::Updated(name.to_owned())
    }

    /// Catches a notice that is late without need, one too many, and a last change that nobody hears of.
    #[test]
    fn the_same_notice_comes_once_in_its_time() {
        let (start, mut notices) = (Instant::now(), Notices::default());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(notices.next_due(), None);
        notices.cause(updated("a"), at(0));
        assert_eq!(notices.next_due(), Some(at(0)));
        assert_eq!(notices.take(at(0)), [updated("a")]);
        for ms in 1..99 {
            notices.cause(updated("a"), at(ms));
            assert_eq!(notices.take(at(ms)), []);
        }
        assert_eq!(notices.next_due(), Some(at(100)));
        assert_eq!(notices.take(at(100)), [updated("a")]);
        assert_eq!(notices.next_due(), None);
    }

    /// Catches one notice that holds up another, and memory that grows with what has been.
    #[test]
    fn notices_do_not_wait_for_each_other_and_are_forgotten() {
        let (start, mut notices) = (Instant::now(), Notices::default());
        let at = |ms| start + Duration::from_millis(ms);
        notices.cause(updated("a"), at(0));
        assert_eq!(notices.take(at(0)), [updated("a")]);
        notices.cause(updated("a"), at(50));
        notices.cause(updated("b"), at(50));
        notices.cause(Notice::List, at(50));
        assert_eq!(notices.take(at(50)), [Notice::List, updated("b")]);
        assert_eq!(notices.take(at(100)), [updated("a")]);
        assert_eq!(notices.take(at(1000)), []);
        assert!(notices.known.is_empty());
    }
}
