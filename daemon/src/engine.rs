//! The engine: the one thread that appends to the log and changes the state.
//!
//! ```text
//! Submission -> decide -> append (one fdatasync for a whole group) -> publish state, envelopes, replies, actions
//! ```
//!
//! Nothing leaves this module before the append returned. The engine never waits for a reader: the state is published
//! as a shared pointer, envelopes go into a bounded broadcast whose slow readers go back to the log.

mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pyro_core::{Action, Actor, Cause, Command, Envelope, Rejection, RequestId, Seq, State, Timestamp};
use pyro_store::{AppendError, Checkpoints, Compactor, EventLog, ReadError, Reader};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::context::daemon_actor;
use crate::follower::{Follower, Recent};

pub(crate) use writer::{Outlets, Rules, Submission, Writer};

/// Submissions that wait while a group is being written; more make their senders wait.
const INBOX_LEN: usize = 1024;
/// Time between two tries to write to a full disk.
const SPACE_PAUSE: Duration = Duration::from_millis(500);

/// Who submits, and why.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) actor: Actor,
    pub(crate) cause: Cause,
}

/// Why a submission had no effect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The rules say no.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The log could not be written; nothing of the submission is in it.
    #[error("failed to write the event log: {0}")]
    Append(Arc<AppendError>),
    /// The log could not be read to look for an earlier request.
    #[error("failed to read the event log: {0}")]
    Read(#[from] ReadError),
    /// The engine has ended.
    #[error("the daemon is stopping")]
    Stopping,
}

/// What became of an accepted submission.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// These events are durable now; the list is empty when what was observed was so already.
    Done(Vec<Arc<Envelope>>),
    /// The same request was accepted earlier, with these events; nothing happened now.
    Repeated(Vec<Arc<Envelope>>),
}

impl Outcome {
    pub(crate) fn envelopes(&self) -> &[Arc<Envelope>] {
        match self {
            Self::Done(envelopes) | Self::Repeated(envelopes) => envelopes,
        }
    }
}

/// The way to the engine.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    inbox: mpsc::Sender<Submission>,
    state: watch::Receiver<Arc<State>>,
    envelopes: broadcast::Sender<Arc<Envelope>>,
    recent: Arc<Recent>,
    reader: Reader,
    checkpoints: Checkpoints,
    compactor: Compactor,
    clock: Clock,
    broken: watch::Receiver<Option<Arc<AppendError>>>,
    is_closed: Arc<AtomicBool>,
}

