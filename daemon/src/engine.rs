//! The engine: the one thread that appends to the log and changes the state.
//!
//! ```text
//! Submission -> decide -> append (one fdatasync for a whole group) -> publish state, envelopes, replies, actions
//! ```
//!
//! Nothing leaves this module before the append returned. The engine never waits for a reader: the state is published
//! as a shared pointer, envelopes go into a bounded broadcast whose slow readers go back to the log.

use std::collections::HashSet;
use std::sync::Arc;

use pyro_core::{
    Action, Actor, Cause, Command, Envelope, Event, Rejection, RequestId, Seq, State, Timestamp, decide,
    evolve, met, react,
};
use pyro_store::{AppendError, Checkpoints, Draft, EventLog, ReadError, Reader};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::checkpoints::Saver;
use crate::clock::Clock;
use crate::context::daemon_actor;
use crate::follower::{Follower, Recent};

/// Submissions that wait while a group is being written; more make their senders wait.
const INBOX_LEN: usize = 1024;
/// Submissions of one group: bounds the time between an append and its replies.
const GROUP_LEN_MAX: usize = 256;
/// Envelopes kept for followers that are a little behind; those further behind read the log.
const BROADCAST_LEN: usize = 4096;

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

struct Submission {
    command: Command,
    origin: Origin,
    reply: oneshot::Sender<Result<Outcome, Refusal>>,
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
    clock: Clock,
    broken: watch::Receiver<Option<Arc<AppendError>>>,
}

impl Engine {
    /// Replays what is behind the last checkpoint and starts the engine's thread. The second value receives the actions in their order.
    pub(crate) fn start(
        log: EventLog,
        clock: Clock,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Action>), ReadError> {
        let checkpoints = log.checkpoints();
        let saver = Saver::new(checkpoints.clone());
        let mut state = checkpoints.latest().unwrap_or_default();
        for envelope in log.reader().read(state.seq.next()) {
            evolve(&mut state, &envelope?);
        }
        let (inbox, submissions) = mpsc::channel(INBOX_LEN);
        // Unbounded, because the rules bound it: an action follows from an event of a live workspace, and limits
        // bound workspaces and their open execs.
        let (actions, performed) = mpsc::unbounded_channel();
        let (publish, published) = watch::channel(Arc::new(state.clone()));
        let envelopes = broadcast::channel(BROADCAST_LEN).0;
        let (breaks, broken) = watch::channel(None);
        let reader = log.reader();
        let recent = Arc::new(Recent::default());
        let writer = Writer {
            log,
            clock: clock.clone(),
            reader: reader.clone(),
            state,
            publish,
            envelopes: envelopes.clone(),
            recent: Arc::clone(&recent),
            actions,
            saver,
            broken: breaks,
        };
        std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || writer.run(submissions))
            .expect("a thread can be started before the daemon serves anybody");
        Ok((
            Self { inbox, state: published, envelopes, recent, reader, checkpoints, clock, broken },
            performed,
        ))
    }

    /// Submits a command and waits until its events are durable.
    ///
    /// Dropping the future does not take the command back.
    pub(crate) async fn submit(&self, command: Command, origin: Origin) -> Result<Outcome, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Submission { command, origin, reply }).await.map_err(|_| Refusal::Stopping)?;
        answer.await.map_err(|_| Refusal::Stopping)?
    }

    /// Submits a command without waiting for it. What is submitted later is decided later, and durable not before it.
    pub(crate) async fn post(&self, command: Command, origin: Origin) {
        let (reply, _nobody_waits) = oneshot::channel();
        // An engine that has ended takes nothing, and its log says so.
        let _ended = self.inbox.send(Submission { command, origin, reply }).await;
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

    pub(crate) const fn checkpoints(&self) -> &Checkpoints {
        &self.checkpoints
    }
}

struct Writer {
    log: EventLog,
    clock: Clock,
    reader: Reader,
    state: State,
    publish: watch::Sender<Arc<State>>,
    envelopes: broadcast::Sender<Arc<Envelope>>,
    recent: Arc<Recent>,
    actions: mpsc::UnboundedSender<Action>,
    saver: Saver,
    broken: watch::Sender<Option<Arc<AppendError>>>,
}

/// A submission whose events are part of the group that is about to be written.
struct Accepted {
    reply: oneshot::Sender<Result<Outcome, Refusal>>,
    events: usize,
}

/// What a group of submissions comes to before it is durable.
struct Group {
    state: State,
    drafts: Vec<Draft>,
    actions: Vec<Action>,
    accepted: Vec<Accepted>,
    /// When all of it happened: what is made durable together has one time.
    at: Timestamp,
    requests: HashSet<RequestId>,
}

impl Writer {
    fn run(mut self, mut submissions: mpsc::Receiver<Submission>) {
        let mut waiting = Vec::with_capacity(GROUP_LEN_MAX);
        while submissions.blocking_recv_many(&mut waiting, GROUP_LEN_MAX) > 0 {
            let mut group = self.new_group();
            for submission in waiting.drain(..) {
                if repeats_within(&group, &submission) {
                    self.commit(group);
                    group = self.new_group();
                }
                self.admit(&mut group, submission);
            }
            self.commit(group);
        }
    }

