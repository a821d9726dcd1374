//! Power cuts: the disk as it can be found after one, at every call that the log makes.

use std::sync::Arc;

use pyro_core::{Cause, Envelope, Seq};
use pyro_store::disk::{Call, Disk, Failure, Fault, MemoryDisk, Times};
use pyro_store::{Draft, EventLog, OpenError, Options, verify_on};

use crate::sample;

/// How many images are made, when a number other than the default is wanted.
const IMAGES_VARIABLE: &str = "PYRO_STORE_CRASH_IMAGES";
const IMAGES: u64 = 6_000;

/// Lives of a log between power cuts, each of which gives an image.
const LIVES: u64 = 3;

pub(crate) const DIR: &str = "/log";

/// Batches of one life: enough for several segments.
const BATCHES: u32 = 12;

pub(crate) fn open(disk: &MemoryDisk) -> Result<EventLog, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    EventLog::open_on(disk, DIR, Options { segment_len_max: 1_500 })
}

/// The batch that belongs to a number: small ones, and such that reach over several sectors.
pub(crate) fn batch(number: u32) -> Vec<Draft> {
    let cause = Cause::Request(sample::request(u64::from(number)));
    let client = "x".repeat(if number.is_multiple_of(5) { 900 } else { 3 });
    let long = |mut draft: Draft| {
        draft.actor.client.clone_from(&client);
        Draft { cause, ..draft }
    };
    sample::drafts(number * 10..number * 10 + 1 + number % 4).into_iter().map(long).collect()
}

/// What is known of the log from its answers alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    pub(crate) next: u32,
    pub(crate) acknowledged: Vec<Envelope>,
    /// Batches of which nobody knows whether they are there, in their order.
    pub(crate) open: Vec<u32>,
}

impl Answers {
    /// Checks a log against what is known of it, and takes note of what has become known.
    pub(crate) fn check(&mut self, log: &EventLog, what: &str) {
        let events = sample::read(log);
        let known = self.acknowledged.len();
        assert!(events.len() >= known, "{what}: {} of {known} acknowledged events are left", events.len());
        assert_eq!(events[..known], self.acknowledged, "{what}: acknowledged events are as they were");
        let mut rest = &events[known..];
        // One append is under way at a time, and a log that has failed takes no other: at most one is open in a life.
        for number in std::mem::take(&mut self.open) {
            let batch = batch(number);
            let same = |(envelope, draft): (&Envelope, &Draft)| {
                (&envelope.event, envelope.cause, &envelope.actor)
                    == (&draft.event, draft.cause, &draft.actor)
            };
            if rest.len() >= batch.len() && rest.iter().zip(&batch).all(same) {
                rest = &rest[batch.len()..];
            }
        }
        assert!(rest.is_empty(), "{what}: nobody appended {rest:?}");
        self.acknowledged = events;
        assert_eq!(log.head().seq, Seq(self.acknowledged.len() as u64), "{what}");
    }

    pub(crate) fn append(&mut self, log: &EventLog) -> Result<(), pyro_store::AppendError> {
        let number = self.next;
        self.next += 1;
        match log.append(batch(number)) {
            Ok(envelopes) => {
                self.acknowledged.extend(envelopes);
                Ok(())
            }
            Err(error) => {
                if matches!(error, pyro_store::AppendError::Io { .. }) {
                    self.open.push(number);
                }
                Err(error)
            }
        }
    }
}

/// Opens the log and appends until the disk is gone.
fn live(disk: &MemoryDisk, answers: &mut Answers) {
    let Ok(log) = open(disk) else { return };
    for _ in 0..BATCHES {
        if answers.append(&log).is_err() {
            return;
        }
    }
}

/// Cuts the power at a call, looks at the disk, lets the log live on there and does so again.
fn lives_and_cuts(seed: u64, after: u64) -> bool {
    let mut answers = Answers::default();
    let mut disk = MemoryDisk::new();
    let mut cut = false;
    for life in 0..LIVES {
        // The later cuts come early: a power cut in the middle of a recovery is the worst of them.
        let after = if life == 0 { after } else { seed.wrapping_mul(life) % 60 };
        disk.plant(Fault { call: None, after, failure: Failure::Gone, times: Times::Once });
        live(&disk, &mut answers);
        cut |= disk.is_gone();
        disk = disk.after_power_cut(seed ^ life << 32);
        let what = format!("seed {seed}, cut at call {after} of life {life}");
        // The first cut can come before there is a log.
        if let Ok(report) = verify_on(Arc::new(disk.clone()), DIR) {
            assert_eq!(report.damage, None, "{what}");
        }
        let log = open(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
        answers.check(&log, &what);
        drop(log);
        let report = verify_on(Arc::new(disk.clone()), DIR).unwrap();
        assert_eq!((report.damage, report.torn_len), (None, 0), "{what}");
    }
    cut
}

fn calls(disk: &MemoryDisk) -> u64 {
    Call::ALL.into_iter().map(|call| disk.calls(call)).sum()
}

/// Catches an acknowledgement before the bytes are durable, a sync that is missing anywhere, a batch that comes back in
/// part, a recovery that takes what a power cut leaves for damage, and one that is not safe from the next power cut.
#[test]
fn acknowledged_events_survive_power_cuts_at_every_call() {
    let images = std::env::var(IMAGES_VARIABLE).map_or(IMAGES, |text| text.parse().unwrap());
    let whole = MemoryDisk::new();
    let mut answers = Answers::default();
    live(&whole, &mut answers);
    assert_eq!(answers.next, BATCHES, "without a cut all goes well");
    let calls = calls(&whole);
    let seeds = images.div_ceil(LIVES);
    let cuts = (0..seeds).filter(|seed| lives_and_cuts(*seed, seed % calls)).count();
    assert!(cuts as u64 > seeds * 9 / 10, "nearly all are cut: {cuts}");
}