impl Engine {
    /// Replays what is behind the last checkpoint and starts the engine's thread. The second value receives the actions in their order.
    pub(crate) fn start(
        log: EventLog,
        clock: Clock,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Action>), ReadError> {
        let checkpoints = log.checkpoints();
        let (reader, compactor) = (log.reader(), log.compactor());
        let (writer, outlets) = Writer::open(log, clock.clone(), daemon_actor(), Rules::CORE)?;
        let Outlets { state, envelopes, recent, actions, broken } = outlets;
        let (inbox, submissions) = mpsc::channel(INBOX_LEN);
        std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || writer.run(submissions))
            .expect("a thread can be started before the daemon serves anybody");
        let is_closed = Arc::default();
        let engine = Self {
            inbox,
            state,
            envelopes,
            recent,
            reader,
            checkpoints,
            compactor,
            clock,
            broken,
            is_closed,
        };
        Ok((engine, actions))
    }

    /// Takes nothing more. It is to be called before the runtime ends: from then on all that waits for something fails,
    /// timers and processes too, and what seems to be seen of a guest is not true.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// Tells whether nothing is taken any more, and nothing that is seen can be trusted.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Submits a command and waits until its events are durable.
    ///
    /// Dropping the future does not take the command back.
    pub(crate) async fn submit(&self, command: Command, origin: Origin) -> Result<Outcome, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send(Submission { command, origin, reply }).await?;
        answer.await.map_err(|_| Refusal::Stopping)?
    }

    /// Submits a command until there is space for its events and they are durable.
    pub(crate) async fn insist(&self, command: Command, origin: Origin) -> Result<Outcome, Refusal> {
        loop {
            match self.submit(command.clone(), origin.clone()).await {
                Err(Refusal::Append(error)) if matches!(*error, AppendError::StorageFull) => {
                    tokio::time::sleep(SPACE_PAUSE).await;
                }
                answer => return answer,
            }
        }
    }

    /// Submits a command without waiting for it. What is submitted later is decided later, and durable not before it.
    pub(crate) async fn post(&self, command: Command, origin: Origin) {
        let (reply, _nobody_waits) = oneshot::channel();
        // An engine that has ended takes nothing, and its log says so.
        let _ended = self.send(Submission { command, origin, reply }).await;
    }

    async fn send(&self, submission: Submission) -> Result<(), Refusal> {
        if self.is_closed() {
            return Err(Refusal::Stopping);
        }
        self.inbox.send(submission).await.map_err(|_| Refusal::Stopping)
    }

    /// Returns the events that a request led to in an earlier try; none when it was never accepted.
    pub(crate) fn earlier(&self, id: RequestId) -> Result<Vec<Envelope>, ReadError> {
        let cause = Cause::Request(id);
        // A batch can hold events of others as well.
        Ok(self.reader.request(id)?.into_iter().filter(|envelope| envelope.cause == cause).collect())
    }

    /// Returns the time now, after the state has learned of it if somebody has set the clock.
    pub(crate) async fn now(&self) -> Timestamp {
        let (now, clock) = self.clock.observe();
        let origin = Origin { actor: daemon_actor(), cause: Cause::Observation };
        // Without a log that can be written nothing can be decided by the time either.
        let _told = self.submit(Command::RecordClock(clock), origin).await;
        now
    }

    /// Returns why the log takes nothing more until another daemon opens it, as soon as that is so.
    pub(crate) async fn broken(&self) -> Arc<AppendError> {
        let mut broken = self.broken.clone();
        let error = broken.wait_for(Option::is_some).await.ok().and_then(|error| error.clone());
        match error {
            Some(error) => error,
            // The engine has ended in order.
            None => std::future::pending().await,
        }
    }

    /// Returns the state after the last durable event.
    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.borrow())
    }

    /// Returns a receiver that sees every later state, possibly skipping some.
    pub(crate) fn states(&self) -> watch::Receiver<Arc<State>> {
        self.state.clone()
    }

    /// Returns a follower that yields every event from `from` on, old ones first, without gap or duplicate.
    pub(crate) fn follow(&self, from: Seq) -> Follower {
        Follower::new(from, self.envelopes.subscribe(), Arc::clone(&self.recent), self.reader.clone())
    }

    pub(crate) const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Returns what can drop the beginning of the log; the event about that goes through the engine.
    pub(crate) const fn compactor(&self) -> &Compactor {
        &self.compactor
    }

    pub(crate) const fn checkpoints(&self) -> &Checkpoints {
        &self.checkpoints
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use pyro_core::{DaemonStopped, EnvironmentRemoved, Face, evolve};
    use pyro_store::Options;
    use pyro_store::disk::{Call, MemoryDisk};

    use crate::clock::Reading;

    use super::writer::BROADCAST_LEN;
    use super::*;

    fn origin(cause: Cause) -> Origin {
        Origin { actor: Actor { face: Face::Cli, uid: 0, pid: 1, client: "test".to_owned() }, cause }
    }

    fn remark(number: usize) -> Command {
        Command::RecordEnvironmentsRemoved(vec![EnvironmentRemoved { directory: number.to_string() }])
    }

    fn open(dir: &std::path::Path) -> Engine {
        open_with(dir, Clock::of_host().unwrap())
    }

    fn open_with(dir: &std::path::Path, clock: Clock) -> Engine {
        Engine::start(EventLog::open(dir, Options::default()).unwrap(), clock).unwrap().0
    }

    /// The engine's thread ends with its last handle and lets go of the log a moment later.
    async fn reopen(dir: &std::path::Path) -> EventLog {
        // So do the threads of its index, which would be built anew without its checkpoints.
        let index = std::fs::File::open(dir.join("index/db")).unwrap();
        while index.try_lock().is_err() {
            tokio::task::yield_now().await;
        }
        drop(index);
        loop {
            match EventLog::open(dir, Options::default()) {
                Err(pyro_store::OpenError::Locked { .. }) => tokio::task::yield_now().await,
                opened => return opened.unwrap(),
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_request_that_is_repeated_at_once_has_one_effect() {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path());
        let cause = Cause::Request(RequestId::from_bytes([7; 16]));
        let tries: Vec<_> = (0..50)
            .map(|_| {
                let engine = engine.clone();
                tokio::spawn(async move { engine.submit(remark(1), origin(cause)).await.unwrap() })
            })
            .collect();
        let mut done = 0;
        for one in tries {
            let outcome = one.await.unwrap();
            assert_eq!(outcome.envelopes()[0].seq, Seq(2), "behind what was seen of the clock");
            done += usize::from(matches!(outcome, Outcome::Done(_)));
        }
        assert_eq!((done, engine.state().seq), (1, Seq(2)));
    }

    /// Catches a request that had nothing to do and is carried out when it is repeated later, also by another daemon.
    #[tokio::test]
    async fn a_request_that_led_to_nothing_is_known_as_well() {
        let dir = tempfile::tempdir().unwrap();
        let cause = Cause::Request(RequestId::from_bytes([9; 16]));
        let nothing = || Command::RecordEnvironmentsRemoved(Vec::new());
        let engine = open(dir.path());
        let first = engine.submit(nothing(), origin(cause)).await.unwrap();
        let [met] = first.envelopes() else { panic!("it is on record: {first:?}") };
        assert_eq!(met.event.kind(), "request_met");
        drop(engine);
        let log = reopen(dir.path()).await;
        let engine = Engine::start(log, Clock::of_host().unwrap()).unwrap().0;
        // By now there would be something to do.
        let again = engine.submit(remark(1), origin(cause)).await.unwrap();
        assert!(matches!(again, Outcome::Repeated(_)), "{again:?}");
        assert_eq!(again.envelopes()[0].seq, met.seq);
        let observed = engine.submit(nothing(), origin(Cause::Observation)).await.unwrap();
        assert!(observed.envelopes().is_empty(), "nobody asked, so there is nothing to remember");
    }

    /// Catches a record of what a daemon seems to see while it ends: guests and shells that are lost, for instance.
    #[tokio::test]
    async fn a_closed_engine_takes_nothing_and_finishes_what_it_took() {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path());
        let (other, mut follower) = (engine.clone(), engine.follow(Seq(2)));
        engine.post(remark(1), origin(Cause::Observation)).await;
        engine.close();
        let refused = other.submit(remark(2), origin(Cause::Observation)).await;
        assert!(matches!(refused, Err(Refusal::Stopping)), "{refused:?}");
        other.post(remark(3), origin(Cause::Observation)).await;
        assert_eq!(follower.next().await.unwrap().unwrap().seq, Seq(2));
        drop((engine, other, follower));
        let log = reopen(dir.path()).await;
        assert_eq!(Engine::start(log, Clock::of_host().unwrap()).unwrap().0.state().seq, Seq(2));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_follower_far_behind_misses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path());
        let mut follower = engine.follow(Seq(2));
        let total = BROADCAST_LEN + 500;
        for number in 1..=total {
            let submitted = engine.submit(remark(number), origin(Cause::Observation)).await.unwrap();
            assert_eq!(submitted.envelopes().len(), 1);
        }
        for number in 1..=total {
            assert_eq!(follower.next().await.unwrap().unwrap().seq, Seq(number as u64 + 1));
        }
        let last = engine.submit(remark(0), origin(Cause::Observation)).await.unwrap();
        assert_eq!(follower.next().await.unwrap().unwrap().seq, last.envelopes()[0].seq, "and goes on live");
    }

    /// Catches an answer that rests on something that was never made durable.
    #[test]
    fn nobody_is_refused_for_what_did_not_happen() {
        let disk = MemoryDisk::new();
        let log = EventLog::open_on(Arc::new(disk.clone()), "/log", Options::default()).unwrap();
        let clock = Clock::of_host().unwrap();
        let mut writer = Writer::open(log, clock, daemon_actor(), Rules::CORE).unwrap().0;
        let workspace = pyro_core::WorkspaceId::from_bytes([7; 6]);
        let mut write_twice = || {
            let submit = || {
                let (reply, answer) = oneshot::channel();
                let command = open_workspace(workspace);
                (Submission { command, origin: origin(Cause::Observation), reply }, answer)
            };
            let ((first, mut first_answer), (second, mut second_answer)) = (submit(), submit());
            writer.write([first, second]);
            (first_answer.try_recv().unwrap(), second_answer.try_recv().unwrap())
        };
        disk.set_space_left(Some(0));
        let (first, second) = write_twice();
        assert!(matches!(first, Err(Refusal::Append(_))), "{first:?}");
        assert!(matches!(second, Err(Refusal::Append(_))), "it does not exist: {second:?}");
        disk.set_space_left(None);
        let (first, second) = write_twice();
        assert!(first.is_ok() && matches!(second, Err(Refusal::Rejected(_))), "{first:?}, {second:?}");
    }

    fn open_workspace(workspace: pyro_core::WorkspaceId) -> Command {
        let spec = pyro_core::WorkspaceSpec {
            environment: "debian:12".parse().unwrap(),
            environment_version: "1.0.0".to_owned(),
            vcpu_count: 1,
            mem_mib: 512,
            ttl_seconds: 0,
            network: false,
            allow_host_compat: false,
        };
        Command::OpenWorkspace { workspace, spec, tags: pyro_core::Tags::default(), seed: None }
    }

    /// Catches a life that ends by a clock that was set after the reaper had read it.
    #[tokio::test]
    async fn lives_end_by_the_clock_of_their_group() {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path());
        let workspace = pyro_core::WorkspaceId::from_bytes([7; 6]);
        let Command::OpenWorkspace { spec, tags, seed, .. } = open_workspace(workspace) else { return };
        let spec = pyro_core::WorkspaceSpec { ttl_seconds: 3600, ..spec };
        let open = Command::OpenWorkspace { workspace, spec, tags, seed };
        engine.submit(open, origin(Cause::Observation)).await.unwrap();
        let reap = Command::ReapExpired { now: Timestamp(u64::MAX) };
        let reaped = engine.submit(reap, origin(Cause::Observation)).await.unwrap();
        assert!(reaped.envelopes().is_empty(), "{reaped:?}");
    }

    /// Catches a fact that is dropped because the disk was full when it became known.
    #[tokio::test]
    async fn what_is_insisted_on_is_recorded_when_there_is_space_again() {
        let disk = MemoryDisk::new();
        let log = EventLog::open_on(Arc::new(disk.clone()), "/log", Options::default()).unwrap();
        let engine = Engine::start(log, Clock::of_host().unwrap()).unwrap().0;
        disk.set_space_left(Some(0));
        assert!(engine.submit(remark(1), origin(Cause::Observation)).await.is_err());
        let insisting = engine.clone();
        let fact = tokio::spawn(async move { insisting.insist(remark(2), origin(Cause::Observation)).await });
        let tried = disk.calls(Call::Write);
        while disk.calls(Call::Write) == tried {
            tokio::task::yield_now().await;
        }
        disk.set_space_left(None);
        let outcome = fact.await.unwrap().unwrap();
        assert_eq!(outcome.envelopes().len(), 1);
    }

    #[tokio::test]
    async fn a_replayed_state_is_the_live_one() {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path());
        engine
            .submit(
                Command::RecordLimits(pyro_core::Limits { guests_max: 3, ..Default::default() }),
                origin(Cause::Observation),
            )
            .await
            .unwrap();
        engine
            .submit(
                Command::RecordDaemonStopped(DaemonStopped { reason: "test".to_owned() }),
                origin(Cause::Observation),
            )
            .await
            .unwrap();
        let live = engine.state();
        drop(engine);
        let log = reopen(dir.path()).await;
        assert_eq!(Engine::start(log, Clock::of_host().unwrap()).unwrap().0.state(), live);
    }

    /// Catches an event that is stamped by a new clock and recorded before it.
    #[tokio::test]
    async fn a_clock_that_was_set_is_recorded_before_what_it_stamps() {
        static WALL: AtomicU64 = AtomicU64::new(1_000_000_000);
        let read = || Reading { wall: Timestamp(WALL.load(Ordering::SeqCst)), since_boot_us: 7 };
        let dir = tempfile::tempdir().unwrap();
        let engine = open_with(dir.path(), Clock::scripted("test", read));
        engine.submit(remark(1), origin(Cause::Observation)).await.unwrap();
        WALL.store(9_000_000_000, Ordering::SeqCst);
        engine.submit(remark(2), origin(Cause::Observation)).await.unwrap();
        let kinds: Vec<_> =
            engine.reader().read(Seq(1)).map(|envelope| envelope.unwrap().event.kind()).collect();
        assert_eq!(kinds, ["clock_observed", "environment_removed", "clock_observed", "environment_removed"]);
        assert_eq!(engine.now().await, Timestamp(9_000_000_000));
        assert_eq!(engine.state().seq, Seq(4), "the same clock is no news");
    }

    /// Catches a start from a checkpoint that gives another state than the whole log.
    #[tokio::test]
    async fn a_checkpoint_and_what_is_behind_it_are_the_whole_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = EventLog::open(dir.path(), Options::default()).unwrap();
        let checkpoints = log.checkpoints();
        let engine = Engine::start(log, Clock::of_host().unwrap()).unwrap().0;
        let limits =
            |guests_max| Command::RecordLimits(pyro_core::Limits { guests_max, ..Default::default() });
        engine.submit(limits(3), origin(Cause::Observation)).await.unwrap();
        checkpoints.save(&engine.state()).unwrap();
        engine.submit(limits(4), origin(Cause::Observation)).await.unwrap();
        let mut whole = State::default();
        for envelope in engine.reader().read(Seq(1)) {
            evolve(&mut whole, &envelope.unwrap());
        }
        drop((engine, checkpoints));
        let log = reopen(dir.path()).await;
        assert_eq!(log.checkpoints().latest().map(|state| state.limits.guests_max), Some(3));
        assert_eq!(*Engine::start(log, Clock::of_host().unwrap()).unwrap().0.state(), whole);
    }
}