    fn new_group(&self) -> Group {
        let (at, clock) = self.clock.observe();
        let mut group = Group {
            state: self.state.clone(),
            drafts: Vec::new(),
            actions: Vec::new(),
            accepted: Vec::new(),
            at,
            requests: HashSet::new(),
        };
        // A clock that was set is recorded before the first event by it, so that lives can be measured across the jump.
        let origin = Origin { actor: daemon_actor(), cause: Cause::Observation };
        let nobody = oneshot::channel().0;
        self.admit(&mut group, Submission { command: Command::RecordClock(clock), origin, reply: nobody });
        group
    }

    fn admit(&self, group: &mut Group, submission: Submission) {
        let Submission { command, origin, reply } = submission;
        match self.earlier(&origin) {
            Ok(Some(outcome)) => return answer(reply, Ok(outcome)),
            Ok(None) => {}
            Err(error) => return answer(reply, Err(error.into())),
        }
        let mut events = match decide(&group.state, &command) {
            Ok(events) => events,
            Err(rejection) => return answer(reply, Err(rejection.into())),
        };
        if let Cause::Request(id) = origin.cause {
            group.requests.insert(id);
            if events.is_empty() {
                events.extend(met(&command));
            }
        }
        group.accepted.push(Accepted { reply, events: events.len() });
        for event in events {
            group.push(&origin, event);
        }
    }

    fn earlier(&self, origin: &Origin) -> Result<Option<Outcome>, ReadError> {
        let Cause::Request(id) = origin.cause else { return Ok(None) };
        let envelopes: Vec<_> = self
            .reader
            .request(id)?
            .into_iter()
            .filter(|envelope| envelope.cause == origin.cause)
            .map(Arc::new)
            .collect();
        Ok(if envelopes.is_empty() { None } else { Some(Outcome::Repeated(envelopes)) })
    }

    fn commit(&mut self, group: Group) {
        let Group { state, drafts, actions, accepted, .. } = group;
        let appended = if drafts.is_empty() { Ok(Vec::new()) } else { self.log.append(drafts) };
        let envelopes = match appended {
            Ok(envelopes) => envelopes,
            Err(error) => {
                tracing::error!(%error, "failed to append to the event log");
                let error = Arc::new(error);
                if is_final(&error) {
                    self.broken.send_replace(Some(Arc::clone(&error)));
                }
                for Accepted { reply, .. } in accepted {
                    answer(reply, Err(Refusal::Append(Arc::clone(&error))));
                }
                return;
            }
        };
        assert_eq!(
            envelopes.last().map_or(self.state.seq, |envelope| envelope.seq),
            state.seq,
            "the state was folded with the sequence numbers that the log gave"
        );
        if state.seq != self.state.seq {
            self.state = state;
            let published = Arc::new(self.state.clone());
            self.publish.send_replace(Arc::clone(&published));
            self.saver.see(published);
        }
        let mut envelopes = envelopes.into_iter().map(Arc::new);
        for Accepted { reply, events } in accepted {
            let own: Vec<_> = envelopes.by_ref().take(events).collect();
            for envelope in &own {
                self.recent.push(Arc::clone(envelope));
                // Nobody may be following; then there is nobody to tell.
                let _followers = self.envelopes.send(Arc::clone(envelope));
            }
            answer(reply, Ok(Outcome::Done(own)));
        }
        for action in actions {
            // The receiver is gone only when the daemon ends; the next one reconciles.
            let _performed = self.actions.send(action);
        }
    }
}

impl Group {
    fn push(&mut self, origin: &Origin, event: Event) {
        let (at, Origin { actor, cause }) = (self.at, origin.clone());
        let envelope = Envelope { seq: self.state.seq.next(), at, actor, cause, event };
        evolve(&mut self.state, &envelope);
        self.actions.extend(react(&self.state, &envelope.event));
        let Envelope { at, actor, cause, event, .. } = envelope;
        self.drafts.push(Draft { at, actor, cause, event });
    }
}

/// Tells whether the log takes nothing more until it is opened anew.
const fn is_final(error: &AppendError) -> bool {
    match error {
        AppendError::Io { .. } | AppendError::Poisoned { .. } => true,
        AppendError::TooLong | AppendError::UnknownEvent | AppendError::StorageFull => false,
    }
}

/// Tells whether the group holds an undecided first try of the same request: it must be durable before it can answer.
fn repeats_within(group: &Group, submission: &Submission) -> bool {
    match submission.origin.cause {
        Cause::Request(id) => group.requests.contains(&id),
        Cause::Observation => false,
    }
}

fn answer(reply: oneshot::Sender<Result<Outcome, Refusal>>, result: Result<Outcome, Refusal>) {
    // Whoever asked may be gone; what happened has happened.
    let _asker_gone = reply.send(result);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use pyro_core::{DaemonStopped, EnvironmentRemoved, Face};
    use pyro_store::Options;

    use crate::clock::Reading;

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
        let engine = open_with(dir.path(), Clock::scripted(read));
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
