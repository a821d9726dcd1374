//! Every bit and every prefix of every file of a small log: what opens, verifies or is repaired is an exact prefix that
//! the anchor allows, or there is an error. `damage` says which error; this says that there is no hole in between.
//!
//! Of each byte one bit is tried, and of the index only some bytes; `PYRO_STORE_DAMAGE=all` leaves nothing out.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use pyro_core::{Cause, Envelope, Seq, State, evolve};
use pyro_store::{
    Draft, EventLog, Hash, HostDisk, OpenError, Options, ReadError, Report, repair, state_digest,
    verify_records,
};
use tempfile::TempDir;

use crate::sample;

/// At most so many bytes of an index are tried, unless all are.
const INDEX_PLACES: usize = 100;

/// A log of several segments as it stands on disk, and what is in it.
struct Image {
    /// Segments and anchor, in the order of their names: the anchor comes last.
    files: Vec<(String, Vec<u8>)>,
    events: Vec<Envelope>,
    /// Digests of the states that each number of events gives, from none to all.
    states: Vec<Hash>,
    /// Numbers of events at which a batch ends, zero among them.
    ends: Vec<usize>,
    /// Number of events that each slot of the anchor guards, the older one first.
    guarded: [usize; 2],
}

/// One damage to one file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// The bit of this number is another one.
    Flip(usize),
    /// So many bytes are left.
    Cut(usize),
}

impl Damage {
    fn done_to(self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        match self {
            Self::Flip(bit) => bytes[bit / 8] ^= 1 << (bit % 8),
            Self::Cut(len) => bytes.truncate(len),
        }
        bytes
    }
}

/// Tells whether nothing is to be left out.
fn all() -> bool {
    std::env::var("PYRO_STORE_DAMAGE").is_ok_and(|which| which == "all")
}

impl Image {
    /// Writes batches of different kinds and lengths; the last ones come after the anchor.
    fn take() -> Self {
        let dir = sample::dir();
        let batches: Vec<Vec<Draft>> = sample::every_kind().into_iter().step_by(7).collect();
        let (before, after) = batches.split_at(batches.len() - 2);
        let log = EventLog::open(dir.path(), Options { segment_len_max: 300 }).unwrap();
        for batch in before {
            log.append(batch.clone()).unwrap();
        }
        drop(log);
        let anchor = fs::read(dir.path().join("anchor")).unwrap();
        let log = EventLog::open_on(Arc::new(HostDisk), dir.path(), Options::default()).unwrap();
        for batch in after {
            log.append(batch.clone()).unwrap();
        }
        let events = sample::read(&log);
        drop(log);
        let named = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut files: Vec<_> =
            sample::segments(dir.path()).iter().map(|path| (named(path), fs::read(path).unwrap())).collect();
        assert!(files.len() > 2, "there are segments before the last one");
        let guarded = guarded(&anchor);
        files.push(("anchor".to_owned(), anchor));
        let mut ends = vec![0];
        ends.extend(batches.iter().scan(0, |sum, batch| {
            *sum += batch.len();
            Some(*sum)
        }));
        assert!(guarded[1] > guarded[0] && guarded[1] < events.len(), "the end is after the anchor");
        Self { files, states: states(&events), events, ends, guarded }
    }

    /// Returns each damage to the file of this number that is to be tried.
    fn damages(&self, file: usize) -> Vec<Damage> {
        let len = self.files[file].1.len();
        let all = all();
        let bits = (0..len * 8).filter(|bit| all || bit % 8 == bit / 8 % 8);
        bits.map(Damage::Flip).chain((0..len).map(Damage::Cut)).collect()
    }

    fn write(&self, dir: &Path, file: usize, damage: Damage) {
        fs::remove_dir_all(dir).unwrap();
        fs::create_dir(dir).unwrap();
        for (number, (name, bytes)) in self.files.iter().enumerate() {
            let bytes = if number == file { damage.done_to(bytes) } else { bytes.clone() };
            fs::write(dir.join(name), bytes).unwrap();
        }
    }

    /// Checks that events are a prefix of what was written, by themselves and by the state that they give.
    fn check_prefix(&self, events: &[Envelope]) {
        assert_eq!(events, &self.events[..events.len()], "events differ from what was written");
        assert_eq!(states(events).last(), Some(&self.states[events.len()]), "the state differs");
    }

