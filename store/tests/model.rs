//! The log against a list in memory, whatever is done to both in whatever order.

use std::path::Path;

use proptest::prelude::*;
use pyro_core::{Cause, Envelope, Event, Seq, State};
use pyro_store::{Draft, EventLog, Options, verify};

use crate::sample;

#[derive(Clone, Debug)]
enum Step {
    /// Appends batches at once from as many threads; each has a length, a workspace and perhaps a request.
    Append(Vec<(u32, u8, Option<u64>)>),
    Reopen,
    /// Reopens from segments and anchor only, perhaps with a torn tail.
    LoseIndex(Vec<u8>),
    Read(u64),
    ReadWorkspace(u8, u64),
    Request(u64),
    Checkpoint(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let batch = (1_u32..40, 0_u8..4, proptest::option::of(0_u64..30));
    prop_oneof![
        6 => proptest::collection::vec(batch, 1..6).prop_map(Step::Append),
        2 => Just(Step::Reopen),
        1 => proptest::collection::vec(any::<u8>(), 0..200).prop_map(Step::LoseIndex),
        3 => (0_u64..1_000).prop_map(Step::Read),
        3 => (0_u8..5, 0_u64..1_000).prop_map(|(workspace, from)| Step::ReadWorkspace(workspace, from)),
        3 => (0_u64..30).prop_map(Step::Request),
        1 => (1_u64..1_000).prop_map(Step::Checkpoint),
    ]
}

/// What the log must hold: batches in order.
#[derive(Default)]
struct Model {
    batches: Vec<Vec<Envelope>>,
    checkpoint: Option<u64>,
}

impl Model {
    fn events(&self) -> impl Iterator<Item = &Envelope> {
        self.batches.iter().flatten()
    }

    fn head(&self) -> u64 {
        self.events().last().map_or(0, |envelope| envelope.seq.0)
    }
}

fn open(dir: &Path) -> EventLog {
    EventLog::open(dir, Options { segment_len_max: 3_000 }).unwrap()
}

fn append(log: &EventLog, model: &mut Model, batches: &[(u32, u8, Option<u64>)]) {
    let build = |&(len, workspace, request): &(u32, u8, Option<u64>)| -> Vec<Draft> {
        let cause = request.map_or(Cause::Observation, |number| Cause::Request(sample::request(number)));
        let mut drafts = sample::drafts(0..len);
        for draft in &mut drafts {
            draft.cause = cause;
            if let Event::ExecStarted(event) = &mut draft.event {
                event.workspace = sample::workspace(workspace);
            }
        }
        drafts
    };
    let mut appended: Vec<_> = std::thread::scope(|scope| {
        let spawn = |batch| scope.spawn(move || log.append(build(batch)).unwrap());
        let threads: Vec<_> = batches.iter().map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    appended.sort_by_key(|batch| batch[0].seq);
    model.batches.extend(appended);
}

fn check(log: &EventLog, model: &mut Model, step: &Step) {
    let reader = log.reader();
    match step {
        Step::Read(from) => {
            let read: Vec<_> = reader.read(Seq(*from)).map(Result::unwrap).collect();
            let expected = model.events().filter(|envelope| envelope.seq.0 >= *from);
            assert_eq!(read, expected.cloned().collect::<Vec<_>>());
        }
        Step::ReadWorkspace(workspace, from) => {
            let id = sample::workspace(*workspace);
            let read: Vec<_> = reader.read_workspace(id, Seq(*from)).map(Result::unwrap).collect();
            let wanted =
                |envelope: &&Envelope| envelope.seq.0 >= *from && envelope.event.workspace() == Some(id);
            assert_eq!(read, model.events().filter(wanted).cloned().collect::<Vec<_>>());
        }
        Step::Request(number) => {
            let cause = Cause::Request(sample::request(*number));
            let expected = model.batches.iter().find(|batch| batch[0].cause == cause);
            let found = reader.request(sample::request(*number)).unwrap();
            assert_eq!(found, expected.cloned().unwrap_or_default());
        }
        Step::Checkpoint(seq) => {
            let state = State { seq: Seq(*seq), ..State::default() };
            let saved = log.checkpoints().save(&state);
            assert_eq!(saved.is_ok(), *seq <= model.head());
            // Two are kept, so an older one than both is forgotten at once.
            if saved.is_ok() {
                model.checkpoint = model.checkpoint.max(Some(*seq));
            }
            assert_eq!(log.checkpoints().latest().map(|state| state.seq.0), model.checkpoint);
        }
        Step::Append(_) | Step::Reopen | Step::LoseIndex(_) => {}
    }
}

fn run(steps: &[Step]) {
    let dir = sample::dir();
    let mut model = Model::default();
    let mut log = open(dir.path());
    for step in steps {
        match step {
            Step::Append(batches) => append(&log, &mut model, batches),
            Step::Reopen => {
                drop(log);
                log = open(dir.path());
            }
            Step::LoseIndex(tail) => {
                drop(log);
                std::fs::remove_dir_all(dir.path().join("index")).unwrap();
                let last = sample::segments(dir.path()).pop().unwrap();
                let bytes = [std::fs::read(&last).unwrap(), tail.clone()].concat();
                std::fs::write(&last, bytes).unwrap();
                log = open(dir.path());
                assert_eq!(log.recovered().torn_len, u64::try_from(tail.len()).unwrap());
                model.checkpoint = None;
            }
            Step::Read(_) | Step::ReadWorkspace(..) | Step::Request(_) | Step::Checkpoint(_) => {}
        }
        check(&log, &mut model, step);
        assert_eq!(log.head().seq.0, model.head());
    }
    drop(log);
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.damage, report.head.seq.0, report.torn_len), (None, model.head(), 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Catches any order of appends, lookups, restarts and index losses after which the log is not what was appended.
    #[test]
    fn the_log_is_the_list_of_what_was_appended(steps in proptest::collection::vec(step(), 1..25)) {
        run(&steps);
    }
}