    /// Returns how many events there must be at least without an error: all that the anchor guards. A damaged anchor has
    /// another slot.
    fn least(&self, file: usize) -> usize {
        let is_anchor = file + 1 == self.files.len();
        if is_anchor { self.events.len() } else { self.guarded[1] }
    }
}

/// Returns how many events the slots of an anchor guard, in order.
fn guarded(anchor: &[u8]) -> [usize; 2] {
    let slot = |at: usize| u64::from_le_bytes(anchor[at + 16..at + 24].try_into().unwrap());
    let mut guarded = [0, 512].map(|at| usize::try_from(slot(at)).unwrap());
    guarded.sort_unstable();
    guarded
}

fn states(events: &[Envelope]) -> Vec<Hash> {
    let mut state = State::default();
    let mut states = vec![state_digest(&state).unwrap()];
    for event in events {
        evolve(&mut state, event);
        states.push(state_digest(&state).unwrap());
    }
    states
}

/// Returns what verification shows, and its report.
fn verified(dir: &Path) -> (Vec<Envelope>, Report) {
    let mut shown = Vec::new();
    let report = verify_records(dir, |record| shown.push(record.envelope)).unwrap();
    (shown, report)
}

/// Verifies, opens and repairs one damaged log.
fn check(image: &Image, dir: &Path, file: usize, damage: Damage) {
    image.write(dir, file, damage);
    let (shown, report) = verified(dir);
    image.check_prefix(&shown);
    assert!(image.ends.contains(&shown.len()), "a batch is shown in part");
    assert_eq!(report.head.seq, Seq(shown.len() as u64));
    if report.damage.is_none() {
        assert!(shown.len() >= image.least(file), "what the anchor guards is missing without a word");
        // A file that ends behind a batch which the anchor does not guard looks like one that never had more.
        let is_told = report.torn_len > 0 || shown.len() == image.events.len();
        assert!(is_told || matches!(damage, Damage::Cut(_)), "a torn tail is not told");
    }

    match EventLog::open_on(Arc::new(HostDisk), dir, Options::default()) {
        Ok(log) => {
            let read: Vec<_> = log.reader().read(Seq(1)).collect();
            let whole: Vec<_> = read.iter().map_while(|event| event.as_ref().ok().cloned()).collect();
            image.check_prefix(&whole);
            match read.get(whole.len()) {
                // Older segments are read when somebody asks for them.
                Some(Err(ReadError::Corrupt(_))) => assert!(report.damage.is_some()),
                Some(other) => panic!("{other:?}"),
                None => assert_eq!((whole, report.damage.is_none()), (shown.clone(), true)),
            }
            assert_eq!(log.recovered().torn_len > 0, report.torn_len > 0);
        }
        Err(OpenError::Corrupt(_)) => assert!(report.damage.is_some(), "verification sees nothing"),
        Err(error) => panic!("{error}"),
    }

    image.write(dir, file, damage);
    let repaired = repair(dir).unwrap();
    assert_eq!(repaired.damage, report.damage);
    assert_eq!(repaired.damage.is_some(), repaired.backup.is_some(), "what is cut is kept");
    let (kept, after) = verified(dir);
    assert_eq!((kept, after.damage), (shown, None), "a repair keeps just what can be trusted");
    let log = EventLog::open_on(Arc::new(HostDisk), dir, Options::default()).unwrap();
    let appended = log.append(sample::drafts(0..2)).unwrap();
    assert_eq!(appended[0].seq, report.head.seq.next());
}

/// Catches a bit or a cut anywhere in a log of several segments after which it panics, hangs, cannot be repaired, or has
/// another history than a prefix of its own.
#[test]
fn every_bit_and_every_prefix_is_a_prefix_or_an_error() {
    let image = Image::take();
    for file in 0..image.files.len() {
        let damages = image.damages(file);
        sample::in_parallel(damages.len(), |number, dir| {
            let dir = &dir.join("log");
            fs::create_dir_all(dir).unwrap();
            let damage = damages[number];
            let checked = std::panic::catch_unwind(|| check(&image, dir, file, damage));
            assert!(checked.is_ok(), "{damage:?} of {}", image.files[file].0);
        });
    }
}

/// A small log with its index.
struct Indexed {
    dir: TempDir,
    /// The files of `index/` with their bytes.
    files: Vec<(String, Vec<u8>)>,
    events: Vec<Envelope>,
    /// The state that was saved.
    saved: State,
}

/// Requests that the events of [`Indexed`] belong to, one each.
const REQUESTS: u32 = 12;

impl Indexed {
    fn take() -> Self {
        let dir = sample::dir();
        let log = sample::open_small(dir.path());
        log.append(sample::every_kind().concat()).unwrap();
        for n in 0..REQUESTS {
            let cause = Cause::Request(sample::request(1_000 + u64::from(n)));
            log.append(vec![Draft { cause, ..sample::draft(n) }]).unwrap();
        }
        let events = sample::read(&log);
        let mut saved = State::default();
        events.iter().for_each(|event| evolve(&mut saved, event));
        log.checkpoints().save(&saved).unwrap();
        drop(log);
        drop(sample::open_small(dir.path()));
        let paths = fs::read_dir(dir.path().join("index")).unwrap().map(|entry| entry.unwrap().path());
        let files = paths.filter(|path| path.is_file());
        let files = files.map(|path| (sample::name(&path), fs::read(&path).unwrap())).collect();
        Self { dir, files, events, saved }
    }

    /// Returns file and place of all bytes that sled wrote: the rest of its files is empty.
    fn places(&self) -> Vec<(usize, usize)> {
        let written = |(file, (_, bytes)): (usize, &(String, Vec<u8>))| {
            let places = bytes.iter().enumerate().filter(|(_, byte)| **byte != 0);
            places.map(|(place, _)| (file, place)).collect::<Vec<_>>()
        };
        self.files.iter().enumerate().flat_map(written).collect()
    }

    /// Opens the log in `dir` with an index of which a file is damaged, and asks for everything. Tells whether the index
    /// was built anew.
    fn check(&self, dir: &Path, damaged: Option<(usize, Damage)>) -> bool {
        drop(fs::remove_dir_all(dir));
        sample::copy_log(self.dir.path(), dir);
        fs::copy(self.dir.path().join("index.state"), dir.join("index.state")).unwrap();
        fs::create_dir(dir.join("index")).unwrap();
        for (number, (name, bytes)) in self.files.iter().enumerate() {
            let damage = damaged.filter(|(file, _)| *file == number);
            let bytes = damage.map_or_else(|| bytes.clone(), |(_, damage)| damage.done_to(bytes));
            fs::write(dir.join("index").join(name), bytes).unwrap();
        }
        let log = EventLog::open(dir, Options::default()).unwrap();
        assert_eq!(sample::read(&log), self.events);
        for n in 0..REQUESTS {
            let found = log.reader().request(sample::request(1_000 + u64::from(n))).unwrap();
            let place = self.events.len() - usize::try_from(REQUESTS - n).unwrap();
            assert_eq!(found, self.events[place..=place]);
        }
        let of_workspace = |event: &&Envelope| event.event.workspace() == Some(sample::workspace(1));
        let read = log.reader().read_workspace(sample::workspace(1), Seq(1));
        assert!(read.map(Result::unwrap).eq(self.events.iter().filter(of_workspace).cloned()));
        let latest = log.checkpoints().latest();
        assert!(latest.is_none_or(|state| state == self.saved), "another state is believed");
        log.recovered().index_rebuilt
    }
}

/// Catches a byte of the index after which the log does not open, or gives another answer.
#[test]
fn no_byte_of_the_index_changes_an_answer() {
    let indexed = Indexed::take();
    let copy = sample::dir();
    assert!(!indexed.check(&copy.path().join("log"), None), "an index without damage is believed");
    let places = indexed.places();
    let step = if all() { 1 } else { places.len() / INDEX_PLACES + 1 };
    let places: Vec<_> = places.into_iter().step_by(step).collect();
    sample::in_parallel(places.len(), |number, dir| {
        let dir = &dir.join("log");
        let (file, place) = places[number];
        for damage in [Damage::Flip(8 * place + place % 8), Damage::Cut(place)] {
            let checked = std::panic::catch_unwind(|| indexed.check(dir, Some((file, damage))));
            assert!(checked.is_ok(), "{damage:?} of {}", indexed.files[file].0);
        }
    });
}
